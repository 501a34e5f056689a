"""A config as TOML for people: every key with its value, secrets masked. Those that came by an `*_env` key stay empty,
so what is printed loads again once the masks are replaced."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.config.schema import Config


def to_toml(config: Config) -> str:
    return "\n".join(_lines("", config.model_dump())).strip() + "\n"


def _lines(path: str, table: Mapping[str, Any]) -> Iterator[str]:
    """A table's own keys first: what follows a header belongs to that header."""
    inner = []
    for key, value in table.items():
        if _is_tables(value):
            inner.append((key, value))
        else:
            yield f"{key} = {_value('' if table.get(f'{key}_env') else value)}"
    for key, value in inner:
        name = f"{path}.{key}" if path else key
        entries, header = ([value], f"[{name}]") if isinstance(value, Mapping) else (value, f"[[{name}]]")
        for entry in entries:
            yield ""
            yield header
            yield from _lines(name, entry)


def _is_tables(value: Any) -> bool:
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    return isinstance(first, Mapping)


def _value(value: Any) -> str:
    if isinstance(value, str):  # TOML takes JSON's escapes, and wants DEL escaped as well
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)
