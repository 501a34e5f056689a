"""What one write transaction changes in the index, continued (`entry_changes.py` has the rules, `tags.py` what pins and
quotas need): blocks, segments, the steps of an eviction and of a rebuild."""

from __future__ import annotations

from typing import Any

from gateway.cache.entry import (
    OBJECT,
    Entry,
    Extent,
    block_key,
    decode_extent,
    encode_entry,
    encode_extent,
    index_key,
)
from gateway.cache.eviction import Victim, victim
from gateway.cache.index import (
    ACTIVE,
    EVICTING,
    SEALED,
    UNSCANNED,
    Content,
    SegmentRow,
    add_number,
    decode_content,
    decode_segment,
    encode_segment,
    read_number,
    segment_key,
    slot_key,
    write_number,
)
from gateway.cache.record import Header
from gateway.cache.tags import DEAD, PINS, TagChanges, dead_sum, pins_sum
from gateway.errors import StoreFull
from gateway.namespace.keeping import PIN, UNSURE


class Changes(TagChanges):
    # --- blocks

    def commit(self, txn: Any, entry: Entry, block: int, extent: Extent) -> Extent:
        """Makes a block findable. Its entry is put back if it went meanwhile (no block held it), unless an
        invalidation came; a newer version stays, and the block then serves only readers of its own
        version. Raises StoreFull."""
        index = self.index
        key, name = index_key(entry.key), block_key(entry.version, block)
        try:
            self._require_room(txn)
            tags = self.tags_for(txn, entry.key)
            if tags:
                tags = self.make_way(txn, tags, extent.length)
        except StoreFull:
            self.wasted(txn, extent)
            raise
        value = txn.get(name, None, index.blocks)
        old = None if value is None else decode_extent(value, entry.version, block)
        if old is not None:  # two fills of one block: the later one stays
            self.let_go(txn, old)
        txn.put(name, encode_extent(extent, entry.version, block), db=index.blocks)
        self.tag(txn, extent, Content(entry.version, block, tags, key))
        if txn.get(key, None, index.objects) is None and entry.asked_ns > read_number(
            txn, index.meta, b"floor"
        ):
            entry.queued = 0
            txn.put(key, encode_entry(entry), db=index.objects)
        return extent

    def content(self, txn: Any, segment: int, slot: int) -> Content | None:
        value = txn.get(slot_key(segment, slot), None, self.index.contents)
        return None if value is None else decode_content(value)

    def drop_block(self, txn: Any, version: int, block: int, extent: Extent) -> None:
        """Forgets a damaged block. The entry stays valid; without another block it is bounded by `recent`."""
        index = self.index
        value = txn.get(block_key(version, block), None, index.blocks)
        if value is None or decode_extent(value, version, block) not in (extent, None):
            return
        txn.delete(block_key(version, block), db=index.blocks)
        content = self.let_go(txn, extent)
        if content is None:
            return
        entry = self._stored(txn, content.key)
        if entry is not None and entry.version == version and not self._has_block(txn, version):
            self._put_recent(txn, content.key, entry, entry)

    # --- segments

    def new_segment(self, txn: Any, worker: int, reserved: int, spare: int) -> int | None:
        """Reserves a whole segment before its file exists; None when the capacity does not allow it. Without `spare`
        it is for what an eviction keeps, and there was room for it when the fills' last segment was reserved: what
        the index has grown since then is taken from the margin."""
        margin = self.margin if spare else self.margin // 2
        if not self.fits(txn, reserved, spare, margin):
            return None
        segment = self._next(txn, b"segment")
        self.put_segment(txn, segment, SegmentRow(ACTIVE, worker, reserved))
        return segment

    def fits(self, txn: Any, reserved: int, spare: int, margin: int) -> bool:
        """May another segment be reserved, with room for `spare` more bytes left? Active segments count
        whole, though their files have yet to grow."""
        total = read_number(txn, self.index.meta, b"bytes")
        active = read_number(txn, self.index.meta, b"active")
        if total + reserved + spare + self.index.file_bytes() + margin > self.capacity:
            return False
        return reserved * (active + 1) + spare <= self.spare()

    def seal(self, txn: Any, segment: int, size: int) -> None:
        """Once; said again, it changes nothing (the segment may be going, or gone)."""
        value = txn.get(segment_key(segment), None, self.index.segments)
        if value is not None and decode_segment(value).state == ACTIVE:
            self.put_segment(txn, segment, SegmentRow(SEALED, 0, size))

    def put_segment(self, txn: Any, segment: int, row: SegmentRow | None) -> None:
        """Writes or (None) deletes a segment's row and keeps the node's sum of bytes equal to the rows'."""
        index = self.index
        value = txn.get(segment_key(segment), None, index.segments)
        before = SegmentRow(SEALED, 0, 0) if value is None else decode_segment(value)
        if row is None:
            txn.delete(segment_key(segment), db=index.segments)
            txn.delete(dead_sum(segment), db=index.meta)
            txn.delete(pins_sum(segment), db=index.meta)
        else:
            txn.put(segment_key(segment), encode_segment(row), db=index.segments)
            self._bound_dead(txn, segment, row.bytes)
        after = row or SegmentRow(SEALED, 0, 0)
        total = read_number(txn, index.meta, b"bytes") + after.bytes - before.bytes
        write_number(txn, index.meta, b"bytes", total)
        if (change := (after.state == ACTIVE) - (before.state == ACTIVE)) != 0:
            write_number(txn, index.meta, b"active", read_number(txn, index.meta, b"active") + change)

    def _bound_dead(self, txn: Any, segment: int, size: int) -> None:
        dead = read_number(txn, self.index.meta, dead_sum(segment))
        if dead > size:
            add_number(txn, self.index.meta, dead_sum(segment), size - dead)

    def cut(self, txn: Any, segment: int) -> int:
        """Where the indexed part of a segment ends: what a dead worker left beyond it nobody finds. It is not counted
        as dead any more, because it will be cut off."""
        index, end, live = self.index, 0, 0
        with txn.cursor(index.contents) as cursor:
            found = cursor.set_range(slot_key(segment, 0))
            while found and cursor.key()[:8] == segment_key(segment):
                version, block = decode_content(cursor.value())[:2]
                value = txn.get(block_key(version, block), None, index.blocks)
                extent = None if value is None else decode_extent(value, version, block)
                if extent is not None and extent.segment == segment:
                    end = max(end, extent.offset + extent.length)
                    live += extent.taken
                found = cursor.next()
        self._bound_dead(txn, segment, max(0, end - live))
        return end

    # --- eviction, in steps that any worker can resume

    def begin_evict(self, txn: Any, empty: bool = False) -> Victim | None:
        """Marks the segment that goes next (`eviction.victim`); `empty`: only one in which nothing is left. One that
        a dead evictor left half-way comes first."""
        dead, pins = self.segment_sums(txn, DEAD), self.segment_sums(txn, PINS)
        found: list[Victim] = []
        with txn.cursor(self.index.segments) as cursor:
            for key, value in cursor.iternext():
                row = decode_segment(value)
                segment = int.from_bytes(key, "big")
                one = Victim(segment, row.bytes, dead.get(segment, 0), pins.get(segment, 0))
                if row.state == EVICTING:
                    return one
                if row.state in (SEALED, UNSCANNED) and (dead or pins or not found):
                    found.append(one)
        if empty:
            found = [one for one in found if one.dead and not self.rows_of(txn, one.segment, 0, 1)]
        chosen = victim(found)
        if chosen is not None:
            value = txn.get(segment_key(chosen.segment), None, self.index.segments)
            self.put_segment(txn, chosen.segment, decode_segment(value)._replace(state=EVICTING))
        return chosen

    def rows_of(self, txn: Any, segment: int, after: int, limit: int) -> list[tuple[int, Content]]:
        """Slot and content of a segment's rows from slot `after` on, at most `limit`."""
        rows: list[tuple[int, Content]] = []
        with txn.cursor(self.index.contents) as cursor:
            found = cursor.set_range(slot_key(segment, after))
            while found and len(rows) < limit and cursor.key()[:8] == segment_key(segment):
                rows.append((int.from_bytes(cursor.key()[8:], "big"), decode_content(cursor.value())))
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
        """Re-inserts a block: it is found at `new` from here on, if it still was at `old`. It keeps its tags; while
        the blocks are tagged anew, it is looked at again, because it may leave what is yet to be looked at."""
        index = self.index
        value = txn.get(block_key(version, block), None, index.blocks)
        if value is None or decode_extent(value, version, block) != old:
            return False
        txn.put(block_key(version, block), encode_extent(new, version, block), db=index.blocks)
        before = self.content(txn, old.segment, old.slot)
        tags = () if before is None else before.tags
        self.untag(txn, (old.segment, old.slot), tags)
        meta = index.meta
        if read_number(txn, meta, b"counted") != read_number(txn, meta, b"policy") and UNSURE not in tags:
            tags = (*tags, UNSURE)
        self.tag(txn, new, Content(version, block, tags, key))
        return True

    def drop_rows(self, txn: Any, segment: int, limit: int) -> tuple[int, int, int]:
        """Deletes up to `limit` rows of a segment with their blocks and, where a last block went, the
        entries. Returns (rows, blocks, payload bytes)."""
        index = self.index
        blocks = size = 0
        rows = self.rows_of(txn, segment, 0, limit)
        for slot, (version, block, tags, key) in rows:
            value = txn.get(block_key(version, block), None, index.blocks)
            extent = None if value is None else decode_extent(value, version, block)
            if value is not None and (extent is None or (extent.segment, extent.slot) == (segment, slot)):
                txn.delete(block_key(version, block), db=index.blocks)
                blocks += 1
                size += 0 if extent is None else extent.length
                self.untag(txn, (segment, slot), tags)
                self._drop_blockless(txn, version, key)
            txn.delete(slot_key(segment, slot), db=index.contents)
        return len(rows), blocks, size

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
            tags = self.tags_for(txn, entry.key)
            if not self.has_room(txn, tags, header.payload_length):
                continue  # the newest segments come first: what a quota has no room for is what is oldest
            if not self._adopt_entry(txn, entry):
                continue
            name = block_key(header.version, header.block)
            if txn.get(name, None, index.blocks) is not None:
                continue
            if PIN in tags and not self.fit(txn, PIN, header.payload_length, 0):
                tags = tuple(tag for tag in tags if tag != PIN)
            extent = Extent(
                segment,
                header.payload_offset,
                header.payload_length,
                header.payload_crc,
                header.slot,
                header.payload_offset - header.offset,
            )
            txn.put(name, encode_extent(extent, header.version, header.block), db=index.blocks)
            self.tag(txn, extent, Content(header.version, header.block, tags, index_key(entry.key)))
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
