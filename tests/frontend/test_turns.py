"""A reader that takes everything at once does not keep the event loop from the others."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from gateway.aio import Threads
from gateway.frontend.sending import TURN_BYTES, FilePart, Sending

MIB = 1 << 20


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """The sender's end does not block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        mine, _ = listener.accept()
    mine.setblocking(False)
    return mine, theirs


class Resident:
    fd = -1

    def resident(self, offset: int, length: int) -> bool:
        return True

    def populate(self, offset: int, length: int) -> None:
        raise AssertionError("it is all there")


async def test_slices_that_are_taken_whole_still_end_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by the p99 of small hits beside a stream: block after block went out in one callback of 10 ms."""
    mine, theirs = tcp_pair()
    done = asyncio.Event()
    threads = Threads("test", 1)
    turns: list[int] = []

    def lost(error: Exception) -> None:
        raise AssertionError(error)

    sending = Sending(asyncio.get_running_loop(), mine, threads, done.set, lost)

    def take(self: Any, part: FilePart) -> int:
        turns[-1] += part.warm
        return part.warm

    original = Sending._turn

    def turn(self: Any) -> bool:
        turns.append(0)
        return original(self)

    monkeypatch.setattr(Sending, "_put_file", take)
    monkeypatch.setattr(Sending, "_turn", turn)
    if not sending.send_files(b"", [(Resident(), number * MIB, MIB) for number in range(16)]):
        await asyncio.wait_for(done.wait(), 5)
    assert sum(turns) == 16 * MIB
    assert max(turns) <= TURN_BYTES
    sending.close()
    mine.close()
    theirs.close()
    threads.close()
