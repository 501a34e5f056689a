"""What the hot path does with a connection: one answer, out of the callback that read the request, without a task.

In the usual case the kernel takes the answer at once and nothing of it is kept; else `Sending` goes on with it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from gateway.frontend.exchange import FileSlice
from gateway.frontend.sending import BLOCKED
from gateway.frontend.wire import BUSY, Wire
from gateway.telemetry.requests import RequestRecord

log = structlog.get_logger()

if TYPE_CHECKING:
    from gateway.frontend.server import Server

Slices = Sequence[tuple[FileSlice, int, int]]  # (source, offset, length)


class Outbox:
    """Answers of one turn of the event loop, sent together at its end (the head of a file goes ahead, `Sending.begin`).

    The first of them wakes a client on the same machine, and the others find it awake: waking a sleeping process on
    another core costs a VM some 10 µs, more than anything else in a small answer. And what a send does to the
    processor's caches it does once to the interpreter, not between every two requests. An answer waits for the others
    of its turn only, at most `ANSWERS_MAX`."""

    ANSWERS_MAX = 32  # of 64 KiB each at most; files are only named here

    __slots__ = ("_answers", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._answers: list[tuple[HotWire, bytes | None, int, Slices]] = []

    def post(self, wire: HotWire, data: bytes | None, body_length: int, slices: Slices) -> None:
        """`data` is head and body, or the head of what `slices` hold; None: the head has gone ahead."""
        answers = self._answers
        answers.append((wire, data, body_length, slices))
        if len(answers) == 1:
            self._loop.call_soon(self._send)
        elif len(answers) >= self.ANSWERS_MAX:
            self._send()

    def _send(self) -> None:
        answers, self._answers = self._answers, []
        sent = []
        for wire, data, length, slices in answers:
            try:
                if wire.post(data, length, slices):
                    sent.append(wire)
            except Exception as error:  # a bug with one answer must not leave the others without theirs
                log.error("an answer could not be sent", error=repr(error), exc_info=error)
                wire.lost(error)
        for wire in sent:
            wire.ended()


class HotWire(Wire):
    """Implements the answers of `exchange.HotConnection`. `ended` is told when one has been sent."""

    __slots__ = ("_head_bytes", "_passed_before", "record")

    record: RequestRecord

    def __init__(
        self, server: Server, sock: socket.socket, peer: str, context: ssl.SSLContext | None
    ) -> None:
        super().__init__(server, sock, peer, context)
        self._head_bytes = self._passed_before = 0

    def ended(self) -> None:
        raise AssertionError("a subclass goes on")

    @property
    def base_headers(self) -> bytes:
        return self.server.base_headers

    def next_request_id(self) -> str:
        return self.server.next_request_id()

    def answer(self, data: bytes, body_length: int) -> None:
        self._passed_before = self.sending.passed
        # Head and body in one, for one system call; sendmsg of both costs the same at 4 KiB and saves 1.4 of 27 µs at
        # 64 KiB.
        self.server.outbox.post(self, data, body_length, ())

    def answer_files(self, head: bytes, slices: Slices) -> None:
        self._passed_before = self.sending.passed
        self._head_bytes = len(head)
        rest: bytes | None = head
        if len(slices) == 1:
            sent = self.sending.begin(head, *slices[0])
            rest = head[sent:] if sent < len(head) else None
        self.server.outbox.post(self, rest, 0, slices)

    def post(self, data: bytes | None, body_length: int, slices: Slices) -> bool:
        """The outbox sends a whole answer. True if that has ended it."""
        if self.state is not BUSY:
            return False  # the client has gone meanwhile
        if data is None or slices:
            return self._post_files(data, slices)
        try:
            sent = self.sock.send(data)
        except BLOCKED:
            sent = 0
        except OSError as error:
            self.lost(error)
            return False
        if sent == len(data):
            self.record.sent = body_length
            return True
        self._head_bytes = len(data) - body_length
        self._passed_before = self.sending.passed - sent
        self.sending.rest(data, sent)
        return False

    def _post_files(self, head: bytes | None, slices: Slices) -> bool:
        done = self.sending.end(*slices[0]) if head is None else self.sending.send_files(head, slices)
        if done:
            self.count_sent()
        return done

    def count_sent(self) -> None:
        """Of an answer that took more than one call."""
        self.record.sent = max(0, self.sending.passed - self._passed_before - self._head_bytes)
