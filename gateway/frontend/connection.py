"""One client's connection: heads are found and parsed, requests answered one after the other, time limits kept.

    IDLE ──head──▶ BUSY ──answer ended──▶ IDLE           keep-alive
                    │
                    ├──▶ DISCARD ──body's rest read──▶ IDLE    an answer that left ≤ 64 KiB of the body unread
                    └──▶ LINGER ──client closes──▶ CLOSED      wire.py

A request without a body is first offered to `Application.hot`, within the callback that read it. Everything else runs
as a task. The next request is looked at when the answer before it has ended; until then at most 32 KiB of it are read.

What a hot answer costs here is Python's steps, each two or three times what a microbenchmark says, as the kernel's
part has taken the CPU's caches (loadtest/front.py). So nothing is done here per request that can be done per second or
per connection, and a head that is like one before is not parsed (`shapes.py`).

No request costs a timer: a sweep over all connections (server.py) comes every second at most and compares what has
moved since, so a limit takes effect up to a second late.

A client that closes only its sending side gets its answer. That it has gone altogether is seen by the reset that
reading or sending meets; a handler that waits for something else is then cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from typing import TYPE_CHECKING, Final

import structlog

from gateway.frontend.answering import HttpExchange, answer_bytes
from gateway.frontend.body import Body, ChunkedDecoder, LengthDecoder
from gateway.frontend.exchange import Application, HotConnection, RequestHead
from gateway.frontend.head import HEAD_BYTES_MAX, hopeless, parse_head
from gateway.frontend.hot_wire import HotWire
from gateway.frontend.sending import BLOCKED
from gateway.frontend.shapes import LESSONS_MAX, Shape, recognise
from gateway.frontend.wire import (
    BUSY,
    CLOSED,
    DISCARD,
    DRAIN_LINGER_S_MAX,
    HANDSHAKE,
    IDLE,
    LINGER,
    LINGER_S_MAX,
)
from gateway.s3.errors import S3Error
from gateway.telemetry.requests import RequestRecord

if TYPE_CHECKING:
    from gateway.frontend.server import Server

__all__ = ["Application", "Connection", "HotConnection"]

log = structlog.get_logger()

# A read of the usual request. Into fresh bytes of this size: as cheap as into a buffer of one's own.
_READ_BYTES: Final = 16 << 10
# What an answer left unread of a body and is read to keep the connection: cheaper than a new one.
DISCARD_BYTES_MAX: Final = 64 << 10


class Connection(HotWire):
    """Implements HotConnection. `record` is that of the request under way or of the last one."""

    __slots__ = (
        "_body",
        "_flushed",
        "_keep",
        "_lessons",
        "_rest",
        "_seen",
        "_shapes",
        "_taking",
        "_task",
        "app",
        "requests",
    )

    def __init__(
        self, server: Server, sock: socket.socket, peer: str, context: ssl.SSLContext | None
    ) -> None:
        self.app = server.app
        self.requests = 0
        self._rest = b""  # read and not yet looked at: the begin of the next request
        self._shapes: dict[int, Shape] = {}  # of heads that came before
        self._lessons = LESSONS_MAX
        self._keep = False  # the connection outlives the answer under way
        self._taking = False  # `_take` is running further up the stack
        self._body: Body | None = None
        self._task: asyncio.Task[None] | None = None
        self._flushed: asyncio.Future[None] | None = None
        self._seen = 0  # at the last sweep: requests when idle, bytes passed when busy
        super().__init__(server, sock, peer, context)

    # --- reading

    def readable(self) -> None:
        if self.state:
            self._readable_otherwise()
            return
        try:
            data = self._recv(_READ_BYTES)
        except BLOCKED:
            return
        except OSError as error:
            self.lost(error)
            return
        if not data:
            self.close()
            return
        if self._rest:
            data = self._rest + data
        self._take(data)

    def _take(self, data: bytes) -> None:
        """The requests in `data`, until one takes longer or the rest is no complete head."""
        self._taking = True
        server = self.server
        while data:
            raw, head = data, recognise(self._shapes, data)
            if head is not None:
                self._rest = b""
            else:
                end = data.find(b"\r\n\r\n") + 4
                if end < 4:
                    self._incomplete(data)
                    break
                raw, self._rest = data[:end], data[end:]
                try:
                    head = (self._rest and recognise(self._shapes, raw)) or parse_head(raw)
                except S3Error as error:
                    self._refuse(error)
                    break
            self.state = BUSY
            self.requests += 1
            self._keep = head.keep_alive and not server.draining
            self.record = RequestRecord(server.next_request_id(), self.peer, head.method, head.target)
            if head.length != 0 or not self._hot(head):
                self._start(head)
            elif head.shape is None and self._lessons:
                # Only of who may read: strangers shall not fill memory.
                self._lessons -= 1
                server.shapes.learn(self._shapes, raw, head)
            if self.state:
                break
            data, self._rest = self._rest, b""
        self._taking = False
        if self.eof and self.state is IDLE:
            self.close()

    def _hot(self, head: RequestHead) -> bool:
        try:
            return self.app.hot(self, head)
        except Exception as error:
            # It may have sent something, so no second answer is safe.
            log.error("the hot path failed", error=repr(error), exc_info=error)
            self.lost(error)
            return True

    def _incomplete(self, data: bytes) -> None:
        error = hopeless(data)
        if error is not None:
            self._refuse(error)
            return
        if not self._rest:
            self.since = time.monotonic()  # only a head that comes in pieces is timed
        self._rest = data

    def _readable_otherwise(self) -> None:
        if self.state is LINGER:
            self.linger_on()
        elif self.state is HANDSHAKE:
            self.handshake()
        elif self.state is BUSY and self._body is not None and not self._body.done:
            if not self._body.wake():
                self.pause()  # nobody reads it now; whoever does will try the socket first
        elif self.state is BUSY and len(self._rest) >= HEAD_BYTES_MAX:
            self.pause()
        else:
            self._read_ahead()

    def _read_ahead(self) -> None:
        try:
            data = self.receive(_READ_BYTES)
        except OSError as error:
            self.lost(error)
            return
        if data is None:
            return
        if self.state is DISCARD:
            if data:
                self._discard(data)
            else:
                self.close()
        elif data:
            self._rest += data
        else:
            self.pause()

    # --- ends of answers

    def drained(self) -> None:
        if self._flushed is not None:
            if not self._flushed.done():
                self._flushed.set_result(None)
        elif self.state is BUSY and self._task is None:
            self.count_sent()
            self.ended()

    def ended(self) -> None:
        """The answer under way has ended."""
        self.app.finished(self.record)
        self._next()

    def _next(self) -> None:
        """The connection is free for its next request, or ends."""
        if not self._keep or (self.eof and not self._rest):
            self._end()
            return
        self.state = IDLE
        if self._paused and not self.eof:
            self.watch()
        if not self._taking and self._rest:
            data, self._rest = self._rest, b""
            self._take(data)

    # --- everything else

    def _start(self, head: RequestHead) -> None:
        expects = head.current and "expect" in head.headers
        if head.length != 0:
            decoder = ChunkedDecoder() if head.length is None else LengthDecoder(head.length)
            first, self._rest = self._rest, b""
            self._body = Body(self, decoder, first, expects, self.server.limits.body_rate_min)
        exchange = HttpExchange(self, head, self.record, self._body)
        self._task = self.server.tasks.spawn(self._run(exchange, expects and head.length == 0), "request")

    async def _run(self, exchange: HttpExchange, expects_in_vain: bool) -> None:
        try:
            if expects_in_vain:
                # There is no body to wait for. But botocore (until mid-2026) misreads the next answer of a connection
                # that stays open after it expected a 100 and got none: it skips the status line and waits for a minute.
                self.proceed()
            await self.app.handle(exchange)
            if not exchange.finished and self.state is not CLOSED:
                log.error("a handler left its answer unfinished", op=self.record.op)
                await self._fail(exchange)
        except asyncio.CancelledError:
            exchange.abort()
        except ConnectionResetError:
            exchange.abort()
        except Exception as error:
            log.error("a handler failed", op=self.record.op, error=repr(error), exc_info=error)
            await self._fail(exchange)
        finally:
            self._task = None
            self._handled(exchange)

    async def _fail(self, exchange: HttpExchange) -> None:
        if exchange.started:
            exchange.abort()
            return
        status, headers, body = self.app.refuse(S3Error("InternalError"), self.record)
        with contextlib.suppress(ConnectionResetError):
            await exchange.respond(status, headers, body)

    def _handled(self, exchange: HttpExchange) -> None:
        body, self._body = self._body, None
        if body is not None:
            self.record.received = body.received
        self.app.finished(self.record)
        if self.state is CLOSED or not exchange.finished:
            self.close()
        elif body is None:
            self._next()
        elif body.done:
            self._rest = body.rest
            self._next()
        elif self._keep and self._may_discard(body):
            self.state = DISCARD
            self.since = time.monotonic()
            self._body = body
            self.watch()
            self._discard(body.unread())
        else:
            self.linger()

    def _may_discard(self, body: Body) -> bool:
        return body.touched and body.left is not None and body.left <= DISCARD_BYTES_MAX

    def keeps(self) -> bool:
        """Whether the connection outlives the answer whose head is being written."""
        body = self._body
        if self.server.draining or (body is not None and not body.done and not self._may_discard(body)):
            self._keep = False
        return self._keep

    def _discard(self, data: bytes) -> None:
        body = self._body
        assert body is not None
        body.discard(data)
        if body.done:
            self._body = None
            self._rest = body.rest
            self._next()

    def _refuse(self, error: S3Error) -> None:
        """Answers a head that could not be parsed, of which nothing is recorded but that it came."""
        self.state = BUSY
        self.requests += 1
        self._keep = False
        self.record = record = RequestRecord(self.server.next_request_id(), self.peer, "-", "-")
        status, headers, body = self.app.refuse(error, record)
        record.status = status
        try:
            # An empty send buffer takes it all; a client that piped requests and read no answer may do without.
            self.sock.send(answer_bytes(self, status, headers, body, head_only=False))
            record.sent = len(body)
        except OSError:
            record.error = record.error or error.code
        self.app.finished(record)
        self.linger()

    async def flushed(self) -> None:
        """Until nothing waits to be sent. Raises ConnectionResetError."""
        self._flushed = self.loop.create_future()
        try:
            await self._flushed
        finally:
            self._flushed = None

    # --- ends

    def _end(self) -> None:
        """After the last answer."""
        if self._rest and not self.eof:
            self.linger()
        else:
            self.close()

    def lost(self, error: Exception) -> None:
        """The client has gone, or its answer cannot be completed. Whoever waits for the client learns it by
        ConnectionResetError; a handler that waits for something else is cancelled."""
        if self.state is CLOSED:
            return
        busy, task, flushed = self.state is BUSY, self._task, self._flushed
        if busy and task is None:
            self.count_sent()
        self.close()
        if not busy:
            return
        self.record.error = self.record.error or "ClientGone"
        gone = ConnectionResetError("the client has gone")
        if task is None:
            self.app.finished(self.record)
        elif flushed is not None:
            if not flushed.done():
                flushed.set_exception(gone)
        elif self._body is not None and self._body.fail(gone):
            return
        elif task is not asyncio.current_task(self.loop):
            task.cancel()

    def close(self) -> None:
        super().close()
        self._rest = b""
        self.server.gone(self)

    def drain(self) -> None:
        """Closes if no request is under way, else after its answer."""
        self._keep = False
        if self.state in (IDLE, HANDSHAKE, DISCARD):
            self.close()

    def sweep(self, now: float) -> None:
        """Ends what takes too long. `now`: time.monotonic()."""
        limits, waited_s = self.server.limits, now - self.since
        if self.state is IDLE:
            if self._rest:
                if waited_s > limits.head_timeout:
                    self.close()
            elif self._seen != self.requests:
                self._seen = self.requests
                self.since = now
            elif waited_s > limits.idle_timeout:
                self.close()
        elif self.state is BUSY:
            self._sweep_busy(now)
        elif self.state is LINGER:
            if waited_s > (DRAIN_LINGER_S_MAX if self.server.draining else LINGER_S_MAX):
                self.close()
        elif waited_s > limits.head_timeout:
            self.close()

    def _sweep_busy(self, now: float) -> None:
        if self._body is not None:
            self._body.sweep(now)
        sending = self.sending
        if not sending.waiting or sending.populating or self._seen != sending.passed:
            self._seen = sending.passed
            self.since = now
        elif now - self.since > self.server.stall_s_max:
            self.lost(TimeoutError("the client does not read its answer"))
