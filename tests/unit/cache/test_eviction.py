"""What eviction keeps, in which order it takes, and that any step of it may be the last one before a kill."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.entry import Extent
from gateway.cache.eviction import (
    KEEP_SHARE,
    PINNED_SHARE_LATE,
    PINNED_SHARE_MAX,
    Candidate,
    Victim,
    keep,
    victim,
)
from gateway.cache.index import EVICTING
from gateway.cache.layout import SEGMENTS_MIN, CacheUnusable, effective_segment_bytes
from gateway.cache.segment import slots_of
from gateway.cache.store import Store
from gateway.errors import StoreFull

from .audit import audit, blocks_of, die, settle
from .harness import MIB, open_store, payload, put, read, ready, running

candidates = st.lists(st.tuples(st.integers(1, 100), st.integers(0, 3), st.booleans()), max_size=20).map(
    lambda rows: [
        Candidate(n, 0, b"", Extent(1, 1000 * n, length, 0, n, 0), access, pinned)
        for n, (length, access, pinned) in enumerate(rows)
    ]
)


@given(candidates, st.integers(0, 2000), st.booleans())
def test_pinned_blocks_stay_and_the_most_used_that_fit(
    found: list[Candidate], size: int, everything: bool
) -> None:
    kept = keep(found, size, everything=everything)
    assert [c.extent.offset for c in kept] == sorted({c.extent.offset for c in kept})
    pins, kept_pins = [c for c in found if c.pinned], [c for c in kept if c.pinned]
    assert kept_pins == pins[len(pins) - len(kept_pins) :]
    assert sum(c.extent.length for c in kept_pins) <= size * PINNED_SHARE_MAX
    if kept_pins != pins:
        assert sum(c.extent.length for c in pins) > size * PINNED_SHARE_MAX - 1
    others = [c for c in kept if not c.pinned]
    assert everything or all(c.frequency for c in others)
    if others:
        assert sum(c.extent.length for c in kept) <= size * KEEP_SHARE
    smallest = min((c.frequency for c in others), default=0)
    left = [c for c in found if c not in kept and c.frequency > smallest and not c.pinned]
    room = int(size * KEEP_SHARE) - sum(c.extent.length for c in kept if c.pinned or c.frequency > smallest)
    assert all(
        c.extent.length > room - sum(o.extent.length for o in others if o.frequency == smallest) for c in left
    )


victims = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=12).map(
    lambda rows: [Victim(n, 100, dead, min(pinned, 100 - dead)) for n, (dead, pinned) in enumerate(rows)]
)


@given(victims)
def test_half_dead_segments_go_first_and_mostly_pinned_ones_last(found: list[Victim]) -> None:
    chosen = victim(found)
    if chosen is None:
        assert not found
        return
    before = found[: found.index(chosen)]
    assert not any(one.mostly_dead for one in before)
    if chosen.mostly_dead:
        return
    assert not any(one.mostly_dead for one in found)
    if chosen.pinned > PINNED_SHARE_LATE * chosen.bytes:
        assert chosen.pinned == min(one.pinned for one in found)
    else:
        assert all(one.pinned > PINNED_SHARE_LATE * one.bytes for one in before)


async def until(store: Store, condition: Callable[[], bool], first: int = 0) -> int:
    """Puts other blocks until something happened; the number of the next one."""
    for number in range(first, first + 1000):
        if condition():
            return number
        await put(store, b"other/%d" % number, payload(number))
    raise AssertionError("it never happened")


async def test_hot_blocks_are_appended_again_and_have_to_earn_the_next_round(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        entry = await put(store, b"hot", payload(7))
        first = store.block(entry.version, 0)
        assert await read(store, b"hot") == payload(7)
        after = await until(store, lambda: store.block(entry.version, 0) != first)
        moved = store.block(entry.version, 0)
        assert moved is not None
        assert store.segment(moved.segment).access[moved.slot] & 3 == 0  # type: ignore[union-attr]
        assert await store.verify(moved, entry.version, 0)
        await until(store, lambda: store.block(entry.version, 0) is None, after)
        await settle(store)
        audit(store)


async def test_the_oldest_segment_goes_first(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        seen: list[set[int]] = []
        await until(store, lambda: store.counters.evicted_segments >= 1)
        for number in range(2000, 2060):
            await put(store, b"x/%d" % number, payload(number))
            rows = set(store._index.segment_rows())
            if not seen or rows != seen[-1]:
                seen.append(rows)
        steps = [(before, before - after) for before, after in itertools.pairwise(seen) if before - after]
        assert len(steps) > 3
        assert all(max(gone) < min(before - gone) for before, gone in steps)


async def test_a_damaged_hot_block_is_not_carried_on(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        entry = await put(store, b"hot", payload(7))
        extent = store.block(entry.version, 0)
        assert extent is not None
        assert await read(store, b"hot") == payload(7)
        opened = store.segment(extent.segment)
        assert opened is not None
        with store._segments.path(extent.segment).open("r+b") as file:
            file.seek(extent.offset + 1000)
            file.write(b"damage")
        await until(store, lambda: store.segment(extent.segment) is None)
        assert store.block(entry.version, 0) is None


@pytest.mark.parametrize("after", range(12))
async def test_an_eviction_that_dies_between_two_changes_is_finished_by_the_next_start(
    tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = ready(tmp_path)
    store = open_store(tmp_path)
    number = await until(store, lambda: store.counters.evicted_segments >= 1)
    entry = await put(store, b"hot", payload(7))
    assert await read(store, b"hot") == payload(7)
    left, real = [after], store._writer.call

    def call(change: Callable[..., Any], *args: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise StoreFull("dead")
        return real(change, *args)

    monkeypatch.setattr("gateway.cache.evictor.ROWS_PER_STEP", 1)
    monkeypatch.setattr(store._writer, "call", call)
    try:
        for i in range(60):
            await put(store, b"more/%d" % i, payload(i))
    except StoreFull:
        pass
    await die(store)
    prepared._lock.close()
    async with running(tmp_path) as store:
        store.start()
        await settle(store)
        assert EVICTING not in {row.state for row in store._index.segment_rows().values()}
        await settle(store)
        audit(store)
        assert await read(store, b"hot") in (None, payload(7))
        assert entry.version
        assert await read(store, b"other/%d" % (number - 1)) in (None, payload(number - 1))


@pytest.mark.parametrize(
    ("capacity", "segment", "block", "workers"),
    [
        (100 << 30, 256 << 20, MIB, 8),
        (1 << 30, 256 << 20, MIB, 1),
        (64 << 20, 256 << 20, MIB, 2),
        (1 << 50, 1 << 40, MIB, 4),
    ],
)
def test_segments_are_a_small_part_of_the_cache_and_hold_a_block(
    capacity: int, segment: int, block: int, workers: int
) -> None:
    size = effective_segment_bytes(capacity, segment, block, workers)
    assert block < size <= max(segment, block + (128 << 10))
    assert size * max(SEGMENTS_MIN, 4 * workers) <= capacity or size == block + (128 << 10)
    assert size < 1 << 32  # the index keeps offsets as u32
    assert 1024 <= slots_of(size) <= 1 << 16  # and slots as u16


def test_a_cache_that_holds_nothing_is_refused() -> None:
    with pytest.raises(CacheUnusable, match="too small"):
        effective_segment_bytes(4 << 20, 256 << 20, MIB, 2)


async def test_a_segment_with_more_records_than_slots_is_sealed_early(tmp_path: Path) -> None:
    """Every record has an access byte of its own; records smaller than expected must not run out of them."""
    async with running(tmp_path) as store:
        slots = store._segments.slots
        for start in range(0, slots + 200, 100):
            await asyncio.gather(*(put(store, b"s/%d" % i, b"%d" % i) for i in range(start, start + 100)))
        used = {extent.segment for extent in all_extents(store)}
        assert len(used) > 1
        assert all(extent.slot < slots for extent in all_extents(store))
        assert await read(store, b"s/%d" % slots) == b"%d" % slots
        await settle(store)
        audit(store)


def all_extents(store: Store) -> list[Extent]:
    return list(blocks_of(store).values())


async def test_a_cyclic_scan_keeps_a_stable_subset(tmp_path: Path) -> None:
    """Over twice the capacity, the real store with its admission; the pure model of it is in test_admission."""
    block = 64 << 10
    async with running(tmp_path, capacity=8 * MIB, block_size=block, workers=1) as store:
        store.admission._stripe_blocks = 1
        hits: list[int] = []
        for _ in range(9):
            hits.append(0)
            for number in range(256):
                key = b"scan/%d" % number
                if await read(store, key) is not None:
                    hits[-1] += 1
                elif store.admit(key, 0, block):
                    await put(store, key, payload(number, block))
            store._upkeep._observe()
        assert min(hits[-2:]) >= 256 * 0.25, hits


async def test_time_stands_still_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fills that find nothing to evict give up soon instead of waiting for room that cannot come."""
    async with running(tmp_path) as store:
        monkeypatch.setattr(store._changes, "begin_evict", lambda *_: None)
        began = time.monotonic()
        with pytest.raises(StoreFull):
            await until(store, lambda: False)
        assert time.monotonic() - began < 8
