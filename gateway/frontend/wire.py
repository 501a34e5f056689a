"""The socket under a connection: reading switched on and off, sending, the TLS handshake, and ways to close.

Closing with bytes of the client unread makes the kernel answer with a reset, and a reset may take away from the client
what it has not read yet, such as the 403 to an upload. So where that can be, the sending side is closed first and
what comes is discarded until the client closes, too (`linger`).
"""

from __future__ import annotations

import contextlib
import enum
import socket
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gateway.frontend import tls
from gateway.frontend.sending import BLOCKED, Sending

if TYPE_CHECKING:
    from gateway.frontend.server import Server

# A client that sends its whole body before it looks for an answer (urllib3, without Expect) must not meet a reset, so
# the bound is the largest single PUT. It costs little: the kernel drops the bytes, nothing is copied.
LINGER_BYTES_MAX: Final = 5 << 30
LINGER_S_MAX: Final = 30.0
DRAIN_LINGER_S_MAX: Final = 1.0
_LINGER_STEP: Final = 1 << 20
# At once: more than a receive buffer holds.
_LINGER_TURNS: Final = 16

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class State(enum.IntEnum):
    """See connection.py."""

    IDLE = 0
    BUSY = 1
    DISCARD = 2
    LINGER = 3
    HANDSHAKE = 4
    CLOSED = 5


# Globals are looked up faster than members of an enum.
IDLE, BUSY, DISCARD, LINGER, HANDSHAKE, CLOSED = State


class Wire:
    """`since`: time.monotonic() when what the state waits for began. Subclasses say what is to be done with what
    comes (`readable`), once all is sent (`drained`), and when the client has gone (`lost`)."""

    __slots__ = (
        "_lingered",
        "_paused",
        "_recv",
        "eof",
        "fd",
        "loop",
        "peer",
        "sending",
        "server",
        "since",
        "sock",
        "state",
        "tls",
    )

    def __init__(
        self, server: Server, sock: socket.socket, peer: str, context: ssl.SSLContext | None
    ) -> None:
        self.server = server
        self.loop = server.loop
        self.peer = peer
        self.state: State = IDLE
        self.since = time.monotonic()
        self.eof = False
        self.tls = context is not None
        self._paused = False
        self._lingered = 0
        if context is None:
            self.sock = sock
            self.sending = Sending(self.loop, sock, server.threads, self.drained, self.lost)
            self._recv: Callable[[int], bytes] = sock.recv
        else:
            self.sock = secure = tls.wrap(sock, context)
            self.sending = tls.TlsSending(self.loop, secure, server.threads, self.drained, self.lost)
            self._recv = tls.receiver(secure)
            self.state = HANDSHAKE
        self.fd = self.sock.fileno()
        self.loop.add_reader(self.fd, self.readable)

    @property
    def closed(self) -> bool:
        return self.state is CLOSED

    def readable(self) -> None:
        raise AssertionError("a subclass reads")

    def drained(self) -> None:
        raise AssertionError("a subclass waits")

    def lost(self, error: Exception) -> None:
        raise AssertionError("a subclass tells")

    def receive(self, bound: int) -> bytes | None:
        """What has come, None if nothing has, empty at the end. Raises OSError."""
        if self.eof:
            return b""
        try:
            data = self._recv(bound)
        except BLOCKED:
            return None
        if not data:
            self.eof = True
        return data

    def watch(self) -> None:
        """Reading goes on after a pause."""
        if self._paused and self.state is not CLOSED:
            self._paused = False
            self.loop.add_reader(self.fd, self.readable)

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.loop.remove_reader(self.fd)

    def proceed(self) -> None:
        """The client may send its body."""
        self.sending.send(_CONTINUE)

    def handshake(self) -> None:
        assert isinstance(self.sock, ssl.SSLSocket)
        try:
            self.sock.do_handshake()
        except ssl.SSLWantReadError:
            return
        except (OSError, ValueError):
            # Want-write is among them: a few KB into an empty send buffer block only for a client that reads nothing.
            self.close()
            return
        self.state = IDLE
        self.since = time.monotonic()

    def linger(self) -> None:
        """Closes the sending side; `linger_on` closes the rest."""
        if self.state is CLOSED:
            return
        self.state = LINGER
        self.since = time.monotonic()
        try:
            if isinstance(self.sock, ssl.SSLSocket):
                tls.farewell(self.sock)
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        if self.eof:
            self.close()
        self.watch()

    def linger_on(self) -> None:
        """Drops all that has come. To the last byte: after a reset libuv tells of a socket once and never again, and
        the kernel hands out what it still holds before it says that there was one."""
        for _ in range(_LINGER_TURNS):
            try:
                # MSG_TRUNC: TCP drops the bytes instead of copying them; what this returns has the right length only.
                # On the socket itself: TLS ended with the farewell.
                count = len(socket.socket.recv(self.sock, _LINGER_STEP, socket.MSG_TRUNC))
            except BLOCKED:
                return
            except OSError:
                count = 0
            self._lingered += count
            if count == 0 or self._lingered > LINGER_BYTES_MAX:
                self.close()
                return

    def close(self) -> None:
        """At once; what waits to be sent is dropped, and nobody is told."""
        if self.state is CLOSED:
            return
        self.state = CLOSED
        self.sending.close()
        self.pause()
        with contextlib.suppress(OSError):
            self.sock.close()
