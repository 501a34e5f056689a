"""Whole segments while a file is sent, and nothing held back when there is no more or it has to be waited for."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.aio import Threads
from gateway.frontend.sending import CORK_BYTES, Sending
from tests.frontend.test_turns import tcp_pair

MIB = 1 << 20
DATA = bytes(range(251)) * (4 * MIB // 251 + 1)
HEAD = b"head"


class File:
    """Bytes of `path`; those from `cold` on must be read from the disk first, which takes until `disk` is set."""

    def __init__(self, path: Path, cold: int = 1 << 62) -> None:
        self._file = path.open("rb")
        self.fd = self._file.fileno()
        self.cold = cold
        self.disk = threading.Event()

    def resident(self, offset: int, length: int) -> bool:
        return offset + length <= self.cold

    def populate(self, offset: int, length: int) -> None:
        assert self.disk.wait(20)
        self.cold = 1 << 62

    def close(self) -> None:
        self._file.close()


class Ends:
    def __init__(self, threads: Threads) -> None:
        self.mine, self.theirs = tcp_pair()
        self.done = asyncio.Event()
        self.sending = Sending(asyncio.get_running_loop(), self.mine, threads, self.done.set, self._lost)

    def _lost(self, error: Exception) -> None:
        raise AssertionError(error)

    @property
    def corked(self) -> bool:
        return bool(self.mine.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))

    async def receive(self, count: int) -> bytes:
        def whole() -> bytes:
            got = bytearray()
            while len(got) < count and (data := self.theirs.recv(count - len(got))):
                got += data
            return bytes(got)

        return await asyncio.to_thread(whole)


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    threads = Threads("test", 1)
    made = Ends(threads)
    yield made
    made.sending.close()
    made.mine.close()
    made.theirs.close()
    threads.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(DATA)
    return tmp_path / "file"


@pytest.mark.parametrize("length", [1000, CORK_BYTES, MIB])
async def test_one_file_that_is_taken_at_once_is_all_sent(ends: Ends, path: Path, length: int) -> None:
    file = File(path)
    # The socket takes at once what its buffer holds.
    ends.mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MIB)
    assert ends.sending.begin(HEAD, file, 7, length) == len(HEAD)
    assert ends.corked == (length >= CORK_BYTES)
    at_once = ends.sending.end(file, 7, length)
    assert await ends.receive(len(HEAD) + length) == HEAD + DATA[7 : 7 + length]
    if not at_once:
        await asyncio.wait_for(ends.done.wait(), 20)
    assert not ends.corked
    file.close()


async def test_a_client_that_is_slower_gets_whole_segments_until_the_end(ends: Ends, path: Path) -> None:
    file = File(path)
    slices = [(file, start, MIB) for start in range(0, 4 * MIB, MIB)]
    ends.mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    assert not ends.sending.send_files(HEAD, slices)
    assert ends.corked
    assert await ends.receive(len(HEAD) + 4 * MIB) == HEAD + DATA[: 4 * MIB]
    await asyncio.wait_for(ends.done.wait(), 20)
    assert not ends.corked
    file.close()


async def test_nothing_is_held_back_while_the_disk_is_read(ends: Ends, path: Path) -> None:
    """An odd end of what there is would wait in the kernel for 200 ms."""
    file = File(path, cold=CORK_BYTES + 77)
    assert not ends.sending.send_files(HEAD, [(file, 0, CORK_BYTES + 77), (file, CORK_BYTES + 77, MIB)])
    assert await ends.receive(len(HEAD) + CORK_BYTES + 77) == HEAD + DATA[: CORK_BYTES + 77]
    assert ends.sending.populating
    assert not ends.corked
    file.disk.set()
    assert await ends.receive(MIB) == DATA[CORK_BYTES + 77 : CORK_BYTES + 77 + MIB]
    await asyncio.wait_for(ends.done.wait(), 20)
    assert not ends.corked
    file.close()
