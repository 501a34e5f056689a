"""Byte ranges as S3 reads them (RFC 9110 §14, one range only)."""

from __future__ import annotations

import re

from gateway.s3.errors import S3Error, range_error

# 20 digits hold any size; the bound keeps int() cheap on hostile input.
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,20})-([0-9]{0,20})[ \t]*", re.IGNORECASE)
_COPY_RANGE = re.compile(r"bytes=([0-9]{1,20})-([0-9]{1,20})")


def parse_range(value: str | None, size: int) -> tuple[int, int] | None:
    """[start, stop) of an object of `size` bytes, clamped; None means the whole object with a plain 200: no
    header, a malformed one, another unit, or several ranges. Raises InvalidRange (416) for a well-formed
    range that holds no byte of the object: past the end, `-0`, or any range of an empty object."""
    if value is None or (match := _RANGE.fullmatch(value)) is None:
        return None
    first, last = match.groups()
    if not first:
        if not last:
            return None
        suffix = int(last)
        if suffix == 0 or size == 0:
            raise range_error(size, value)
        return (size - suffix if suffix < size else 0), size
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise range_error(size, value)
    return start, (min(int(last) + 1, size) if last else size)


def parse_copy_range(value: str, size: int) -> tuple[int, int]:
    """[start, stop) of `x-amz-copy-source-range`, which knows only `bytes=first-last` inside the source.
    Raises InvalidArgument when malformed, InvalidRange when it leaves the source."""
    match = _COPY_RANGE.fullmatch(value)
    if match is None or int(match[1]) > int(match[2]):
        raise S3Error("InvalidArgument", "x-amz-copy-source-range must be bytes=first-last.")
    start, stop = int(match[1]), int(match[2]) + 1
    if stop > size:
        raise S3Error("InvalidArgument", f"The range is not inside the source of {size} bytes.")
    return start, stop
