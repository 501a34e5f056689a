"""What one write transaction changes in the index: entries here, blocks and segments in `changes.py`. Every
function runs on the writer thread (`writer.py`), takes an open transaction and either raises a GatewayError
before it has written anything or leaves the tables consistent.

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
    block_key,
    decode_entry,
    encode_entry,
    index_key,
    stored_key,
)
from gateway.cache.index import (
    Index,
    read_number,
    segment_key,
    write_number,
)
from gateway.errors import StoreFull, Superseded
from gateway.namespace.keeping import NO_RULES

# `recent` may hold one row per 16 KiB of capacity: at some 600 bytes for the row and its entry that is 4 % of
# it, and negative entries and tombstones of a busy node last for minutes. Bounded above at 4 million (2.4
# GiB).
RECENT_BYTES_PER_ROW: Final = 16 << 10
RECENT_ROWS_MAX: Final = 4 << 20


class EntryChanges:
    def __init__(self, index: Index, capacity: int, spare: Callable[[], int]) -> None:
        """`spare`: bytes that the cache may still take from the file system."""
        self.index = index
        self.capacity = capacity
        self.spare = spare
        self.keeping = NO_RULES
        self.recent_rows_max = max(256, min(RECENT_ROWS_MAX, capacity // RECENT_BYTES_PER_ROW))
        # Room that a batch of changes may make the index file grow by before the next check.
        self.margin = max(512 << 10, min(64 << 20, capacity // 128))

    # --- entries

    def expired(self, entry: Entry, now: float) -> bool:
        """Has it been in the cache for as long as its rules allow?"""
        if not self.keeping.has_ttl or entry.state != OBJECT:
            return False
        return now >= entry.fetched_at + self.keeping.of(entry.key).ttl_s

    def install(self, txn: Any, new: Entry) -> Entry:
        """Puts what an answer said, `new.state` OBJECT or ABSENT; `new.version` is set here. The same ETag,
        size and time keep the version and so the blocks, until their time is over; anything else gets a new
        version id."""
        index = self.index
        key = index_key(new.key)
        old = index.read_entry(txn, new.key)
        self._guard(txn, old, new)
        new.generation = index.generation
        same = old is not None and old.same_object(new.etag, new.size, new.last_modified)
        if old is not None and same and not self.expired(old, new.validated_at):
            new.version, new.queued, new.fetched_at = old.version, old.queued, old.fetched_at
            new.asked_ns = max(new.asked_ns, old.asked_ns)
            new.invalidated_ns = old.invalidated_ns
            txn.put(key, encode_entry(new), db=index.objects)
            return new
        new.fetched_at = new.validated_at
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

    # --- helpers

    def _require_room(self, txn: Any) -> None:
        total = read_number(txn, self.index.meta, b"bytes")
        if total + self.index.file_bytes() > self.capacity - self.margin // 2:
            raise StoreFull("the cache index has reached the cache's capacity")

    def _next(self, txn: Any, name: bytes) -> int:
        value = read_number(txn, self.index.meta, name) + 1
        write_number(txn, self.index.meta, name, value)
        return value
