"""What 100,000 objects of 40 KiB take on disk beyond their data, everything counted: python -m loadtest.store_space
Also 4 KiB objects. Figure to reach: ≤ 5 % at 40 KiB."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from typing import Any

from gateway.cache.startup import prepare
from gateway.cache.store import Store
from loadtest.store_lookup import GIB, fill

OBJECTS = 100_000


def _disk_bytes(directory: Any) -> int:
    return int(subprocess.check_output(["du", "-s", "-B1", directory]).split()[0])


async def measure(size: int) -> float:
    directory = tempfile.mkdtemp(prefix="store-space-")
    settings = {"capacity": 16 * GIB, "segment_size": 256 << 20, "block_size": 1 << 20, "workers": 1}
    prepared = prepare(directory, **settings)
    store = Store.open(directory, worker=0, **settings)
    names = [b"aws\0corp-datasets/train/shard-%06d.bin" % i for i in range(OBJECTS)]
    try:
        await fill(store, names, size)
        index = store._index.file_bytes()
    finally:
        await store.close()
        prepared.close()
    taken = await asyncio.to_thread(_disk_bytes, directory)
    shutil.rmtree(directory)
    data = OBJECTS * size
    print(
        f"{OBJECTS:,} objects of {size >> 10} KiB: {taken - data:,} B beyond the data = {taken / data - 1:.2%}"
        f" (index {index / OBJECTS:.0f} B per object, all {(taken - data) / OBJECTS:.0f})"
    )
    return taken / data - 1


if __name__ == "__main__":
    beyond = asyncio.run(measure(40 << 10))
    asyncio.run(measure(4 << 10))
    raise SystemExit(0 if beyond <= 0.05 else 1)
