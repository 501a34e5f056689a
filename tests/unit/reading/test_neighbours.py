"""A miss is fetched once per node, whichever worker it came to; and a worker that dies takes nobody with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any
from unittest.mock import DEFAULT, AsyncMock

import pytest

from gateway.cache.neighbours import Message, Neighbours, decode_error, encode_error, owner_of
from gateway.errors import (
    Changed,
    GatewayError,
    NotFound,
    RangeNotSatisfiable,
    Refused,
    StoreFull,
    Superseded,
    Throttled,
    UnknownPlace,
)
from gateway.objects.elsewhere import Elsewhere
from gateway.objects.reading import Stream
from gateway.objects.revalidate import Wanted
from tests.unit.cache.harness import MIB
from tests.unit.reading.harness import Bench, Collected, bench, data_of, two_workers

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


def not_owned(one: Bench, two: Bench, stripe: int = 0) -> tuple[Bench, Bench, str]:
    """(reader, owner, key): a reader on the worker that does not own the key's stripe."""
    key = next(f"k{n}" for n in range(100) if owner_of(one.key(f"k{n}"), stripe, 2) == 1)
    return one, two, key


async def begun(reader: Bench, key: str, start: int = 0, stop: int | None = None) -> tuple[Stream, Collected]:
    """A cold read whose origin has sent one piece of the first block and holds back the others."""
    reader.origin.gate.clear()
    stream = reader.stream(await reader.entry(key, Wanted(start // MIB, start // MIB)), start, stop)
    await asyncio.wait_for(stream.prime(), 5)
    return stream, Collected()


async def first_bytes(reader: Bench, stream: Stream, sink: Collected) -> asyncio.Task[None]:
    """Bytes of a block that cannot be whole have come; the read goes on."""
    sending = reader.tasks.spawn(_quietly(stream.send(sink)), "send")
    await asyncio.wait_for(sink.first.wait(), 5)
    assert 0 < len(sink.data) < MIB
    return sending


async def _quietly(sending: Coroutine[Any, Any, None]) -> GatewayError | None:
    try:
        await sending
    except GatewayError as error:
        return error
    return None


async def test_the_first_byte_comes_from_the_owner_before_its_block_is_whole(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as (one, two):
        reader, owner, key = not_owned(one, two)
        reader.origin.put(key, BODY)
        stream, sink = await begun(reader, key)
        sending = await first_bytes(reader, stream, sink)
        assert bytes(sink.data) == BODY[: len(sink.data)]
        assert len(owner.reads.fills) > 0
        reader.origin.gate.set()
        assert await sending is None
        assert bytes(sink.data) == BODY
        assert reader.origin.bytes_sent == len(BODY)


async def test_only_what_a_reader_waits_for_crosses(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as (one, two):
        reader, owner, key = not_owned(one, two)
        reader.origin.put(key, BODY)
        crossed = list[tuple[int, int]]()
        answer = owner.reads.elsewhere.answer_watch

        async def counted(*args: Any) -> AsyncIterator[Message]:
            async for reply in answer(*args):
                if "data" in reply:
                    crossed.append((reply["at"], len(reply["data"])))
                yield reply

        owner.reads.elsewhere.answer_watch = counted  # type: ignore[method-assign]
        stream, sink = await begun(reader, key, 1000, 5000)
        await stream.send(sink)
        assert bytes(sink.data) == BODY[1000:5000]
        assert crossed == [(1000, 4000)]
        reader.origin.gate.set()
        assert await reader.read(key, MIB * 3, MIB * 5) == BODY[MIB * 3 : MIB * 5]


async def test_readers_of_one_worker_share_what_its_neighbour_lends(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as (one, two):
        reader, _, key = not_owned(one, two)
        reader.origin.put(key, BODY)
        stream, sink = await begun(reader, key, 30_000)
        sending = await first_bytes(reader, stream, sink)
        spans = [(0, None), (30_000, None), (40_000, MIB), (10, 20), (MIB - 5, 3 * MIB), (MIB - 5, MIB)]
        others = [reader.tasks.spawn(reader.read(key, *span), "read") for span in spans]
        while reader.metrics.get("fills_coalesced") < len(spans):  # noqa: ASYNC110
            await asyncio.sleep(0)
        reader.origin.gate.set()
        assert await asyncio.gather(*others) == [BODY[slice(*span)] for span in spans]
        assert await sending is None
        assert bytes(sink.data) == BODY[30_000:]
        assert reader.origin.bytes_sent == len(BODY)
        assert len(reader.reads.elsewhere) == 0


async def test_one_watch_at_a_time_brings_what_readers_wait_for(tmp_path: Path) -> None:
    asked = list[tuple[int, int]]()
    more, blocks = asyncio.Event(), asyncio.Event()

    class Owner:
        async def ask(self, slot: int, question: Message) -> AsyncIterator[Message]:
            if question["do"] == "blocks":
                await blocks.wait()
            start, stop = question["start"], question["stop"]
            asked.append((start, stop))
            yield {"at": start, "data": BODY[start:stop]}
            await more.wait()
            yield {"end": True}

    async with bench(tmp_path) as b:
        b.origin.put("k", BODY)
        entry, owner = await b.entry("k"), Owner()
        elsewhere = Elsewhere(b.reads.fills, {}, owner, b.tasks)  # type: ignore[arg-type]
        [fill] = elsewhere.ensure(1, entry, 0, 0)
        await fill.progress(0, 100)
        further = b.tasks.spawn(fill.progress(0, 250), "wait")
        for _ in range(5):
            await asyncio.sleep(0)
        assert asked == [(0, 100)]
        more.set()
        await further
        assert b"".join(fill.parts) == BODY[:250]
        assert asked == [(0, 100), (100, 250)]


async def test_a_fill_that_fails_midway_ends_the_read_as_it_does_locally(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as (one, two):
        reader, _, key = not_owned(one, two)
        reader.origin.put(key, BODY)
        stream, sink = await begun(reader, key)
        sending = await first_bytes(reader, stream, sink)
        reader.origin.error = Throttled("slow down", 1.0)
        reader.origin.break_off()
        assert isinstance(await sending, Throttled)
        assert bytes(sink.data) == BODY[: len(sink.data)]
        reader.origin.error = None
        assert await reader.read(key) == BODY


async def test_a_change_midway_is_not_mixed_either(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as (one, two):
        reader, _, key = not_owned(one, two)
        reader.origin.put(key, BODY)
        stream, sink = await begun(reader, key)
        sending = await first_bytes(reader, stream, sink)
        other = data_of(2, len(BODY))
        reader.origin.put(key, other)
        reader.origin.break_off()
        assert isinstance(await sending, Changed)
        assert bytes(sink.data) == BODY[: len(sink.data)]
        assert await reader.read(key) == other


async def a_read_whose_block_is_evicted(reader: Bench, owner: Bench, key: str) -> Stream:
    """Of a read that has just begun one block was here; its version has left the index with it."""
    entry = await reader.entry(key, Wanted(0, 0))
    await owner.settled()
    store = reader.reads.store
    extent = store.block(entry.version, 0)
    assert extent is not None
    stream = reader.stream(entry)
    store._writer.call(store._changes.drop_at, (extent.segment, extent.slot))
    assert store.entry(entry.key) is None
    return stream


@pytest.mark.parametrize("known_anew", [False, True])
async def test_a_read_goes_on_though_its_version_has_left_the_index(tmp_path: Path, known_anew: bool) -> None:
    async with two_workers(tmp_path) as (one, two):
        reader, owner, key = not_owned(one, two)
        reader.origin.put(key, BODY)
        stream, sink = await a_read_whose_block_is_evicted(reader, owner, key), Collected()
        if known_anew:
            await owner.entry(key, Wanted(0, 0))
        await stream.prime()
        await stream.send(sink)
        assert bytes(sink.data) == BODY


async def test_what_left_the_index_and_changed_meanwhile_is_not_mixed(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as (one, two):
        reader, owner, key = not_owned(one, two)
        reader.origin.put(key, BODY)
        stream, sink = await a_read_whose_block_is_evicted(reader, owner, key), Collected()
        reader.origin.put(key, data_of(2, len(BODY)))
        await stream.prime()
        with pytest.raises(Changed):
            await stream.send(sink)
        assert bytes(sink.data) == BODY[: len(sink.data)]
        assert await reader.read(key) == data_of(2, len(BODY))


async def test_an_owner_that_dies_midway_is_replaced_behind_its_last_byte(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as (one, two):
        reader, owner, key = not_owned(one, two)
        reader.origin.put(key, BODY)
        stream, sink = await begun(reader, key)
        sending = await first_bytes(reader, stream, sink)
        got = len(sink.data)
        await owner.reads.neighbours.close()
        while len(sink.data) == got and not reader.reads.fills:  # noqa: ASYNC110
            await asyncio.sleep(0)
        reader.origin.gate.set()
        assert await sending is None
        assert bytes(sink.data) == BODY


async def test_what_cannot_be_kept_is_lent_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_workers(tmp_path) as (one, two):
        reader, owner, key = not_owned(one, two)
        reader.origin.put(key, BODY)
        stream, sink = await begun(reader, key)
        monkeypatch.setattr(owner.reads.store, "put_parts", AsyncMock(side_effect=StoreFull("full")))
        sending = await first_bytes(reader, stream, sink)
        reader.origin.gate.set()
        assert await sending is None
        assert bytes(sink.data) == BODY


async def test_an_answer_that_a_write_made_worthless_is_asked_for_again_across_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_workers(tmp_path) as (owner, reader):
        key = owned_by(0, owner)
        owner.origin.put(key, b"new")
        install = owner.reads.store.install
        answers = AsyncMock(
            side_effect=[Superseded("a write"), Superseded("another"), DEFAULT], wraps=install
        )
        monkeypatch.setattr(owner.reads.store, "install", answers)
        assert await reader.read(key) == b"new"
        assert answers.await_count == 3


@pytest.mark.parametrize(
    "error",
    [
        NotFound("gone"),
        Throttled("slow", 2.5),
        Refused(400, "InvalidPart", "part"),
        RangeNotSatisfiable("range", 17),
        Superseded("a write"),
        UnknownPlace("a reload"),
        GatewayError("other"),
    ],
)
def test_errors_cross_between_workers_whole(error: GatewayError) -> None:
    there = decode_error(encode_error(error))
    assert type(there) is type(error)
    assert (str(there), there.__dict__) == (str(error), error.__dict__)


async def test_a_worker_that_ends_leaves_no_neighbour_hanging(tmp_path: Path) -> None:
    """Its tasks end with it: what the loop's end cancels would be logged as an error."""
    before, asked = asyncio.all_tasks(), asyncio.Event()

    async def never(question: Message) -> AsyncIterator[Message]:
        asked.set()
        await asyncio.Event().wait()
        yield {}

    one, other = (Neighbours(tmp_path, slot, 2, never) for slot in (0, 1))
    await one.start()
    await other.start()
    question = asyncio.ensure_future(anext(aiter(one.ask(1, {"do": "nothing"}))))
    await asked.wait()
    await other.close()
    assert await asyncio.gather(question, return_exceptions=True)
    await one.close()
    assert asyncio.all_tasks() == before
