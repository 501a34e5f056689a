"""What one write transaction changes in the index. Every function runs on the writer thread (`writer.py`),
takes an open transaction and either raises a GatewayError before it has written anything or leaves the tables
consistent.

Two rules keep the tables bounded and right:

* An entry lives as long as one of its blocks does, or as long as its row in `recent` (a FIFO of bounded
  length). Evicting the last block drops the entry too.
* An answer that was asked for before an invalidation must not be installed after it. A tombstone keeps the
  instant; entries keep it when they replace one; and when a row with an instant is dropped, `floor` rises to
  it, so forgetting about an invalidation can only cost a second question to the origin, never a stale byte.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from gateway.cache.entry import (
    OBJECT,
    TOMBSTONE,
    Entry,
    Extent,
    block_key,
    decode_entry,
    decode_extent,
    encode_entry,
    encode_extent,
    index_key,
    stored_key,
)
from gateway.cache.index import (
    ACTIVE,
    EVICTING,
    SEALED,
    UNSCANNED,
    Index,
    SegmentRow,
    decode_content,
    decode_segment,
    encode_content,
    encode_segment,
    read_number,
    segment_key,
    slot_key,
    write_number,
)
from gateway.cache.record import Header
from gateway.errors import GatewayError, StoreFull

# `recent` may hold one row per 16 KiB of capacity: at some 600 bytes for the row and its entry that is 4 % of
# it, and negative entries and tombstones of a busy node last for minutes. Bounded above at 4 million (2.4
# GiB).
RECENT_BYTES_PER_ROW: Final = 16 << 10
RECENT_ROWS_MAX: Final = 4 << 20


class Superseded(GatewayError):
    """A write finished, or a newer answer came, after this answer was asked for: ask the origin again."""

    retry_helps = True


class Changes:
    def __init__(self, index: Index, capacity: int, spare: Callable[[], int]) -> None:
        """`spare`: bytes that the cache may still take from the file system."""
        self.index = index
        self.capacity = capacity
        self.spare = spare
        self.recent_rows_max = max(256, min(RECENT_ROWS_MAX, capacity // RECENT_BYTES_PER_ROW))
        # Room that a batch of changes may make the index file grow by before the next check.
        self.margin = max(512 << 10, min(64 << 20, capacity // 128))

    # --- entries

    def install(self, txn: Any, new: Entry) -> Entry:
        """Puts what an answer said, `new.state` OBJECT or ABSENT; `new.version` is set here. The same ETag,
        size and time keep the version and so the blocks; anything else gets a new version id."""
        index = self.index
        key = index_key(new.key)
        old = index.read_entry(txn, new.key)
        self._guard(txn, old, new)
        new.generation = index.generation
        if old is not None and old.same_object(new.etag, new.size, new.last_modified):
            new.version, new.queued = old.version, old.queued
            new.asked_ns = max(new.asked_ns, old.asked_ns)
            new.invalidated_ns = old.invalidated_ns
            txn.put(key, encode_entry(new), db=index.objects)
            return new
        new.invalidated_ns = old.invalidated_ns if old is not None else 0
        encode_entry(new)  # raises before anything is written
        self._require_room(txn)
        new.version = self._next(txn, b"version") if new.state == OBJECT else 0
        self._put_recent(txn, key, new, old)
        return new

    def _guard(self, txn: Any, old: Entry | None, new: Entry) -> None:
        if new.asked_ns <= read_number(txn, self.index.meta, b"floor"):
            raise Superseded("an invalidation is newer than this answer")
        if new.asked_ns <= self.index.shared.distrust_ns:
            raise Superseded("an invalidation is newer than this answer")
        if old is None:
            return
        if old.invalidated_ns >= new.asked_ns:
            raise Superseded("a write finished after this answer was asked for")
        if old.asked_ns > new.asked_ns and not (
            old.state == new.state and old.same_object(new.etag, new.size, new.last_modified)
        ):
            raise Superseded("a newer answer is already known")

    def forget(self, txn: Any, key: bytes) -> None:
        """Leaves a tombstone. Never refused for room: it is what makes a write visible."""
        old = self.index.read_entry(txn, key)
        now = time.monotonic_ns()
        stone = Entry(key, 0, TOMBSTONE, 0, 0.0, "", 0, b"", b"", now, now, self.index.generation)
        self._put_recent(txn, index_key(key), stone, old)

    def _put_recent(self, txn: Any, key: bytes, new: Entry, old: Entry | None) -> None:
        index = self.index
        if old is not None and old.queued:
            txn.delete(segment_key(old.queued), db=index.recent)
        new.queued = self._next(txn, b"recent")
        txn.put(segment_key(new.queued), key, db=index.recent, append=True)
        txn.put(key, encode_entry(new), db=index.objects)
        over = int(txn.stat(index.recent)["entries"]) - self.recent_rows_max
        for _ in range(min(over, 4)):
            self._drop_oldest(txn)

    def _drop_oldest(self, txn: Any) -> None:
        index = self.index
        with txn.cursor(index.recent) as cursor:
            if not cursor.first():
                return
            row, key = cursor.item()
            cursor.delete()
        entry = self._stored(txn, key)
        if entry is None or segment_key(entry.queued) != row:
            return
        if entry.state == OBJECT and self._has_block(txn, entry.version):
            entry.queued = 0  # its blocks keep it from here on
            txn.put(key, encode_entry(entry), db=index.objects)
        else:
            self._drop_entry(txn, key, entry)

    def _stored(self, txn: Any, key: bytes) -> Entry | None:
        """The entry under an index key. The full key of a long one is taken from the value itself."""
        value = txn.get(key, None, self.index.objects)
        if value is None:
            return None
        return decode_entry(stored_key(key, value), value)

    def _drop_entry(self, txn: Any, key: bytes, entry: Entry) -> None:
        if entry.generation == self.index.generation:
            floor = read_number(txn, self.index.meta, b"floor")
            if entry.invalidated_ns > floor:
                write_number(txn, self.index.meta, b"floor", entry.invalidated_ns)
        if entry.queued:
            txn.delete(segment_key(entry.queued), db=self.index.recent)
        txn.delete(key, db=self.index.objects)

    def _has_block(self, txn: Any, version: int) -> bool:
        with txn.cursor(self.index.blocks) as cursor:
            return bool(cursor.set_range(block_key(version, 0))) and cursor.key()[:8] == segment_key(version)

    # --- blocks

    def commit(self, txn: Any, entry: Entry, block: int, extent: Extent) -> Extent:
        """Makes a block findable. Its entry is put back if it went meanwhile (no block held it), unless an
        invalidation came; a newer version stays, and the block then serves only readers of its own
        version."""
        index = self.index
        self._require_room(txn)
        key = index_key(entry.key)
        txn.put(block_key(entry.version, block), encode_extent(extent, entry.version, block), db=index.blocks)
        txn.put(
            slot_key(extent.segment, extent.slot),
            encode_content(entry.version, block, key),
            db=index.contents,
        )
        if txn.get(key, None, index.objects) is None and entry.asked_ns > read_number(
            txn, index.meta, b"floor"
        ):
            entry.queued = 0
            txn.put(key, encode_entry(entry), db=index.objects)
        return extent

    def drop_block(self, txn: Any, version: int, block: int, extent: Extent) -> None:
        """Forgets a damaged block. The entry stays valid; without another block it is bounded by `recent`."""
        index = self.index
        value = txn.get(block_key(version, block), None, index.blocks)
        if value is None or decode_extent(value, version, block) not in (extent, None):
            return
        txn.delete(block_key(version, block), db=index.blocks)
        content = txn.get(slot_key(extent.segment, extent.slot), None, index.contents)
        if content is None:
            return
        key = decode_content(content)[2]
        entry = self._stored(txn, key)
        if entry is not None and entry.version == version and not self._has_block(txn, version):
            self._put_recent(txn, key, entry, entry)

    # --- segments

    def new_segment(self, txn: Any, worker: int, size: int, acc_bytes: int) -> int | None:
        """Reserves a whole segment before its file exists; None when the capacity does not allow it."""
        reserved = size + acc_bytes
        if not self.fits(txn, reserved):
            return None
        segment = self._next(txn, b"segment")
        self.put_segment(txn, segment, SegmentRow(ACTIVE, worker, reserved))
        return segment

    def fits(self, txn: Any, reserved: int) -> bool:
        """May another segment be reserved? Active segments count whole, though their files have yet to
        grow."""
        total = read_number(txn, self.index.meta, b"bytes")
        active = read_number(txn, self.index.meta, b"active")
        if total + reserved + self.index.file_bytes() + self.margin > self.capacity:
            return False
        return reserved * (active + 1) <= self.spare()

    def seal(self, txn: Any, segment: int, size: int) -> None:
        self.put_segment(txn, segment, SegmentRow(SEALED, 0, size))

    def put_segment(self, txn: Any, segment: int, row: SegmentRow | None) -> None:
        """Writes or (None) deletes a segment's row and keeps the node's sum of bytes equal to the rows'."""
        index = self.index
        value = txn.get(segment_key(segment), None, index.segments)
        before = SegmentRow(SEALED, 0, 0) if value is None else decode_segment(value)
        if row is None:
            txn.delete(segment_key(segment), db=index.segments)
        else:
            txn.put(segment_key(segment), encode_segment(row), db=index.segments)
        after = row or SegmentRow(SEALED, 0, 0)
        total = read_number(txn, index.meta, b"bytes") + after.bytes - before.bytes
        write_number(txn, index.meta, b"bytes", total)
        if (change := (after.state == ACTIVE) - (before.state == ACTIVE)) != 0:
            write_number(txn, index.meta, b"active", read_number(txn, index.meta, b"active") + change)

    def last_record_end(self, txn: Any, segment: int) -> int:
        """Where the indexed part of a segment ends: what a dead worker left beyond it was never findable."""
        index, end = self.index, 0
        with txn.cursor(index.contents) as cursor:
            found = cursor.set_range(slot_key(segment, 0))
            while found and cursor.key()[:8] == segment_key(segment):
                version, block, _ = decode_content(cursor.value())
                value = txn.get(block_key(version, block), None, index.blocks)
                extent = None if value is None else decode_extent(value, version, block)
                if extent is not None and extent.segment == segment:
                    end = max(end, extent.offset + extent.length)
                found = cursor.next()
        return end

    # --- eviction, in steps that any worker can resume

    def begin_evict(self, txn: Any, pinned: Any = None) -> int | None:
        """Marks the oldest segment that may go. One that a dead evictor left half-way comes first."""
        oldest = None
        with txn.cursor(self.index.segments) as cursor:
            for key, value in cursor.iternext():
                row = decode_segment(value)
                segment = int.from_bytes(key, "big")
                if row.state == EVICTING:
                    return segment
                if oldest is None and row.state in (SEALED, UNSCANNED) and not (pinned and pinned(segment)):
                    oldest = (segment, row)
        if oldest is None:
            return None
        self.put_segment(txn, oldest[0], oldest[1]._replace(state=EVICTING))
        return oldest[0]

    def rows_of(self, txn: Any, segment: int, after: int, limit: int) -> list[tuple[int, int, int, bytes]]:
        """(slot, version, block, index key) of a segment's rows from slot `after` on, at most `limit`."""
        rows: list[tuple[int, int, int, bytes]] = []
        with txn.cursor(self.index.contents) as cursor:
            found = cursor.set_range(slot_key(segment, after))
            while found and len(rows) < limit and cursor.key()[:8] == segment_key(segment):
                rows.append((int.from_bytes(cursor.key()[8:], "big"), *decode_content(cursor.value())))
                found = cursor.next()
        return rows

    def half_evicted(self, txn: Any) -> int | None:
        with txn.cursor(self.index.segments) as cursor:
            for key, value in cursor.iternext():
                if decode_segment(value).state == EVICTING:
                    return int.from_bytes(key, "big")
        return None

    def move_all(self, txn: Any, moves: list[tuple[Extent, Extent, int, int, bytes]]) -> int:
        """Bytes of the blocks that were moved."""
        return sum(move[1].length for move in moves if self.move(txn, *move))

    def move(self, txn: Any, old: Extent, new: Extent, version: int, block: int, key: bytes) -> bool:
        """Re-inserts a block: it is found at `new` from here on, if it still was at `old`."""
        index = self.index
        value = txn.get(block_key(version, block), None, index.blocks)
        if value is None or decode_extent(value, version, block) != old:
            return False
        txn.put(block_key(version, block), encode_extent(new, version, block), db=index.blocks)
        txn.put(slot_key(new.segment, new.slot), encode_content(version, block, key), db=index.contents)
        return True

    def drop_rows(self, txn: Any, segment: int, limit: int) -> tuple[int, int, int]:
        """Deletes up to `limit` rows of a segment with their blocks and, where a last block went, the
        entries. Returns (rows, blocks, payload bytes)."""
        index = self.index
        blocks = size = 0
        rows = self.rows_of(txn, segment, 0, limit)
        for slot, version, block, key in rows:
            value = txn.get(block_key(version, block), None, index.blocks)
            extent = None if value is None else decode_extent(value, version, block)
            if value is not None and (extent is None or (extent.segment, extent.slot) == (segment, slot)):
                txn.delete(block_key(version, block), db=index.blocks)
                blocks += 1
                size += 0 if extent is None else extent.length
                self._drop_blockless(txn, version, key)
            txn.delete(slot_key(segment, slot), db=index.contents)
        return len(rows), blocks, size

    def _drop_blockless(self, txn: Any, version: int, key: bytes) -> None:
        entry = self._stored(txn, key)
        if entry is None or entry.state != OBJECT or entry.version != version:
            return
        if not self._has_block(txn, version):
            self._drop_entry(txn, key, entry)

    # --- starting and rebuilding

    def start(self, txn: Any, slots: int, other_boot: bool) -> None:
        """Stamps of CLOCK_MONOTONIC mean nothing in another boot, and no question of that time is on its
        way."""
        meta = self.index.meta
        write_number(txn, meta, b"slots", slots)
        if other_boot:
            write_number(txn, meta, b"generation", read_number(txn, meta, b"generation") + 1)
            write_number(txn, meta, b"floor", 0)

    def scanned(self, txn: Any, segment: int, row: SegmentRow) -> bool:
        """False when the segment is being evicted meanwhile."""
        value = txn.get(segment_key(segment), None, self.index.segments)
        if value is None or decode_segment(value).state != UNSCANNED:
            return False
        self.put_segment(txn, segment, row)
        return True

    def adopt(self, txn: Any, segment: int, records: list[tuple[Header, Entry]]) -> int:
        """Indexes records found in a segment, unless something newer is known; the origin is asked before
        their first use. Returns how many; -1 when the segment is being evicted meanwhile. Raises
        StoreFull."""
        index = self.index
        value = txn.get(segment_key(segment), None, index.segments)
        if value is None or decode_segment(value).state != UNSCANNED:
            return -1
        self._require_room(txn)
        adopted = 0
        for header, entry in records:
            if not self._adopt_entry(txn, entry):
                continue
            name = block_key(header.version, header.block)
            if txn.get(name, None, index.blocks) is not None:
                continue
            extent = Extent(
                segment,
                header.payload_offset,
                header.payload_length,
                header.payload_crc,
                header.slot,
                header.payload_offset - header.offset,
            )
            txn.put(name, encode_extent(extent, header.version, header.block), db=index.blocks)
            content = encode_content(header.version, header.block, index_key(entry.key))
            txn.put(slot_key(segment, header.slot), content, db=index.contents)
            adopted += 1
        return adopted

    def _adopt_entry(self, txn: Any, entry: Entry) -> bool:
        """Is the record's version the one to keep? Versions grow with time, so among rebuilt ones the
        highest."""
        index = self.index
        known = index.read_entry(txn, entry.key)
        if known is not None and known.version == entry.version:
            return True
        rebuilt = (
            known is not None and known.state == OBJECT and not known.asked_ns and not known.validated_at
        )
        if known is not None and not (rebuilt and known.version < entry.version):
            return False
        entry.validated_at, entry.asked_ns, entry.invalidated_ns, entry.queued = 0.0, 0, 0, 0
        entry.generation = index.generation
        txn.put(index_key(entry.key), encode_entry(entry), db=index.objects)
        return True

    # --- helpers

    def _require_room(self, txn: Any) -> None:
        total = read_number(txn, self.index.meta, b"bytes")
        if total + self.index.file_bytes() > self.capacity - self.margin // 2:
            raise StoreFull("the cache index has reached the cache's capacity")

    def _next(self, txn: Any, name: bytes) -> int:
        value = read_number(txn, self.index.meta, name) + 1
        write_number(txn, self.index.meta, name, value)
        return value
