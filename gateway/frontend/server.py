"""The S3 port: listening sockets, their connections, the clock that sweeps them, and the drain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
from email.utils import formatdate
from typing import Final

import structlog

from gateway.aio import Tasks, Threads
from gateway.config.schema import Limits, Listen
from gateway.frontend import tls
from gateway.frontend.connection import Application, Connection
from gateway.frontend.hot_wire import Outbox
from gateway.frontend.shapes import Shapes
from gateway.frontend.wire import BUSY

log = structlog.get_logger()

# A job's ranks connect at the same moment; the kernel caps it at net.core.somaxconn.
BACKLOG: Final = 4096
# A client that takes nothing of its answer for so long is cut.
STALL_S_MAX: Final = 60.0
_ACCEPTS_IN_A_ROW: Final = 64
# Threads that bring pages in copy them, 256 KiB at a time. Beside one stream of such pages this takes a quarter off the
# p99 of hits on the same core (2.7 to 2.0 ms); the stream itself gets what the core has left.
DISK_NICE: Final = 10
_SWEEP_S_MAX: Final = 1.0
_HEX: Final = tuple(f"{number:02X}" for number in range(256))


class Server:
    """`drain`, then `close`. `stall_s_max`: a client that takes nothing of its answer for so long is cut."""

    def __init__(
        self,
        app: Application,
        limits: Limits,
        node_name: str,
        threads: Threads | None,
        context: ssl.SSLContext | None,
        stall_s_max: float = STALL_S_MAX,
    ) -> None:
        self.app = app
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self._own_threads = threads is None
        self.threads = threads or Threads("sendfile", nice=DISK_NICE)
        self.tasks = Tasks()
        self.outbox = Outbox(self.loop)
        self.shapes = Shapes()
        self.draining = False
        self.stall_s_max = stall_s_max
        self._context = context
        self._listeners: list[socket.socket] = []
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._node_name = node_name
        self.base_headers = b""  # `HotConnection.base_headers`
        self._stamp()
        self._id_prefix = os.urandom(4).hex().upper()
        self._id_stem = self._id_prefix + "000000"
        self._ids = 0
        # Short limits (tests) are swept more often.
        shortest = min(limits.head_timeout, limits.idle_timeout, stall_s_max)
        self._sweep_s = min(_SWEEP_S_MAX, max(0.02, shortest / 4))
        self._sweeper = self.loop.call_later(self._sweep_s, self._sweep)

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """(host, port) of each listening socket."""
        return [listener.getsockname()[:2] for listener in self._listeners]

    def listen(self, listen: Listen) -> None:
        """Raises OSError."""
        address = listen.s3_address
        port = address.port
        for family, host in _hosts(address.host):
            listener = socket.socket(family, socket.SOCK_STREAM)
            self._listeners.append(listener)
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # What is accepted inherits it.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((host, port))
            port = port or listener.getsockname()[1]
            listener.listen(BACKLOG)
        for listener in self._listeners:
            self.loop.add_reader(listener.fileno(), self._accept, listener)

    def next_request_id(self) -> str:
        """16 hexadecimal digits: eight of this worker's start, eight counted."""
        self._ids = number = self._ids + 1
        if not number & 0xFF:
            self._id_stem = f"{self._id_prefix}{number >> 8 & 0xFFFFFF:06X}"
        return self._id_stem + _HEX[number & 0xFF]

    def gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    async def drain(self, timeout_s: float) -> int:
        """Accepts no more, closes what is idle, lets answers end and cuts them after `timeout_s`. How many were
        cut."""
        self._stop_listening()
        self.draining = True
        for connection in list(self._connections):
            connection.drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        cut = sum(connection.state is BUSY for connection in self._connections)
        self._cut()
        return cut

    async def close(self) -> None:
        """At once."""
        self._stop_listening()
        self._sweeper.cancel()
        self._cut()
        await self.tasks.close()
        if self._own_threads:
            self.threads.close()

    def _cut(self) -> None:
        for connection in list(self._connections):
            connection.lost(ConnectionAbortedError("the node is shutting down"))

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            self.loop.remove_reader(listener.fileno())
            listener.close()
        self._listeners.clear()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_IN_A_ROW):
            try:
                sock, address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                # Out of descriptors, most likely: the client waits in the backlog until some are closed.
                log.warning("connections cannot be accepted", error=str(error))
                self.loop.remove_reader(listener.fileno())
                self.loop.call_later(_SWEEP_S_MAX, self._accept_again, listener)
                return
            if len(self._connections) >= self.limits.connections:
                sock.close()
                continue
            sock.setblocking(False)
            peer = f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
            with contextlib.suppress(OSError):
                self._connections.add(Connection(self, sock, peer, self._context))
                self._empty.clear()

    def _accept_again(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            self.loop.add_reader(listener.fileno(), self._accept, listener)

    def _stamp(self) -> None:
        """At most a sweep late, which spares every answer the question for the time."""
        date = formatdate(time.time(), usegmt=True)
        base = f"Date: {date}\r\nx-gateway-node: {self._node_name}\r\nx-amz-request-id: "
        self.base_headers = base.encode("ascii")

    def _sweep(self) -> None:
        self._sweeper = self.loop.call_later(self._sweep_s, self._sweep)
        self._stamp()
        now = time.monotonic()
        for connection in list(self._connections):
            connection.sweep(now)


def _hosts(host: str) -> list[tuple[int, str]]:
    """(family, address) of each socket to open. An empty host is every interface, of both families if there are."""
    if not host:
        both = [(int(socket.AF_INET), "0.0.0.0")]
        return [*both, (int(socket.AF_INET6), "::")] if socket.has_dualstack_ipv6() else both
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((int(family), str(address[0])) for family, _, _, _, address in found))


async def serve(
    app: Application,
    listen: Listen,
    limits: Limits,
    node_name: str,
    threads: Threads | None = None,
    stall_s_max: float = STALL_S_MAX,
) -> Server:
    """Binds and serves. `threads` read what is not in the page cache; they stay the caller's to close. Without
    them the server has its own. Raises OSError
    for a port that cannot be had or TLS files that cannot be used."""
    context = tls.server_context(listen.tls_cert, listen.tls_key) if listen.tls_cert else None
    server = Server(app, limits, node_name, threads, context, stall_s_max)
    try:
        server.listen(listen)
    except OSError:
        await server.close()
        raise
    return server
