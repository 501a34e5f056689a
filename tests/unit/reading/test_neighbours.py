"""A miss is fetched once per node, whichever worker it came to; and a worker that dies takes nobody with it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.cache.neighbours import decode_error, encode_error, owner_of
from gateway.errors import GatewayError, NotFound, RangeNotSatisfiable, Refused, Throttled
from gateway.objects.revalidate import Wanted
from tests.unit.cache.harness import MIB
from tests.unit.reading.harness import Bench, data_of, two_workers

BODY = data_of(1, 40 * MIB + 777)


def owned_by(slot: int, bench: Bench) -> str:
    """A key whose question the other worker's neighbour asks."""
    return next(f"k{n}" for n in range(100) if owner_of(bench.key(f"k{n}"), 0, 2) == slot)


async def test_a_herd_over_two_workers_is_one_reader_to_the_origin(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as (one, two):
        one.origin.put("large", BODY)
        bodies = await asyncio.gather(*(worker.read("large") for worker in (one, two) for _ in range(8)))
        assert all(body == BODY for body in bodies)
        assert one.origin.bytes_sent == len(BODY)


@pytest.mark.parametrize("slot", [0, 1])
async def test_small_objects_cost_one_request_whoever_is_asked(tmp_path: Path, slot: int) -> None:
    async with two_workers(tmp_path) as (one, two):
        key = owned_by(slot, one)
        one.origin.put(key, b"abc" * 1000)
        assert await one.read(key) == b"abc" * 1000
        assert await two.read(key) == b"abc" * 1000
        assert len(one.origin.gets) == 1


@pytest.mark.parametrize("slot", [0, 1])
async def test_a_missing_key_is_missing_at_both(tmp_path: Path, slot: int) -> None:
    async with two_workers(tmp_path) as (one, two):
        key = owned_by(slot, one)
        for worker in (one, two, one):
            with pytest.raises(NotFound):
                await worker.entry(key)
        assert len(one.origin.gets) == 1


async def test_a_write_through_one_worker_is_read_through_the_other(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as (one, two):
        for number in range(20):
            one.origin.put("k", b"%d" % number)
            await (one, two)[number % 2].reads.store.forget(one.key("k"))
            assert await one.read("k") == await two.read("k") == b"%d" % number


async def test_without_its_neighbour_a_worker_fetches_for_itself(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as (one, two):
        one.origin.put("large", BODY)
        await two.reads.neighbours.close()
        assert await one.read("large") == BODY


async def test_a_neighbour_that_dies_in_the_midst_is_replaced(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as (one, two):
        one.origin.put("large", BODY)
        await one.entry("large", Wanted(0, 0))
        one.origin.gate.clear()
        reading = one.tasks.spawn(one.read("large"), "read")
        while not any(two.reads.fills for _ in (0,)):
            await two.origin.asked.wait()
            two.origin.asked.clear()
        await two.reads.neighbours.close()
        one.origin.gate.set()
        assert await reading == BODY


@pytest.mark.parametrize(
    "error",
    [
        NotFound("gone"),
        Throttled("slow", 2.5),
        Refused(400, "InvalidPart", "part"),
        RangeNotSatisfiable("range", 17),
        GatewayError("other"),
    ],
)
def test_errors_cross_between_workers_whole(error: GatewayError) -> None:
    there = decode_error(encode_error(error))
    assert type(there) is type(error)
    assert (str(there), there.__dict__) == (str(error), error.__dict__)
