"""Fills: bringing blocks of one version in from the origin, once, however many readers wait.

A run is a few adjacent blocks of one stripe, fetched by one ranged GET with If-Match. Its bytes go two ways: into
the memory of each block's `BlockFill`, from which readers of this worker send them on as they come, and, when a
block is whole, into a segment, from where everybody reads it afterwards.

    reader ─ ensure ─▶ table (version, block) ─ joins ─▶ BlockFill ◀─ feed ─ fetch ◀─ origin.get(If-Match)
                                                            └─ whole ─▶ store.put_parts ─▶ extent

A fetch is a task of its own: readers that leave cancel nothing, and when the origin breaks off in the midst the
fetch goes on behind the last byte it has. A block whose fetch failed is out of the table before its readers hear
of it, so whoever asks next starts anew.

Bounds: `FETCHES_MAX` fetches of a worker at once, each holding at most two blocks in memory (one being received,
one being written), so 64 MiB with blocks of 1 MiB. What waits for a fetch is bounded by the readers' windows.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, NamedTuple

from gateway.aio import Tasks
from gateway.cache.entry import Entry, Extent
from gateway.cache.store import Store
from gateway.errors import Changed, GatewayError, NotFound, StoreFull, UnknownPlace, Unreachable
from gateway.model import ObjectMeta, Remote
from gateway.namespace.mounts import split_cache_key
from gateway.origins.base import Origin, Reading

FETCHES_MAX: Final = 32
# A body that breaks off is resumed, but an origin that cuts every body must not be asked for ever.
RESUMES_MAX: Final = 3
# A stripe that was not admitted and is asked for again within this time is hot: several readers go through the
# same data at once, and one fill for all of them is cheaper than a read each.
HERD_S: Final = 2.0
REFUSED_MAX: Final = 4096


class Source(NamedTuple):
    origin: Origin
    remote: Remote


def source_of(key: bytes, origins: Mapping[str, Origin]) -> Source:
    """Where the object of a cache key lives. `origins`: by place, so whatever is reloaded meanwhile, what is found
    holds the key's data. Raises UnknownPlace."""
    place, remote = split_cache_key(key)
    origin = origins.get(place)
    if origin is None:
        raise UnknownPlace("The cache key names an unknown origin.")
    return Source(origin, remote)


class BlockFill:
    """One block on its way. `written` is the watermark: bytes below it can be had with `at`, until the block has
    ended; then from `extent`, or, when that is None, nowhere (not kept: read it from the origin)."""

    __slots__ = (
        "_ends",
        "_parts",
        "_waiters",
        "block",
        "claimed",
        "ended",
        "error",
        "extent",
        "length",
        "written",
    )

    def __init__(self, block: int, length: int) -> None:
        self.block = block
        self.length = length
        self.written = 0
        self.claimed = True  # somebody reads it already; False until then for what a question brought along
        self.ended = False
        self.extent: Extent | None = None
        self.error: GatewayError | None = None
        self._parts: list[memoryview] = []
        self._ends: list[int] = []
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def parts(self) -> list[memoryview]:
        return self._parts

    def feed(self, part: memoryview) -> None:
        self._parts.append(part)
        self.written += len(part)
        self._ends.append(self.written)
        self._wake()

    def at(self, position: int) -> memoryview | None:
        """What lies in one piece from `position` on; None if it is not here (any more, or yet)."""
        index = bisect_right(self._ends, position)
        if index == len(self._ends):
            return None
        part = self._parts[index]
        return part[len(part) - (self._ends[index] - position) :]

    def end(self, extent: Extent | None = None, error: GatewayError | None = None) -> None:
        self.extent, self.error, self.ended = extent, error, True
        self._parts, self._ends = [], []
        self._wake()

    async def progress(self, start: int = 0, stop: int = 0) -> None:
        """Until more has come, or the block has ended. [start, stop) is what a reader waits for; a fill of this
        worker brings all of it anyway."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    async def done(self) -> None:
        while not self.ended:
            await self.progress()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class _Arriving(NamedTuple):
    """Blocks first…last of an object whose version is just being put into the index: others may already know it, and
    want what is coming. `wanted`: what they wait for, by version and block."""

    first: int
    last: int
    wanted: dict[tuple[int, int], tuple[Entry, BlockFill]]


class Fills:
    """The running fills of one worker."""

    def __init__(
        self, store: Store, tasks: Tasks, stripe_blocks: int, coalesced: Callable[[int], object]
    ) -> None:
        """`coalesced` is told of blocks that were asked for while somebody else's fill of them ran."""
        self._store = store
        self._tasks = tasks
        self._stripe_blocks = stripe_blocks
        self.coalesced = coalesced
        self._running: dict[tuple[int, int], BlockFill] = {}
        self._slots = asyncio.Semaphore(FETCHES_MAX)
        self._arriving: dict[tuple[int, Remote], _Arriving] = {}
        self._refused: dict[tuple[bytes, int], float] = {}

    def __len__(self) -> int:
        return len(self._running)

    def running(self, version: int, block: int) -> BlockFill | None:
        return self._running.get((version, block))

    def length_of(self, size: int, block: int) -> int:
        block_size = self._store.block_size
        return min(block_size, size - block * block_size)

    def ensure(self, entry: Entry, source: Source, first: int, last: int) -> list[BlockFill]:
        """Blocks first…last (of one stripe), each running, ended or there already. Those that are not worth keeping,
        or cannot be kept, have ended without an extent."""
        found: list[BlockFill] = []
        missing: list[BlockFill] = []
        arriving = self._arriving.get((id(source.origin), source.remote))
        joined = 0
        for block in range(first, last + 1):
            fill = self._running.get((entry.version, block))
            if fill is None:
                fill = BlockFill(block, self.length_of(entry.size, block))
                extent = self._store.block(entry.version, block)
                if extent is not None:
                    fill.end(extent)
                elif arriving is not None and arriving.first <= block <= arriving.last:
                    self._running[entry.version, block] = fill
                    arriving.wanted[entry.version, block] = entry, fill
                else:
                    missing.append(fill)
            else:
                joined += fill.claimed
                fill.claimed = True
            found.append(fill)
        if joined:
            self.coalesced(joined)
        if missing:
            length = sum(fill.length for fill in missing)
            if self.admits(entry.key, missing[0].block, length):
                self._start(entry, source, missing)
            else:
                for fill in missing:
                    fill.end()
        return found

    def admits(self, key: bytes, block: int, length: int) -> bool:
        if self._store.refusing:
            return False
        if self._store.admit(key, block, length):
            return True
        now, name = time.monotonic(), (key, block // self._stripe_blocks)
        before = self._refused.pop(name, None)
        if before is not None and now - before < HERD_S:
            return True
        if len(self._refused) >= REFUSED_MAX:
            self._refused.pop(next(iter(self._refused)))
        self._refused[name] = now
        return False

    def _start(self, entry: Entry, source: Source, missing: list[BlockFill]) -> None:
        for fill in missing:
            self._running[entry.version, fill.block] = fill
        for run in _adjacent(missing):
            self._tasks.spawn(self._fetch(entry, source, run), "fill")

    async def discover(
        self,
        source: Source,
        first: int,
        last: int | None,
        install: Callable[[ObjectMeta], Awaitable[Entry]],
        found: Callable[[Entry], object],
    ) -> None:
        """Asks for blocks first…last (None, with first 0: the whole object, without a range) of an object of which
        nothing is known: the answer's head says which version that is. `install` puts it into the index, `found`
        hears of the entry while the body still comes. Raises what `origin.get` and `install` raise; once `found` was
        called, nothing."""
        block_size = self._store.block_size
        start, stop = first * block_size, None if last is None else (last + 1) * block_size
        async with self._slots, source.origin.get(source.remote, start, stop) as reading:
            arriving = _Arriving(first, (reading.stop - 1) // block_size, {})
            name = (id(source.origin), source.remote)
            self._arriving[name] = arriving
            try:
                entry = await install(reading.meta)
                run = self._adopt(entry, arriving)
                self._store.learned(entry.key, reading.stop - reading.start)
            finally:
                if self._arriving.get(name) is arriving:
                    del self._arriving[name]
                for other, fill in arriving.wanted.values():  # it was not what came: read from the origin
                    self._end(other, fill, None, None)
            found(entry)
            if run:
                await self._receive(entry, source, run, reading)

    def _adopt(self, entry: Entry, arriving: _Arriving) -> list[BlockFill]:
        """The blocks that an open reading will bring. One that runs already is received for nothing: it happens
        only when two answers to one question cross."""
        run = []
        for block in range(arriving.first, arriving.last + 1):
            _, fill = arriving.wanted.pop((entry.version, block), (entry, None))
            if fill is None:
                fill = BlockFill(block, self.length_of(entry.size, block))
                fill.claimed = False
                self._running.setdefault((entry.version, block), fill)
            run.append(fill)
        return run

    async def _fetch(self, entry: Entry, source: Source, run: list[BlockFill]) -> None:
        async with self._slots:
            await self._receive(entry, source, run)

    async def _receive(
        self, entry: Entry, source: Source, run: list[BlockFill], reading: Reading | None = None
    ) -> None:
        """The whole run, out of `reading` first where there is one; ends every block of it in any case."""
        start = run[0].block * self._store.block_size
        stop = run[-1].block * self._store.block_size + run[-1].length
        error: GatewayError | None = Unreachable("The origin broke the object off again and again.")
        try:
            at = start if reading is None else await self._pour(entry, run, reading, start)
            for _ in range(RESUMES_MAX + (reading is None)):
                if at == stop:
                    return
                async with source.origin.get(source.remote, at, stop, if_match=entry.etag) as more:
                    _require_same(entry, more, at, stop)
                    at = await self._pour(entry, run, more, at)
        except (Changed, NotFound):
            error = Changed("The object changed while it was read.")
            await self._store.forget(entry.key)  # also what this very body brought may be torn
        except GatewayError as failed:
            error = failed
        except asyncio.CancelledError:
            error = None  # this worker ends: whoever still reads goes to the origin himself
            raise
        finally:
            for fill in run:
                if not fill.ended:
                    self._end(entry, fill, None, error)

    async def _pour(self, entry: Entry, run: list[BlockFill], reading: Reading, at: int) -> int:
        """Deals the body out to its blocks, and whole blocks to the store, one behind the other. Returns the
        position reached: the end, or where the origin broke off."""
        writing: asyncio.Task[None] | None = None
        index = at // self._store.block_size - run[0].block
        try:
            async for piece in reading.chunks():
                view = memoryview(piece)
                while len(view):
                    fill = run[index]
                    part = view[: fill.length - fill.written]
                    view = view[len(part) :]
                    fill.feed(part)
                    at += len(part)
                    if fill.written == fill.length:
                        if writing is not None:
                            await writing
                        writing = self._tasks.spawn(self._keep(entry, fill), "keep block")
                        index += 1
        except Unreachable:
            pass  # what came is good; the rest is asked for again
        finally:
            if writing is not None:
                await writing
        return at

    async def _keep(self, entry: Entry, fill: BlockFill) -> None:
        extent = None
        try:
            extent = await self._store.put_parts(entry, fill.block, fill.parts)
        except StoreFull:
            pass  # counted by the store; readers of this block go on without it
        finally:
            self._end(entry, fill, extent, None)

    def _end(self, entry: Entry, fill: BlockFill, extent: Extent | None, error: GatewayError | None) -> None:
        name = (entry.version, fill.block)
        if self._running.get(name) is fill:
            del self._running[name]
        fill.end(extent, error)


def _adjacent(fills: Iterable[BlockFill]) -> list[list[BlockFill]]:
    runs: list[list[BlockFill]] = []
    for fill in fills:
        if runs and runs[-1][-1].block + 1 == fill.block:
            runs[-1].append(fill)
        else:
            runs.append([fill])
    return runs


def _require_same(entry: Entry, reading: Reading, start: int, stop: int) -> None:
    """Raises Changed. The origin has compared the ETag; a store that gives a new object an old ETag is caught here
    unless it has the old size, too."""
    if reading.meta.size != entry.size or (reading.start, reading.stop) != (start, stop):
        raise Changed("The object is no longer the version that was asked for.")
