"""What the machine of `test_machine.py` holds the store against: an origin, a disk that fails, damage."""

from __future__ import annotations

import errno
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gateway.cache.record import HEADER_SIZE, decode_header
from gateway.cache.store import Extent

BLOCK = 32 << 10


class Object(NamedTuple):
    etag: str
    size: int

    def length(self, block: int) -> int:
        return max(0, min(BLOCK, self.size - block * BLOCK))

    def data(self, block: int) -> bytes:
        return random.Random(f"{self.etag}/{block}").randbytes(self.length(block))


@dataclass
class Known:
    """One key at the origin: all it ever was, from where on it may be seen, and how often it was forgotten."""

    history: list[Object | None] = field(default_factory=lambda: [None])
    since: int = 0
    forgets: int = 0

    @property
    def now(self) -> Object | None:
        return self.history[-1]

    @property
    def visible(self) -> list[Object | None]:
        return self.history[self.since :]


class Answer(NamedTuple):
    """An origin's answer that is still on its way."""

    key: bytes
    asked_ns: int
    said: Object | None
    forgets: int


class Disk:
    """`os.pwritev` that can be told to fail, half-way."""

    def __init__(self) -> None:
        self.left: int | None = None  # bytes until ENOSPC
        self._real = os.pwritev

    def pwritev(self, fd: int, parts: Any, offset: int) -> int:
        if self.left is None:
            return self._real(fd, parts, offset)
        data = b"".join(parts)[: self.left]
        if not data:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.left -= len(data)
        return self._real(fd, [data], offset)


def front_of(path: Path, extent: Extent) -> int:
    """Length of a record's header and meta blob; behind them the way to the payload says nothing."""
    start = extent.offset - extent.lead
    header = decode_header(path.read_bytes()[start:], start, int(path.stem, 16))
    return extent.lead if header is None else HEADER_SIZE + len(header.meta)


def record_of(path: Path, extent: Extent, front: int) -> bytes:
    """All of a record that says anything: three bytes behind the state are free."""
    if not path.exists():
        return b""
    data, start = path.read_bytes(), extent.offset - extent.lead
    return data[start : start + 5] + data[start + 8 : start + front] + data[extent.offset :][: extent.length]


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        if byte:  # not cut away before
            file.seek(at)
            file.write(bytes([byte[0] ^ 0x10]))


def damage_segment(path: Path, how: str, at: int, extent: Extent) -> None:
    if not path.exists():
        return
    if how == "flip":
        flip(path, at)
    elif how == "cut":
        os.truncate(path, min(at, path.stat().st_size))
    elif how == "gone":
        path.unlink()
    else:  # pages that never reached the disk before a power cut, of the header or of the payload
        end = extent.offset + (0 if at < extent.offset else extent.length)
        with path.open("r+b") as file:
            file.seek(at)
            file.write(bytes(end - at if at >= extent.offset else min(end - at, HEADER_SIZE)))
