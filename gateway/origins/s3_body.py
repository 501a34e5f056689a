"""Request bodies on their way to an origin: streamed, one piece held back, cut off rather than completed wrongly.

A piece goes out only when the next one is there, or the end: so whatever the body's iterator raises, at its end at
the latest, the origin has fewer bytes than Content-Length announced, and stores nothing. Memory: two pieces.

A small body goes out as one piece: an origin that refuses at once, as conditional writes are, and closes with bytes
unread makes the next write fail, and the answer that came before is then lost.

With a trailing checksum the body is framed as aws-chunked (S3 API Reference, "Signature Calculations … Including
Trailing Headers"), in frames of 1 MiB, botocore's size; S3 wants 8 KiB at least. All lengths are known beforehand,
so Content-Length is sent and no Transfer-Encoding.

    frame = hex-size CRLF data CRLF        trailer = "0" CRLF name ":" value CRLF CRLF
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Final

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from gateway.errors import Refused, Unsupported
from gateway.origins.base import PutBody
from gateway.s3.checksums import HEADER_PREFIX, SIZES

FRAME_BYTES: Final = 1 << 20
# Pieces of so small a body are joined: less than a socket's send buffer, so it leaves with the head in one go.
JOINED_BYTES_MAX: Final = 64 << 10


class Upload(Payload):
    """One body, sent at most once. Afterwards `error` is what its iterator raised, `started` whether any byte of the
    request may have left, `sent` how many of the body's were handed to the connection."""

    def __init__(
        self, body: PutBody, framed: bool, stall_s: float, pace: Callable[[int], Awaitable[None]]
    ) -> None:
        """`stall_s`: the longest time in which the origin may take nothing. The client's own pace is not ours to
        judge: the front door does that."""
        super().__init__(None)
        self._body = body
        self._trailer = body.trailer if framed else None
        self._size = framed_length(body.length, body.trailer[0]) if framed and body.trailer else body.length
        self._stall_s = stall_s
        self._pace = pace
        self._pieces = _held_back(body)
        self._first: bytes | None = None
        self._writing: asyncio.Future[None] | None = None
        self.error: BaseException | None = None
        self.started = False
        self.sent = 0

    async def prepare(self) -> None:
        """Waits for the first piece before a connection is taken. Raises what the iterator raises; for an empty
        body that is its whole verdict."""
        self._first = await anext(self._pieces, None)

    @property
    def consumed(self) -> bool:
        """For aiohttp: never to be sent again by itself."""
        return True

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a streamed body has no text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        transport = getattr(writer, "transport", None)
        if transport is None or transport.is_closing():
            raise ConnectionResetError("closed before the first byte")
        self.started = True
        self._writing = asyncio.get_running_loop().create_future()
        try:
            if self._trailer is None:
                async for piece in self._all():
                    await self._send(writer, piece)
            else:
                await self._write_framed(writer, *self._trailer)
            if not self.complete:
                raise ConnectionAbortedError("the body ended early")
        finally:
            self._writing.set_result(None)

    async def _all(self) -> AsyncIterator[bytes]:
        try:
            if self._first is not None:
                first, self._first = self._first, None
                yield first
            async for piece in self._pieces:
                yield piece
        except Exception as error:
            self.error = error
            raise

    async def _write_framed(self, writer: AbstractStreamWriter, name: str, value: Callable[[], str]) -> None:
        left, room = self._body.length, 0
        if left <= JOINED_BYTES_MAX:
            whole = b"".join([piece async for piece in self._all()])
            frame = b"%x\r\n%b\r\n" % (left, whole) if whole else b""
            await self._send(writer, frame + _end_of_frames(name, value()))
            return
        async for piece in self._all():
            view = memoryview(piece)
            while view:
                if not room:
                    room = min(FRAME_BYTES, left)
                    await self._send(writer, b"%x\r\n" % room)
                part, view = view[:room], view[room:]
                room -= len(part)
                left -= len(part)
                await self._send(writer, part)
                if not room:
                    await self._send(writer, b"\r\n")
        await self._send(writer, _end_of_frames(name, value()))

    async def _send(self, writer: AbstractStreamWriter, piece: bytes | memoryview) -> None:
        await self._pace(len(piece))
        self.sent += len(piece)
        async with asyncio.timeout(self._stall_s):
            await writer.write(piece)

    @property
    def complete(self) -> bool:
        """Whether every byte has been handed to the connection."""
        return self.sent == self._size

    async def finish(self) -> None:
        """Ends the iterator: the client's body is not read any further. aiohttp writes bodies in a task, which an
        early answer or a failure cancels: it is waited for, since a running iterator cannot be closed."""
        if self._writing is not None:
            await self._writing
        await self._pieces.aclose()


class NoBody(Payload):
    """The body of a PUT that has none, such as a copy; like `Upload`, never to be sent again."""

    _size = 0

    def __init__(self) -> None:
        super().__init__(None)

    @property
    def consumed(self) -> bool:
        return True

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return ""

    async def write(self, writer: AbstractStreamWriter) -> None:
        pass


async def _held_back(body: PutBody) -> AsyncGenerator[bytes, None]:
    """The pieces of `body`, each given out when the one after it, or the end, has come; a small body whole."""
    held, length = b"", 0
    joined = body.length <= JOINED_BYTES_MAX
    async for piece in body.chunks:
        length += len(piece)
        if length > body.length:
            raise Refused(400, "IncompleteBody", f"The body is longer than its {body.length} bytes.")
        if not piece:
            continue
        if held and joined:
            held += piece
            continue
        if held:
            yield held
        held = piece
    if length != body.length:
        raise Refused(400, "IncompleteBody", f"The body has {length} of {body.length} bytes.")
    if held:
        yield held


def _end_of_frames(name: str, value: str) -> bytes:
    return b"0\r\n%b:%b\r\n\r\n" % (name.encode(), value.encode())


def framed_length(length: int, trailer: str) -> int:
    """Content-Length of `length` bytes framed with a trailing checksum. Raises Unsupported for a checksum whose
    length is not known."""
    size = SIZES.get(trailer.removeprefix(HEADER_PREFIX))
    if size is None:
        raise Unsupported(f"The trailer {trailer} is not supported.")
    whole, rest = divmod(length, FRAME_BYTES)
    framing = whole * (len(f"{FRAME_BYTES:x}") + 4)
    if rest:
        framing += len(f"{rest:x}") + 4
    base64_length = (size + 2) // 3 * 4
    return length + framing + len("0\r\n") + len(trailer) + 1 + base64_length + len("\r\n\r\n")
