"""Blocking steps of one request, run in threads one after the other, with a cleanup that cannot overtake
them.

A request may be cancelled while a step runs in a thread. The step cannot be stopped, and its descriptor must
not be closed under it: the cleanup then runs when the step has ended.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, TypeVar

from gateway.aio import Threads
from gateway.errors import Refused
from gateway.origins.base import PutBody
from gateway.origins.file_tree import Tree, os_errors

T = TypeVar("T")

# Bodies go to their thread in batches of this: a thread hop costs some 50 µs, hashing 1 MiB some 1,500.
_BATCH_BYTES = 1 << 20
# One step of a copy inside the kernel; between two steps a cancelled copy stops.
COPY_BYTES = 32 << 20
_READ_BYTES = 1 << 20


class Steps:
    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._busy: asyncio.Future[Any] | None = None
        self.cancelled = False

    async def step(self, what: str, call: Callable[..., T], *args: Any) -> T:
        """`call` in a thread; OSErrors become our kinds."""
        self._busy = busy = self._threads.start(_guarded, what, call, *args)
        try:
            return await asyncio.shield(busy)
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    def finish(self, cleanup: Callable[[], None]) -> None:
        """Runs `cleanup` in a thread, after the step under way if there is one. Does not wait for it."""
        if self._busy is None or self._busy.done():
            self._clean(cleanup)
        else:
            self._busy.add_done_callback(lambda done: self._clean(cleanup, done))

    def _clean(self, cleanup: Callable[[], None], done: asyncio.Future[Any] | None = None) -> None:
        if done is not None and not done.cancelled():
            done.exception()  # nobody waits for it any more
        try:
            self._threads.start(cleanup)
        except RuntimeError:  # the pool is closed already: the origin is being shut down
            cleanup()


def _guarded(what: str, call: Callable[..., T], *args: Any) -> T:
    with os_errors(what):
        return call(*args)


class Spool(Steps):
    """A staged file that is filled and then published, or removed."""

    def __init__(self, tree: Tree, threads: Threads) -> None:
        super().__init__(threads)
        self._tree = tree
        self.fd = -1
        self.path = b""
        self.size = 0
        self.md5 = hashlib.md5(usedforsecurity=False)

    def open(self) -> None:
        """In a thread."""
        self.fd, self.path = self._tree.stage()

    def write(self, pieces: list[bytes]) -> None:
        """In a thread."""
        for piece in pieces:
            self.md5.update(piece)
            view = memoryview(piece)
            while view:
                view = view[os.write(self.fd, view) :]
            self.size += len(piece)

    async def fill(self, body: PutBody) -> None:
        """Raises Refused when the body ends short or long of its length."""
        async for pieces in _batches(body.chunks):
            await self.step("writing", self.write, pieces)
        if self.size != body.length:
            raise Refused(400, "IncompleteBody", f"The body has {self.size} of {body.length} bytes.")

    def append(self, source: int, start: int, stop: int, *, hashed: bool) -> None:
        """In a thread: bytes [start, stop) of another descriptor, inside the kernel unless they are
        hashed."""
        at = start
        while at < stop and not self.cancelled:
            if hashed:
                piece = os.pread(source, min(_READ_BYTES, stop - at), at)
                self.write([piece])
                count = len(piece)
            else:
                count = os.copy_file_range(source, self.fd, min(COPY_BYTES, stop - at), at)
                self.size += count
            if not count:
                raise OSError(5, "the source ended early")
            at += count

    def discard(self) -> None:
        """For a `finally`: closes the file, and removes it unless it was renamed into place."""
        self.finish(self._remove)

    def _remove(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            with suppress(OSError):
                os.unlink(self.path)

    @property
    def etag(self) -> str:
        return f'"{self.md5.hexdigest()}"'


async def _batches(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    held: list[bytes] = []
    size = 0
    async for chunk in chunks:
        held.append(bytes(chunk))
        size += len(chunk)
        if size >= _BATCH_BYTES:
            yield held
            held, size = [], 0
    if held:
        yield held
