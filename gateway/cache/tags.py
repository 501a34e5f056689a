"""What one write transaction changes in the index, continued: the tags of blocks, by which pins and quotas are kept.

A block carries the tags that `namespace/keeping.py` gives its key. Per tag the index has a sum of bytes, a row for each
block in the order in which they lie in the segments, and for `PIN` the sum of each segment. All of it changes in the
transactions that commit, move and drop blocks, so it holds over all workers, and a crash leaves no half of it.

    a quota     a block is committed only when it fits; to make it fit the rule's own oldest blocks are dropped first
    pins        may hold `PINS_SHARE` of what fills can have; beyond it the oldest pinned blocks lose the tag

So the bytes of committed blocks never exceed a quota. What is in flight comes on top (`fills.py` bounds it), and the
space of dropped blocks, which comes back with their segment: at the latest when half of that is dead, because such
segments are evicted first (`eviction.py`).

When the rules change, or the index was rebuilt, what is cached is tagged anew in the background (`sweeper.py`); a quota
holds from when that has ended. `policy` is the fingerprint of the rules that the index was last told of, `counted` that
of the rules by which every block is tagged, `told` how often `policy` changed: one that went and came back is counted
anew. A worker that has other rules than `policy` (in the midst of a reload) tags
what it commits as UNSURE, and the sweeper looks at it again. Where no rule pins or has a quota, all of this is one look
at `policy` per commit.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.cache.entry import OBJECT, Entry, Extent, block_key, decode_extent, stored_key
from gateway.cache.entry_changes import EntryChanges
from gateway.cache.index import (
    Content,
    add_number,
    decode_content,
    decode_segment,
    decode_tagged,
    encode_content,
    encode_tagged,
    read_number,
    segment_key,
    slot_key,
    split_tag_key,
    tag_key,
    tag_sum,
    write_number,
)
from gateway.errors import StoreFull
from gateway.namespace.keeping import PIN, UNSURE, Keeping

# Of what is left beside active segments and the room that evictions need. At least a fifth of the sealed bytes is
# then not pinned, so there is always a segment whose eviction frees something.
PINS_SHARE: Final = 0.8
# Blocks that one change drops to make way for another: small ones for a large one, or after a quota was lowered.
DROPS_MAX: Final = 64
_RETAG_DROPS_MAX: Final = 4096

Place = tuple[int, int]  # segment, slot


# Names of sums begin with these; only those above 0 are there.
DEAD: Final = b"dead"  # bytes in a segment that no reader can find any more
PINS: Final = b"pins"  # bytes in a segment that are pinned


def dead_sum(segment: int) -> bytes:
    return DEAD + segment_key(segment)


def pins_sum(segment: int) -> bytes:
    return PINS + segment_key(segment)


class TagChanges(EntryChanges):
    reserved_elsewhere = (
        0  # bytes of the capacity that fills cannot have: active segments, room for evictions
    )
    quota_dropped_bytes = 0
    expired_bytes = 0
    unpinned_bytes = 0

    # --- what is asked

    def pins_max(self) -> int:
        least = self.reserved_elsewhere + self.margin + self.index.file_bytes()
        return max(0, int(PINS_SHARE * (self.capacity - least)))

    def limit(self, tag: int) -> int | None:
        if tag == PIN:
            return self.pins_max()
        quota = self.keeping.quotas.get(tag)
        return None if quota is None else quota.bytes

    def tags_for(self, txn: Any, key: bytes) -> tuple[int, ...]:
        """Those of a block that is about to be indexed."""
        if read_number(txn, self.index.meta, b"policy") != self.keeping.fingerprint:
            return (UNSURE,)
        return self.keeping.of(key).tags

    def live(self, txn: Any, place: Place) -> tuple[Content, Extent] | None:
        """What a slot holds, if a reader would find it there."""
        value = txn.get(slot_key(*place), None, self.index.contents)
        if value is None:
            return None
        content = decode_content(value)
        value = txn.get(block_key(content.version, content.block), None, self.index.blocks)
        extent = None if value is None else decode_extent(value, content.version, content.block)
        return (content, extent) if extent is not None and (extent.segment, extent.slot) == place else None

    def current(self, txn: Any, content: Content) -> Entry | None:
        """The entry, if this is a block of its version; else nobody begins to read it any more."""
        entry = self._stored(txn, content.key)
        return (
            entry if entry is not None and (entry.state, entry.version) == (OBJECT, content.version) else None
        )

    def wanted(self, txn: Any, content: Content) -> tuple[int, ...]:
        """The tags that a block should have. Of a version that is not current, no pin."""
        value = txn.get(content.key, None, self.index.objects)
        tags = self.keeping.of(content.key if value is None else stored_key(content.key, value)).tags
        if PIN in tags and self.current(txn, content) is None:
            return tuple(tag for tag in tags if tag != PIN)
        return tags

    def due(self, txn: Any, content: Content) -> float | None:
        """When its time is over (wall seconds); None where no rule sets one."""
        value = txn.get(content.key, None, self.index.objects)
        key = content.key if value is None else stored_key(content.key, value)
        ttl_s = self.keeping.of(key).ttl_s
        if ttl_s == float("inf"):
            return None
        entry = self.current(txn, content)
        return 0.0 if entry is None else entry.fetched_at + ttl_s

    def segment_sums(self, txn: Any, kind: bytes) -> dict[int, int]:
        """Bytes by segment, of those that have any. `kind`: DEAD or PINS."""
        sums: dict[int, int] = {}
        with txn.cursor(self.index.meta) as cursor:
            found = cursor.set_range(dead_sum(0) if kind == DEAD else pins_sum(0))
            while found and cursor.key()[: len(kind)] == kind:
                segment = int.from_bytes(cursor.key()[len(kind) :], "big")
                sums[segment] = int.from_bytes(cursor.value(), "little")
                found = cursor.next()
        return sums

    # --- tags come and go

    def tag(self, txn: Any, extent: Extent, content: Content) -> None:
        """Writes a slot's row, and counts it."""
        index, place = self.index, (extent.segment, extent.slot)
        txn.put(slot_key(*place), encode_content(content), db=index.contents)
        for tag in content.tags:
            row = encode_tagged(content.version, content.block, extent.length)
            txn.put(tag_key(tag, *place), row, db=index.tagged)
            self._count(txn, tag, extent.segment, extent.length)

    def untag(self, txn: Any, place: Place, tags: tuple[int, ...]) -> None:
        """What was not counted (any more) is left alone."""
        for tag in tags:
            row = txn.pop(tag_key(tag, *place), self.index.tagged)
            if row is not None:
                self._count(txn, tag, place[0], -decode_tagged(row)[2])

    def _count(self, txn: Any, tag: int, segment: int, change: int) -> None:
        add_number(txn, self.index.meta, tag_sum(tag), change)
        if tag == PIN:
            add_number(txn, self.index.meta, pins_sum(segment), change)

    def let_go(self, txn: Any, extent: Extent) -> Content | None:
        """A block's bytes will not be found any more: its slot's row and tags go. What the row said; None when it had
        gone."""
        place = extent.segment, extent.slot
        value = txn.pop(slot_key(*place), self.index.contents)
        if value is None:
            return None
        content = decode_content(value)
        self.untag(txn, place, content.tags)
        self.wasted(txn, extent)
        return content

    def wasted(self, txn: Any, extent: Extent) -> None:
        """Bytes on disk that no reader can find; their segment will be evicted the sooner. Never more than it has: a
        damaged one may have lost what its blocks took."""
        row = txn.get(segment_key(extent.segment), None, self.index.segments)
        room = 0 if row is None else decode_segment(row).bytes
        room -= read_number(txn, self.index.meta, dead_sum(extent.segment))
        add_number(txn, self.index.meta, dead_sum(extent.segment), min(extent.taken, room))

    def drop_at(self, txn: Any, place: Place) -> int:
        """Drops a block that is good, with its entry when it was the last. Its bytes; 0 when it was gone."""
        found = self.live(txn, place)
        if found is None:
            return 0
        content, extent = found
        txn.delete(block_key(content.version, content.block), db=self.index.blocks)
        self.let_go(txn, extent)
        self._drop_blockless(txn, content.version, content.key)
        return extent.length

    def _drop_blockless(self, txn: Any, version: int, key: bytes) -> None:
        entry = self._stored(txn, key)
        if entry is None or entry.state != OBJECT or entry.version != version:
            return
        if not self._has_block(txn, version):
            self._drop_entry(txn, key, entry)

    # --- bounds

    def make_way(self, txn: Any, tags: tuple[int, ...], length: int) -> tuple[int, ...]:
        """Until a block of `length` fits. The tags that it may carry. Raises StoreFull when it can never fit, or not
        yet; what was dropped until then stays dropped."""
        for tag in tags:
            limit = self.limit(tag)
            if limit is not None and length > limit and tag != PIN:
                raise StoreFull("the block is larger than the quota of its rule")
        fitting = []
        for tag in tags:
            if self.fit(txn, tag, length, DROPS_MAX):
                fitting.append(tag)
            elif tag != PIN:
                raise StoreFull("the rule is over its quota and being brought below it")
        return tuple(fitting)

    def fit(self, txn: Any, tag: int, length: int, drops: int = DROPS_MAX) -> bool:
        """Drops (or, for PIN, unpins) the oldest blocks of a tag until `length` more bytes may carry it."""
        limit = self.limit(tag)
        if limit is None:
            return True
        if length > limit:
            return False
        while self.tagged(txn, tag) + length > limit:
            place = self._oldest(txn, tag)
            if place is None or drops == 0:
                return False
            drops -= 1
            gone = self.unpin(txn, place) if tag == PIN else self.drop_at(txn, place)
            if not gone:
                self.untag(txn, place, (tag,))  # a damaged row
            elif tag != PIN:
                self.quota_dropped_bytes += gone
        return True

    def has_room(self, txn: Any, tags: tuple[int, ...], length: int) -> bool:
        limits = ((tag, self.limit(tag)) for tag in tags if tag != PIN)
        return all(limit is None or self.tagged(txn, tag) + length <= limit for tag, limit in limits)

    def tagged(self, txn: Any, tag: int) -> int:
        return read_number(txn, self.index.meta, tag_sum(tag))

    def _oldest(self, txn: Any, tag: int) -> Place | None:
        with txn.cursor(self.index.tagged) as cursor:
            if not cursor.set_range(tag_key(tag, 0, 0)):
                return None
            found, segment, slot = split_tag_key(cursor.key())
        return (segment, slot) if found == tag else None

    def unpin(self, txn: Any, place: Place) -> int:
        found = self.live(txn, place)
        if found is None:
            return 0
        content, extent = found
        self.unpinned_bytes += extent.length
        self._retag(txn, content, extent, tuple(tag for tag in content.tags if tag != PIN))
        return extent.length

    def _retag(self, txn: Any, content: Content, extent: Extent, tags: tuple[int, ...]) -> None:
        self.untag(txn, (extent.segment, extent.slot), content.tags)
        self.tag(txn, extent, content._replace(tags=tags))

    # --- the sweeper's steps

    def set_policy(self, txn: Any, fingerprint: int) -> None:
        """Also for rules by which all was counted once: others may have held, and tagged, in between."""
        if read_number(txn, self.index.meta, b"policy") != fingerprint:
            write_number(txn, self.index.meta, b"policy", fingerprint)
            write_number(txn, self.index.meta, b"counted", UNSURE)
            self._next(txn, b"told")

    def retag_all(self, txn: Any, places: list[Place], keeping: Keeping) -> None:
        """Gives blocks the tags that `keeping` wants for them, unless other rules came meanwhile. Where a quota is
        full, older blocks make way."""
        if self.keeping is not keeping or read_number(txn, self.index.meta, b"policy") != keeping.fingerprint:
            return
        for place in places:
            self.untag(txn, place, (UNSURE,))  # of a damaged row, too, which would be looked at for ever
            found = self.live(txn, place)
            if found is None:
                continue
            content, extent = found
            wanted = self.wanted(txn, content)
            if wanted == content.tags:
                continue
            self._retag(txn, content, extent, ())
            fitting = tuple(t for t in wanted if self.fit(txn, t, extent.length, _RETAG_DROPS_MAX))
            if any(tag not in fitting for tag in wanted if tag != PIN):
                self.quota_dropped_bytes += self.drop_at(txn, place)
            else:
                self._retag(txn, content._replace(tags=()), extent, fitting)

    def set_counted(self, txn: Any, fingerprint: int, told: int) -> bool:
        """Every block has been looked at under these rules, of which the index was `told`. False: others came in
        between, or something has to be looked at again."""
        meta = self.index.meta
        now = read_number(txn, meta, b"policy"), read_number(txn, meta, b"told")
        if now != (fingerprint, told) or self.tagged(txn, UNSURE):
            return False
        write_number(txn, meta, b"counted", fingerprint)
        return True

    def drop_expired(self, txn: Any, places: list[Place], now: float) -> None:
        for place in places:
            found = self.live(txn, place)
            if found is not None and (due := self.due(txn, found[0])) is not None and due <= now:
                self.expired_bytes += self.drop_at(txn, place)


__all__ = ["DEAD", "PINS", "PINS_SHARE", "Place", "TagChanges", "dead_sum", "pins_sum"]
