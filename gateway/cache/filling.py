"""Fills, and the room they need: putting whole blocks, evicting ahead, and a disk that is full.

The event loop's side of `appender.py` and `evictor.py`: it decides who waits and for how long; they act in
threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

import lmdb
import structlog
from awscrt.checksums import crc32c

from gateway.aio import Tasks, Threads
from gateway.cache.appender import Appender, DiskFull, NoRoom, Place
from gateway.cache.changes import Changes
from gateway.cache.counters import Counters
from gateway.cache.entry import Entry, Extent
from gateway.cache.evictor import Evictor
from gateway.cache.layout import FileLock
from gateway.cache.segment import Segments
from gateway.cache.writer import IndexWriter
from gateway.errors import StoreFull

log = structlog.get_logger()
Bytes = bytes | bytearray | memoryview

# After the file system refused bytes, fills are refused at once for this long instead of each failing alone.
DISK_RETRY_S: Final = 5.0
# The same when there is no room and nothing that could make some.
NO_ROOM_RETRY_S: Final = 1.0
# Others may take the room that was made for us; a fill that finds none for this long goes on uncached.
ROOM_WAIT_S: Final = 10.0
# When all that could be evicted is being filled, some of it may be sealed within this time.
SEAL_WAIT_S: Final = 0.25
_SEAL_POLL_S: Final = 0.005
# Evicting one segment ahead, so that fills do not wait for it, is worth it where that is a small part.
_AHEAD_SEGMENTS_MIN: Final = 64


class Filler:
    def __init__(
        self,
        directory: Path,
        changes: Changes,
        writer: IndexWriter,
        segments: Segments,
        counters: Counters,
        io: Threads,
        *,
        worker: int,
        segment_bytes: int,
    ) -> None:
        self.counters = counters
        self.has_room = True  # no eviction is needed before some segments more are full
        self.io = io
        self.writer = writer
        self.changes = changes
        self._directory = directory
        self._index = changes.index
        self._lock = FileLock(directory / "evict.lock")
        self._tasks = Tasks()
        self._threads = Threads("cache-evict", 1)
        self.appender = Appender(segments, changes, writer, worker, segment_bytes, io.submit, self._on_roll)
        self.evictor = Evictor(changes.index, changes, writer, segments, self.appender, self._lock, counters)
        self._ahead = int(changes.capacity >= _AHEAD_SEGMENTS_MIN * self.appender.reserved)
        self._room_task: asyncio.Task[bool] | None = None
        self._refuse_until = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks.spawn(self._threads.run(self.evictor.resume), "cache-resume-eviction")

    async def close(self) -> None:
        await self._tasks.close()
        await asyncio.to_thread(self._threads.close)
        await self.io.run(self.appender.close)
        self._lock.close()

    async def put_block(self, entry: Entry, block: int, parts: Sequence[Bytes]) -> Extent:
        """A caller that is cancelled leaves no record half-written: the work goes on."""
        task = self._tasks.spawn(_outcome(self._put_block(entry, block, parts)), "cache-fill")
        outcome = await asyncio.shield(task)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _put_block(self, entry: Entry, block: int, parts: Sequence[Bytes]) -> Extent:
        place: Place = await self._with_room(self._append, entry, block, parts)
        try:
            await self.writer.run(self.changes.commit, entry, block, place.extent)
        finally:
            self.appender.finish(place)
        self.counters.committed_blocks += 1
        self.counters.committed_bytes += place.extent.length
        return place.extent

    def _append(self, entry: Entry, block: int, parts: Sequence[Bytes]) -> Place:
        """In a thread: check and write in one hop, the parts as they came, never joined."""
        crc = 0
        for part in parts:
            crc = crc32c(part, crc)
        return self.appender.append(entry, block, parts, crc)

    @property
    def refusing(self) -> bool:
        return self._refuse_until > time.monotonic()

    async def _with_room(self, call: Any, *args: Any) -> Any:
        if self.refusing:
            self.counters.reserve_failures += 1
            raise StoreFull("the cache's file system is full")
        try:
            deadline = time.monotonic() + ROOM_WAIT_S
            while True:
                try:
                    return await self.io.run(call, *args)
                except NoRoom:
                    self.has_room = False
                    if not await self._room_comes() or time.monotonic() > deadline:
                        break
        except DiskFull:
            self.disk_refused()
            raise
        except StoreFull:
            self.counters.reserve_failures += 1
            raise
        self._nothing_to_evict()
        raise StoreFull("the cache is full and nothing in it can be evicted")

    def _nothing_to_evict(self) -> None:
        """Reads had better go straight for a moment than each find that out for themselves. Where others have
        filled the file system up, that is a case for the operator."""
        self.counters.reserve_failures += 1
        self._refuse_until = time.monotonic() + NO_ROOM_RETRY_S
        if self.changes.spare() < self.appender.reserved and not self.counters.disk_full:
            self.counters.disk_full = 1
            log.error(
                "no room on the cache's file system, reads go on uncached", directory=str(self._directory)
            )

    async def _room_comes(self) -> bool:
        deadline = time.monotonic() + SEAL_WAIT_S
        while not await self._make_room():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_SEAL_POLL_S)
        return True

    async def _make_room(self) -> bool:
        """One eviction for all who wait."""
        if self._room_task is None or self._room_task.done():
            self._room_task = self._spawn_evictor()
        return await asyncio.shield(self._room_task)

    def disk_refused(self) -> None:
        """ENOSPC or EIO: fills fail at once for a while; a segment less may help."""
        self._refuse_until = time.monotonic() + DISK_RETRY_S
        self.counters.disk_full_errors += 1
        if not self.counters.disk_full:
            self.counters.disk_full = 1
            log.error(
                "the cache's file system refuses writes, reads go on uncached", directory=str(self._directory)
            )

    def _on_roll(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has closed
                self._loop.call_soon_threadsafe(self.evict_ahead)

    def evict_ahead(self) -> None:
        try:
            enough = self.evictor.enough(self._ahead)
        except lmdb.Error as error:
            self._index.report(error)
            return
        if not enough and (self._room_task is None or self._room_task.done()):
            self.has_room = False
            self._room_task = self._spawn_evictor()

    def clear_empty(self) -> None:
        """From any thread."""
        self._threads.submit(self.evictor.clear_empty)

    def seal_late(self) -> None:
        """Once a second: a segment whose sealing failed."""
        if self.appender.unsealed:
            self.io.submit(self.appender.seal_all)

    def _spawn_evictor(self) -> asyncio.Task[bool]:
        return self._tasks.spawn(self._threads.run(self.evictor.make_room, self._ahead), "cache-evict")

    def observe(self, used_bytes: int, spare_bytes: int) -> None:
        """Once a second."""
        if self.counters.disk_full and not self.refusing:
            self.counters.disk_full = int(spare_bytes < self.appender.reserved)
        ahead = (2 + self._ahead) * self.appender.reserved
        self.has_room = used_bytes + ahead <= self.changes.capacity and ahead <= spare_bytes


async def _outcome(coro: Coroutine[Any, Any, Extent]) -> Extent | Exception:
    """Errors as values: a task whose waiter left must not be logged as failed for a full disk."""
    try:
        return await coro
    except Exception as error:
        return error
