"""What a start of the node makes of what the last one left behind."""

from __future__ import annotations

import os
import shutil
import struct
import time
from pathlib import Path

import pytest
from awscrt.checksums import crc32c

from gateway.cache.index import UNSCANNED
from gateway.cache.tags import DEAD
from gateway.errors import StoreFull

from .audit import audit, die, settle
from .harness import MIB, disk_bytes, open_store, payload, put, read, ready, running

KEY = b"origin\0bucket/key"


def names(count: int) -> list[bytes]:
    return [b"o\0b/%d" % number for number in range(count)]


async def fill(directory: Path, count: int) -> None:
    async with running(directory) as store:
        for number, key in enumerate(names(count)):
            await put(store, key, payload(number))


async def test_a_clean_stop_loses_nothing(tmp_path: Path) -> None:
    await fill(tmp_path, 20)
    async with running(tmp_path) as store:
        for number, key in enumerate(names(20)):
            assert await read(store, key) == payload(number)


async def test_a_rebuild_that_was_stopped_is_taken_up_by_the_next_start(tmp_path: Path) -> None:
    await fill(tmp_path, 20)
    shutil.rmtree(tmp_path / "index")
    prepared = ready(tmp_path)
    assert prepared.rebuild
    store = open_store(tmp_path)
    await store.close()  # before anything was scanned
    prepared.close()
    async with running(tmp_path) as store:
        assert UNSCANNED not in {row.state for row in store._index.segment_rows().values()}
        for number, key in enumerate(names(20)):
            assert await read(store, key) == payload(number)


@pytest.mark.parametrize("clean", [True, False])
async def test_an_invalidation_that_the_index_did_not_take_outlives_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: bool
) -> None:
    def full(txn: object, key: bytes) -> None:
        raise StoreFull("no")

    prepared = ready(tmp_path)
    store = open_store(tmp_path)
    await put(store, KEY, b"hello")
    monkeypatch.setattr(store._changes, "forget", full)
    await store.forget(KEY)
    if clean:
        await store.close()
        prepared.close()
    else:
        await die(store)
        prepared._lock.close()
    async with running(tmp_path) as store:
        entry = store.entry(KEY)
        assert entry is None or entry.validated_at == 0.0


async def test_segments_without_a_good_record_do_not_take_room_that_nobody_counts(tmp_path: Path) -> None:
    await fill(tmp_path, 50)
    shutil.rmtree(tmp_path / "index")
    for path in (tmp_path / "segments").glob("*.seg"):
        with path.open("r+b") as file:
            file.write(bytes(64))
    async with running(tmp_path) as store:
        audit(store)
        for number, key in enumerate(names(60)):
            await put(store, key, payload(number))
            assert disk_bytes(tmp_path) <= store.capacity


@pytest.mark.parametrize("left", [0, 100, 4096, 8191, 8192, 0.5, -1])
async def test_an_index_that_was_cut_short_is_rebuilt_not_mapped(tmp_path: Path, left: float) -> None:
    """Reading a page beyond the end of a mapped file would kill the process."""
    prepared = ready(tmp_path)
    store = open_store(tmp_path)
    await put(store, KEY, b"hello")
    used = store._index.file_bytes()
    await die(store)
    prepared._lock.close()
    data = tmp_path / "index" / "data.mdb"
    os.truncate(data, used - 1 if left == -1 else int(used * left) if 0 < left < 1 else int(left))
    async with running(tmp_path) as store:
        assert await read(store, KEY) == b"hello"
        assert store.entry(KEY).validated_at == 0.0  # type: ignore[union-attr]


async def test_an_index_that_grew_but_was_not_written_to_its_end_is_still_used(tmp_path: Path) -> None:
    """After a kill the page cache is the truth, to the last page that LMDB counts."""
    prepared = ready(tmp_path)
    store = open_store(tmp_path)
    for number in range(300):
        await store.install_absent(b"%d" % number, started_ns=time.monotonic_ns(), validated_at=1.0)
    for number in range(300):
        await store.forget(b"%d" % number)
    await die(store)
    prepared._lock.close()
    prepared = ready(tmp_path)
    assert not prepared.rebuild
    prepared._lock.close()


@pytest.mark.parametrize("bad", ["", "[]", "{}", '{"format": "x"}', "\0"])
async def test_a_state_file_that_makes_no_sense_costs_only_a_rebuild(tmp_path: Path, bad: str) -> None:
    await fill(tmp_path, 3)
    (tmp_path / "state.json").write_text(bad)
    async with running(tmp_path) as store:
        assert await read(store, names(3)[2]) == payload(2)


async def test_another_block_size_starts_with_an_empty_cache(tmp_path: Path) -> None:
    await fill(tmp_path, 3)
    async with running(tmp_path, block_size=2 * MIB) as store:
        assert await read(store, names(3)[0]) is None
        assert not list((tmp_path / "segments").glob("*.seg"))


async def test_ids_are_never_used_again(tmp_path: Path) -> None:
    seen: list[int] = []
    for damage in ("index", "state.json", "index", "nothing"):
        async with running(tmp_path) as store:
            entry = await put(store, KEY, b"hello", etag=f'"{len(seen)}"')
            assert entry.version > max(seen, default=0)
            seen.append(entry.version)
        if damage == "index":
            shutil.rmtree(tmp_path / damage)
        elif damage == "state.json":
            (tmp_path / damage).unlink()


async def test_an_older_version_in_a_newer_segment_does_not_win_a_rebuild(tmp_path: Path) -> None:
    """Evictions append old blocks again, so the newest segment may hold the oldest version."""
    async with running(tmp_path) as store:
        old = await put(store, KEY, b"older", etag='"old"')
        await put(store, KEY, b"newer", etag='"new"')
        place = store._filler.appender.append(old, 0, (b"older",), store.block(old.version, 0).crc)  # type: ignore[union-attr]
        store._filler.appender.finish(place)
    shutil.rmtree(tmp_path / "index")
    async with running(tmp_path) as store:
        entry = store.entry(KEY)
        assert entry is not None
        assert (entry.etag, await read(store, KEY)) == ('"new"', b"newer")


async def test_a_record_that_was_cut_short_is_not_found_after_a_kill(tmp_path: Path) -> None:
    prepared = ready(tmp_path)
    store = open_store(tmp_path)
    entry = await put(store, KEY, b"whole")
    place = store._filler.appender.append(entry, 1, (b"torn!",), crc32c(b"torn!"))
    os.ftruncate(place.owner.segment.fd, place.extent.offset + 4)
    await die(store)
    prepared._lock.close()
    shutil.rmtree(tmp_path / "index")
    async with running(tmp_path) as store:
        assert await read(store, KEY) == b"whole"
        assert store.lookup(KEY, 1, 1)[1] == [None]


async def test_a_killed_workers_slot_is_taken_over_and_its_segment_sealed(tmp_path: Path) -> None:
    prepared = ready(tmp_path)
    one, other = open_store(tmp_path, 0), None
    try:
        await put(one, KEY, b"hello")
        await die(one)
        one = open_store(tmp_path, 0)
        assert await read(one, KEY) == b"hello"
        audit(one)
        assert one._index.number(b"active") == 0
    finally:
        await one.close()
        prepared.close()
    assert other is None


async def test_what_is_cut_off_after_a_kill_does_not_count_as_dead(tmp_path: Path) -> None:
    """Or else the segment would go first, as if half of it were."""
    prepared = ready(tmp_path)
    store = open_store(tmp_path)
    await put(store, KEY, payload(1, MIB // 2))
    for number, key in enumerate(names(2)):
        await put(store, key, payload(number))
        extent = store.lookup(key, 0, 0)[1][0]
        assert extent is not None
        await store._writer.run(store._changes.drop_at, (extent.segment, extent.slot))
    await die(store)
    prepared._lock.close()
    async with running(tmp_path) as store:
        audit(store)
        with store._index.env.begin() as txn:
            assert sum(store._changes.segment_sums(txn, DEAD).values()) < MIB // 8
        assert await read(store, KEY) == payload(1, MIB // 2)


async def test_blocks_of_a_segment_that_lost_its_end_do_not_count_for_more_than_is_left(
    tmp_path: Path,
) -> None:
    prepared = ready(tmp_path)
    store = open_store(tmp_path)
    for number, key in enumerate(names(3)):
        await put(store, key, payload(number))
    extent = store.lookup(names(3)[0], 0, 0)[1][0]
    assert extent is not None
    path = store._segments.path(extent.segment)
    await die(store)
    prepared._lock.close()
    os.truncate(path, extent.offset + 1)
    async with running(tmp_path) as store:
        for key in names(3):
            assert await read(store, key) is None
        await settle(store)
        audit(store)


def test_the_layout_of_lmdbs_meta_page_is_the_one_that_is_read() -> None:
    assert struct.calcsize("@I") == 4
    assert struct.calcsize("@QQ") == 16
