"""What must hold of a store's index and files at any quiet moment, and how a store dies without being closed."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections import Counter
from contextlib import suppress
from typing import Any

from gateway.aio import THREADS
from gateway.cache.entry import OBJECT, Extent, decode_entry, decode_extent, stored_key
from gateway.cache.index import (
    ACTIVE,
    SEALED,
    UNSCANNED,
    decode_content,
    decode_segment,
    decode_tagged,
    segment_key,
    slot_key,
    tag_key,
    tag_sum,
)
from gateway.cache.store import Store
from gateway.cache.tags import DEAD, PINS_SHARE, pins_sum
from gateway.errors import StoreFull
from gateway.namespace.keeping import PIN

from .harness import disk_bytes, taken

_BLOCK = struct.Struct(">QI")


def blocks_of(store: Store) -> dict[tuple[int, int], Extent]:
    """Every committed block, (version, block) → extent; a row that does not decode is an error."""
    with store._index.env.begin() as txn:
        return _blocks(store, txn)


def _blocks(store: Store, txn: Any) -> dict[tuple[int, int], Extent]:
    found = {}
    for name, value in txn.cursor(store._index.blocks).iternext():
        version, block = _BLOCK.unpack(name)
        extent = decode_extent(value, version, block)
        assert extent is not None, "a block's row does not decode"
        found[version, block] = extent
    return found


def entries_of(store: Store) -> dict[bytes, bytes]:
    with store._index.env.begin(store._index.objects) as txn:
        return dict(txn.cursor().iternext())


async def settle(store: Store) -> None:
    """Waits until background evictions and postponed changes have ended."""
    filler = store._filler
    await asyncio.sleep(0)  # what was spawned begins
    await store._upkeep._sweeps.run(lambda: None)
    while True:
        await filler._threads.run(lambda: None)  # it has one thread: what came before has ended
        if (task := filler._room_task) is None or task.done():
            break
        await asyncio.wait([task])
    # Seals run in the store's pool. Once as many calls as it has threads have met, all earlier ones have ended.
    together = threading.Barrier(THREADS)
    await asyncio.gather(*(store._io.run(together.wait) for _ in range(THREADS)))
    with suppress(StoreFull):
        await store._writer.run(lambda txn: None, must=True)


def audit(store: Store) -> None:
    """At a quiet moment (`settle`): tables and files agree with each other, and all of it fits the capacity."""
    index = store._index
    with index.env.begin() as txn:  # one: a sweep or an eviction may begin at any time
        rows = {
            int.from_bytes(key, "big"): decode_segment(value)
            for key, value in txn.cursor(index.segments).iternext()
        }
        meta = {name: int.from_bytes(value, "little") for name, value in txn.cursor(index.meta).iternext()}
        blocks = _blocks(store, txn)
        for (version, block), extent in blocks.items():
            content = txn.get(slot_key(extent.segment, extent.slot), None, index.contents)
            assert content is not None, "eviction would not find this block"
            assert decode_content(content)[:2] == (version, block)
            assert extent.segment in rows, "a block in a segment that nobody accounts for"
        _audit_entries(store, txn, {version for version, _ in blocks})
        _audit_tags(store, txn, blocks, meta)
    assert meta.get(b"bytes", 0) == sum(row.bytes for row in rows.values())
    assert meta.get(b"active", 0) == sum(row.state == ACTIVE for row in rows.values())
    for name, count in meta.items():
        if name.startswith(DEAD):
            segment = int.from_bytes(name[len(DEAD) :], "big")
            assert 0 < count <= rows[segment].bytes, (segment, count, rows[segment])
    for segment, row in rows.items():
        if row.state in (SEALED, UNSCANNED):
            path = store._segments.path(segment)
            assert taken(path) + store._segments.acc_bytes <= row.bytes, (row, path.stat())
    assert disk_bytes(store.directory) <= store.capacity


def _audit_tags(
    store: Store, txn: Any, blocks: dict[tuple[int, int], Extent], meta: dict[bytes, int]
) -> None:
    """Sums are those of the rows, rows those of live blocks, and no bound is passed."""
    index, changes = store._index, store._changes
    carried: Counter[int] = Counter()
    pins: Counter[int] = Counter()
    rows = 0
    for (version, block), extent in blocks.items():
        content = decode_content(txn.get(slot_key(extent.segment, extent.slot), None, index.contents))
        for tag in content.tags:
            value = txn.get(tag_key(tag, extent.segment, extent.slot), None, index.tagged)
            assert value is not None, "a block that its tag does not know"
            assert decode_tagged(value) == (version, block, extent.length)
            carried[tag] += extent.length
            pins[extent.segment] += extent.length if tag == PIN else 0
            rows += 1
    assert txn.stat(index.tagged)["entries"] == rows, "a tag on what is not there"
    said = {n: c for n, c in meta.items() if len(n) in (len(tag_sum(0)), len(pins_sum(0))) and n[:4] != DEAD}
    assert said == {
        **{tag_sum(tag): count for tag, count in carried.items() if count},
        **{pins_sum(segment): count for segment, count in pins.items() if count},
    }
    for tag, quota in changes.keeping.quotas.items():
        assert carried[tag] <= quota.bytes
    assert carried[PIN] <= PINS_SHARE * store.capacity


def _audit_entries(store: Store, txn: Any, with_blocks: set[int]) -> None:
    """An entry lives by a block or by its row in `recent`, and `recent` is bounded."""
    index = store._index
    for key, value in txn.cursor(index.objects).iternext():
        entry = decode_entry(stored_key(key, value), value)
        assert entry is not None
        if entry.queued:
            assert txn.get(segment_key(entry.queued), None, index.recent) == key
        else:
            assert entry.state == OBJECT
            assert entry.version in with_blocks, "an entry that nothing will ever take away"
    assert txn.stat(index.recent)["entries"] <= store._changes.recent_rows_max + 4


async def die(store: Store) -> None:
    """What kill -9 leaves behind: nothing sealed, nothing noted, every lock free."""
    await store._upkeep._tasks.close()
    await store._tasks.close()
    store._upkeep._rebuilder.stop()
    store._upkeep._sweeper.stop()
    await store._filler._tasks.close()
    for threads in (store._upkeep._rebuilds, store._upkeep._sweeps, store._filler._threads, store._io):
        await asyncio.to_thread(threads.close)
    await asyncio.to_thread(store._writer.close)
    store._segments.close()
    store._index.close()
    store._index.shared.close()
    for lock in (*store._locks, store._upkeep._sweep_lock, store._filler._lock):
        lock.close()
