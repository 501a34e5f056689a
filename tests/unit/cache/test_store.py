from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from gateway.cache.store import ABSENT, OBJECT, Extent, Store
from gateway.errors import StoreFull, Superseded

from .harness import MIB, disk_bytes, install, payload, put, read, running

KEY = b"origin\0bucket/key"


def drop_page_cache(store: Store, segment: int) -> None:
    fd = store.segment(segment).fd  # type: ignore[union-attr]
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


async def test_a_block_reads_back(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        entry = await put(store, KEY, b"hello")
        found, extents = store.lookup(KEY, 0, 1)
        assert found is not None
        assert (found.state, found.version, found.size, found.etag) == (OBJECT, entry.version, 5, '"a"')
        assert found.wire == b"content-type: text/plain\r\n"
        assert extents == [store.block(entry.version, 0), None]
        assert extents[0] is not None
        assert store.read_now(extents[0], 1, 3) == b"ell"
        assert store.verified(extents[0])
        assert store.entry(KEY + b"x") is None
        assert store.lookup(KEY + b"x", 0, 3) == (None, [])


async def test_the_same_answer_keeps_the_version_and_its_blocks(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        first = await put(store, KEY, b"hello")
        again = await install(store, KEY, size=5, validated_at=2e9, wire=b"new")
        assert again.version == first.version
        entry, extents = store.lookup(KEY, 0, 0)
        assert entry is not None
        assert (entry.validated_at, entry.wire, extents[0] is not None) == (2e9, b"new", True)


@pytest.mark.parametrize("change", [{"etag": '"b"'}, {"size": 6}, {"last_modified": 1}])
async def test_a_changed_object_shares_no_block_with_the_old_one(
    tmp_path: Path, change: dict[str, object]
) -> None:
    async with running(tmp_path) as store:
        first = await put(store, KEY, b"hello")
        fields = {"etag": '"a"', "size": 5} | change
        changed = await install(store, KEY, **fields)  # type: ignore[arg-type]
        assert changed.version > first.version
        assert await read(store, KEY) is None


async def test_an_answer_from_before_a_write_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        await put(store, KEY, b"hello")
        asked = time.monotonic_ns()
        await store.forget(KEY)
        assert store.lookup(KEY, 0, 0) == (None, [])
        with pytest.raises(Superseded):
            await install(store, KEY, size=5, started_ns=asked)
        with pytest.raises(Superseded):
            await store.install_absent(KEY, started_ns=asked, validated_at=1.0)
        assert store.entry(KEY) is None
        await install(store, KEY, '"b"')
        with pytest.raises(Superseded):  # the instant outlives the tombstone
            await install(store, KEY, size=5, started_ns=asked)
        assert await read(store, KEY) is None


async def test_the_same_bytes_written_again_get_a_new_version(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        first = await put(store, KEY, b"hello")
        await store.forget(KEY)
        assert (await install(store, KEY, size=5)).version != first.version


async def test_an_older_answer_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        older = time.monotonic_ns()
        await install(store, KEY, '"new"')
        with pytest.raises(Superseded):
            await install(store, KEY, '"old"', started_ns=older)
        await install(store, KEY, '"new"', started_ns=older, validated_at=5.0)  # says the same: welcome


async def test_absence_is_remembered_and_ends(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        await store.install_absent(KEY, started_ns=time.monotonic_ns(), validated_at=7.0)
        entry = store.entry(KEY)
        assert entry is not None
        assert (entry.state, entry.validated_at) == (ABSENT, 7.0)
        await install(store, KEY)
        assert store.entry(KEY).state == OBJECT  # type: ignore[union-attr]


async def test_a_fill_whose_caller_leaves_is_finished(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        entry = await install(store, KEY, size=MIB)
        waiter = asyncio.ensure_future(store.put_block(entry, 0, payload(1)))
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        await asyncio.wait(store._filler._tasks.live())
        assert await read(store, KEY) == payload(1)


async def test_a_damaged_block_is_dropped_counted_and_can_be_fetched_again(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        entry = await put(store, KEY, b"hello")
        extent = store.block(entry.version, 0)
        assert extent is not None
        os.pwrite(store.segment(extent.segment).fd, b"J", extent.offset)  # type: ignore[union-attr]
        assert not await store.verify(extent, entry.version, 0)
        assert store.block(entry.version, 0) is None
        assert store.counters.corrupt_blocks == 1
        assert store.entry(KEY) is not None
        await put(store, KEY, b"hello")
        assert await read(store, KEY) == b"hello"


async def test_a_block_is_not_taken_for_another(tmp_path: Path) -> None:
    """The CRC alone would pass: header and index have to agree on version and block, too."""
    async with running(tmp_path) as store:
        entry = await put(store, KEY, b"hello")
        extent = store.block(entry.version, 0)
        assert extent is not None
        assert not await store.verify(extent, entry.version + 1, 0)
        assert not await store.verify(extent, entry.version, 1)


async def test_page_cold_bytes_are_never_read_on_the_event_loop_nor_served_unchecked(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        entry = await put(store, KEY, payload(1))
        extent = store.block(entry.version, 0)
        assert extent is not None
        segment = store.segment(extent.segment)
        assert segment is not None
        assert segment.resident(extent.offset, MIB)
        drop_page_cache(store, extent.segment)
        if segment.resident(extent.offset, MIB):
            pytest.skip("this file system keeps everything in memory")
        for length in (MIB, 4096):
            # What asks starts reading it in, so the next may find it; on a busy machine even he himself.
            assert any(_not_there(store, extent, length) for _ in range(20))
        drop_page_cache(store, extent.segment)
        assert not store.verified(extent)
        assert await store.verify(extent, entry.version, 0)
        assert store.verified(extent)
        drop_page_cache(store, extent.segment)
        assert store.verified(extent)  # checked from the SSD once is enough
        await asyncio.to_thread(segment.populate, extent.offset, MIB)
        assert store.read_now(extent, 0, MIB) == payload(1)


def _not_there(store: Store, extent: Extent, length: int) -> bool:
    drop_page_cache(store, extent.segment)
    return store.read_now(extent, 0, length) is None


async def test_capacity_is_never_exceeded_while_everything_is_replaced(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        for i in range(200):
            await put(store, b"o\0b/%d" % i, payload(i))
            assert disk_bytes(tmp_path) <= store.capacity
        assert store.counters.evicted_blocks > 100
        kept = [i for i in range(200) if await read(store, b"o\0b/%d" % i) is not None]
        assert len(kept) >= 40
        for i in kept:
            assert await read(store, b"o\0b/%d" % i) == payload(i)


async def test_small_objects_and_their_index_stay_within_the_capacity(tmp_path: Path) -> None:
    async with running(tmp_path, capacity=24 * MIB) as store:
        for start in range(0, 12_000, 100):
            await asyncio.gather(
                *(put(store, b"o\0b/%d" % i, payload(i, 4096)) for i in range(start, start + 100))
            )
            assert disk_bytes(tmp_path) <= store.capacity
        assert await read(store, b"o\0b/11999") == payload(11_999, 4096)
        assert store.counters.evicted_blocks > 5000


async def test_blocks_that_are_read_outlive_those_that_are_not(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        for i in range(200):
            await put(store, b"o\0b/%d" % i, payload(i))
            assert await read(store, b"o\0b/0") == payload(0)
        assert store.counters.kept_bytes >= MIB


async def test_an_entry_goes_with_its_last_block(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        for i in range(120):
            await put(store, b"o\0b/%d" % i, payload(i))
        assert store.entry(b"o\0b/0") is None
        with store._index.env.begin() as txn:
            blocks = txn.stat(store._index.blocks)["entries"]
            assert txn.stat(store._index.objects)["entries"] == blocks
            assert txn.stat(store._index.contents)["entries"] == blocks


async def test_entries_without_blocks_are_bounded_and_forgetting_an_invalidation_costs_only_a_question(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as store:
        bound = store._changes.recent_rows_max
        asked = time.monotonic_ns()
        await store.forget(KEY)
        for start in range(0, 2 * bound, 256):
            await asyncio.gather(
                *(
                    store.install_absent(b"o\0b/%d" % i, started_ns=time.monotonic_ns(), validated_at=1.0)
                    for i in range(start, start + 256)
                )
            )
        with store._index.env.begin() as txn:
            assert txn.stat(store._index.objects)["entries"] <= bound
        with pytest.raises(Superseded):
            await install(store, KEY, started_ns=asked)
        with pytest.raises(Superseded):  # any question as old as that
            await install(store, b"another", started_ns=asked)
        await install(store, KEY)


async def test_a_reader_keeps_an_evicted_segment(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        entry = await put(store, KEY, payload(7))
        extent = store.block(entry.version, 0)
        assert extent is not None
        held = store.segment(extent.segment)
        assert held is not None
        for i in range(150):
            await put(store, b"o\0b/%d" % i, payload(i))
        assert store.block(entry.version, 0) is None
        assert store.segment(extent.segment) is None
        assert os.pread(held.fd, MIB, extent.offset) == payload(7)


async def test_a_cache_of_which_nothing_can_go_says_that_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as store:
        monkeypatch.setattr(store._changes, "begin_evict", lambda *_: None)
        with pytest.raises(StoreFull):  # noqa: PT012 whichever is the first that does not fit
            for i in range(100):
                await put(store, b"o\0b/%d" % i, payload(i))
        assert store.counters.reserve_failures >= 1
        assert await read(store, b"o\0b/0") == payload(0)


async def test_a_fill_that_outlives_its_segments_turn_is_still_committed(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        entry = await install(store, KEY, size=MIB)
        filler = store._filler
        place = filler._append(entry, 0, (payload(9),))
        for i in range(150):  # the whole cache is replaced meanwhile
            await put(store, b"o\0b/%d" % i, payload(i))
        await store._writer.run(store._changes.commit, entry, 0, place.extent)
        filler.appender.finish(place)
        assert await read(store, KEY) == payload(9)


async def test_the_first_eviction_need_not_wait_for_the_clock(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        store.start()
        await asyncio.gather(*(put(store, b"o\0b/%d" % i, payload(i)) for i in range(100)))
        assert disk_bytes(tmp_path) <= store.capacity


async def test_an_invalidation_survives_an_index_that_takes_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as store:
        await put(store, KEY, b"hello")
        asked = time.monotonic_ns()

        def full(txn: object, key: bytes) -> None:
            raise StoreFull("no")

        monkeypatch.setattr(store._changes, "forget", full)
        await store.forget(KEY)
        entry = store.entry(KEY)
        assert entry is not None
        assert entry.validated_at == 0.0  # has to be validated, whatever the rule says
        with pytest.raises(Superseded):
            await install(store, KEY, size=5, started_ns=asked)
        assert (await install(store, KEY, size=5, validated_at=8.0)).validated_at == 8.0
        assert store.entry(KEY).validated_at == 8.0  # type: ignore[union-attr]


async def test_headers_that_are_too_long_are_refused_not_cut(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        entry = await install(store, KEY, wire=b"w" * 60_000)
        with pytest.raises(StoreFull):
            await store.put_block(entry, 0, b"x")


async def test_frequency_counts_to_three_and_keeps_the_flags(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        entry = await put(store, KEY, b"hello")
        extent = store.block(entry.version, 0)
        assert extent is not None
        segment = store.segment(extent.segment)
        assert segment is not None
        before = segment.access[extent.slot]
        for _ in range(9):
            store.touch(extent)
        assert segment.access[extent.slot] == before | 3


async def test_reads_that_may_wait_for_the_disk_are_told_to_all_workers(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        await put(store, KEY, payload(1, MIB))
        extent = store.lookup(KEY, 0, 0)[1][0]
        assert extent is not None
        shared = store._index.shared
        assert await read(store, KEY) == payload(1, MIB)
        segment = store.segment(extent.segment)
        assert segment is not None
        for wait in (
            lambda: segment.populate(extent.offset, extent.length),
            lambda: segment.read(1, extent.offset),
            lambda: segment.resident(extent.offset + MIB, MIB),
        ):
            shared.words[-1] = 0
            wait()
            assert shared.disk_read_ns > 0


@pytest.mark.parametrize("read_now", [True, False])
async def test_a_read_without_waiting_that_comes_back_short_has_started_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_now: bool
) -> None:
    async with running(tmp_path) as store:
        await put(store, KEY, b"hello")
        extent = store.lookup(KEY, 0, 0)[1][0]
        assert extent is not None
        shared = store._index.shared
        shared.words[-1] = 0
        preadv = os.preadv
        monkeypatch.setattr(os, "preadv", lambda *args: preadv(*args) - 1)
        assert (store.read_now if read_now else store.read_small)(extent, 0, 5) is None
        assert shared.disk_read_ns > 0
