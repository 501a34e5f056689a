"""A worker of a store that writes until it is killed: `python -m tests.crash.writer DIRECTORY WORKER SEED`.

It tells on stdout what was committed before it goes on, one line per block, so whatever stands there must be found
afterwards unless it was evicted.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path
from typing import Any

from gateway.cache.store import Store
from gateway.errors import StoreFull

BLOCK = 64 << 10
SHAPE: dict[str, Any] = {"capacity": 16 << 20, "segment_size": 256 << 20, "block_size": BLOCK, "workers": 2}


def content(number: int) -> bytes:
    return random.Random(number).randbytes(1 + number * 7919 % BLOCK)


def key_of(number: int) -> bytes:
    return b"o\0b/%d" % number


async def write_one(store: Store, number: int) -> None:
    data = content(number)
    try:
        entry = await store.install(
            key_of(number), etag=f'"{number}"', size=len(data), last_modified=1, wire=b"", checksum_wire=b"",
            started_ns=time.monotonic_ns(), validated_at=1e9,
        )  # fmt: skip
        if number % 2:
            await store.put_block(entry, 0, data)
        else:
            half = len(data) // 2
            await store.put_parts(entry, 0, (data[:half], data[half:]))
    except StoreFull:
        return
    print(number, flush=True)


async def main(directory: str, worker: int, seed: int) -> None:
    store = Store.open(Path(directory), worker=worker, free_bytes_min=0, **SHAPE)
    store.start()
    number = seed * 1_000_000 + worker * 100_000
    print("open", flush=True)
    while True:
        await asyncio.gather(*(write_one(store, number + i) for i in range(16)))
        number += 16


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
