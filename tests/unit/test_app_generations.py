"""An origin lives as long as somebody may use it, and not longer: across reloads that keep, change and remove it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import pytest

from gateway.aio import Tasks, Threads
from gateway.app import view_of
from gateway.app_generations import Generations
from gateway.config.schema import Config, MountConfig, OriginConfig
from gateway.errors import Unsupported
from gateway.objects.context import Services
from gateway.origins.base import Origin
from gateway.origins.places import places_of

LONG_S = 60.0


class FakeOrigin:
    def __init__(self, config: OriginConfig) -> None:
        self.name, self.root = config.name, config.root
        self.closed = 0
        self.gone = asyncio.Event()

    async def close(self) -> None:
        self.closed += 1
        self.gone.set()
        if self.root == "/unclosable":
            raise ZeroDivisionError


def config(**roots: str) -> Config:
    return Config(
        origins=tuple(OriginConfig(name=name, type="file", root=root) for name, root in roots.items()),
        mounts=tuple(MountConfig(path=f"to-{name}", origin=name, remote="bucket") for name in roots),
    )


class Worker:
    """What `WorkerApp` has around its generations."""

    def __init__(self, first: Config) -> None:
        self.made: list[FakeOrigin] = []
        self.requests, self.work, self.threads = Tasks(), Tasks(), Threads("test", 1)
        self.generations = Generations(first, self._make, view_of, self.work, self.threads)

    def _make(self, wanted: Config, kept: Mapping[str, Origin]) -> Mapping[str, Origin]:
        if any(origin.root == "/impossible" for origin in wanted.origins):
            raise Unsupported("There is no such cloud.")
        made = {one.name: FakeOrigin(one) for one in wanted.origins if one.name not in kept}
        self.made += made.values()
        names = [one.name for one in wanted.origins]
        return {name: kept.get(name) or cast(Origin, made[name]) for name in names}

    def origin(self, name: str) -> FakeOrigin:
        return cast(FakeOrigin, self.generations.current.origins[name])

    async def change(self, wanted: Config, timeout_s: float = LONG_S) -> None:
        await self.generations.prepare(wanted)
        self.generations.commit(self.requests, timeout_s)

    async def until_closed(self, *origins: FakeOrigin) -> None:
        async with asyncio.timeout(10):
            for origin in origins:
                await origin.gone.wait()

    async def turns(self) -> None:
        """As many as anything that waits for nothing could need."""
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    worker = Worker(config(stays="/stays", turns="/one", goes="/goes"))
    yield worker
    await worker.requests.close()
    await worker.work.close()
    await worker.generations.close()
    worker.threads.close()
    assert [origin.closed for origin in worker.made] == [1] * len(worker.made)


async def test_what_did_not_change_is_the_same_object(worker: Worker) -> None:
    stays, turns, goes = (worker.origin(name) for name in ("stays", "turns", "goes"))
    await worker.change(config(stays="/stays", turns="/two", comes="/comes"))
    assert worker.origin("stays") is stays
    assert worker.origin("turns") is not turns
    await worker.until_closed(turns, goes)
    assert not stays.closed
    assert not worker.origin("comes").closed


async def test_a_request_keeps_its_origins_and_so_does_what_works_for_it(worker: Worker) -> None:
    turns = worker.origin("turns")
    request, fill = asyncio.Event(), asyncio.Event()

    async def serve() -> None:
        await request.wait()
        worker.work.spawn(fill.wait(), "fill")

    worker.requests.spawn(serve(), "request")
    await worker.change(config(stays="/stays", turns="/two"))
    late = asyncio.Event()
    worker.requests.spawn(late.wait(), "a later request")  # is not waited for
    await worker.turns()
    assert not turns.closed
    request.set()
    await worker.turns()
    assert not turns.closed
    fill.set()
    await worker.until_closed(turns)


async def test_after_the_drain_timeout_it_is_closed_all_the_same(worker: Worker) -> None:
    turns, never = worker.origin("turns"), asyncio.Event()
    worker.requests.spawn(never.wait(), "request")
    await worker.change(config(stays="/stays", turns="/two"), timeout_s=0.0)
    await worker.until_closed(turns)


async def test_an_older_request_keeps_what_two_reloads_have_left_alone(worker: Worker) -> None:
    goes, request = worker.origin("goes"), asyncio.Event()
    worker.requests.spawn(request.wait(), "request")
    await worker.change(config(stays="/stays", turns="/two", goes="/goes"))
    await worker.change(config(stays="/stays", turns="/two"))
    await worker.turns()
    assert not goes.closed
    request.set()
    await worker.until_closed(goes)


async def test_keys_find_the_data_they_name_whatever_is_reloaded(worker: Worker) -> None:
    one, two = (config(stays="/stays", turns=root) for root in ("/one", "/two"))
    old, new = places_of(one)["turns"], places_of(two)["turns"]
    find, turns = worker.generations.by_place.get, worker.origin("turns")
    request = asyncio.Event()
    worker.requests.spawn(request.wait(), "request")
    assert find(new) is None
    await worker.generations.prepare(two)
    assert root_of(find(new)) == "/two"  # a neighbour may have committed already
    worker.generations.commit(worker.requests, LONG_S)
    assert find(old) is cast(Any, turns)
    assert root_of(find(new)) == "/two"
    request.set()
    await worker.until_closed(turns)
    assert find(old) is None


def root_of(origin: Origin | None) -> str:
    return cast(FakeOrigin, origin).root


async def test_the_newest_of_two_that_have_the_same_data_is_found(worker: Worker) -> None:
    def rotated(secret: str) -> Config:
        first = config(stays="/stays")
        entry = first.origins[0].model_copy(update={"connections_max": len(secret)})
        return first.model_copy(update={"origins": (entry,)})

    stays, place = worker.origin("stays"), places_of(config(stays="/stays"))["stays"]
    await worker.generations.prepare(rotated("123"))
    assert worker.generations.by_place[place] is cast(Any, stays)  # not committed yet
    worker.generations.commit(worker.requests, LONG_S)
    assert worker.generations.by_place[place] is cast(Any, worker.origin("stays"))
    await worker.until_closed(stays)
    assert worker.generations.by_place[place] is cast(Any, worker.origin("stays"))


async def test_a_write_is_forgotten_under_the_names_of_both_sides_of_a_reload(worker: Worker) -> None:
    """The mirror's cache may have been filled by a worker that has committed already."""
    plain = config(stays="/stays", turns="/one")
    mirror = MountConfig(path="both", origin="stays", remote="bucket", mirror=("turns:old",))
    mirrored = plain.model_copy(update={"mounts": (*plain.mounts, mirror)})
    before, after = view_of(plain), view_of(mirrored)
    key, name = before.mounts.resolve("to-stays", "k").cache_key, after.mounts.resolve("both", "k").cache_key
    reads = cast(Any, None)
    services = Services(
        before, {}, reads, worker.threads, worker.work, "", reads, views=worker.generations.views
    )
    await worker.change(plain)
    assert services.names_of(key) == {key}
    await worker.generations.prepare(mirrored)
    assert services.names_of(key) == {
        key,
        name,
        after.mounts.resolve("to-turns", "k").cache_key.replace(b"bucket", b"old"),
    }
    worker.generations.abort()
    assert services.names_of(key) == {key}


async def test_what_is_aborted_or_prepared_anew_is_closed_and_changes_nothing(worker: Worker) -> None:
    before = worker.generations.current
    await worker.generations.prepare(config(stays="/stays", turns="/two"))
    first = worker.made[-1]
    await worker.generations.prepare(config(stays="/stays", turns="/three"))
    second = worker.made[-1]
    await worker.until_closed(first)
    worker.generations.abort()
    await worker.until_closed(second)
    worker.generations.abort()
    assert worker.generations.current is before
    assert not any(origin.closed for origin in worker.made[:3])


async def test_what_cannot_be_made_leaves_nothing_prepared(worker: Worker) -> None:
    before = worker.generations.current
    with pytest.raises(Unsupported):
        await worker.generations.prepare(config(stays="/impossible"))
    worker.generations.abort()
    assert worker.generations.current is before


async def test_one_that_does_not_close_keeps_no_other_open(worker: Worker) -> None:
    await worker.change(config(stays="/unclosable", turns="/two"))
    bad, good = worker.origin("stays"), worker.origin("turns")
    await worker.change(config())
    await worker.until_closed(bad, good)
