"""From a file and the environment to a `Config`, or to every mistake in them at once.

A value of the wrong type is reported, taken out and replaced by its default, so that the rest can still be looked
over; what the other checks then say about that same key is left out.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from gateway.config import standalone
from gateway.config.checks import check
from gateway.config.environment import overlay
from gateway.config.mistakes import ConfigError, Location, Mistake, dotted, explain
from gateway.config.schema import Admin, Config, IdentityConfig, OriginConfig, Section

# A config is written by hand: more than this is another file given by mistake.
FILE_BYTES_MAX: Final = 1 << 20
_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
Table = dict[str, Any]


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """The config of `path` with what `environ` sets (`environment.py`), secrets of `*_env` keys filled in. Paths in
    it are relative to the working directory. None: a single node that needs no config (`standalone.py`).
    Raises ConfigError."""
    raw = _read(path) if path is not None else {}
    mistakes, sources = overlay(raw, environ)
    if path is None:
        standalone.fill_in(raw)
    mistakes += _resolve_environment_keys(raw, environ)
    config, wrong = _validate(raw)
    mistakes += wrong
    broken = {mistake.path for mistake in mistakes}
    mistakes += [mistake for mistake in check(config) if not _is_within(mistake.path, broken)]
    if mistakes:
        raise ConfigError(_with_source(mistake, sources) for mistake in _in_order(mistakes))
    return config


def to_wire(config: Config) -> str:
    """For a worker's inherited socket: JSON with every secret in clear. Never for logs, files or command lines."""
    return config.model_dump_json(context={"wire": True})


def from_wire(text: str) -> Config:
    """The same config that `to_wire` was given; it was checked then."""
    return Config.model_validate_json(text)


def _read(path: Path) -> Table:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError([Mistake(str(path), f"cannot be read: {error.strerror}")]) from None
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError([Mistake(str(path), "is larger than 1 MiB, so hardly a config")])
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([Mistake(f"{path}:{line}", "is not UTF-8 text")]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_not_toml(path, str(error), data)]) from None
    except RecursionError:
        raise ConfigError([Mistake(str(path), "is nested too deeply")]) from None


def _not_toml(path: Path, said: str, data: bytes) -> Mistake:
    match = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", said, re.DOTALL)
    if match is None:
        return Mistake(str(path), "is not TOML")
    line = match[2] or str(data.rstrip().count(b"\n") + 1)
    text = match[1][:1].lower() + match[1][1:].replace("\n", " ")
    return Mistake(f"{path}:{line}", text + (f" (column {match[3]})" if match[3] else ""))


def _resolve_environment_keys(raw: Table, environ: Mapping[str, str]) -> list[Mistake]:
    """`secret_key_env = "NAME"` puts the value of NAME into `secret_key`, wherever both keys exist."""
    mistakes = _resolve(raw.get("admin"), Admin, ["admin"], environ)
    models: list[tuple[str, type[Section]]] = [("origins", OriginConfig), ("identities", IdentityConfig)]
    for name, model in models:
        tables = raw.get(name)
        for number, table in enumerate(tables if isinstance(tables, list) else []):
            mistakes += _resolve(table, model, [name, number], environ)
    return mistakes


def _resolve(table: Any, model: type[Section], where: Location, environ: Mapping[str, str]) -> list[Mistake]:
    mistakes = []
    for key in model.model_fields if isinstance(table, dict) else ():
        target = key.removesuffix("_env")
        name = table.get(key)
        if target == key or not isinstance(name, str) or not name:
            continue
        if table.get(target):
            mistakes.append(Mistake(dotted([*where, key]), f"stands beside {target}: give one of the two"))
        elif not environ.get(name):
            shown = f"{name} " if _VARIABLE.fullmatch(name) else ""  # it may be the secret itself
            mistakes.append(Mistake(dotted([*where, key]), f"the environment variable {shown}is not set"))
            table[target] = "?"  # so that nothing else is said about it
        else:
            table[target] = environ[name]
    return mistakes


def _validate(raw: Table) -> tuple[Config, list[Mistake]]:
    """Each round takes out at least one key or entry of the wrong type, so this ends."""
    mistakes: list[Mistake] = []
    while True:
        try:
            return Config.model_validate(raw), mistakes
        except ValidationError as error:
            for details in error.errors(include_url=False, include_input=False):
                mistake = explain(Config, details)
                if mistake not in mistakes:
                    mistakes.append(mistake)
                _take_out(raw, details["loc"])


def _take_out(raw: Table, location: Location) -> None:
    """The innermost table on the way loses its key; an entry of a list that should be a table becomes an empty one,
    so that the numbers of the others stay."""
    holder, key, at = raw, str(location[0]), raw
    for part in location:
        if isinstance(at, dict):
            if part not in at:
                return  # taken out with another mistake
            holder, key = at, str(part)
            at = at[key]
        elif isinstance(at, list) and isinstance(part, int) and part < len(at):
            if not isinstance(at[part], dict) and _holds_tables(holder, key, raw):
                at[part] = {}
                return
            at = at[part]
    holder.pop(key, None)


def _holds_tables(holder: Table, key: str, raw: Table) -> bool:
    return (holder is raw and key in ("origins", "mounts", "rules", "identities")) or key in ("allow", "deny")


def _is_within(path: str, broken: set[str]) -> bool:
    """Whether something was said about this key, or about a table around it, already."""
    return any(path == other or path.startswith((f"{other}.", f"{other}[")) for other in broken)


def _with_source(mistake: Mistake, sources: Mapping[str, str]) -> Mistake:
    name = sources.get(mistake.path)
    return Mistake(mistake.path, f"{mistake.text} (set by {name})") if name else mistake


def _in_order(mistakes: list[Mistake]) -> list[Mistake]:
    sections = list(Config.model_fields)

    def place(mistake: Mistake) -> tuple[int, list[tuple[int, str]]]:
        parts = re.split(r"[.\[\]]+", mistake.path)
        steps = [(int(part), "") if part.isdecimal() else (0, part) for part in parts]
        return (sections.index(parts[0]) if parts[0] in sections else -1), steps[1:2]

    return sorted(sorted(mistakes), key=place)
