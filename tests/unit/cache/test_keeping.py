"""Pins, quotas and times in the store: what stays, what makes way, and that rules hold for what was there before."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
from structlog.testing import capture_logs

from gateway.cache.index import SEALED, Content, slot_key
from gateway.cache.segment import PAGE
from gateway.cache.store import Store
from gateway.cache.sweeper import Sweeper
from gateway.cache.tags import DEAD
from gateway.errors import StoreFull
from gateway.namespace.keeping import NO_RULES, UNSURE, Keeping
from gateway.namespace.mounts import Mount, Mounts
from gateway.namespace.rules import Rule, Rules

from .audit import audit, blocks_of, die, settle
from .harness import MIB, disk_bytes, install, open_store, payload, put, read, ready, running
from .harness import taken as disk_of

MOUNTS = Mounts([Mount.parse("b", "o", "b")])
SMALL: dict[str, Any] = {"capacity": 32 * MIB, "block_size": 64 << 10, "workers": 1}
BLOCK = 64 << 10


def rules(*found: Rule) -> Keeping:
    return Keeping(MOUNTS, Rules(found))


PINS = rules(Rule("b/pin/**", pin=True))


def quota(count: int, match: str = "b/q/**", **more: Any) -> Keeping:
    return rules(Rule(match, quota=count, **more))


def key(name: object) -> bytes:
    return f"o\0b/{name}".encode()


async def fill(store: Store, names: Iterator[str] | list[str], size: int = BLOCK) -> None:
    for name in names:
        await put(store, key(name), payload(hash(name) & 0xFFFF, size))


def here(store: Store, names: list[str]) -> list[str]:
    return [name for name in names if any(store.lookup(key(name), 0, 0)[1])]


def dead_bytes(store: Store) -> int:
    with store._index.env.begin() as txn:
        return sum(store._changes.segment_sums(txn, DEAD).values())


async def swept(store: Store) -> None:
    """One step of the sweeper, and what it set off."""
    await settle(store)
    await store._upkeep._sweeps.run(store._upkeep._sweeper.step)
    await settle(store)
    audit(store)


def named(prefix: str, count: int, first: int = 0) -> list[str]:
    return [f"{prefix}/{number}" for number in range(first, first + count)]


# --- pins


async def test_a_flood_evicts_everything_but_the_pinned(tmp_path: Path) -> None:
    pinned = named("pin", 64)
    async with running(tmp_path, **SMALL) as store:
        store.apply(PINS)
        for name in pinned:  # among others, so that no segment is of pins alone
            await fill(store, [name, *named(f"near/{name}", 3)])
        await fill(store, named("flood", 1500))
        await settle(store)
        audit(store)
        assert here(store, pinned) == pinned
        assert len(here(store, named("flood", 1500))) > 100
        assert store.bounds.pinned_bytes() == 64 * BLOCK
        assert [await read(store, key(name)) is not None for name in pinned] == [True] * 64


async def test_a_cache_full_of_pins_goes_on_caching(tmp_path: Path) -> None:
    """More is pinned than there is room for: the oldest of it is evicted like anything else."""
    pinned = named("pin", 1200)
    async with running(tmp_path, **SMALL) as store:
        store.apply(PINS)
        await fill(store, pinned)
        assert store.bounds.pinned_bytes() <= store._changes.pins_max()
        before = here(store, pinned)
        await fill(store, named("flood", 800))
        await settle(store)
        audit(store)
        assert here(store, ["flood/799"]) == ["flood/799"]
        kept = here(store, pinned)
        assert kept[-200:] == pinned[-200:]
        assert len(kept) * BLOCK > 0.9 * store._changes.pins_max()
        assert set(kept) <= set(before)
        with capture_logs() as logs:
            store._upkeep._observe()
            store._upkeep._observe()
            store.apply(PINS)
            store._upkeep._observe()
        assert [line["event"][:20] for line in logs if line["log_level"] == "warning"] == [
            "more is pinned than "
        ]
        assert store.counters.unpinned_bytes > 0
        assert store.counters.reserve_failures == 0


async def test_what_replaced_a_pinned_object_is_pinned_and_the_old_is_not(tmp_path: Path) -> None:
    async with running(tmp_path, **SMALL) as store:
        store.apply(PINS)
        for generation in range(10):
            for name in named("pin", 60):
                await put(store, key(name), payload(generation, BLOCK), etag=f'"{generation}"')
            await swept(store)
            assert store.bounds.pinned_bytes() == 60 * BLOCK
        await fill(store, named("flood", 600))
        assert [await read(store, key(name)) for name in named("pin", 60)] == [payload(9, BLOCK)] * 60


async def test_a_miss_of_a_pinned_key_is_admitted_whatever_others_scan(tmp_path: Path) -> None:
    async with running(tmp_path, **SMALL) as store:
        store.apply(PINS)
        store._filler.has_room = False
        store.admission.p = 0.0
        assert store.admit(key("pin/1"), 0, BLOCK)
        assert not store.admit(key("other"), 0, BLOCK)
        store._changes.reserved_elsewhere = store.capacity  # no room for pins: they are judged like others
        assert not store.admit(key("pin/2"), 0, BLOCK)


# --- quotas


async def test_a_rule_never_takes_more_than_its_quota_and_its_own_oldest_go(tmp_path: Path) -> None:
    others, mine = named("other", 50), named("q", 100)
    async with running(tmp_path, **SMALL) as store:
        store.apply(quota(20 * BLOCK))
        await fill(store, others)
        for name in mine:
            await fill(store, [name])
            assert store.bounds.quotas() == [("b/q/**", min(20, mine.index(name) + 1) * BLOCK, 20 * BLOCK)]
        audit(store)
        assert here(store, mine) == mine[-20:]
        assert here(store, others) == others
        store._upkeep._observe()
        assert store.counters.quota_dropped_bytes == 80 * BLOCK


async def test_a_flood_within_a_quota_costs_nobody_else_a_block(tmp_path: Path) -> None:
    """What is dropped leaves its space in the segments; those go before any that others still live in."""
    others = named("other", 200)
    async with running(tmp_path, **SMALL) as store:
        store.apply(quota(4 * MIB))
        for name in others:
            await fill(store, [name, f"q/{name}"])
        await fill(store, named("q/flood", 2000))
        await settle(store)
        audit(store)
        assert here(store, others) == others
        assert store.counters.evicted_segments > 20


async def test_a_large_block_makes_many_small_ones_go_and_one_larger_than_the_quota_is_refused(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, **SMALL) as store:
        store.apply(quota(BLOCK))
        await fill(store, named("q", 60), 1024)
        await fill(store, ["q/large"])
        assert here(store, [*named("q", 60), "q/large"]) == ["q/large"]
        store.apply(quota(BLOCK - 1))
        before = dead_bytes(store)
        with pytest.raises(StoreFull, match="larger than the quota"):
            await fill(store, ["q/another"])
        assert dead_bytes(store) > before + BLOCK  # it had been written when the index refused it


async def test_a_cyclic_scan_over_twice_a_quota_keeps_a_stable_subset(tmp_path: Path) -> None:
    names = named("q", 160)
    async with running(tmp_path, **SMALL) as store:
        store.apply(quota(80 * BLOCK))
        for admission in store.bounds._admissions.values():
            admission._stripe_blocks = 1
        hits: list[int] = []
        for _ in range(9):
            hits.append(0)
            for name in names:
                if await read(store, key(name)) is not None:
                    hits[-1] += 1
                elif store.admit(key(name), 0, BLOCK):
                    await fill(store, [name])
        assert min(hits[-2:]) >= 160 * 0.3, hits
        assert (
            store.admission._missed == store.counters.committed_bytes
        )  # what was refused is not the cache's affair


async def test_a_quota_that_is_lowered_is_kept_by_what_is_there(tmp_path: Path) -> None:
    mine = named("q", 300)
    async with running(tmp_path, **SMALL) as store:
        store.apply(quota(300 * BLOCK))
        await fill(store, mine)
        store.apply(quota(10 * BLOCK))
        assert len(here(store, mine)) == 300
        await swept(store)
        assert here(store, mine) == mine[-10:]


async def test_a_block_that_two_fills_brought_counts_once(tmp_path: Path) -> None:
    async with running(tmp_path, **SMALL) as store:
        store.apply(quota(20 * BLOCK, pin=True))
        entry = await put(store, key("q/1"), payload(1, BLOCK))
        for _ in range(3):
            await store.put_block(entry, 0, payload(1, BLOCK))
        audit(store)
        assert store.bounds.quotas()[0][1] == store.bounds.pinned_bytes() == BLOCK
        await fill(store, named("flood", 600))
        await settle(store)
        audit(store)
        assert await read(store, key("q/1")) == payload(1, BLOCK)


async def test_two_quotas_over_one_object_both_bound_it(tmp_path: Path) -> None:
    mounts = Mounts([Mount.parse("b", "o", "b"), Mount.parse("view", "o", "b/q")])
    both = Keeping(mounts, Rules([Rule("view/**", quota=5 * BLOCK), Rule("b/**", quota=9 * BLOCK)]))
    async with running(tmp_path, **SMALL) as store:
        store.apply(both)
        for number in range(20):
            await fill(store, [f"q/{number}", f"other/{number}"])
            audit(store)
        held = {rule: count for rule, count, _ in store.bounds.quotas()}
        assert held["b/**"] == 9 * BLOCK
        assert held["view/**"] <= 5 * BLOCK


# --- times


async def test_an_object_whose_time_is_over_gets_new_blocks_even_if_it_is_the_same(tmp_path: Path) -> None:
    async with running(tmp_path, **SMALL) as store:
        store.apply(rules(Rule("b/t/**", ttl_s=100.0)))
        first = await put(store, key("t/1"), payload(1, BLOCK))
        again = await install(store, key("t/1"), size=BLOCK, validated_at=1e9 + 99)
        assert (again.version, again.fetched_at) == (first.version, 1e9)
        assert not store.expired(again, 1e9 + 99)
        assert store.expired(again, 1e9 + 100)
        late = await install(store, key("t/1"), size=BLOCK, validated_at=1e9 + 100)
        assert late.version != first.version
        assert store.lookup(key("t/1"), 0, 0)[1] == [None]
        other = await put(store, key("other"), payload(1, BLOCK))
        assert (await install(store, key("other"), size=BLOCK, validated_at=2e9)).version == other.version


async def test_the_sweep_drops_what_is_over_and_gives_the_space_back(tmp_path: Path) -> None:
    async with running(tmp_path, **SMALL) as store:
        now = [1e9 + 50]
        store._upkeep._sweeper = Sweeper(
            store._index,
            store._changes,
            store._writer,
            store._upkeep._sweep_lock,
            store._filler.clear_empty,
            lambda: now[0],
        )
        store.apply(rules(Rule("b/t/**", ttl_s=100.0)))
        await fill(store, named("t", 200))
        await swept(store)
        assert len(here(store, named("t", 200))) == 200
        full = disk_bytes(tmp_path)
        await fill(store, ["other"])
        now[0] += 50
        await swept(store)
        assert here(store, [*named("t", 200), "other"]) == ["other"]
        await settle(store)
        assert disk_bytes(tmp_path) < full - 5 * MIB
        assert sum(row.state == SEALED for row in store._index.segment_rows().values()) <= 1
        store._upkeep._observe()
        assert store.counters.expired_bytes == 200 * BLOCK


async def test_an_eviction_does_not_carry_on_what_is_over(tmp_path: Path) -> None:
    async with running(tmp_path, **SMALL) as store:
        store.apply(rules(Rule("b/t/**", ttl_s=100.0, pin=True)))
        await fill(store, named("t", 10))
        await fill(store, named("flood", 700))  # a pin does not outlast its time: 1e9 is long ago
        assert here(store, named("t", 10)) == []
        audit(store)


# --- rules that change, and indexes that were lost


async def test_new_rules_hold_for_what_was_there(tmp_path: Path) -> None:
    async with running(tmp_path, **SMALL) as store:
        await fill(store, [*named("pin", 30), *named("q", 30)])
        long = "q/" + "l" * 900
        await fill(store, [long])
        store.apply(rules(Rule("b/pin/**", pin=True), Rule("b/q/**", quota=10 * BLOCK)))
        await settle(store)
        assert store._upkeep._sweeper.due()
        await swept(store)
        assert store.bounds.pinned_bytes() == 30 * BLOCK
        assert here(store, [*named("q", 30), long]) == [*named("q", 30)[-9:], long]
        store.apply(quota(3 * BLOCK))  # pins go, the quota is lowered
        await swept(store)
        assert store.bounds.pinned_bytes() == 0
        assert store.bounds.quotas()[0][1] <= 3 * BLOCK
        store.apply(NO_RULES)
        await swept(store)
        assert not store._upkeep._sweeper.due()
        assert store.bounds.quotas() == []
        with store._index.env.begin() as txn:
            assert txn.stat(store._index.tagged)["entries"] == 0


async def test_counts_and_bounds_survive_a_kill_and_a_lost_index(tmp_path: Path) -> None:
    wanted = rules(Rule("b/pin/**", pin=True), Rule("b/q/**", quota=10 * BLOCK))
    prepared = ready(tmp_path, **SMALL)
    store = open_store(tmp_path, **SMALL)
    store.apply(wanted)
    await fill(store, [*named("pin", 30), *named("q", 30)])
    await settle(store)
    await die(store)
    prepared._lock.close()
    async with running(tmp_path, **SMALL) as store:
        store.apply(wanted)
        assert not store._index.tagged_bytes(UNSURE)
        assert store.bounds.pinned_bytes() == 30 * BLOCK
        assert store.bounds.quotas()[0][1] == 10 * BLOCK
        audit(store)
    (tmp_path / "state.json").unlink()
    prepared = ready(tmp_path, **SMALL)
    assert prepared.rebuild
    store = open_store(tmp_path, **SMALL)
    store.apply(wanted)
    await store.rebuild()
    await swept(store)
    assert store.bounds.pinned_bytes() == 30 * BLOCK
    assert store.bounds.quotas()[0][1] == 10 * BLOCK  # of 30 in the segments
    await store.close()
    prepared.close()


async def test_rules_that_came_and_went_before_anybody_counted_leave_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, **SMALL) as store:
        store.apply(PINS)
        await fill(store, named("pin", 3))
        store.apply(NO_RULES)
        await settle(store)
        assert store.bounds.pinned_bytes() > 0
        assert store._upkeep._sweeper.due()
        await swept(store)
        assert store.bounds.pinned_bytes() == 0
        assert not store._upkeep._sweeper.due()


async def test_what_a_worker_with_older_rules_commits_is_looked_at_again(tmp_path: Path) -> None:
    async with running(tmp_path, **SMALL) as store:
        await store._writer.run(
            store._changes.set_policy, PINS.fingerprint
        )  # another worker was reloaded first
        await fill(store, named("pin", 3))
        assert store._index.tagged_bytes(UNSURE) == 3 * BLOCK
        await swept(store)
        assert store._index.tagged_bytes(UNSURE) == 3 * BLOCK  # not by rules that are no more
        store.apply(PINS)
        await swept(store)
        assert store._index.tagged_bytes(UNSURE) == 0
        assert store.bounds.pinned_bytes() == 3 * BLOCK


async def test_blocks_that_move_while_all_are_counted_are_counted(tmp_path: Path) -> None:
    async with running(tmp_path, **SMALL) as store:
        names = named("pin", 20)
        await fill(store, names)
        store.apply(PINS)
        await settle(store)
        for name in names:
            assert await read(store, key(name)) is not None  # hot: evictions carry them on
        before = dict(blocks_of(store))
        for number in itertools.count():
            if all(blocks_of(store).get(block) != extent for block, extent in before.items()):
                break
            await fill(store, [f"flood/{number}"])
        await settle(store)
        audit(store)
        assert store._index.tagged_bytes(UNSURE) > 0
        await swept(store)
        assert store.bounds.pinned_bytes() == len(here(store, names)) * BLOCK > 0


async def test_rules_that_go_and_come_back_while_all_are_counted_are_counted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else what was cached in between would never be pinned."""
    async with running(tmp_path, **SMALL) as store:
        await fill(store, named("pin", 3))
        store.apply(PINS)
        await settle(store)
        sweeper, loop = store._upkeep._sweeper, asyncio.get_running_loop()
        look = sweeper._stale

        async def go_and_come() -> None:
            store.apply(NO_RULES)
            await fill(store, ["pin/between"])
            store.apply(PINS)

        def stale(after: Any) -> Any:
            found = look(after)
            monkeypatch.setattr(sweeper, "_stale", look)
            asyncio.run_coroutine_threadsafe(go_and_come(), loop).result()
            return found

        monkeypatch.setattr(sweeper, "_stale", stale)
        await swept(store)
        await swept(store)
        assert store.bounds.pinned_bytes() == 4 * BLOCK


async def test_counting_that_new_rules_ended_is_not_taken_for_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when they say the same."""
    monkeypatch.setattr("gateway.cache.sweeper.ROWS_PER_STEP", 4)
    async with running(tmp_path, **SMALL) as store:
        await fill(store, named("pin", 20))
        store.apply(PINS)
        await settle(store)
        sweeper, look = store._upkeep._sweeper, store._upkeep._sweeper._stale

        def stale(after: Any) -> Any:
            monkeypatch.setattr(sweeper, "_stale", look)
            store._changes.keeping = rules(Rule("b/pin/**", pin=True))
            return look(after)

        monkeypatch.setattr(sweeper, "_stale", stale)
        await swept(store)
        await swept(store)
        assert store.bounds.pinned_bytes() == 20 * BLOCK


async def test_a_tag_on_nothing_does_not_hold_the_sweeper_up(tmp_path: Path) -> None:
    async with running(tmp_path, **SMALL) as store:
        store.apply(PINS)
        await fill(store, named("pin", 1))
        extent = next(iter(blocks_of(store).values()))._replace(slot=999)

        def damage(txn: Any) -> None:
            store._changes.tag(txn, extent, Content(1, 1, (UNSURE,), key("gone")))
            txn.delete(slot_key(extent.segment, extent.slot), db=store._index.contents)

        await store._writer.run(damage)
        async with asyncio.timeout(20):
            await swept(store)
        assert store._index.tagged_bytes(UNSURE) == 0


async def test_one_worker_of_a_node_sweeps(tmp_path: Path) -> None:
    async with running(tmp_path, **SMALL | {"workers": 2}) as store:
        second = Sweeper(store._index, store._changes, store._writer, store._upkeep._sweep_lock, lambda: None)
        store.apply(PINS)
        await settle(store)
        await swept(store)
        assert store._upkeep._sweeper._held
        lock = type(store._upkeep._sweep_lock)(tmp_path / "sweep.lock")
        second._lock = lock
        second.step()
        assert not second._held
        lock.close()


# --- beside it


async def test_an_eviction_that_is_taken_up_again_knows_what_is_dead(tmp_path: Path) -> None:
    """Of a segment that goes because it is mostly dead all that lives is kept."""
    async with running(tmp_path, **SMALL) as store:
        await fill(store, named("k", 100))
        await settle(store)
        extents = sorted(extent for extent in blocks_of(store).values())
        first = [extent for extent in extents if extent.segment == extents[0].segment]
        for extent in first[:-1]:
            await store._writer.run(store._changes.drop_at, (extent.segment, extent.slot))
        begun = await store._writer.run(store._changes.begin_evict)
        assert begun is not None
        assert begun.mostly_dead
        assert begun == await store._writer.run(store._changes.begin_evict)


async def test_holes_are_counted_without_asking_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems know only later what a file takes; too little would let the cache grow beyond its capacity."""
    monkeypatch.setattr("gateway.cache.segment.taken", lambda stat: 1)
    async with running(tmp_path, **SMALL | {"block_size": MIB}) as store:
        for number in range(20):
            await put(store, key(f"k/{number}"), payload(number, MIB - 100_000))
        await settle(store)
        audit(store)
        sealed = {s: row for s, row in store._index.segment_rows().items() if row.state == SEALED}
        assert sealed
        for segment, row in sealed.items():
            took = row.bytes - store._segments.acc_bytes
            path = store._segments.path(segment)
            assert disk_of(path) <= took <= disk_of(path) + 3 * PAGE < path.stat().st_size


async def test_what_the_index_grows_does_not_cost_evictions_their_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else what they carry on, pins included, would be lost when the cache is small and full to the brim."""
    async with running(tmp_path, **SMALL) as store:
        await fill(store, named("k", 10))
        changes, index, reserved = store._changes, store._index, store._filler.appender.reserved
        room = index.number(b"bytes") + 2 * reserved + index.file_bytes() + changes.margin
        monkeypatch.setattr(changes, "capacity", room)
        segment = await store._writer.run(changes.new_segment, 0, reserved, reserved)
        assert segment is not None
        grown = index.file_bytes() + changes.margin // 4
        monkeypatch.setattr(index, "file_bytes", lambda: grown)
        assert await store._writer.run(changes.new_segment, 0, reserved, reserved) is None
        kept = await store._writer.run(changes.new_segment, 0, reserved, 0)
        assert kept is not None
        for one in (segment, kept):
            await store._writer.run(changes.put_segment, one, None)


async def test_a_seal_that_failed_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or else the segment would count whole, and stay, until the next start."""
    async with running(tmp_path, **SMALL) as store:
        real, failing = store._changes.seal, [True]

        def seal(*args: Any) -> None:
            if failing[0]:
                raise lmdb.DiskError("no space")
            real(*args)

        monkeypatch.setattr(store._changes, "seal", seal)
        await fill(store, named("k", 100))
        await settle(store)
        assert store._filler.appender.unsealed == 3
        assert not [row for row in store._index.segment_rows().values() if row.state == SEALED]
        failing[0] = False
        store._filler.seal_late()
        await settle(store)
        assert store._filler.appender.unsealed == 0
        assert len([row for row in store._index.segment_rows().values() if row.state == SEALED]) == 3
        audit(store)
