"""The answer to one request, onto its connection: implements `exchange.Exchange`."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from gateway.frontend.body import Body, LengthDecoder
from gateway.frontend.exchange import FileSlice, RequestHead
from gateway.telemetry.requests import RequestRecord

if TYPE_CHECKING:
    from gateway.frontend.connection import Connection

_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
# Up to here a head and its first bytes are joined; beyond, copying costs more than a second system call.
_JOIN_BYTES_MAX: Final = 64 << 10
_BODILESS: Final = frozenset({204, 304})
_FRAMING: Final = frozenset({"content-length", "transfer-encoding", "connection"})


class HeaderError(ValueError):
    """A header that would change the meaning of the head, such as one with a line end in it: a bug of ours or
    trouble at the origin, never sent."""


def head_bytes(
    connection: Connection,
    record: RequestRecord,
    status: int,
    headers: Sequence[tuple[str, str]],
    framing: str,
) -> bytes:
    """The whole head. `framing`: complete lines. Raises HeaderError."""
    outcome = "" if record.outcome == "-" else f"x-gateway-cache: {record.outcome}\r\n"
    closing = "" if connection.keeps() else "Connection: close\r\n"
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or "\0" in lines:
        raise HeaderError("A header holds a line end.")
    line = _LINES.get(status) or f"HTTP/1.1 {status} Unknown\r\n"
    text = f"{record.request_id}\r\n{outcome}{lines}{framing}{closing}\r\n"
    try:
        encoded = text.encode("latin-1")
    except UnicodeEncodeError:
        encoded = text.encode()
    return line.encode("ascii") + connection.base_headers + encoded


def answer_bytes(
    connection: Connection, status: int, headers: Sequence[tuple[str, str]], body: bytes, *, head_only: bool
) -> bytes:
    """A complete answer. Content-Length is that of `body` unless `headers` has one (of a HEAD)."""
    framing = ""
    lengths = [value for name, value in headers if name.lower() == "content-length"]
    if status in _BODILESS:
        head_only = True
    elif not lengths:
        framing = f"Content-Length: {len(body)}\r\n"
    elif not head_only and lengths != [str(len(body))]:
        raise HeaderError("Content-Length is not that of the body.")
    head = head_bytes(connection, connection.record, status, headers, framing)
    return head if head_only else head + body


class HttpExchange:
    """`finished`: the whole answer was given to the kernel."""

    __slots__ = (
        "_body",
        "_chunked",
        "_connection",
        "_left",
        "_mute",
        "_pending",
        "finished",
        "head",
        "peer",
        "record",
        "request_id",
        "secure",
        "started",
    )

    def __init__(
        self, connection: Connection, head: RequestHead, record: RequestRecord, body: Body | None
    ) -> None:
        self.head = head
        self.record = record
        self.request_id = record.request_id
        self.peer = record.peer
        self.secure = connection.tls
        self.started = False
        self.finished = False
        self._connection = connection
        self._body = body
        self._pending = b""  # the head, until the first bytes go with it
        self._left: int | None = 0  # of the announced length; None when there is none
        self._chunked = False
        self._mute = False

    def body(self) -> Body:
        if self._body is None:
            self._body = Body(self._connection, LengthDecoder(0), b"", False, 0)
        return self._body

    async def respond(self, status: int, headers: Sequence[tuple[str, str]], body: bytes = b"") -> None:
        self._begin()
        head_only = self.head.method == "HEAD"
        data = answer_bytes(self._connection, status, headers, body, head_only=head_only)
        self.started = True
        self.record.status = status
        await self._write(data)
        self.record.sent = 0 if head_only or status in _BODILESS else len(body)
        self.finished = True

    async def start(self, status: int, headers: Sequence[tuple[str, str]], length: int | None) -> None:
        self._begin()
        if any(name.lower() in _FRAMING for name, _ in headers):
            raise HeaderError("The framing is not the handler's to say.")
        framing = ""
        if length is not None:
            framing = f"Content-Length: {length}\r\n"
        elif self.head.current:
            framing = "Transfer-Encoding: chunked\r\n"
            self._chunked = True
        self._pending = head_bytes(self._connection, self.record, status, headers, framing)
        self._left = length
        self._mute = self.head.method == "HEAD"
        self.started = True
        self.record.status = status

    async def send(self, data: bytes | memoryview) -> None:
        size = len(data)
        self._spend(size)
        if self._mute or not size:
            return
        if self._chunked:
            data = b"".join([b"%x\r\n" % size, data, b"\r\n"])
        if self._pending:
            head, self._pending = self._pending, b""
            if len(head) + len(data) <= _JOIN_BYTES_MAX:
                data = head + data
            else:
                await self._write(head)
        await self._write(data)
        self.record.sent += size

    async def send_file(self, source: FileSlice, offset: int, length: int) -> None:
        self._spend(length)
        if self._mute or not length:
            return
        head, self._pending = self._pending, b""
        if self._chunked:
            head += b"%x\r\n" % length
        sending = self._connection.sending
        before = sending.passed + len(head)
        try:
            if not sending.send_files(head, [(source, offset, length)]):
                await self._flushed()
        finally:
            self.record.sent += max(0, sending.passed - before)
        if self._chunked:
            await self._write(b"\r\n")

    async def finish(self) -> None:
        self._check()
        if self._left and not self._mute:
            self.abort()
            raise ConnectionResetError("the answer is shorter than announced")
        data, self._pending = self._pending, b""
        if self._chunked and not self._mute:
            data += b"0\r\n\r\n"
        if data:
            await self._write(data)
        self.finished = True

    def abort(self) -> None:
        if not self.finished:
            self._connection.close()

    def _begin(self) -> None:
        self._check()
        if self.started:
            raise RuntimeError("a request has one answer")

    def _check(self) -> None:
        if self._connection.closed:
            raise ConnectionResetError("the client has gone")

    def _spend(self, size: int) -> None:
        self._check()
        if self._left is not None:
            if size > self._left and not self._mute:
                raise ValueError("more is sent than was announced")
            self._left -= size

    async def _write(self, data: bytes | memoryview) -> None:
        if not self._connection.sending.send(data):
            await self._flushed()

    async def _flushed(self) -> None:
        self._check()
        await self._connection.flushed()
