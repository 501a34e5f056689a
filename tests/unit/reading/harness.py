"""The reading engine over a real store and an origin of the test's own making."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import Mock

from gateway.aio import Tasks
from gateway.cache.fills import Source
from gateway.cache.neighbours import Neighbours
from gateway.cache.store import Entry, Store
from gateway.errors import Changed, GatewayError, NotFound, RangeNotSatisfiable, Unreachable
from gateway.model import ObjectMeta, Remote
from gateway.objects.reading import Reads, Stream
from gateway.objects.revalidate import Wanted
from gateway.telemetry.metrics import Metrics
from tests.unit.cache.harness import MIB, open_store, running

PIECE = 64 << 10


def data_of(seed: int, size: int) -> bytes:
    block = hashlib.sha256(str(seed).encode()).digest()
    return (block * (size // len(block) + 1))[:size]


@dataclass
class FakeReading:
    meta: ObjectMeta
    start: int
    stop: int
    pieces: Callable[[], AsyncIterator[bytes]]

    def chunks(self) -> AsyncIterator[bytes]:
        return self.pieces()


@dataclass
class FakeOrigin:
    """`gate`: closed, bodies wait after their first piece; `break_off` opens it and ends those that wait there.
    `cuts`: so many bodies end after half of it."""

    name: str = "o"
    objects: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    gets: list[tuple[str, int, int | None]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    head_gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    cuts: int = 0
    error: GatewayError | None = None
    bytes_sent: int = 0
    _broken: int = 0
    _versions: Any = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.gate.set()
        self.head_gate.set()

    def break_off(self) -> None:
        self._broken += 1
        self.gate.set()

    def put(self, key: str, body: bytes) -> None:
        self.objects[key] = (body, f'"v{next(self._versions)}"')

    def _meta(self, key: str, *, sums: bool) -> tuple[bytes, ObjectMeta]:
        if self.error is not None:
            raise self.error
        if key not in self.objects:
            raise NotFound("no such key")
        body, etag = self.objects[key]
        checksums = {"x-amz-checksum-crc32": "AAAAAA=="} if sums else {}
        return body, ObjectMeta(len(body), etag, 1_700_000_000, {"content-type": "x/y"}, checksums)

    async def head(self, remote: Remote) -> ObjectMeta:
        self.heads.append(remote.key)
        self.asked.set()
        meta = self._meta(remote.key, sums=True)[1]
        await self.head_gate.wait()
        return meta

    def get(
        self, remote: Remote, start: int, stop: int | None, *, if_match: str | None = None
    ) -> AbstractAsyncContextManager[FakeReading]:
        return self._get(remote.key, start, stop, if_match)

    @asynccontextmanager
    async def _get(
        self, key: str, start: int, stop: int | None, if_match: str | None
    ) -> AsyncIterator[FakeReading]:
        self.gets.append((key, start, stop))
        self.asked.set()
        await asyncio.sleep(0)
        body, meta = self._meta(key, sums=stop is None and start == 0)
        if if_match not in (None, meta.etag):
            raise Changed("changed")
        if start >= meta.size and (start or stop is not None):
            raise RangeNotSatisfiable("past the end", meta.size)
        end = meta.size if stop is None else min(stop, meta.size)
        yield FakeReading(meta, start, end, lambda: self._pieces(body, start, end))

    async def _pieces(self, body: bytes, start: int, end: int) -> AsyncIterator[bytes]:
        cut, broken = None, self._broken
        if self.cuts:
            self.cuts -= 1
            cut = start + (end - start) // 2
        for number, at in enumerate(range(start, end, PIECE)):
            if cut is not None and at >= cut:
                raise Unreachable("cut short")
            if number == 1:
                await self.gate.wait()
                if broken != self._broken:
                    raise Unreachable("broken off")
            piece = body[at : min(at + PIECE, end)]
            self.bytes_sent += len(piece)
            yield piece


class Collected:
    """A sink that keeps what it is sent."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.first = asyncio.Event()

    async def send(self, data: bytes | memoryview) -> None:
        self.data += data
        self.first.set()
        await asyncio.sleep(0)

    async def send_file(self, source: Any, offset: int, length: int) -> None:
        import os

        piece = os.pread(source.fd, length, offset)
        assert len(piece) == length
        await self.send(piece)


@dataclass
class Bench:
    reads: Reads
    origin: FakeOrigin
    metrics: Metrics
    tasks: Tasks

    def key(self, name: str) -> bytes:
        return f"o\0bucket/{name}".encode()

    async def settled(self) -> None:
        """Until nothing is fetched or written any more."""
        while live := [task for task in self.tasks._live if task is not asyncio.current_task()]:
            await asyncio.wait(live)

    async def entry(self, name: str, wanted: Wanted | None = None, fresh_s: float = 60.0) -> Entry:
        whole = Wanted(0, self.reads.run_blocks - 1)
        return await self.reads.questions.current(
            self.key(name), fresh_s, whole if wanted is None else wanted
        )

    def stream(self, entry: Entry, start: int = 0, stop: int | None = None) -> Stream:
        source = Source(self.origin, Remote("bucket", entry.key.decode().partition("/")[2]))  # type: ignore[arg-type]
        return Stream(self.reads, entry, source, start, entry.size if stop is None else stop)

    async def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        wanted = Wanted(start // MIB, start // MIB if stop is not None else start // MIB + 7)
        stream = self.stream(await self.entry(name, wanted), start, stop)
        sink = Collected()
        await stream.prime()
        await stream.send(sink)
        return bytes(sink.data)


async def _close_beside(store: Store) -> None:
    """Closes a store without the index, which in one process both must share."""
    store._index = Mock()
    await store.close()


@asynccontextmanager
async def two_workers(directory: Path) -> AsyncIterator[tuple[Bench, Bench]]:
    """Two workers of one node in this process, each with a loop's worth of everything but the origin."""
    origin = FakeOrigin()
    async with running(directory) as first, AsyncExitStack() as stack:
        second = open_store(directory, 1, index=first._index)
        stack.push_async_callback(_close_beside, second)
        benches = []
        for slot, store in enumerate((first, second)):
            store.start()
            metrics, tasks = Metrics(), Tasks()
            neighbours = Neighbours(directory / "run", slot, 2, lambda q, s=slot: benches[s].reads.answer(q))
            await neighbours.start()
            reads = Reads(store, {"o": origin}, tasks, metrics, neighbours, 16)  # type: ignore[dict-item]
            benches.append(Bench(reads, origin, metrics, tasks))
            stack.push_async_callback(tasks.close)
            stack.push_async_callback(neighbours.close)
        yield benches[0], benches[1]
        origin.gate.set()


@asynccontextmanager
async def bench(directory: Path, **changes: Any) -> AsyncIterator[Bench]:
    origin, metrics, tasks = FakeOrigin(), Metrics(), Tasks()
    async with running(directory, **changes) as store:
        store.start()
        neighbours = Neighbours(directory / "run", 0, 1, lambda question: reads.answer(question))
        reads = Reads(store, {"o": origin}, tasks, metrics, neighbours, 16)  # type: ignore[dict-item]
        try:
            yield Bench(reads, origin, metrics, tasks)
        finally:
            origin.gate.set()
            await tasks.close()
