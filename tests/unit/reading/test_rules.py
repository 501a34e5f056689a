"""What rules say of reads: nothing older than its `ttl` is served, nothing is read ahead beyond `read_ahead`; and pins
and quotas hold over the workers of a node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.access.policy import Access
from gateway.namespace.keeping import Keeping
from gateway.namespace.mounts import Mount, Mounts
from gateway.namespace.rules import IMMUTABLE, Rule, Rules
from gateway.objects.context import View
from gateway.objects.readahead import ReadAhead
from gateway.objects.revalidate import Wanted
from tests.unit.cache.audit import audit, settle
from tests.unit.cache.harness import MIB
from tests.unit.reading.harness import Bench, Collected, bench, data_of, two_workers
from tests.unit.reading.test_hot import Door, identity

MOUNTS = Mounts([Mount.parse("data", "o", "bucket")])


def keeping(*rules: Rule) -> Keeping:
    return Keeping(MOUNTS, Rules(rules))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the wall clock forward by so many seconds."""
    now = [time.time()]
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr("gateway.frontend.hot.time", lambda: now[0])

    def forward(seconds: float) -> None:
        now[0] += seconds

    return forward


# --- ttl


async def test_an_immutable_object_is_fetched_anew_when_its_time_is_over(
    tmp_path: Path, clock: Callable[[float], None]
) -> None:
    async with bench(tmp_path) as b:
        b.reads.store.apply(keeping(Rule("data/**", IMMUTABLE, ttl_s=100.0)))
        b.origin.put("k", data_of(1, 3 * MIB))

        async def read() -> int:
            """The number of GETs that it took."""
            before = len(b.origin.gets)
            entry = await b.reads.questions.current(b.key("k"), IMMUTABLE, Wanted(0, 2), 100.0)
            stream = b.stream(entry)
            outcome = stream.outcome
            sink = Collected()
            await stream.prime()
            await stream.send(sink)
            assert bytes(sink.data) == data_of(1, 3 * MIB)
            await b.settled()
            assert (outcome == "hit") == (len(b.origin.gets) == before)
            return len(b.origin.gets) - before

        assert await read() == 1
        clock(99)
        assert await read() == 0
        clock(1)
        assert await read() == 1
        assert b.origin.heads == []  # a HEAD would only say that it is the same
        clock(99)
        assert await read() == 0


async def test_revalidating_does_not_prolong_it(tmp_path: Path, clock: Callable[[float], None]) -> None:
    async with bench(tmp_path) as b:
        b.reads.store.apply(keeping(Rule("data/**", 10.0, ttl_s=25.0)))
        b.origin.put("k", data_of(1, 5000))
        versions = []
        for _ in range(6):
            entry = await b.reads.questions.current(b.key("k"), 10.0, Wanted(0, 0), 25.0)
            versions.append(entry.version)
            await b.settled()
            clock(10)
        assert versions[0] == versions[1] == versions[2] != versions[3]  # fetched at 0, 10 and 20 validated
        assert versions[3] == versions[5]


async def test_the_hot_path_serves_nothing_whose_time_is_over(
    tmp_path: Path, clock: Callable[[float], None]
) -> None:
    rules = Rules([Rule("data/**", IMMUTABLE, ttl_s=100.0)])
    view = View(MOUNTS, rules, Access.of((identity("alice", "data/*"),)))
    async with bench(tmp_path) as b:
        b.origin.put("k", data_of(1, 5000))
        b.reads.store.apply(view.keeping)
        await b.read("k")
        await b.settled()
        door = Door(b, view)
        assert door.get("k") is not None
        clock(99)
        assert door.get("k") is not None
        clock(1)
        assert door.get("k") is None
        assert door.get("k", method="HEAD") is None


@pytest.mark.parametrize("asker", [0, 1])
async def test_what_is_over_is_over_for_every_worker(
    tmp_path: Path, clock: Callable[[float], None], asker: int
) -> None:
    async with two_workers(tmp_path) as workers:
        rules = keeping(Rule("data/**", IMMUTABLE, ttl_s=100.0))
        for worker in workers:
            worker.reads.store.apply(rules)
        worker, origin = workers[asker], workers[0].origin
        for number in range(6):  # whoever owns the question
            origin.put(f"k{number}", b"abc")
            await worker.reads.questions.current(worker.key(f"k{number}"), IMMUTABLE, Wanted(0, 0), 100.0)
        clock(100)
        for number in range(6):
            before = worker.reads.store.entry(worker.key(f"k{number}"))
            after = await worker.reads.questions.current(
                worker.key(f"k{number}"), IMMUTABLE, Wanted(0, 0), 100.0
            )
            assert before is not None
            assert after.version != before.version
        assert len(origin.gets) == 12


# --- read_ahead


def ahead(most: int | None) -> list[tuple[int, int]]:
    """What is fetched ahead of a reader that goes through 64 MiB in steps of one."""
    reader = ReadAhead(MIB, 16 * MIB)
    spans = (reader.note(1, n * MIB, (n + 1) * MIB, 64 * MIB, most) for n in range(64))
    return [span for span in spans if span is not None]


@pytest.mark.parametrize("most", [None, 3 * MIB, MIB, 1, 40 * MIB])
def test_no_more_is_read_ahead_than_the_rule_says(most: int | None) -> None:
    reader, reached = ReadAhead(MIB, 16 * MIB), 0
    for number in range(64):
        stop = (number + 1) * MIB
        span = reader.note(1, number * MIB, stop, 64 * MIB, most)
        if span is not None:
            assert span[0] >= max(stop, reached)
            reached = span[1]
            assert reached <= stop + (16 * MIB if most is None else most)
    assert reached > 0


def test_read_ahead_0_fetches_nothing_ahead() -> None:
    assert ahead(0) == []
    assert ahead(None) == ahead(16 * MIB) != []


async def test_reads_under_a_rule_without_read_ahead_fetch_what_they_ask_for(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.origin.put("large", data_of(1, 20 * MIB))
        for number in range(10):
            entry = await b.entry("large", Wanted(number, number))
            b.reads.noted(entry, number * MIB, (number + 1) * MIB, 0)
            await b.stream(entry, number * MIB, (number + 1) * MIB).send(Collected())
            await b.settled()
            assert sum((stop or 0) - start for _, start, stop in b.origin.gets) == (number + 1) * MIB


# --- over two workers


async def read_all(workers: tuple[Bench, Bench], names: list[str]) -> None:
    """Each name by one worker or the other, a few at a time."""

    async def one(number: int, name: str) -> None:
        assert await workers[number % 2].read(name) == data_of(number, MIB)

    for start in range(0, len(names), 4):
        await asyncio.gather(
            *(one(number, names[number]) for number in range(start, min(start + 4, len(names))))
        )


async def test_a_quota_bounds_what_all_workers_keep_together(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as workers:
        names = [f"q/{number}" for number in range(30)]
        for number, name in enumerate(names):
            workers[0].origin.put(name, data_of(number, MIB))
        for worker in workers:
            worker.reads.store.apply(keeping(Rule("data/q/**", quota=5 * MIB)))
        await read_all(workers, names)
        store = workers[0].reads.store
        await settle(store)
        audit(store)
        held = [worker.reads.store.bounds.quotas()[0][1] for worker in workers]
        assert held[0] == held[1]
        assert 3 * MIB <= held[0] <= 5 * MIB


async def test_pins_of_either_worker_survive_a_flood_through_both(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as workers:
        names = [f"pin/{number}" for number in range(16)] + [f"flood/{number}" for number in range(150)]
        for number, name in enumerate(names):
            workers[0].origin.put(name, data_of(number, MIB))
        for worker in workers:
            worker.reads.store.apply(keeping(Rule("data/pin/**", pin=True)))
        await read_all(workers, names)
        for worker in workers:
            await settle(worker.reads.store)
        audit(workers[0].reads.store)
        before = len(workers[0].origin.gets)
        await read_all(workers, names[:16])
        assert len(workers[0].origin.gets) == before
        assert workers[1].reads.store.bounds.pinned_bytes() == 16 * MIB


async def test_new_rules_reach_what_another_worker_fetched(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as workers:
        names = [f"q/{number}" for number in range(20)]
        for number, name in enumerate(names):
            workers[0].origin.put(name, data_of(number, MIB))
        await read_all(workers, names)
        rules = keeping(Rule("data/q/**", quota=5 * MIB))
        for worker in workers:
            worker.reads.store.apply(rules)
        await settle(workers[0].reads.store)
        for worker in workers:  # whichever of them holds the lock
            await worker.reads.store._upkeep._sweeps.run(worker.reads.store._upkeep._sweeper.step)
        await settle(workers[0].reads.store)
        audit(workers[0].reads.store)
        assert workers[1].reads.store.bounds.quotas()[0][1] == 5 * MIB
