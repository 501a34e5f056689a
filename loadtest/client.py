"""The load generator: keep-alive connections, raw sockets, one epoll, a closed loop per connection.

Its cost is what limits the request rate that can be shown, so requests are made and signed before the run
(`gets`) and bodies that are not compared are dropped in the kernel (MSG_TRUNC). Every answer's status and
length are checked, and, on the calls marked `check`, every byte. The first wrong answer ends the run.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from loadtest import pattern
from loadtest.signing import Signer

HOST = "127.0.0.1"
SPACE_BYTES = 256 << 10
FIRST_READ_BYTES = 16 << 10  # the head, and the whole of a small answer
DROP_BYTES = 4 << 20  # one MSG_TRUNC read
HEAD_BYTES_MAX = 16 << 10
IDLE_S_MAX = 60.0  # no event at all on any connection: the server hangs

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class LoadError(Exception):
    """An answer that is not what it must be, or none."""


class Call(NamedTuple):
    """One request on the wire, and its answer: `length` body bytes of `key` from `offset`, compared if
    `check`.
    """

    wire: bytes
    status: int
    length: int
    key: str
    offset: int
    check: bool


@dataclass
class Outcome:
    """Of one run. `latencies` in seconds, in order of completion; `generator_cpu_s`: this process's own
    CPU.
    """

    seconds: float
    generator_cpu_s: float
    body_bytes: int
    latencies: array[float] = field(default_factory=lambda: array("d"))

    @property
    def requests(self) -> int:
        return len(self.latencies)

    def percentile(self, share: float) -> float:
        """Seconds; `share` in 0..1."""
        ordered = sorted(self.latencies)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def gets(
    signer: Signer,
    bucket: str,
    keys: Iterable[str],
    *,
    extent: tuple[int, int] | None = None,
    check_every: int = 1,
) -> list[Call]:
    """Signed GETs of these keys, whole or of (start, stop); one in `check_every` is compared byte by byte."""
    headers = {"x-amz-checksum-mode": "ENABLED"}
    if extent is not None:
        headers["range"] = f"bytes={extent[0]}-{extent[1] - 1}"
    calls = []
    for number, key in enumerate(keys):
        size = pattern.size_of(key)
        assert size is not None
        start, stop = extent or (0, size)
        wire = signer.head("GET", f"/{bucket}/{key}", headers=headers)
        status = 206 if extent else 200
        calls.append(Call(wire, status, stop - start, key, start, number % check_every == 0))
    return calls


class Connection:
    """One socket and the call it is at. `read` returns the finished call, or None while there is more to
    come.
    """

    __slots__ = ("_at", "_drop", "_head", "_left", "_space", "_start", "_view", "call", "sent_at", "sock")

    def __init__(self, port: int, space: bytearray, drop: memoryview) -> None:
        self.sock = socket.create_connection((HOST, port), timeout=10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self._space, self._view, self._drop = space, memoryview(space), drop
        self._head = b""  # the beginning of a head that came in pieces
        self._left = -1  # body bytes to come; -1: the head is still to come
        self._at = self._start = 0
        self.sent_at = 0.0
        self.call: Call

    def send(self, call: Call) -> None:
        self.call = call
        self.sent_at = time.perf_counter()
        if self.sock.send(call.wire) != len(call.wire):
            raise LoadError("a request did not fit the socket buffer")

    def read(self) -> Call | None:
        if self._left < 0:
            size = self._read_head()
        elif self.call.check:
            size = self.sock.recv_into(self._view)
            self._compare(self._view[:size])
        else:
            size = self.sock.recv_into(self._drop, min(self._left, len(self._drop)), socket.MSG_TRUNC)
            self._left -= size
        if not size:
            raise LoadError(f"connection closed within the answer for {self.call.key}")
        if self._left:
            return None
        self._left = -1
        return self.call

    def _read_head(self) -> int:
        size = self.sock.recv_into(self._view, FIRST_READ_BYTES)
        space, begun = self._space, len(self._head)
        end = -1 if begun else space.find(b"\r\n\r\n", 0, size)
        if end < 0:
            return self._read_split_head(size)
        self._begin_body(bytes(self._view[:end]), self._view[end + 4 : size])
        return size

    def _read_split_head(self, size: int) -> int:
        self._head += bytes(self._view[:size])
        end = self._head.find(b"\r\n\r\n")
        if end >= 0:
            head, self._head = self._head, b""
            self._begin_body(head[:end], memoryview(head)[end + 4 :])
        elif len(self._head) > HEAD_BYTES_MAX:
            raise LoadError(f"head without an end: {self._head[:200]!r}")
        return size

    def _begin_body(self, head: bytes, body: memoryview) -> None:
        call = self.call
        length = _LENGTH.search(head)
        status = int(head[9:12])
        if status != call.status or length is None or int(length.group(1)) != call.length:
            shown = head + b"\r\n\r\n" + bytes(body[:600])
            raise LoadError(
                f"{call.key}: not {call.status} with {call.length} bytes: {shown.decode('latin-1')}"
            )
        self._left, self._at = call.length, call.offset
        if call.check:
            self._start = pattern.start_of(call.key)
            self._compare(body)
        else:
            self._left -= len(body)

    def _compare(self, data: memoryview) -> None:
        if not pattern.matches(self._start, self._at, data):
            raise LoadError(f"wrong bytes in {self.call.key} within {len(data)} from {self._at}")
        self._at += len(data)
        self._left -= len(data)


class Generator:
    """Holds the connections open over several runs. To several ports each has its share of them."""

    def __init__(self, port: int | Sequence[int], connections: int, drop_bytes: int = DROP_BYTES) -> None:
        space, drop = bytearray(SPACE_BYTES), memoryview(bytearray(drop_bytes))
        ports = (port,) if isinstance(port, int) else port
        self._all = [Connection(ports[n % len(ports)], space, drop) for n in range(connections)]
        self._by_fd = {connection.sock.fileno(): connection for connection in self._all}
        self._epoll = select.epoll()
        for descriptor in self._by_fd:
            self._epoll.register(descriptor, select.EPOLLIN)

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *_: object) -> None:
        self._epoll.close()
        for connection in self._all:
            with contextlib.suppress(OSError):
                connection.sock.close()

    def run(
        self, calls: Sequence[Call], *, seconds_max: float = 120.0, until: float | None = None
    ) -> Outcome:
        """Answers all calls, or as many as fit: up to `until` (monotonic) then what is under way. Raises
        LoadError.
        """
        began, cpu = time.perf_counter(), time.process_time()
        outcome = Outcome(0.0, 0.0, 0)
        source: Iterator[Call] = iter(calls)
        busy = 0
        for connection in self._all:
            if (call := next(source, None)) is not None:
                connection.send(call)
                busy += 1
        deadline = time.monotonic() + seconds_max
        while busy:
            events = self._epoll.poll(IDLE_S_MAX)
            now = time.monotonic()
            if not events or now > deadline:
                raise LoadError(f"{busy} answers missing after {time.perf_counter() - began:.1f} s")
            ended = until is not None and now > until
            busy -= self._serve(events, source, outcome, ended)
        outcome.seconds = time.perf_counter() - began
        outcome.generator_cpu_s = time.process_time() - cpu
        return outcome

    def _serve(
        self, events: list[tuple[int, int]], source: Iterator[Call], outcome: Outcome, ended: bool
    ) -> int:
        """Reads once from each ready connection and sends the next calls; returns how many connections ran
        dry.
        """
        dry = 0
        for descriptor, _ in events:
            connection = self._by_fd[descriptor]
            done = connection.read()
            if done is None:
                continue
            outcome.latencies.append(time.perf_counter() - connection.sent_at)
            outcome.body_bytes += done.length
            following = None if ended else next(source, None)
            if following is None:
                dry += 1
            else:
                connection.send(following)
        return dry


def load(port: int, calls: Sequence[Call], connections: int, *, seconds_max: float = 120.0) -> Outcome:
    """One run over fresh connections."""
    with Generator(port, connections) as generator:
        return generator.run(calls, seconds_max=seconds_max)
