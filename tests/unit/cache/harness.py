"""Stores in a temporary directory, and the smallest caller of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.cache.startup import Prepared, prepare
from gateway.cache.store import Entry, Store

MIB = 1 << 20
SETTINGS: dict[str, Any] = {
    "capacity": 64 * MIB,
    "segment_size": 256 * MIB,
    "block_size": 1 * MIB,
    "workers": 2,
}


def ready(directory: Path, **changes: Any) -> Prepared:
    return prepare(directory, **(SETTINGS | changes), workers_wait_s=0.2)


def open_store(directory: Path, worker: int = 0, **changes: Any) -> Store:
    # The floor of free space would make the tests depend on the machine's disk.
    return Store.open(directory, worker=worker, **({"free_bytes_min": 0} | SETTINGS | changes))


@asynccontextmanager
async def running(directory: Path, **changes: Any) -> AsyncIterator[Store]:
    """A node with one worker, closed cleanly."""
    shared = {k: v for k, v in changes.items() if k in SETTINGS}
    prepared = ready(directory, **shared)
    store = open_store(directory, **changes)
    try:
        if prepared.rebuild:
            await store.rebuild()
        yield store
    finally:
        await store.close()
        prepared.close()


async def install(
    store: Store,
    key: bytes,
    etag: str = '"a"',
    size: int = MIB,
    *,
    started_ns: int | None = None,
    **changes: Any,
) -> Entry:
    fields: dict[str, Any] = {
        "last_modified": 1_700_000_000,
        "wire": b"content-type: text/plain\r\n",
        "checksum_wire": b"x-amz-checksum-crc32: AAAAAA==\r\n",
        "validated_at": 1e9,
    }
    return await store.install(
        key,
        etag=etag,
        size=size,
        started_ns=time.monotonic_ns() if started_ns is None else started_ns,
        **(fields | changes),
    )


async def put(store: Store, key: bytes, data: bytes, block: int = 0, etag: str = '"a"') -> Entry:
    entry = await install(store, key, etag, len(data))
    await store.put_block(entry, block, data)
    return entry


async def read(store: Store, key: bytes, block: int = 0) -> bytes | None:
    """A block as a careful caller reads it; None for a miss."""
    entry, extents = store.lookup(key, block, block)
    if entry is None or not extents or (extent := extents[0]) is None:
        return None
    if not store.verified(extent) and not await store.verify(extent, entry.version, block):
        return None
    segment = store.segment(extent.segment)
    if segment is None:
        return None
    await asyncio.to_thread(segment.populate, extent.offset, extent.length)
    store.touch(extent)
    data = store.read_now(extent, 0, extent.length)
    return None if data is None else bytes(data)


def disk_bytes(directory: Path) -> int:
    """What segments, access bytes and index take, as `capacity` bounds it."""
    files = [*(directory / "segments").glob("*"), directory / "index" / "data.mdb"]
    return sum(taken(f) for f in files if f.exists())


def taken(file: Path) -> int:
    """A segment has holes; an access file is allocated whole."""
    stat = file.stat()
    return min(stat.st_size, stat.st_blocks * 512)


def payload(seed: int, length: int = MIB) -> bytes:
    """Different for every seed, cheap to make."""
    return (seed.to_bytes(8, "little") * (length // 8 + 1))[:length]
