"""What a worker's store does in the background: figures once a second, segments that others evicted, late seals, the
sweep by new rules and, in one worker, the rebuild of a lost index."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import lmdb

from gateway.aio import Tasks, Threads
from gateway.cache.bounds import Bounds
from gateway.cache.filling import Filler
from gateway.cache.layout import FileLock
from gateway.cache.rebuild import Rebuilder
from gateway.cache.segment import Segments
from gateway.cache.sweeper import Sweeper

TICK_S: Final = 1.0


class Upkeep:
    """Of the store that has these parts."""

    def __init__(self, directory: Path, segments: Segments, filler: Filler, bounds: Bounds) -> None:
        changes, writer = filler.changes, filler.writer
        self._index = changes.index
        self._changes = changes
        self._segments = segments
        self._filler = filler
        self._bounds = bounds
        self._counters = filler.counters
        self._rebuilder = Rebuilder(changes.index, changes, writer, segments)
        self._rebuilds = Threads("cache-rebuild", 1)
        self._sweep_lock = FileLock(directory / "sweep.lock")
        self._sweeper = Sweeper(changes.index, changes, writer, self._sweep_lock, filler.clear_empty)
        self._sweeps = Threads("cache-sweep", 1)
        self._sweeping: asyncio.Task[None] | None = None
        self._tasks = Tasks()
        self._seen_evictions = -1

    def start(self) -> None:
        self._tasks.spawn(self._tick(), "cache-tick")

    def rebuild(self) -> asyncio.Task[None]:
        return self._tasks.spawn(self._rebuild(), "cache-rebuild")

    async def close(self) -> None:
        await self._tasks.close()
        self._rebuilder.stop()
        self._sweeper.stop()
        for threads in (self._rebuilds, self._sweeps):
            await asyncio.to_thread(threads.close)
        self._sweep_lock.close()

    async def _rebuild(self) -> None:
        self._counters.index_rebuilt = 1
        await self._rebuilds.run(self._rebuilder.run)

    async def _tick(self) -> None:
        while True:
            try:
                self._observe()
            except lmdb.Error as error:
                self._index.report(error)
            self._filler.evict_ahead()
            self._filler.seal_late()
            await asyncio.sleep(TICK_S)

    def _observe(self) -> None:
        evictions = self._index.shared.evictions
        if evictions != self._seen_evictions:
            self._seen_evictions = evictions
            self._segments.sweep()
        self._counters.cache_bytes = self._index.used_bytes()
        self._counters.index_broken = int(self._index.broken)
        self._filler.observe(self._counters.cache_bytes, self._changes.spare())
        self._observe_rules()

    def _observe_rules(self) -> None:
        counters, changes = self._counters, self._changes
        counters.pinned_bytes = self._bounds.pinned_bytes()
        counters.unpinned_bytes = changes.unpinned_bytes
        counters.expired_bytes = changes.expired_bytes
        counters.quota_dropped_bytes = changes.quota_dropped_bytes
        self._bounds.tell()
        self._bounds.warn_once()
        if (self._sweeping is None or self._sweeping.done()) and self._sweeper.due():
            self._sweeping = self._tasks.spawn(self._sweeps.run(self._sweeper.step), "cache-sweep")
