"""The body of a request: from the socket, through the transfer coding (RFC 9112 §6–7), to whoever reads it.

Pulled, not pushed: the socket is read when the handler asks for more, so nothing is buffered here and a client that
is faster than the handler waits in its own send buffer. recv(128 KiB) into fresh bytes, handed on as they are, was
the cheapest way to receive (100 µs/MiB over loopback; a BufferedProtocol of uvloop 125–150, a Protocol 115).

Chunks are read as strictly as heads: no bare line ends, no signs or blanks in a size. What is of no use to anybody is
bounded: chunk extensions and trailer lines, 16 KiB each for a whole body.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import Final, Protocol

from gateway.s3.errors import S3Error

RECEIVE_BYTES: Final = 128 << 10
EXTENSION_BYTES_MAX: Final = 16 << 10
TRAILER_BYTES_MAX: Final = 16 << 10
# A chunk-size line without its extensions: the largest size has 12 digits, some clients pad with zeros.
_SIZE_DIGITS_MAX: Final = 16
_CHUNK_BYTES_MAX: Final = 8 << 40
RATE_WINDOW_S: Final = 10.0
# So many reads without waiting once, then the others get their turn: about 100 µs of copying each.
_READS_IN_A_ROW: Final = 8

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER_LINE: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")


def _malformed() -> S3Error:
    return S3Error("BadRequest", "The chunked transfer coding is malformed.")


class Decoder(Protocol):
    """`feed` gives the body's bytes in `data`; `done` once its end was seen; `rest` is what came behind it."""

    done: bool
    rest: bytes

    def feed(self, data: bytes) -> bytes: ...


class LengthDecoder:
    """Content-Length. `left` is still to come."""

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        if len(data) > self.left:
            data, self.rest = data[: self.left], data[self.left :]
        self.left -= len(data)
        self.done = not self.left
        return data


class ChunkedDecoder:
    """Transfer-Encoding: chunked. Raises S3Error for what is malformed or beyond a bound."""

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self._held = b""  # an incomplete line or line end
        self._left = 0  # of the chunk
        self._next = self._size_line
        self._extension_bytes = 0
        self._trailer_bytes = 0
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        if self._held:
            data, self._held = self._held + data, b""
        at = 0
        while at < len(data) and not self.done:
            moved = self._next(data, at)
            if moved == at:
                self._held = data[at:]
                break
            at = moved
        if self.done:
            self.rest = data[at:]
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _line(self, data: bytes, at: int, bound: int) -> bytes | None:
        """The line at `at` without its CRLF, None if its end is still to come."""
        end = data.find(b"\r\n", at, at + bound + 2)
        if end >= 0:
            return data[at:end]
        if len(data) - at > bound + 1 or data.find(b"\n", at) >= 0:
            raise _malformed()
        return None

    def _size_line(self, data: bytes, at: int) -> int:
        spare = EXTENSION_BYTES_MAX - self._extension_bytes
        line = self._line(data, at, _SIZE_DIGITS_MAX + spare)
        if line is None:
            return at
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise _malformed()
        self._extension_bytes += len(line) - len(match[1])
        self._left = int(match[1], 16)
        if self._left > _CHUNK_BYTES_MAX or self._extension_bytes > EXTENSION_BYTES_MAX:
            raise _malformed()
        self._next = self._chunk if self._left else self._trailer_line
        return at + len(line) + 2

    def _chunk(self, data: bytes, at: int) -> int:
        piece = data[at : at + self._left]
        self._pieces.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._next = self._chunk_end
        return at + len(piece)

    def _chunk_end(self, data: bytes, at: int) -> int:
        line_end = data[at : at + 2]
        if line_end == b"\r\n":
            self._next = self._size_line
            return at + 2
        if line_end != b"\r":
            raise _malformed()
        return at

    def _trailer_line(self, data: bytes, at: int) -> int:
        line = self._line(data, at, TRAILER_BYTES_MAX - self._trailer_bytes)
        if line is None:
            return at
        if not line:
            self.done = True
        elif not _TRAILER_LINE.fullmatch(line):
            raise _malformed()
        self._trailer_bytes += len(line)
        return at + len(line) + 2


class Wire(Protocol):
    """The connection as its body sees it."""

    def receive(self, bound: int) -> bytes | None:
        """What has come, None if nothing has, empty at the end. Raises OSError."""
        ...

    def watch(self) -> None:
        """`Body.wake` is to be called once there is something to receive."""
        ...

    def proceed(self) -> None:
        """Sends 100 Continue."""
        ...

    def lost(self, error: Exception) -> None: ...

    @property
    def closed(self) -> bool: ...


class Body:
    """An async iterator over the body's bytes. `received` counts them. `touched`: the client may send the body, or
    has begun to; without that a client that waits for 100 Continue may never send it."""

    def __init__(self, wire: Wire, decoder: Decoder, first: bytes, expects: bool, rate_min: int) -> None:
        self.received = 0
        self.touched = not expects or bool(first)
        self._wire = wire
        self._decoder = decoder
        self._first = first
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._in_a_row = 0
        self._rate_min = rate_min
        self._samples: deque[tuple[float, int]] = deque()

    @property
    def done(self) -> bool:
        return self._decoder.done and self._failure is None

    @property
    def rest(self) -> bytes:
        """What came behind the body, once it is done."""
        return self._decoder.rest

    @property
    def left(self) -> int | None:
        """Bytes that are still to be read; None if that cannot be told, or not be trusted any more."""
        if self._failure is None and isinstance(self._decoder, LengthDecoder):
            return self._decoder.left
        return 0 if self.done else None

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        try:
            while not self._decoder.done:
                piece = self._decoder.feed(await self._receive())
                if piece:
                    self.received += len(piece)
                    return piece
        except Exception as error:
            self._failure = self._failure or error
            raise
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    def unread(self) -> bytes:
        """What was received and not looked at; for discarding the rest."""
        first, self._first = self._first, b""
        return first

    def discard(self, data: bytes) -> None:
        self._decoder.feed(data)

    async def _receive(self) -> bytes:
        if self._failure is not None:
            raise self._failure
        if self._first:
            return self.unread()
        if not self.touched:
            self.touched = True
            self._wire.proceed()
        if self._in_a_row >= _READS_IN_A_ROW:
            self._in_a_row = 0
            await asyncio.sleep(0)
        self._in_a_row += 1
        while (data := self._read()) is None:
            self._in_a_row = 0
            await self._wait()
        if not data:
            raise S3Error("IncompleteBody")
        return data

    def _read(self) -> bytes | None:
        try:
            if not self._wire.closed:
                return self._wire.receive(RECEIVE_BYTES)
        except OSError as error:
            self._wire.lost(error)
        raise ConnectionResetError("the client has gone")

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        self._wire.watch()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> bool:
        """There may be something to receive. False if nobody waits for it."""
        if self._waiter is None:
            return False
        if not self._waiter.done():
            self._waiter.set_result(None)
        return True

    def fail(self, error: Exception) -> bool:
        """Whoever reads, now or later, gets this error. False if nobody waits now."""
        self._failure = error
        if self._waiter is None:
            return False
        if not self._waiter.done():
            self._waiter.set_exception(error)
        return True

    def sweep(self, now: float) -> None:
        """Called about every second. Only time in which the client was waited for counts: a slow handler is not its
        fault."""
        if self._waiter is None:
            self._samples.clear()
            return
        samples = self._samples
        samples.append((now, self.received))
        while len(samples) > 1 and samples[1][0] <= now - RATE_WINDOW_S:
            samples.popleft()
        since, received = samples[0]
        if now - since >= RATE_WINDOW_S and self.received - received < self._rate_min * RATE_WINDOW_S:
            self.fail(S3Error("RequestTimeout"))
