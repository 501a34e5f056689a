"""The environment over the file: `GATEWAY_<SECTION>__<KEY>`, names in upper case, each more telling than the file.

    GATEWAY_LISTEN__S3=0.0.0.0:9000          a key of a table
    GATEWAY_CACHE__CAPACITY=2TiB
    GATEWAY_ORIGINS__0__SECRET_KEY=…         a key of the first [[origins]]; one past the last adds an entry
    GATEWAY_RULES='[{"match": "a/**"}]'      a whole list, in JSON or as a TOML array; the file's is dropped

A key that holds text takes the value as it is; any other takes a TOML value (`true`, `0.09`, `["a", "b"]`), a list
also as JSON. A name with `__` whose section or key is unknown is a mistake, like an unknown key of the file; names
without `__`, but for those of the lists, are left alone: Kubernetes sets `GATEWAY_PORT` and the like by itself.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr

from gateway.config.mistakes import Mistake, dotted, model_of, unknown_key
from gateway.config.schema import Config

PREFIX: Final = "GATEWAY_"
# Lists have no more entries by index than this: a slip in a number must not fill the memory.
ENTRIES_MAX: Final = 1000
Table = dict[str, Any]


class _Unfit(Exception):
    """The text says why this variable names nothing or holds nothing that fits."""


def overlay(raw: Table, environ: Mapping[str, str]) -> tuple[list[Mistake], dict[str, str]]:
    """Writes what the environment sets into `raw`. Returns the mistakes, their path being the variable's name, and
    for each key that was set the variable that set it."""
    mistakes, sources = [], {}
    for name, steps, text in _settings(environ):
        try:
            _put(raw, Config, steps, text)
            sources[dotted([int(step) if step.isdecimal() else step for step in steps])] = name
        except _Unfit as why:
            mistakes.append(Mistake(name, str(why)))
    return mistakes, sources


def _settings(environ: Mapping[str, str]) -> Iterator[tuple[str, list[str], str]]:
    """Whole lists come before entries of lists, entries in order of their numbers."""
    found = []
    for name, text in environ.items():
        steps = name.removeprefix(PREFIX).lower().split("__")
        if name.startswith(PREFIX) and steps[0] and (len(steps) > 1 or _is_list(Config, steps[0])):
            order = [(int(step), "") if step.isdecimal() else (-1, step) for step in steps]
            found.append((order, name, steps, text))
    for _, name, steps, text in sorted(found):
        yield name, steps, text


def _put(at: Any, model: type[BaseModel], steps: list[str], text: str) -> None:
    name, rest = steps[0], steps[1:]
    if name not in model.model_fields:
        raise _Unfit(f"{name} {unknown_key(model, [name])}")
    if not isinstance(at, dict):
        return  # the file has something else there, which is a mistake of its own
    annotation = model.model_fields[name].annotation
    inner = model_of(annotation)
    if not rest:
        at[name] = _value(annotation, text)
    elif inner is None:
        raise _Unfit(f"{name} has no keys below it")
    elif not _is_list(model, name):
        _put(at.setdefault(name, {}), inner, rest, text)
    else:
        _put(_entry(at.setdefault(name, []), rest[0]), inner, rest[1:], text)


def _entry(entries: Any, step: str) -> Any:
    if not step.isdecimal():
        raise _Unfit(f"needs the number of an entry, from 0, instead of {step.upper()}")
    if not isinstance(entries, list):
        return None
    number = int(step)
    if number > len(entries) or number >= ENTRIES_MAX:
        raise _Unfit(f"there is no entry {number}: the list has {len(entries)}")
    if number == len(entries):
        entries.append({})
    return entries[number]


def _value(annotation: Any, text: str) -> Any:
    if _is_text(annotation):
        return text
    if get_origin(annotation) is tuple:
        return _list(text)
    found = _toml(text)
    return text if found is None else found


def _list(text: str) -> list[Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = _toml(text)
    if not isinstance(found, list):
        raise _Unfit('must be a list in JSON or TOML, such as ["a", "b"]')
    return found


def _toml(text: str) -> Any:
    """None when it is not one TOML value."""
    try:
        return tomllib.loads(f"value = {text}\n")["value"]
    except tomllib.TOMLDecodeError:
        return None


def _is_list(model: type[BaseModel], name: str) -> bool:
    field = model.model_fields.get(name)
    return (
        field is not None and get_origin(field.annotation) is tuple and model_of(field.annotation) is not None
    )


def _is_text(annotation: Any) -> bool:
    if get_origin(annotation) is Literal:
        return all(isinstance(value, str) for value in get_args(annotation))
    kinds = [kind for kind in (annotation, *get_args(annotation)) if kind is not NoneType]
    return kinds[0] in (str, SecretStr)
