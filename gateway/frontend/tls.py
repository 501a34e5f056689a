"""TLS on the same non-blocking sockets: ssl.SSLSocket has the calls of a socket, and would-block is an exception of
its own. No sendfile, so file bytes are read in bounded pieces, in a thread when the disk has to be waited for.

A connection holds at most one piece (128 KiB) of an answer in user space, and OpenSSL's records.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from typing import Final

from gateway.aio import Threads
from gateway.frontend.exchange import FileSlice
from gateway.frontend.sending import BLOCKED, FilePart, FileShort, Sending

TLS_PIECE_BYTES: Final = 128 << 10
_RECORD_BYTES: Final = 16 << 10


def server_context(cert: str, key: str) -> ssl.SSLContext:
    """Raises OSError (ssl.SSLError is one) if the files cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["http/1.1"])
    return context


def wrap(sock: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)


def receiver(sock: ssl.SSLSocket) -> Callable[[int], bytes]:
    """`recv` that gathers records up to its bound. A record is taken whole, so nothing decrypted stays behind in
    OpenSSL where the event loop could not see it."""
    read = sock.recv

    def recv(bound: int) -> bytes:
        data = read(_RECORD_BYTES)
        if bound <= _RECORD_BYTES or not data:
            return data
        pieces, size = [data], len(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            while size + _RECORD_BYTES <= bound and (data := read(_RECORD_BYTES)):
                pieces.append(data)
                size += len(data)
        return b"".join(pieces)

    return recv


class TlsSending(Sending):
    """`_piece`: bytes of the first part in the queue that were read and not yet sent."""

    __slots__ = ("_piece",)

    # Encrypting costs several times what copying does.
    turn_bytes = 2 << 20
    # Records of 16 KiB, each of which is a write of its own, leave nothing small behind that a cork would hold.
    cork_bytes = 1 << 62

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: ssl.SSLSocket,
        threads: Threads,
        drained: Callable[[], None],
        lost: Callable[[Exception], None],
    ) -> None:
        super().__init__(loop, sock, threads, drained, lost)
        self._piece = memoryview(b"")

    def begin(self, head: bytes, source: FileSlice, offset: int, length: int) -> int:
        return 0  # a record of its own for the head would cost more than it saves

    def close(self) -> None:
        super().close()
        self._piece = memoryview(b"")

    def _put(self, data: memoryview, more: bool) -> int:
        try:
            return self._sock.send(data)
        except BLOCKED:
            return 0

    def _put_file(self, part: FilePart) -> int:
        # Kept across calls: OpenSSL wants the same bytes again after it has said that it would block.
        if not self._piece:
            self._piece = memoryview(os.pread(part.source.fd, min(part.warm, TLS_PIECE_BYTES), part.offset))
            if not self._piece:
                raise FileShort("a cache file is shorter than its index says")
        count = self._sock.send(self._piece)
        self._piece = self._piece[count:]
        return count


def farewell(sock: ssl.SSLSocket) -> None:
    """close_notify, as far as it goes without waiting; afterwards the socket speaks plainly."""
    with contextlib.suppress(OSError, ValueError):
        sock.unwrap()
