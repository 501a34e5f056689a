"""What waits to be sent on one socket: bytes and slices of files, in order.

The socket is ours (no transport): a transport of uvloop costs the same per small answer (8 µs with 4 KiB, loopback),
but it refuses `add_writer` on its descriptor, so that sendfile would need a second one, and it buffers without a bound
of ours. Here nothing is buffered: what the kernel does not take stays where it is, in the segment's file or in the
caller's bytes, until the socket is writable.

File bytes go by os.sendfile. Before each piece the source is asked whether it is in the page cache; if not, a thread
reads it there first: the event loop never waits for the disk.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from gateway.aio import Threads
from gateway.frontend.exchange import FileSlice

# One sendfile and one question about residency. Larger pieces were not cheaper, and smaller ones let others take
# their turn sooner.
PIECE_BYTES: Final = 1 << 20
# What one client may be sent before the loop turns to the others: an eighth of a millisecond of copying.
TURN_BYTES: Final = 1 << 20
# What a thread reads from the disk at once: its copying shares the core with the event loop.
POPULATE_BYTES: Final = 512 << 10

# Files from this size on are sent corked. Without that every acknowledgement that comes meanwhile pushes out what is
# short of a segment: five packets of some 50 bytes per MiB over loopback, each with a way through the whole stack and
# an acknowledgement of its own; together an eighth of what 8 MiB cost.
CORK_BYTES: Final = 128 << 10

# `send` and `recv` of a non-blocking socket, plain or TLS, would have to wait.
BLOCKED: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class FileShort(OSError):
    """The file ended before the slice did: the answer cannot be completed."""


class FilePart:
    """The unsent rest of a slice. `warm` bytes from `offset` on are known to be in the page cache, in this turn."""

    __slots__ = ("left", "offset", "source", "warm")

    def __init__(self, source: FileSlice, offset: int, length: int) -> None:
        self.source = source
        self.offset = offset
        self.left = length
        self.warm = 0


class Sending:
    """`drained` is called when everything has been taken by the kernel, but only if that was not so when the
    call that sent it returned (it then returned True). `lost` is called when the client has gone or a file was
    short; it is expected to `close` this.

    passed   bytes taken by the kernel by way of the queue; a sweep sees by it whether the client reads at all
    """

    turn_bytes = TURN_BYTES
    cork_bytes = CORK_BYTES

    __slots__ = (
        "_corked",
        "_drained",
        "_fd",
        "_loop",
        "_lost",
        "_queue",
        "_sock",
        "_threads",
        "_watching",
        "passed",
        "populating",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        threads: Threads,
        drained: Callable[[], None],
        lost: Callable[[Exception], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._threads = threads
        self._drained = drained
        self._lost = lost
        self._queue: deque[memoryview | FilePart] = deque()
        self._watching = False
        self._corked = False
        self.populating = False
        self.passed = 0

    @property
    def waiting(self) -> bool:
        return bool(self._queue)

    def send(self, data: bytes | memoryview) -> bool:
        """True if the kernel took all of it at once. Else it must not change until `drained`."""
        self._queue.append(memoryview(data))
        return self._start()

    def send_files(self, head: bytes, slices: Sequence[tuple[FileSlice, int, int]]) -> bool:
        """`head`, then the slices, each (source, offset, length). As `send`."""
        queue = self._queue
        if head:
            queue.append(memoryview(head))
        for source, offset, length in slices:
            if length:
                queue.append(FilePart(source, offset, length))
        return self._start()

    def begin(self, head: bytes, source: FileSlice, offset: int, length: int) -> int:
        """For a file of one piece that is in the page cache: gives the kernel the head, to be kept until `end`. How
        much of it was taken; if all, `end` sends the file, else `send_files` the rest and the file.

        That the file is in the page cache is asked here and not again in `end`, a turn of the event loop later at
        most. But whatever needs the interpreter comes now: behind the copying of a sendfile it costs two or three
        times as much, because its caches have gone."""
        if self._queue or self.populating or length > PIECE_BYTES or not source.resident(offset, length):
            return 0
        try:
            if length >= self.cork_bytes:
                self._cork()
            sent = self._sock.send(head, socket.MSG_MORE)
        except OSError:
            return 0  # the next call will say why
        self.passed += sent
        return sent

    def end(self, source: FileSlice, offset: int, length: int) -> bool:
        """As `send`, of the file that `begin` began."""
        count = 0
        try:
            count = os.sendfile(self._fd, source.fd, offset, length)
            if count == length and self._corked:
                self._uncork()
        except BLOCKED:
            pass
        except OSError as error:
            self._lost(error)
            return False
        self.passed += count
        return count == length or self.send_files(b"", ((source, offset + count, length - count),))

    def rest(self, data: bytes, sent: int) -> None:
        """Takes over what a send on the socket itself has left."""
        self._queue.append(memoryview(data)[sent:])
        self._watch()

    def close(self) -> None:
        """Forgets everything; `drained` and `lost` are not called any more."""
        if self._watching:
            self._watching = False
            self._loop.remove_writer(self._fd)
        self._queue.clear()

    def _start(self) -> bool:
        if self._watching or self.populating:
            return False
        try:
            done = self._turn()
        except OSError as error:
            self._lost(error)
            return False
        if not done and not self.populating:
            self._watch()
        return done

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._loop.add_writer(self._fd, self._writable)

    def _writable(self) -> None:
        try:
            done = self._turn()
        except OSError as error:
            self._lost(error)
            return
        if done or self.populating:
            self._watching = False
            self._loop.remove_writer(self._fd)
        if done:
            self._drained()

    def _cork(self) -> None:
        """The kernel then sends whole segments only, until `_uncork` or for 200 ms."""
        self._corked = True
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)

    def _uncork(self) -> None:
        self._corked = False
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    def _turn(self) -> bool:
        """Sends until nothing waits (True), or the socket is full, the disk must be waited for, or it is the
        turn of others."""
        queue = self._queue
        budget = self.turn_bytes
        while queue:
            item = queue[0]
            if type(item) is FilePart:
                if not self._corked and item.left >= self.cork_bytes:
                    self._cork()
                if not item.warm:
                    size = min(item.left, PIECE_BYTES)
                    if not item.source.resident(item.offset, size):
                        if self._corked:
                            self._uncork()
                        self._populate(item, min(size, POPULATE_BYTES))
                        return False
                    item.warm = size
                count = self._send_part(item)
                finished = not item.left
            else:
                assert isinstance(item, memoryview)
                count = self._put(item, len(queue) > 1)
                finished = count == len(item)
                if not finished:
                    queue[0] = item[count:]
            self.passed += count
            budget -= count
            if finished:
                queue.popleft()
            elif count == 0:
                return False
            if budget <= 0 and queue:
                return False
        if self._corked:
            self._uncork()
        return True

    def _send_part(self, part: FilePart) -> int:
        """0 when the socket is full."""
        try:
            count = self._put_file(part)
        except BLOCKED:
            part.warm = 0  # it may take long until the socket is writable, and the page cache changes
            return 0
        part.offset += count
        part.left -= count
        part.warm -= count
        return count

    def _put(self, data: memoryview, more: bool) -> int:
        """0 when the socket is full."""
        try:
            # MSG_MORE: the head leaves in one segment with the first bytes of the file.
            return self._sock.send(data, socket.MSG_MORE if more else 0)
        except BLOCKED:
            return 0

    def _put_file(self, part: FilePart) -> int:
        """Some of the warm bytes."""
        count = os.sendfile(self._fd, part.source.fd, part.offset, part.warm)
        if count == 0:
            raise FileShort("a cache file is shorter than its index says")
        return count

    def _populate(self, part: FilePart, size: int) -> None:
        self.populating = True
        part.warm = size
        self._threads.start(part.source.populate, part.offset, size).add_done_callback(self._populated)

    def _populated(self, done: asyncio.Future[None]) -> None:
        self.populating = False
        if done.cancelled() or not self._queue:
            return
        if error := done.exception():
            self._lost(error if isinstance(error, OSError) else OSError(repr(error)))
        elif self._start():
            self._drained()
