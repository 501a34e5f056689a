"""The store as a worker sees it: the one class of this room that others call.

Reading (event loop, microseconds, no await): `lookup`, `entry`, `block`, `segment`, `verified`, `touch`,
`read_now`. Changing (awaits a thread): `install`, `install_absent`, `forget`, `put_block`, `put_parts`,
`verify`.

A hit: `lookup` → every extent there → `verified` (else `verify`, once per block and start of the node) →
`touch` → `read_now` for small ranges or `segment(…)` for sendfile. `segment` may be None at any time (evicted
between two lines of the caller): that is a miss.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

import structlog
from awscrt.checksums import crc32c

from gateway.aio import Tasks, Threads
from gateway.cache.admission import Admission
from gateway.cache.bounds import Bounds
from gateway.cache.changes import Changes
from gateway.cache.checking import Unchecked, is_whole
from gateway.cache.counters import Counters
from gateway.cache.entry import ABSENT, OBJECT, Entry, Extent
from gateway.cache.filling import Bytes, Filler
from gateway.cache.index import Index
from gateway.cache.layout import (
    FREE_BYTES_MIN,
    CacheUnusable,
    FileLock,
    effective_segment_bytes,
    index_dir,
    segments_dir,
)
from gateway.cache.residency import calm, choose
from gateway.cache.segment import CHECKED, FREQUENCY, WRITTEN, Segment, Segments, slots_of
from gateway.cache.shared import SharedPage
from gateway.cache.startup import take_over
from gateway.cache.upkeep import Upkeep
from gateway.cache.writer import IndexWriter
from gateway.errors import StoreFull
from gateway.namespace.keeping import Keeping

__all__ = ["ABSENT", "OBJECT", "Entry", "Extent", "Segment", "Store"]

log = structlog.get_logger()

# What `read_small` reads, into a buffer that is reused: up to here joining head and body beats a sendfile.
SMALL_MAX = 64 << 10


class Store:
    """`Store.open` once per worker, after `startup.prepare` ran in the supervisor; `await store.close()`."""

    def __init__(
        self,
        directory: Path,
        index: Index,
        *,
        capacity: int,
        segment_bytes: int,
        block_size: int,
        stripe_blocks: int,
        worker: int,
        workers: int,
        free_bytes_min: int,
        locks: list[FileLock],
    ) -> None:
        self.directory = directory
        self.capacity = capacity
        self.block_size = block_size
        self.segment_bytes = segment_bytes
        self.counters = Counters()
        self.admission = Admission(capacity // workers, stripe_blocks)
        self._index = index
        self._free_bytes_min = free_bytes_min
        self._locks = locks
        files = segments_dir(directory)
        slots = index.number(b"slots") or slots_of(segment_bytes)
        self._disk_read = index.shared.disk_read
        self._segments = Segments(files, slots, calm(choose(files), index.shared), self._disk_read)
        self._changes = Changes(index, capacity, self._spare_bytes)
        self._writer = IndexWriter(index, worker)
        self._io = Threads("cache-io")
        self._filler = Filler(
            directory,
            self._changes,
            self._writer,
            self._segments,
            self.counters,
            self._io,
            worker=worker,
            segment_bytes=segment_bytes,
        )
        self._changes.reserved_elsewhere = (workers + 3) * self._filler.appender.reserved
        self.bounds = Bounds(index, self._changes, self._writer, workers, stripe_blocks)
        self._upkeep = Upkeep(directory, self._segments, self._filler, self.bounds)
        self._tasks = Tasks()
        self._verifying: dict[tuple[int, int], asyncio.Task[bool]] = {}
        self._scratch = bytearray(SMALL_MAX)
        self._scratch_view = memoryview(self._scratch)
        take_over(worker, self._segments, self._changes, self._writer)
        self.entry = index.entry
        self.lookup = index.lookup
        self.block = index.block
        self.blocks_count = index.blocks_count
        self.stamp = index.shared.stamp
        self.segment = self._segments.get

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        capacity: int,
        segment_size: int,
        block_size: int,
        worker: int,
        workers: int,
        *,
        stripe_blocks: int = 16,
        free_bytes_min: int = FREE_BYTES_MIN,
        map_bytes: int | None = None,
        index: Index | None = None,
    ) -> Store:
        """Opens worker `worker` (0 … workers-1) of the node's store; takes over what a dead worker of that
        number left. Blocks for milliseconds. Raises CacheUnusable."""
        root = Path(directory)
        size = effective_segment_bytes(capacity, segment_size, block_size, workers)
        slot = FileLock(root / f"slot-{worker}.lock")
        everyone = FileLock(root / "workers.lock")
        if not slot.acquire():
            slot.close()
            everyone.close()
            raise CacheUnusable(f"worker {worker} of the cache in {root} is still alive")
        everyone.acquire(shared=True)
        if index is None:
            index = Index(index_dir(root), map_bytes or capacity, SharedPage(root / "shared", workers))
        return cls(
            root,
            index,
            capacity=capacity,
            segment_bytes=size,
            block_size=block_size,
            stripe_blocks=stripe_blocks,
            worker=worker,
            workers=workers,
            free_bytes_min=free_bytes_min,
            locks=[slot, everyone],
        )

    def start(self) -> None:
        """Background work; needs the running loop: closing what others evicted, figures, the rebuild."""
        self._filler.start()
        self._upkeep.start()

    def rebuild(self) -> asyncio.Task[None]:
        """Indexes the segments that `prepare` found without an index. One worker of the node calls it."""
        return self._upkeep.rebuild()

    async def close(self) -> None:
        """Ends cleanly: what was committed is found again after the next start."""
        await self._tasks.close()
        await self._upkeep.close()
        await self._filler.close()
        await asyncio.to_thread(self._io.close)
        await asyncio.to_thread(self._writer.close)
        self._segments.close()
        self._index.close()
        self._index.shared.close()
        for lock in self._locks:
            lock.close()

    def apply(self, keeping: Keeping) -> None:
        """The rules by which blocks are pinned, bounded and given up: at the start, and after each change of them.
        Every worker of the node is to be told of the same."""
        self.bounds.apply(keeping)

    # --- hits

    def verified(self, extent: Extent) -> bool:
        """Were these bytes checked since the node started? What this node wrote itself counts while it has
        not left the page cache: after that it comes from the SSD for the first time."""
        segment = self._segments.get(extent.segment)
        if segment is None:
            return False
        access = segment.access[extent.slot]
        if access & CHECKED:
            return True
        return access & WRITTEN != 0 and segment.resident(extent.offset, extent.length)

    def sendable(self, extent: Extent, version: int, block: int) -> Segment | Unchecked | None:
        """What to send the block's bytes from, at the extent's offset; None if they have to be verified first, or are
        gone. Where `verified` would ask whether they are in the page cache, this leaves it to the sender, who asks
        that anyway before each piece."""
        segment = self._segments.get(extent.segment)
        if segment is None:
            return None
        access = segment.access[extent.slot]
        if access & FREQUENCY != FREQUENCY:
            segment.access[extent.slot] = access + 1
        if access & CHECKED:
            return segment
        return Unchecked(segment, extent, version, block) if access & WRITTEN else None

    def touch(self, extent: Extent) -> None:
        """Counts a use. Without a lock: see `segment.py`."""
        segment = self._segments.get(extent.segment)
        if segment is not None:
            access = segment.access[extent.slot]
            if access & FREQUENCY != FREQUENCY:
                segment.access[extent.slot] = access + 1

    def read_now(self, extent: Extent, start: int, count: int) -> bytes | bytearray | None:
        """Bytes start … start+count of the block if that needs no disk, else None."""
        segment = self._segments.get(extent.segment)
        if segment is None:
            return None
        small = count <= SMALL_MAX
        buffer = self._scratch_view[:count] if small else bytearray(count)
        try:
            got = os.preadv(segment.fd, [buffer], extent.offset + start, os.RWF_NOWAIT)
        except BlockingIOError:
            self._disk_read()
            return None
        except OSError:  # RWF_NOWAIT is not supported here
            if not segment.resident(extent.offset + start, count):
                return None
            got = os.preadv(segment.fd, [buffer], extent.offset + start)
        if got != count:  # by which the rest is being read already
            self._disk_read()
            return None
        return bytes(buffer) if small else buffer  # type: ignore[return-value]

    def read_small(self, extent: Extent, start: int, count: int) -> memoryview | bytes | None:
        """Bytes start … start+count (at most `SMALL_MAX`) of a block if that needs no disk and they are known to be
        good, else None; counts the use. They are there until the next call. A whole block that nobody has checked yet
        is checked here: for so few bytes that is cheaper than asking whether they ever left the page cache."""
        segment = self._segments.get(extent.segment)
        if segment is None:
            return None
        buffer = self._scratch_view[:count]
        try:
            got = os.preadv(segment.fd, [buffer], extent.offset + start, os.RWF_NOWAIT)
        except OSError:  # not in the page cache, or RWF_NOWAIT is not supported here
            return self._read_small_slowly(extent, start, count)
        if got != count:
            self._disk_read()
            return None
        access = segment.access[extent.slot]
        if not access & CHECKED:
            if count == extent.length:
                if crc32c(buffer) != extent.crc:
                    return None
                access = segment.access[extent.slot] = access | CHECKED
            elif not self.verified(extent):
                return None
        if access & FREQUENCY != FREQUENCY:
            segment.access[extent.slot] = access + 1
        return buffer

    def _read_small_slowly(self, extent: Extent, start: int, count: int) -> bytes | None:
        self._disk_read()
        if not self.verified(extent):
            return None
        data = self.read_now(extent, start, count)
        self.touch(extent)
        return None if data is None else bytes(data)

    def admit(self, key: bytes, block: int, length: int) -> bool:
        """Should a miss of `length` bytes from `block` on (inside one stripe) be written to the cache? Called
        once per miss, on the stripe's owner worker, before the origin is asked."""
        room = self._filler.has_room or self.bounds.pins(key, length)
        admitted = self.bounds.admit(key, block, length) and self.admission.admit(
            key, block, length, room=room
        )
        if not admitted:
            self.counters.admission_refused += 1
        return admitted

    def learned(self, key: bytes, length: int) -> None:
        """The size of a miss that `admit` was asked about when nobody knew it."""
        self.admission.learned(length)
        self.bounds.learned(key, length)

    def expired(self, entry: Entry, now: float) -> bool:
        """Has the object been in the cache for as long as its rules allow? What the origin says of it next gets a
        version of its own, whose blocks are fetched anew."""
        return self._changes.expired(entry, now)

    # --- what the origin said

    async def install(
        self,
        key: bytes,
        *,
        etag: str,
        size: int,
        last_modified: int,
        wire: bytes,
        checksum_wire: bytes,
        started_ns: int,
        validated_at: float,
    ) -> Entry:
        """Puts what the origin answered to a question asked at `started_ns` (time.monotonic_ns). The same
        ETag, size and time keep the version and its blocks. Raises Superseded: a write finished or a newer
        answer came since then, ask again; StoreFull: the entry cannot be kept, go on uncached."""
        entry = Entry(
            key, 0, OBJECT, size, validated_at, etag, last_modified, wire, checksum_wire, asked_ns=started_ns
        )
        return await self._writer.run(self._changes.install, entry)

    async def install_absent(self, key: bytes, *, started_ns: int, validated_at: float) -> Entry:
        """The origin has no such object. Raises as `install` does."""
        entry = Entry(key, 0, ABSENT, 0, validated_at, "", 0, b"", b"", asked_ns=started_ns)
        return await self._writer.run(self._changes.install, entry)

    async def forget(self, key: bytes) -> None:
        """Invalidates. When it returns no worker serves what was known before, and answers asked for earlier
        are refused. It cannot fail: where the index takes no change, everything known on this node has to be
        validated again."""
        try:
            await self._writer.run(self._changes.forget, key, must=True)
        except StoreFull as error:
            self._index.shared.distrust(time.monotonic_ns())
            log.error("invalidation not written, every entry is validated again", error=str(error))

    # --- blocks

    async def put_block(self, entry: Entry, block: int, data: Bytes) -> Extent:
        """A block that is whole in memory. Raises StoreFull."""
        return await self._filler.put_block(entry, block, (data,))

    async def put_parts(self, entry: Entry, block: int, parts: Sequence[Bytes]) -> Extent:
        """A block in the pieces in which it came. Raises StoreFull."""
        return await self._filler.put_block(entry, block, parts)

    @property
    def refusing(self) -> bool:
        """The disk refused bytes a moment ago: a fill would fail, so reads had better go direct."""
        return self._filler.refusing

    async def verify(self, extent: Extent, version: int, block: int) -> bool:
        """Reads the block and checks header and CRC. False: it was dropped from the index; fetch it again."""
        name = (extent.segment, extent.slot)
        task = self._verifying.get(name)
        if task is None:
            task = self._tasks.spawn(self._verify(extent, version, block), "cache-verify")
            self._verifying[name] = task
            task.add_done_callback(lambda _: self._verifying.pop(name, None))
        return await asyncio.shield(task)

    async def _verify(self, extent: Extent, version: int, block: int) -> bool:
        segment = self._segments.get(extent.segment)
        if segment is None:
            return False
        if await self._io.run(is_whole, segment, extent, version, block):
            self.counters.verified_blocks += 1
            segment.access[extent.slot] |= CHECKED
            return True
        self.counters.corrupt_blocks += 1
        if not segment.warned:
            segment.warned = True
            log.error(
                "cache block damaged, dropped", segment=f"{segment.id:016x}", version=version, block=block
            )
        with contextlib.suppress(StoreFull):  # the index takes no change: the block stays, unverified
            await self._writer.run(self._changes.drop_block, version, block, extent, must=True)
        return False

    def _spare_bytes(self) -> int:
        stat = os.statvfs(self.directory)
        return stat.f_bavail * stat.f_frsize - self._free_bytes_min
