"""Time from process start to the first hit with 1,000,000 blocks indexed: python -m loadtest.store_restart
After a clean stop, after every process was killed, and how long a lost index takes to be rebuilt (in the background,
while the node serves). Blocks are small here (2 KiB) to fit on any disk; the index does not know. Figure to
reach: ready in ≤ 2 s."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

from gateway.cache.startup import prepare
from gateway.cache.store import Store

BLOCKS_PER_OBJECT = 20
OBJECTS = 50_000
SETTINGS: dict[str, Any] = {
    "capacity": 64 << 30,
    "segment_size": 256 << 20,
    "block_size": 2048,
    "workers": 1,
}


def name(i: int) -> bytes:
    return b"aws\0corp-datasets/train/shard-%06d.bin" % i


async def build(directory: str, *, die: bool) -> None:
    prepared = prepare(directory, **SETTINGS)
    store = Store.open(directory, worker=0, **SETTINGS)
    data = os.urandom(2048)

    async def one(i: int) -> None:
        entry = await store.install(
            name(i),
            etag='"e"',
            size=2048 * BLOCKS_PER_OBJECT,
            last_modified=1,
            wire=b"w" * 300,
            checksum_wire=b"",
            started_ns=time.monotonic_ns(),
            validated_at=time.time(),
        )
        for block in range(BLOCKS_PER_OBJECT):
            await store.put_block(entry, block, data)

    if store.entry(name(OBJECTS - 1)) is None:
        for start in range(0, OBJECTS, 200):
            await asyncio.gather(*(one(i) for i in range(start, min(start + 200, OBJECTS))))
    if die:
        os._exit(9)
    await store.close()
    prepared.close()


async def start(directory: str) -> None:
    began = time.perf_counter()
    prepared = prepare(directory, **SETTINGS)
    prepared_s = time.perf_counter() - began
    store = Store.open(directory, worker=0, **SETTINGS)
    store.start()
    entry, extents = store.lookup(name(OBJECTS // 2), 0, 0)
    if prepared.rebuild:
        print(f"  ready, nothing indexed, after {time.perf_counter() - began:.3f} s")
        await store.rebuild()
        print(f"  rebuilt after {time.perf_counter() - began:.1f} s: {store._index.blocks_count():,} blocks")
    else:
        assert entry is not None
        assert extents[0] is not None
        assert await store.verify(extents[0], entry.version, 0)
        print(
            f"  first hit after {time.perf_counter() - began:.3f} s (prepare {prepared_s:.3f} s),"
            f" {store._index.blocks_count():,} blocks, index {store._index.file_bytes() >> 20} MiB"
        )
    await store.close()
    prepared.close()


def child(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "loadtest.store_restart", *arguments], check=False)


def main() -> None:
    if len(sys.argv) > 1:
        what, directory = sys.argv[1:]
        asyncio.run(start(directory) if what == "start" else build(directory, die=what == "die"))
        return
    directory = tempfile.mkdtemp(prefix="store-restart-")
    try:
        child("stop", directory)
        print("after a clean stop:", flush=True)
        child("start", directory)
        child("die", directory)
        print("after kill -9:", flush=True)
        child("start", directory)
        shutil.rmtree(os.path.join(directory, "index"))
        print("with the index lost:", flush=True)
        child("start", directory)
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
