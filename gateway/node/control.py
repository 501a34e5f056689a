"""The channel between supervisor and worker: one JSON object a line over an inherited socketpair.

The config goes over it too, so secrets are in no command line and no environment. A line is at most 4 MiB: a
snapshot takes some 50 KiB, a config with ten thousand identities 2 MiB. The peers are our own processes, so a
line that is longer or no object is a bug and ends the channel.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from typing import Any, Final

LINE_BYTES_MAX: Final = 4 << 20
# Of reports: a peer that does not read (stopped, or its loop is stuck) gets no further ones; the next says it all.
UNREAD_BYTES_MAX: Final = 1 << 20


class ControlError(Exception):
    """What came over the channel is not a message."""


class Channel:
    """One end. `receive` is for one task at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Channel:
        """Takes the socket over."""
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end, limit=LINE_BYTES_MAX))

    async def send(self, message: Mapping[str, Any]) -> None:
        """Waits until the peer reads. A peer that is gone is noticed by `receive` alone."""
        self._writer.write(encode(message))
        try:
            await self._writer.drain()
        except ConnectionError:
            return

    def report(self, message: Mapping[str, Any]) -> bool:
        """Without waiting; False: the peer has not read for a while, the message was dropped."""
        if self._writer.transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            return False
        self._writer.write(encode(message))
        return True

    def order(self, message: Mapping[str, Any]) -> None:
        """Without waiting, and never dropped, so only for messages that are few: what is unread is bounded by the life
        of the peer, which reads and speaks in one loop and is killed for its silence. Raises ControlError."""
        self._writer.write(encode(message))

    async def receive(self) -> dict[str, Any] | None:
        """The next message; None once the peer is gone. Raises ControlError."""
        try:
            line = await self._reader.readline()
        except ValueError:
            raise ControlError(f"a line longer than {LINE_BYTES_MAX} bytes") from None
        except ConnectionError:
            return None
        if not line.endswith(b"\n"):  # the peer died in the middle of one
            return None
        return decode(line)

    def close(self) -> None:
        self._writer.close()


def encode(message: Mapping[str, Any]) -> bytes:
    """Raises ControlError for a message that the other side would refuse."""
    line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
    if len(line) > LINE_BYTES_MAX:
        raise ControlError(f"a message of {len(line)} bytes")
    return line


def decode(line: bytes) -> dict[str, Any]:
    """Raises ControlError."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise ControlError("a line that is not JSON") from None
    if not isinstance(message, dict):
        raise ControlError("a line that is no JSON object")
    return message


__all__ = ["LINE_BYTES_MAX", "Channel", "ControlError", "decode", "encode"]
