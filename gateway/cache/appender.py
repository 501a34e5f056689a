"""The end of the log: one active segment per worker, to which records are appended.

Records are written whole under one lock, in the order of the offsets, so a scan never meets a hole. A segment that is
full takes no more records; it is sealed, cut to its size, when the last fill in it is in the index or given up. That
count has a lock of its own, so `finish` never waits for a write. Offsets and slots of records are never used again.

Everything but `finish` blocks and runs in the store's threads. Lock order: this lock, then the index thread
(a new segment is reserved in the index before its file exists); a change in the index never waits for this
lock.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import structlog

from gateway.cache.changes import Changes
from gateway.cache.entry import Entry, Extent, encode_entry
from gateway.cache.record import (
    META_SIZE_MAX,
    encode_header,
    encode_meta,
    payload_at,
    record_end,
)
from gateway.cache.segment import PAGE, WRITTEN, Segment, Segments, taken_by
from gateway.cache.writer import IndexWriter
from gateway.errors import StoreFull

log = structlog.get_logger()
_IOV_MAX: Final = 1024  # Linux takes no more parts in one call
DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG})


class NoRoom(Exception):
    """The capacity allows no further segment: evict one and try again."""


class DiskFull(StoreFull):
    """The file system refused to take bytes."""


class _Open:
    """The active segment, or one that is full while fills in it still run."""

    __slots__ = ("_unit", "fills", "full", "holes", "reached", "segment", "slot", "tail")

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.tail = 0
        # Nothing was written from here on; a write that failed may have been beyond the tail.
        self.reached = 0
        self.holes = 0  # bytes before the tail that take no disk
        self._unit = max(PAGE, os.fstatvfs(segment.fd).f_bsize)
        self.slot = 0
        self.fills = 0
        self.full = False

    def skipped(self, start: int, end: int) -> int:
        """Of bytes that a record leaves out, those in whole blocks of the file system: the rest is written with what
        is beside it."""
        first = -(-max(start, self.reached) // self._unit)
        return max(0, end // self._unit - first) * self._unit


class Place(NamedTuple):
    """A record that was written. Ends with exactly one `finish`."""

    owner: _Open
    extent: Extent


def write_all(fd: int, parts: Sequence[bytes | bytearray | memoryview], offset: int) -> None:
    """pwritev until everything is written. Raises DiskFull where the file system refuses."""
    left = [memoryview(part).cast("B") for part in parts if len(part)]
    try:
        while left:
            count = os.pwritev(fd, left[:_IOV_MAX], offset)
            offset += count
            while left and count >= len(left[0]):
                count -= len(left.pop(0))
            if left and count:
                left[0] = left[0][count:]
    except OSError as error:
        if error.errno in DISK_FULL:
            raise DiskFull(f"the cache's file system refused a write: {error.strerror}") from error
        raise


class Appender:
    def __init__(
        self,
        segments: Segments,
        changes: Changes,
        writer: IndexWriter,
        worker: int,
        segment_bytes: int,
        later: Callable[..., object],
        rolled: Callable[[], object],
    ) -> None:
        self._segments = segments
        self._changes = changes
        self._writer = writer
        self._worker = worker
        self._segment_bytes = segment_bytes
        self._acc_bytes = segments.acc_bytes
        self.reserved = segment_bytes + segments.acc_bytes  # what a segment claims of the capacity
        self._rolled = rolled  # called, under the lock, when a new segment was begun
        self._later = later  # runs a call in one of the store's threads, some time soon
        self._lock = threading.Lock()
        self._ends = threading.Lock()
        self._active: _Open | None = None
        self._unsealed: dict[int, _Open] = {}  # full and ended; the index has not been told yet

    def append(
        self,
        entry: Entry,
        block: int,
        parts: Sequence[bytes | bytearray | memoryview],
        crc: int,
        *,
        again: bool = False,
    ) -> Place:
        """A whole block at once, in one write of its parts. Fills leave one segment's room to
        evictions (`again`), which thus can always append what they keep."""
        spare = 0 if again else self.reserved
        length = sum(map(len, parts))
        meta = encode_meta(entry.key, encode_entry(entry))
        if len(meta) > META_SIZE_MAX:
            raise StoreFull("the object's key and headers are too long to be cached")
        with self._lock:
            opened = self._active
            if opened is None or not self._fits(opened, len(meta), length):
                opened = self._roll(len(meta), length, spare)
            header = encode_header(
                crc=crc,
                slot=opened.slot,
                meta=meta,
                length=length,
                block=block,
                version=entry.version,
                segment=opened.segment.id,
            )
            at = payload_at(opened.tail, len(meta), length)
            end = record_end(opened.tail, len(meta), length)
            gap = at - opened.tail - len(header)
            hole = opened.skipped(at - gap, at) if gap >= PAGE else 0
            opened.reached = max(opened.reached, end)
            if gap < PAGE:
                write_all(opened.segment.fd, (header, bytes(gap), *parts), opened.tail)
            else:
                write_all(opened.segment.fd, (header,), opened.tail)
                write_all(opened.segment.fd, parts, at)
            extent = Extent(opened.segment.id, at, length, crc, opened.slot, at - opened.tail)
            opened.segment.access[opened.slot] = WRITTEN
            opened.holes += hole
            opened.tail = end
            opened.slot += 1
            with self._ends:
                opened.fills += 1
        return Place(opened, extent)

    def _fits(self, opened: _Open, meta_length: int, length: int) -> bool:
        end = record_end(opened.tail, meta_length, length)
        return end <= self._segment_bytes and opened.slot < self._segments.slots

    def _roll(self, meta_length: int, length: int, spare: int) -> _Open:
        if record_end(0, meta_length, length) > self._segment_bytes:
            raise StoreFull("the block is larger than a segment")
        segment = self._writer.call(self._changes.new_segment, self._worker, self.reserved, spare)
        if segment is None:
            raise NoRoom
        try:
            opened = _Open(self._segments.create(segment))
        except OSError as error:
            self._segments.unlink(segment)
            self._writer.post(self._changes.put_segment, segment, None)
            if error.errno in DISK_FULL:
                raise DiskFull(f"the cache's file system refused a file: {error.strerror}") from error
            raise StoreFull(f"a cache segment could not be created: {error}") from error
        if self._active is not None:
            self._retire(self._active)
        self._active = opened
        self._rolled()
        return opened

    def finish(self, place: Place) -> None:
        """The fill has ended and, if it was good, is in the index. Without this its segment is never
        sealed."""
        with self._ends:
            place.owner.fills -= 1
            sealable = place.owner.full and not place.owner.fills
        if sealable:
            self._later(self._seal, place.owner)

    def _retire(self, opened: _Open) -> None:
        with self._ends:
            opened.full = True
            sealable = not opened.fills
        if sealable:
            self._seal(opened)

    def _seal(self, opened: _Open) -> None:
        self._unsealed[opened.segment.id] = opened
        self.seal_all()

    def seal_all(self) -> None:
        """What an index or a disk that took no change left undone is tried again, at the next seal or by the store's
        tick: until then the segment counts whole and cannot be evicted."""
        for segment, opened in list(self._unsealed.items()):
            try:
                os.ftruncate(opened.segment.fd, opened.tail)
                size = taken_by(opened.tail, opened.holes) + self._acc_bytes
                self._writer.call(self._changes.seal, segment, size)
            except (StoreFull, OSError) as error:
                log.warning("cache segment not sealed yet", segment=f"{segment:016x}", error=str(error))
                return
            self._unsealed.pop(segment, None)

    @property
    def unsealed(self) -> int:
        return len(self._unsealed)

    def close(self) -> None:
        with self._lock:
            if self._active is not None:
                self._retire(self._active)
                self._active = None
