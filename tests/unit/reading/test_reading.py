"""What a reader gets, and how often the origin is asked for it."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from gateway.cache.store import Entry
from gateway.errors import Changed, NotFound, Unreachable
from gateway.objects.revalidate import Wanted
from tests.unit.cache.harness import MIB
from tests.unit.reading.harness import Collected, bench, data_of

BODY = data_of(1, 20 * MIB + 12_345)


async def test_a_cold_object_costs_one_round_trip_and_a_warm_one_none(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.origin.put("small", data_of(2, 5000))
        for _ in range(3):
            assert await b.read("small") == data_of(2, 5000)
        assert (len(b.origin.gets), len(b.origin.heads)) == (1, 0)


async def test_every_byte_of_a_large_object_comes_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.origin.put("large", BODY)
        assert await b.read("large") == BODY
        assert b.metrics.get("fills_coalesced") == 0  # a reader of what he asked for himself joins nobody
        assert await b.read("large") == BODY
        assert b.origin.bytes_sent == len(BODY)


async def test_random_ranges_are_the_truth(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    async with bench(tmp_path) as b:
        b.origin.put("large", BODY)
        for _ in range(200):
            start = rng.randrange(len(BODY))
            stop = min(len(BODY), start + rng.choice((1, 4096, MIB, 3 * MIB)))
            assert await b.read("large", start, stop) == BODY[start:stop]
        assert b.origin.bytes_sent <= len(BODY)


async def test_a_footer_of_a_cold_object_costs_one_block(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.origin.put("large", BODY)
        assert await b.read("large", 10 * MIB + 7, 10 * MIB + 4103) == BODY[10 * MIB + 7 : 10 * MIB + 4103]
        assert b.origin.gets == [("large", 10 * MIB, 11 * MIB)]


async def test_an_empty_object_is_read(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.origin.put("empty", b"")
        entry = await b.entry("empty")
        assert entry.size == 0
        assert await b.read("empty") == b""


async def test_a_herd_is_one_reader_to_the_origin(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.origin.put("large", BODY)
        bodies = await asyncio.gather(*(b.read("large") for _ in range(40)))
        assert all(body == BODY for body in bodies)
        assert b.origin.bytes_sent == len(BODY)
        assert b.metrics.get("fills_coalesced") > 0


async def test_who_learns_of_an_object_before_its_question_has_ended_joins_what_is_coming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index tells everybody of a new version a moment before the worker that put it there goes on."""
    async with bench(tmp_path) as b:
        b.origin.put("large", BODY)
        install, others = b.reads.questions.install, list[asyncio.Task[bytes]]()

        async def and_others_know(*args: Any) -> Entry:
            entry = await install(*args)
            others.extend(
                b.tasks.spawn(b.read("large", *span), "other") for span in ((0, None), (5, 3 * MIB))
            )
            while b.metrics.get("fills_coalesced") < 3:  # noqa: ASYNC110 the second has joined the first
                await asyncio.sleep(0)
            return entry

        monkeypatch.setattr(b.reads.questions, "install", and_others_know)
        assert await b.read("large") == BODY
        assert await asyncio.gather(*others) == [BODY, BODY[5 : 3 * MIB]]
        assert b.origin.bytes_sent == len(BODY)


async def test_what_was_on_its_way_and_is_not_kept_after_all_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path) as b:
        b.origin.put("large", BODY)
        install, others = b.reads.questions.install, list[asyncio.Task[bytes]]()

        async def and_fails(*args: Any) -> Entry:
            await install(*args)
            others.append(b.tasks.spawn(b.read("large"), "other"))
            while not b.reads.fills:  # noqa: ASYNC110
                await asyncio.sleep(0)
            raise Unreachable("gone")

        monkeypatch.setattr(b.reads.questions, "install", and_fails)
        with pytest.raises(Unreachable):
            await b.entry("large")
        assert await others[0] == BODY


async def test_the_first_byte_is_sent_before_the_block_is_whole(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.origin.put("large", BODY)
        b.origin.gate.clear()
        stream, sink = b.stream(await b.entry("large")), Collected()
        await stream.prime()
        sending = b.tasks.spawn(stream.send(sink), "send")
        await asyncio.wait_for(sink.first.wait(), 5)
        assert 0 < len(sink.data) < MIB
        b.origin.gate.set()
        await sending
        assert bytes(sink.data) == BODY


async def test_a_leaving_reader_does_not_end_the_fill_of_others(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.origin.put("large", BODY)
        b.origin.gate.clear()
        leaver = b.tasks.spawn(b.read("large"), "leaver")
        stayer = b.tasks.spawn(b.read("large"), "stayer")
        await b.origin.asked.wait()
        leaver.cancel()
        await asyncio.wait([leaver])
        b.origin.gate.set()
        assert await stayer == BODY
        assert b.origin.bytes_sent == len(BODY)


async def test_a_body_that_breaks_off_is_resumed_where_it_ended(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.origin.put("large", BODY)
        b.origin.cuts = 3
        assert await b.read("large") == BODY
        assert b.origin.bytes_sent == len(BODY)


async def test_an_origin_that_breaks_off_for_ever_is_an_error_and_the_next_reader_starts_anew(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path) as b:
        b.origin.put("large", BODY)
        b.origin.cuts = 1000
        with pytest.raises(Unreachable):
            await b.read("large")
        b.origin.cuts = 0
        assert await b.read("large") == BODY


async def test_a_change_in_the_midst_is_never_mixed(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.origin.put("large", BODY)
        entry = await b.entry("large", Wanted(0, 0))
        stream, sink = b.stream(entry, 0, MIB), Collected()
        await stream.send(sink)
        other = data_of(9, len(BODY))
        b.origin.put("large", other)
        with pytest.raises(Changed):
            await b.stream(entry).send(Collected())
        assert await b.read("large") == other  # and the next read does not wait for the entry to age


async def test_a_failed_question_is_not_remembered(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.origin.put("k", b"abc")
        b.origin.error = Unreachable("down")
        with pytest.raises(Unreachable):
            await b.read("k")
        b.origin.error = None
        assert await b.read("k") == b"abc"


async def test_a_missing_key_is_believed_for_a_moment_only(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        for _ in range(3):
            with pytest.raises(NotFound):
                await b.entry("none")
        assert len(b.origin.gets) == 1
        entry = b.reads.store.entry(b.key("none"))
        assert entry is not None
        assert entry.validated_at > 0


async def test_strict_asks_each_time_and_nobody_takes_an_older_answer(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.origin.put("k", b"one")
        await b.entry("k", fresh_s=0.0)
        b.origin.head_gate.clear()
        b.origin.asked.clear()
        early = b.tasks.spawn(b.entry("k", Wanted(), fresh_s=0.0), "early")
        await b.origin.asked.wait()
        b.origin.put("k", b"other")
        late = [b.tasks.spawn(b.entry("k", Wanted(), fresh_s=0.0), "late") for _ in range(10)]
        await asyncio.sleep(0)
        b.origin.head_gate.set()
        assert (await early).etag == '"v1"'
        assert {(await task).etag for task in late} == {'"v2"'}
        assert len(b.origin.heads) == 2  # the ten shared one question


async def test_an_answer_asked_for_before_a_write_is_not_believed_after_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.origin.put("k", b"one")
        b.origin.head_gate.clear()
        question = b.tasks.spawn(b.entry("k", Wanted()), "question")
        await b.origin.asked.wait()
        b.origin.put("k", b"two")
        await b.reads.store.forget(b.key("k"))
        b.origin.head_gate.set()
        assert (await question).etag == '"v2"'
        assert await b.read("k") == b"two"


async def test_checksums_are_asked_for_when_a_client_wants_them(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.origin.put("k", b"abc")
        assert await b.read("k") == b"abc"
        assert not b.origin.heads
        entry = await b.entry("k", Wanted(0, 0, checksums=True))
        assert b"x-amz-checksum-crc32" in entry.checksum_wire
        assert await b.read("k") == b"abc"
        b.origin.put("new/k", b"abc")
        entry = await b.entry("new/k", Wanted(0, 0, checksums=True))
        assert b"x-amz-checksum-crc32" in entry.checksum_wire
        assert len(b.origin.heads) == 2


async def test_small_objects_bring_their_checksums_themselves(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        for number in range(4):
            b.origin.put(f"d/{number}", data_of(number, 3000))
            entry = await b.entry(f"d/{number}", Wanted(0, 7, checksums=True))
            assert b"x-amz-checksum-crc32" in entry.checksum_wire
        assert (len(b.origin.gets), len(b.origin.heads)) == (4, 1)
        b.origin.put("d/empty", b"")
        assert (await b.entry("d/empty", Wanted(0, 7, checksums=True))).size == 0
        b.origin.put("d/large", BODY)  # an unexpected one is still read right, and once
        await b.entry("d/large", Wanted(0, 7, checksums=True))
        assert await b.read("d/large") == BODY
        assert b.origin.bytes_sent == len(BODY) + 4 * 3000


async def test_an_unchanged_object_keeps_its_blocks_when_it_is_asked_about_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.origin.put("k", data_of(3, MIB))
        await b.read("k")
        entry = await b.entry("k", Wanted(0, 0), fresh_s=0.0)
        sink = Collected()
        await b.stream(entry).send(sink)
        assert bytes(sink.data) == data_of(3, MIB)
        assert (len(b.origin.gets), len(b.origin.heads)) == (1, 1)


async def test_ranges_one_behind_the_other_are_fetched_ahead(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.origin.put("large", BODY)
        for number in range(12):
            if number >= 3:  # what is read now was asked for before
                assert any(start <= number * MIB < (stop or 0) for _, start, stop in b.origin.gets)
            entry = await b.entry("large", Wanted(number, number))
            b.reads.noted(entry, number * MIB, (number + 1) * MIB)
            sink = Collected()
            await b.stream(entry, number * MIB, (number + 1) * MIB).send(sink)
            assert bytes(sink.data) == BODY[number * MIB : (number + 1) * MIB]
        assert len(b.origin.gets) < 12


async def test_what_cannot_be_kept_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path) as b:
        b.origin.put("large", BODY)
        entry = await b.entry("large", Wanted(0, 0))
        monkeypatch.setattr(b.reads.fills, "admits", lambda *_: False)
        sink = Collected()
        await b.stream(entry).send(sink)
        assert bytes(sink.data) == BODY
        assert b.origin.bytes_sent == len(BODY)
        assert b.reads.straight._permits == 32


async def test_a_straight_read_that_breaks_off_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path) as b:
        b.origin.put("large", BODY)
        entry = await b.entry("large", Wanted(0, 0))
        monkeypatch.setattr(b.reads.fills, "admits", lambda *_: False)
        b.origin.cuts = 3
        sink = Collected()
        await b.stream(entry).send(sink)
        assert bytes(sink.data) == BODY


async def test_a_disk_that_fills_up_in_the_midst_is_not_noticed_by_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.errors import StoreFull

    async with bench(tmp_path) as b:
        b.origin.put("large", BODY)

        async def full(*_: object) -> None:
            raise StoreFull("full")

        monkeypatch.setattr(b.reads.store, "put_parts", full)
        assert await b.read("large") == BODY
