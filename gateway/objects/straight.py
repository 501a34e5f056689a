"""Bytes of a version straight from the origin, for one reader, because they are not kept here: ranged GETs with
If-Match, a few of them opened ahead so that a reader of data that does not fit into the cache still gets more than
one connection's worth.

Bounds: a reader has at most `AHEAD_MAX` GETs open beyond the one he is at, a worker `PERMITS` in all; each holds
`PIECES_MAX` pieces here and what the origin's client buffers, about 1 MiB together, while the kernel's receive
buffers hold the rest. Readers that get no permit read one GET after the other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from gateway.aio import Tasks
from gateway.cache.entry import Entry
from gateway.cache.fills import Source
from gateway.errors import Changed, GatewayError, Unreachable

PIECES_MAX: Final = 2
AHEAD_MAX: Final = 3
PERMITS: Final = 32
# A body that breaks off goes on where it ended, so often in a row without a byte in between.
RESUMES_MAX: Final = 3


class Straight:
    """Of one worker. `read` yields bytes [start, stop) in order."""

    def __init__(self, tasks: Tasks, run_bytes: int) -> None:
        self._tasks = tasks
        self._run_bytes = run_bytes
        self._permits = PERMITS

    async def read(self, entry: Entry, source: Source, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Raises Changed, and what origins raise."""
        spans = deque((at, min(at + self._run_bytes, stop)) for at in range(start, stop, self._run_bytes))
        open_: deque[_Pipe] = deque()
        try:
            while spans or open_:
                while spans and (not open_ or (len(open_) <= AHEAD_MAX and self._permits > 0)):
                    self._permits -= 1
                    open_.append(_Pipe(self._tasks, entry, source, *spans.popleft()))
                async for piece in open_[0].pieces():
                    yield piece
                self._close(open_.popleft())
        finally:
            while open_:
                self._close(open_.popleft())

    def _close(self, pipe: _Pipe) -> None:
        pipe.close()
        self._permits += 1


class _Pipe:
    """One span, received in a task of its own as far ahead as its queue allows."""

    def __init__(self, tasks: Tasks, entry: Entry, source: Source, start: int, stop: int) -> None:
        self._entry = entry
        self._source = source
        self._stop = stop
        self._queue: asyncio.Queue[bytes | GatewayError | None] = asyncio.Queue(PIECES_MAX)
        self._task = tasks.spawn(self._receive(start), "read straight")

    async def _receive(self, at: int) -> None:
        failures = 0
        try:
            while at < self._stop:
                before = at
                try:
                    async for piece in self._body(at):
                        at += len(piece)
                        await self._queue.put(piece)
                except Unreachable:
                    failures = failures + 1 if at == before else 1
                    if failures > RESUMES_MAX:
                        raise
            await self._queue.put(None)
        except GatewayError as error:
            await self._queue.put(error)

    async def _body(self, start: int) -> AsyncIterator[bytes]:
        origin, remote = self._source
        async with origin.get(remote, start, self._stop, if_match=self._entry.etag) as reading:
            if reading.meta.size != self._entry.size or (reading.start, reading.stop) != (start, self._stop):
                raise Changed("The object is no longer the version that was asked for.")
            async for piece in reading.chunks():
                yield piece

    async def pieces(self) -> AsyncIterator[bytes]:
        while (piece := await self._queue.get()) is not None:
            if isinstance(piece, GatewayError):
                raise piece
            yield piece

    def close(self) -> None:
        self._task.cancel()
