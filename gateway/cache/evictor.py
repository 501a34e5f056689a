"""Makes room: takes a segment away, in steps that any worker can resume when this one is killed.

    1. its row becomes EVICTING (nobody else starts on it; the next evictor begins with it)
    2. pinned and hot blocks are appended again, and their index rows moved
    3. all other rows are deleted, in small transactions, entries without blocks with them
    4. the files are unlinked; readers that have them open go on reading
    5. its row, and with it its claim on the capacity, is deleted

One evictor at a time per node (an flock). Blocks; runs in a thread of its own, so it delays neither hits nor
fills beyond the small transactions of step 3.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import lmdb
import structlog
from awscrt.checksums import crc32c

from gateway.cache.appender import Appender, NoRoom, Place
from gateway.cache.changes import Changes
from gateway.cache.counters import Counters
from gateway.cache.entry import Extent, block_key, decode_entry, decode_extent
from gateway.cache.eviction import Candidate, Victim, keep
from gateway.cache.index import Content, Index
from gateway.cache.layout import FileLock
from gateway.cache.record import Header, decode_header, decode_meta
from gateway.cache.segment import PAGE, Segment, Segments
from gateway.cache.writer import IndexWriter
from gateway.errors import StoreFull
from gateway.namespace.keeping import PIN

log = structlog.get_logger()

ROWS_PER_STEP: Final = 512  # some 3 ms of a write transaction
MOVES_PER_STEP: Final = 32
LOCK_WAIT_S: Final = 15.0  # another worker's eviction: reading and writing half a segment again, at 20 MB/s
_LOCK_POLL_S: Final = 0.01


@dataclass(slots=True)
class _Kept:
    candidate: Candidate
    place: Place


def read_record(opened: Segment, extent: Extent) -> tuple[Header, bytes] | None:
    """A record's header and payload when the header, both CRCs and the extent agree."""
    start = extent.offset - extent.lead
    header = decode_header(opened.read(min(extent.lead, PAGE), start), start, opened.id)
    if (
        header is None and extent.lead > PAGE
    ):  # a long meta blob; else behind the first page there is only a hole
        header = decode_header(opened.read(extent.lead, start), start, opened.id)
    payload = opened.read(extent.length, extent.offset)
    if (
        header is None
        or header.payload_offset != extent.offset
        or header.payload_length != extent.length
        or not header.payload_crc == extent.crc == crc32c(payload)
    ):
        return None
    return header, payload


class Evictor:
    def __init__(
        self,
        index: Index,
        changes: Changes,
        writer: IndexWriter,
        segments: Segments,
        appender: Appender,
        lock: FileLock,
        counters: Counters,
    ) -> None:
        self._index = index
        self._changes = changes
        self._writer = writer
        self._segments = segments
        self._appender = appender
        self._lock = lock
        self._counters = counters

    def enough(self, ahead: int = 0) -> bool:
        """Do a segment for fills, one for evictions and `ahead` more fit now?"""
        reserved = self._appender.reserved
        with self._index.env.begin() as txn:
            return self._changes.fits(txn, reserved, (1 + ahead) * reserved, self._changes.margin)

    def make_room(self, ahead: int = 0) -> bool:
        """Evicts until that fits; False when nothing more can go."""
        deadline = time.monotonic() + LOCK_WAIT_S
        while not self._lock.acquire():
            if self.enough(ahead):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOCK_POLL_S)  # the lock is another process's: there is nothing to be woken by
        try:
            while not self.enough(ahead):
                if not self._evict_one():
                    return self.enough()
            return True
        except (StoreFull, lmdb.Error) as error:
            log.warning("cache eviction stopped", error=str(error))
            return False
        finally:
            self._lock.release()

    def resume(self) -> None:
        """Finishes what a killed evictor left, if nobody does so already."""
        if not self._lock.acquire():
            return
        try:
            while self._writer.call(self._changes.half_evicted) is not None:
                self._evict_one()
        finally:
            self._lock.release()

    def clear_empty(self) -> None:
        """Takes away the segments in which nothing is left, if nobody evicts right now."""
        if not self._lock.acquire():
            return
        try:
            while self._evict_one(empty=True):
                pass
        except (StoreFull, lmdb.Error) as error:
            log.warning("cache eviction stopped", error=str(error))
        finally:
            self._lock.release()

    def _evict_one(self, *, empty: bool = False) -> bool:
        victim = self._writer.call(self._changes.begin_evict, empty)
        if victim is None:
            return False
        segment = victim.segment
        opened = self._segments.get(segment)
        if opened is not None:
            self._keep(opened, victim)
        rows = -1
        while rows:
            rows, blocks, size = self._writer.call(self._changes.drop_rows, segment, ROWS_PER_STEP)
            self._counters.evicted_blocks += blocks
            self._counters.evicted_bytes += size
        self._segments.unlink(segment)
        self._writer.call(self._changes.put_segment, segment, None)
        self._index.shared.evicted()
        self._counters.evicted_segments += 1
        return True

    def _keep(self, opened: Segment, victim: Victim) -> None:
        """A disk that takes no more bytes loses what was to be kept, pins included: room is what it needs."""
        kept: list[_Kept] = []
        size = victim.bytes - self._segments.acc_bytes
        for candidate in keep(self._candidates(opened), size, everything=victim.mostly_dead):
            try:
                found = self._append_again(opened, candidate)
            except (NoRoom, StoreFull, OSError):
                break
            if found is not None:
                kept.append(found)
            if len(kept) >= MOVES_PER_STEP:
                self._move(kept)
                kept = []
        self._move(kept)

    def _candidates(self, opened: Segment) -> list[Candidate]:
        found: list[Candidate] = []
        after, now = 0, time.time()
        while True:
            with self._index.env.begin() as txn:
                rows = self._changes.rows_of(txn, opened.id, after, ROWS_PER_STEP)
                for slot, content in rows:
                    candidate = self._candidate(txn, opened, slot, content, now)
                    if candidate is not None:
                        found.append(candidate)
            if len(rows) < ROWS_PER_STEP:
                return found
            after = rows[-1][0] + 1
            if after > 0xFFFF:
                return found

    def _candidate(
        self, txn: Any, opened: Segment, slot: int, content: Content, now: float
    ) -> Candidate | None:
        """None for a block that is not there any more, or whose time is over."""
        version, block, tags, key = content
        value = txn.get(block_key(version, block), None, self._index.blocks)
        extent = None if value is None else decode_extent(value, version, block)
        if extent is None or (extent.segment, extent.slot) != (opened.id, slot):
            return None
        changes = self._changes
        if changes.keeping.has_ttl and (due := changes.due(txn, content)) is not None and due <= now:
            return None
        pinned = PIN in tags and changes.current(txn, content) is not None
        return Candidate(version, block, key, extent, opened.access[slot], pinned)

    def _append_again(self, opened: Segment, candidate: Candidate) -> _Kept | None:
        """A damaged block is not carried on."""
        old = candidate.extent
        record = read_record(opened, old)
        if record is None:
            return None
        header, payload = record
        key, value = decode_meta(header.meta)
        entry = decode_entry(key, value)
        if entry is None or entry.version != candidate.version:
            return None
        place = self._appender.append(entry, candidate.block, (payload,), old.crc, again=True)
        return _Kept(candidate, place)

    def _move(self, kept: list[_Kept]) -> None:
        if not kept:
            return
        try:
            moved = self._writer.call(
                self._changes.move_all,
                [
                    (c.extent, place.extent, c.version, c.block, c.key)
                    for c, place in ((k.candidate, k.place) for k in kept)
                ],
            )
            self._counters.kept_bytes += moved
        finally:
            for one in kept:
                self._appender.finish(one.place)
