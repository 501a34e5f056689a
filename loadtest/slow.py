"""Slow readers: many connections that each ask for a large object and take a little of it ten times a second.

All that they take is compared. What they do not take waits somewhere; the subject is that it does not wait in
the server's own memory.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Sequence

from loadtest import pattern
from loadtest.client import HOST, Call, LoadError

RECEIVE_BUFFER_BYTES = 64 << 10  # of the kernel, per reader: a small client's
TICK_S = 0.1
FIRST_BYTE_S_MAX = 60.0


class Reader:
    """One slow connection. `taken`: body bytes read and compared."""

    def __init__(self, port: int, call: Call) -> None:
        self._sock = socket.socket()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._sock.settimeout(30)
        self._sock.connect((HOST, port))
        self._sock.sendall(call.wire)
        self._sock.setblocking(False)
        self._call = call
        self._start = pattern.start_of(call.key)
        self._head = b""
        self._in_body = False
        self.taken = 0

    def take(self, size: int) -> None:
        """Up to `size` bytes, if any are there."""
        with contextlib.suppress(BlockingIOError):
            data = self._sock.recv(size)
            if not data and self.taken < self._call.length:
                raise LoadError(f"{self._call.key}: closed after {self.taken} bytes")
            self._received(data)

    def _received(self, data: bytes) -> None:
        if not self._in_body:
            self._head += data
            head, found, data = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            if head[9:12] != b"200":
                raise LoadError(f"{self._call.key}: {self._head[:600].decode('latin-1')}")
            self._in_body = True
        if not pattern.matches(self._start, self._call.offset + self.taken, memoryview(data)):
            raise LoadError(f"{self._call.key}: wrong bytes within {len(data)} from {self.taken}")
        self.taken += len(data)

    def close(self) -> None:
        self._sock.close()


def read_slowly(port: int, calls: Sequence[Call], *, seconds: float, bytes_per_s: int) -> tuple[int, float]:
    """One connection per call for `seconds` after all have their first byte; returns (bytes taken, seconds
    to that).
    """
    readers = [Reader(port, call) for call in calls]
    size = int(bytes_per_s * TICK_S)
    began = time.monotonic()
    first_bytes_s = 0.0
    try:
        while not first_bytes_s or time.monotonic() < began + first_bytes_s + seconds:
            ticked = time.monotonic()
            for reader in readers:
                reader.take(size)
            if not first_bytes_s and all(reader.taken for reader in readers):
                first_bytes_s = time.monotonic() - began
            if not first_bytes_s and time.monotonic() > began + FIRST_BYTE_S_MAX:
                waiting = sum(not reader.taken for reader in readers)
                raise LoadError(
                    f"{waiting} of {len(readers)} slow readers had no byte in {FIRST_BYTE_S_MAX:.0f} s"
                )
            time.sleep(max(0.0, TICK_S - (time.monotonic() - ticked)))
        return sum(reader.taken for reader in readers), first_bytes_s
    finally:
        for reader in readers:
            reader.close()
