"""Sizes and times as people write them: `1MiB`, `100GiB`, `500ms`, `1h`; and back, exactly."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, SecretStr, SerializationInfo

SIZE_UNITS = {
    "": 1,
    "B": 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "PiB": 2**50,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
TIME_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER_AND_UNIT = re.compile(r"(\d{1,19}(?:\.\d{1,9})?)\s*([A-Za-z]{0,3})", re.ASCII)
MASK = "********"


def parse_size(value: object) -> int:
    """Bytes. Raises ValueError with a sentence that names what is accepted."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (match := _NUMBER_AND_UNIT.fullmatch(value.strip())):
        number, unit = match.groups()
        if unit in SIZE_UNITS:
            return (
                round(float(number) * SIZE_UNITS[unit]) if "." in number else int(number) * SIZE_UNITS[unit]
            )
    raise ValueError(
        f"{value!r} is not a size; write bytes or a number with KiB, MiB, GiB or TiB, such as 1MiB"
    )


def parse_rate(value: object) -> int | None:
    """Bytes per second; an empty text or 0 means no limit."""
    if value in ("", None, 0):
        return None
    return parse_size(value.strip().removesuffix("/s") if isinstance(value, str) else value)


def parse_duration(value: object) -> float:
    """Seconds. Raises ValueError with a sentence that names what is accepted."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12:
        return float(value)
    if isinstance(value, str) and (match := _NUMBER_AND_UNIT.fullmatch(value.strip())):
        number, unit = match.groups()
        if unit in TIME_UNITS:
            return float(number) * TIME_UNITS[unit]
    raise ValueError(f"{value!r} is not a duration; write a number with ms, s, m, h or d, such as 30s")


def parse_maybe_size(value: object) -> int | None:
    """As `parse_size`; an empty text means that nothing is set (0 is a size)."""
    return None if value in ("", None) else parse_size(value)


def parse_maybe_duration(value: object) -> float | None:
    """As `parse_duration`; an empty text means that nothing is set."""
    return None if value in ("", None) else parse_duration(value)


def format_size(size: int) -> str:
    """The largest binary unit that holds `size` exactly; `parse_size` gives the same number back."""
    for unit in ("PiB", "TiB", "GiB", "MiB", "KiB"):
        if size and size % SIZE_UNITS[unit] == 0:
            return f"{size // SIZE_UNITS[unit]}{unit}"
    return str(size)


def format_duration(seconds: float) -> str:
    """The largest unit that holds `seconds` as a whole number; `parse_duration` gives the same number back."""
    for unit in ("d", "h", "m", "s"):
        if seconds >= TIME_UNITS[unit] and seconds % TIME_UNITS[unit] == 0:
            return f"{int(seconds // TIME_UNITS[unit])}{unit}"
    if seconds and seconds < 1 and round(seconds * 1000) / 1000 == seconds:
        return f"{round(seconds * 1000)}ms"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def on_the_wire(info: SerializationInfo) -> bool:
    """A dump is for people (units, secrets masked) unless it asks, by context, for the form that workers load."""
    return bool(info.context and info.context.get("wire"))


def _dump_size(value: int, info: SerializationInfo) -> int | str:
    return value if on_the_wire(info) else format_size(value)


def _dump_rate(value: int | None, info: SerializationInfo) -> int | str | None:
    if on_the_wire(info):
        return value
    return "" if value is None else format_size(value)


def _dump_duration(value: float, info: SerializationInfo) -> float | str:
    return value if on_the_wire(info) else format_duration(value)


def _dump_maybe_duration(value: float | None, info: SerializationInfo) -> float | str | None:
    if on_the_wire(info):
        return value
    return "" if value is None else format_duration(value)


def _dump_secret(value: SecretStr, info: SerializationInfo) -> str:
    if on_the_wire(info):
        return value.get_secret_value()
    return MASK if value.get_secret_value() else ""


Size = Annotated[int, BeforeValidator(parse_size), PlainSerializer(_dump_size)]
Rate = Annotated[int | None, BeforeValidator(parse_rate), PlainSerializer(_dump_rate)]
MaybeSize = Annotated[int | None, BeforeValidator(parse_maybe_size), PlainSerializer(_dump_rate)]
MaybeDuration = Annotated[
    float | None, BeforeValidator(parse_maybe_duration), PlainSerializer(_dump_maybe_duration)
]
Duration = Annotated[float, BeforeValidator(parse_duration), PlainSerializer(_dump_duration)]
Secret = Annotated[SecretStr, PlainSerializer(_dump_secret)]
