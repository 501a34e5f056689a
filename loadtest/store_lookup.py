"""µs per call of the store's part of a hit, in one process with nothing else: python -m loadtest.store_lookup

Objects of 40 KiB and of 1 MiB, many of them, read in random order, so the index's pages are not all in the CPU's
caches."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from gateway.cache.entry import Entry, Extent
from gateway.cache.startup import prepare
from gateway.cache.store import Store

GIB = 1 << 30
OBJECTS = 50_000
LARGE = 200


async def fill(store: Store, names: Sequence[bytes], size: int) -> None:
    data = os.urandom(size)

    async def one(name: bytes) -> None:
        entry = await store.install(
            name,
            etag='"0123456789abcdef0123456789abcdef"',
            size=size,
            last_modified=1_700_000_000,
            wire=b"content-type: application/octet-stream\r\n" * 7,
            checksum_wire=b"",
            started_ns=time.monotonic_ns(),
            validated_at=time.time(),
        )
        await store.put_block(entry, 0, data)

    for start in range(0, len(names), 64):
        await asyncio.gather(*(one(name) for name in names[start : start + 64]))


def measure(label: str, call: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> None:
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for args in arguments:
            call(*args)
        best = min(best, time.perf_counter() - start)
    print(f"{label:44} {best / len(arguments) * 1e6:7.2f} µs")


async def main() -> None:
    directory = tempfile.mkdtemp(prefix="store-lookup-")
    settings = {"capacity": 8 * GIB, "segment_size": 256 << 20, "block_size": 1 << 20, "workers": 1}
    prepared = prepare(directory, **settings)
    store = Store.open(directory, worker=0, **settings)
    try:
        small = [b"aws\0corp-datasets/train/shard-%06d.bin" % i for i in range(OBJECTS)]
        large = [b"aws\0corp-datasets/large/shard-%06d.bin" % i for i in range(LARGE)]
        start = time.perf_counter()
        await fill(store, small, 40 << 10)
        each_us = (time.perf_counter() - start) / OBJECTS * 1e6
        print(f"{'put_block 40 KiB + install, 64 at once':44} {each_us:7.2f} µs wall")
        await fill(store, large, 1 << 20)
        report(store, small, large)
    finally:
        await store.close()
        prepared.close()
        shutil.rmtree(directory)


def report(store: Store, small: list[bytes], large: list[bytes]) -> None:
    random_ = random.Random(1)
    keys = random_.choices(small, k=20_000)
    found = [store.lookup(key, 0, 0) for key in keys]
    extents = [extents[0] for _, extents in found if extents[0] is not None]
    entries = [entry for entry, _ in found if entry is not None]
    big = [e for key in random_.choices(large, k=5_000) if (e := store.lookup(key, 0, 0)[1][0]) is not None]
    measure("entry", store.entry, [(key,) for key in keys])
    measure("block", store.block, [(entry.version, 0) for entry in entries])
    measure("lookup: entry and one extent", store.lookup, [(key, 0, 0) for key in keys])
    measure("lookup of an unknown key", store.lookup, [(key + b"x", 0, 0) for key in keys])
    measure("segment", store.segment, [(e.segment,) for e in extents])
    measure("verified (written since the start)", store.verified, [(e,) for e in extents])
    measure("touch", store.touch, [(e,) for e in extents])
    measure("read_now 4 KiB", store.read_now, [(e, 0, 4096) for e in extents])
    measure("read_now 40 KiB", store.read_now, [(e, 0, 40960) for e in extents])
    measure("resident 4 KiB", lambda e: resident(store, e, 4096), [(e,) for e in extents])
    measure("resident 1 MiB", lambda e: resident(store, e, 1 << 20), [(e,) for e in big])
    measure("a 4 KiB hit: lookup verified touch read_now", lambda key: hit(store, key), [(k,) for k in keys])


def resident(store: Store, extent: Extent, length: int) -> bool:
    segment = store.segment(extent.segment)
    return segment is not None and segment.resident(extent.offset, length)


def hit(store: Store, key: bytes) -> tuple[Entry | None, bytes | bytearray | None]:
    entry, extents = store.lookup(key, 0, 0)
    extent = extents[0]
    assert extent is not None
    assert store.verified(extent)
    store.touch(extent)
    return entry, store.read_now(extent, 0, 4096)


if __name__ == "__main__":
    asyncio.run(main())
