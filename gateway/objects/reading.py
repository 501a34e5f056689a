"""Reading an object's bytes: from segments where they are, from fills while they come, else from the origin.

A read is cut into runs (adjacent blocks of one stripe, at most `RUN_BLOCKS`). The runs of a window ahead of the
reader are looked up and their missing blocks asked for before he gets there, so several ranges of one object come
in parallel; he is served in order. Per block:

    extent known            verified (else read and checked in a thread) → sent from the segment
    being filled            sent from memory as it comes, from the segment once it is whole
    not to be kept          from the origin for this reader alone (`straight.py`), all such blocks in a row at once

Every GET names the ETag of the version that the read began with. When the object changes in between, the read
ends: `Changed` before the first byte (the caller begins anew), a cut connection after it. Never a mixture.

Bound per reader: `WINDOW_RUNS` runs asked for ahead; they go to the SSD, not to memory.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from gateway.aio import Tasks
from gateway.cache.fills import BlockFill, Fills, Source, source_of
from gateway.cache.neighbours import Gone, Message, Neighbours
from gateway.cache.store import Entry, Extent, Segment, Store
from gateway.errors import BudgetSpent, UnknownPlace
from gateway.objects.elsewhere import Elsewhere
from gateway.objects.readahead import ReadAhead
from gateway.objects.revalidate import Direct, Questions, Wanted
from gateway.objects.straight import Straight
from gateway.origins.base import Mirrored, Origin
from gateway.origins.limits import require_budgets
from gateway.telemetry.metrics import Metrics

# Half a stripe: at 40 MB/s a connection brings it in 0.2 s, so eight of them make a cold 64 MiB object one step.
RUN_BLOCKS: Final = 8
WINDOW_RUNS: Final = 8


class Sink(Protocol):
    """Where bytes go: `frontend.exchange.Exchange`."""

    async def send(self, data: bytes | memoryview) -> None: ...

    async def send_file(self, source: Segment, offset: int, length: int) -> None: ...


@dataclass(slots=True)
class Run:
    first: int
    extents: list[Extent | None]
    fills: dict[int, BlockFill] = field(default_factory=dict)

    @property
    def last(self) -> int:
        return self.first + len(self.extents) - 1


class Reads:
    """The reading engine of one worker."""

    def __init__(
        self,
        store: Store,
        origins: Mapping[str, Origin],
        tasks: Tasks,
        metrics: Metrics,
        neighbours: Neighbours,
        stripe_blocks: int,
    ) -> None:
        self.store = store
        self.metrics = metrics
        self.stripe_blocks = stripe_blocks
        self.run_blocks = min(RUN_BLOCKS, stripe_blocks)
        self.block_size = store.block_size
        self.origins = origins
        self.tasks = tasks
        self.neighbours = neighbours
        self.fills = Fills(store, tasks, stripe_blocks, lambda n: metrics.add("fills_coalesced", n))
        self.elsewhere = Elsewhere(self.fills, origins, neighbours, tasks)
        self.questions = Questions(store, self.fills, neighbours, origins, tasks, metrics)
        self.straight = Straight(tasks, self.run_blocks * store.block_size)
        self.ahead = ReadAhead(store.block_size, store.block_size * stripe_blocks)
        self.payers: Mapping[
            str, str
        ] = {}  # whose egress is saved, where that is not the mount's origin itself

    def source(self, key: bytes) -> Source:
        return source_of(key, self.origins)

    def count(self, origin: str, from_segments: int, from_origin: int) -> None:
        """Bytes that a client got, by where they came from: those out of segments were not fetched for him. What
        another's fill brings him while it runs counts as fetched."""
        if from_segments:
            self.metrics.add("read_bytes", from_segments, "segment")
            self.metrics.add("egress_saved_bytes", from_segments, self.payers.get(origin, origin))
        if from_origin:
            self.metrics.add("read_bytes", from_origin, "origin")

    async def require_affordable(self, entry: Entry, source: Source, start: int, stop: int) -> None:
        """Before the head of an answer with these bytes goes out: an answer that would break off where the cache ends
        is none. Raises BudgetSpent unless all of it is here or may be fetched; with mirrors also what asking them
        which one has it raises."""
        origin, remote = source
        mirror = origin if isinstance(origin, Mirrored) else None
        try:
            require_budgets([origin] if mirror is None else mirror.sources())
        except BudgetSpent:
            size, block = self.block_size, self.store.block
            blocks = range(start // size, (stop - 1) // size + 1) if start < stop else ()
            if all(block(entry.version, number) is not None for number in blocks):
                return
            if mirror is None:
                raise
            require_budgets(await mirror.sources_of(remote, entry.etag))

    # --- what others ask of us

    async def answer(self, question: Message) -> AsyncIterator[Message]:
        key = question["key"].encode()
        try:
            source = source_of(key, self.origins)
        except UnknownPlace:
            raise Gone from None  # the asker still, or already, has the origin
        if question["do"] == "current":
            wanted = Wanted(question["first"], question["last"], question["checksums"])
            yield await self._answer_current(key, wanted, strict=question["strict"])
            return
        entry = self.store.entry(key)
        if entry is None or entry.version != question["version"]:
            # Replaced, or just evicted: only the origin can tell. The asker still has the ETag to ask it by.
            raise Gone
        if question["do"] == "watch":
            replies = self.elsewhere.answer_watch(
                entry, question["block"], question["start"], question["stop"]
            )
        else:
            replies = self.elsewhere.answer_blocks(entry, source, question["first"], question["last"])
        async for reply in replies:
            yield reply

    async def _answer_current(self, key: bytes, wanted: Wanted, *, strict: bool) -> Message:
        try:
            entry = await self.questions.ask_here(key, wanted, time.monotonic_ns() if strict else 0)
        except Direct:
            return {"direct": True}
        return {"version": entry.version} if entry.version else {"direct": True}

    # --- runs

    def runs(self, entry: Entry, first: int, last: int) -> list[tuple[int, int]]:
        """Blocks first…last as runs that never cross a stripe."""
        found = []
        while first <= last:
            stop = min(last, first - first % self.run_blocks + self.run_blocks - 1)
            found.append((first, stop))
            first = stop + 1
        return found

    def look_up(self, entry: Entry, first: int, last: int) -> Run:
        """What is there of a run; missing blocks are asked for, and nobody waits yet."""
        if not entry.version:
            return self._without(entry, first, last)
        block = self.store.block
        run = Run(first, [block(entry.version, number) for number in range(first, last + 1)])
        missing = [first + index for index, extent in enumerate(run.extents) if extent is None]
        start = 0
        for index in range(1, len(missing) + 1):
            if index == len(missing) or missing[index] != missing[index - 1] + 1:
                self._ask_for(entry, run, missing[start], missing[index - 1])
                start = index
        return run

    def _without(self, entry: Entry, first: int, last: int) -> Run:
        run = Run(first, [None] * (last + 1 - first))
        for number in range(first, last + 1):
            run.fills[number] = fill = BlockFill(number, self.fills.length_of(entry.size, number))
            fill.end()
        return run

    def _ask_for(self, entry: Entry, run: Run, first: int, last: int) -> None:
        slot = self.neighbours.owner(entry.key, first // self.stripe_blocks)
        if slot is None:
            fills = self.fills.ensure(entry, source_of(entry.key, self.origins), first, last)
        else:
            fills = self.elsewhere.ensure(slot, entry, first, last)
        for fill in fills:
            run.fills[fill.block] = fill

    def fetch_ahead(self, entry: Entry, start: int, stop: int) -> None:
        """Bytes [start, stop) are wanted soon; errors are found again by whoever reads them."""
        if entry.version and start < stop:
            for first, last in self.runs(entry, start // self.block_size, (stop - 1) // self.block_size):
                self.look_up(entry, first, last)

    def noted(self, entry: Entry, start: int, stop: int, read_ahead: int | None = None) -> None:
        """Somebody reads [start, stop): perhaps he reads on. `read_ahead`: the rule's bound."""
        span = self.ahead.note(entry.version, start, stop, entry.size, read_ahead)
        if span is not None:
            self.fetch_ahead(entry, *span)


class Stream:
    """One read of bytes [start, stop) of one version. `prime`, then `send`."""

    def __init__(self, reads: Reads, entry: Entry, source: Source, start: int, stop: int) -> None:
        self._reads = reads
        self._store = reads.store
        self._entry = entry
        self._source = source
        self._position = start
        self._stop = stop
        size = reads.block_size
        self._todo = deque(reads.runs(entry, start // size, (stop - 1) // size) if start < stop else ())
        self._window: deque[Run] = deque()
        self.from_segments = 0
        self.from_origin = 0
        for _ in range(WINDOW_RUNS):
            self._look_ahead()

    def _look_ahead(self) -> None:
        if self._todo:
            self._window.append(self._reads.look_up(self._entry, *self._todo.popleft()))

    @property
    def outcome(self) -> str:
        """hit, miss or partial: of a window's blocks, for a larger read of its beginning."""
        found = [extent is not None for run in self._window for extent in run.extents]
        return "hit" if all(found) else "partial" if any(found) else "miss"

    async def prime(self) -> None:
        """Until the first byte is there or known to be had. Raises what its fill met: now the caller can still
        answer with an error, or begin anew."""
        if not self._window:
            return
        block = self._position // self._reads.block_size
        fill = self._window[0].fills.get(block)
        offset = self._position - block * self._reads.block_size
        while fill is not None and not fill.ended and fill.at(offset) is None:
            await fill.progress(offset, self._end_in(fill) - self._position + offset)
        if fill is not None and fill.error is not None:
            raise fill.error

    async def send(self, sink: Sink) -> None:
        """Raises GatewayError when the rest cannot be had: the answer must then be cut."""
        size = self._reads.block_size
        while self._position < self._stop:
            block = self._position // size
            while block > self._window[0].last:
                self._window.popleft()
                self._look_ahead()
            await self._send_block(sink, block)

    async def _send_block(self, sink: Sink, block: int) -> None:
        run = self._window[0]
        extent = run.extents[block - run.first]
        if extent is not None:
            if await self._send_extent(sink, block, extent):
                return
            again = self._reads.look_up(
                self._entry, block, block
            )  # evicted or damaged since it was looked up
            run.extents[block - run.first] = None
            fill = run.fills[block] = again.fills.get(block) or _ended(block, again.extents[0])
        else:
            fill = run.fills[block]
        await self._send_fill(sink, fill)

    async def _send_extent(self, sink: Sink, block: int, extent: Extent) -> bool:
        store = self._store
        if not store.verified(extent) and not await store.verify(extent, self._entry.version, block):
            return False
        segment = store.segment(extent.segment)
        if segment is None:
            return False
        store.touch(extent)
        self.from_segments += await self._send_file(sink, block, segment, extent)
        return True

    async def _send_file(self, sink: Sink, block: int, segment: Segment, extent: Extent) -> int:
        offset = self._position - block * self._reads.block_size
        length = min(extent.length - offset, self._stop - self._position)
        await sink.send_file(segment, extent.offset + offset, length)
        self._position += length
        return length

    async def _send_fill(self, sink: Sink, fill: BlockFill) -> None:
        base, end = fill.block * self._reads.block_size, self._end_in(fill)
        while self._position < end:
            if fill.extent is not None:
                segment = self._store.segment(fill.extent.segment)
                if segment is None or not await self._checked(fill):
                    await self._send_straight(sink, end)
                    return
                self.from_origin += await self._send_file(sink, fill.block, segment, fill.extent)
                return
            piece = fill.at(self._position - base)
            if piece is not None:
                piece = piece[: end - self._position]
                self._position += len(piece)
                self.from_origin += len(piece)
                await sink.send(piece)
            elif fill.error is not None:
                raise fill.error
            elif fill.ended:
                await self._send_straight(sink, self._end_of_straight(fill.block))
            else:
                await fill.progress(self._position - base, end - base)

    def _end_in(self, fill: BlockFill) -> int:
        return min(fill.block * self._reads.block_size + fill.length, self._stop)

    async def _checked(self, fill: BlockFill) -> bool:
        extent = fill.extent
        assert extent is not None
        return self._store.verified(extent) or await self._store.verify(
            extent, self._entry.version, fill.block
        )

    def _end_of_straight(self, block: int) -> int:
        """Up to where no block is to be had from here, as far as has been looked up."""
        for run in self._window:
            for number in range(max(block + 1, run.first), run.last + 1):
                fill = run.fills.get(number)
                if fill is None or not fill.ended or fill.extent is not None or fill.error is not None:
                    return min(number * self._reads.block_size, self._stop)
            block = max(block, run.last)
        return min((block + 1) * self._reads.block_size, self._stop)

    async def _send_straight(self, sink: Sink, stop: int) -> None:
        pieces = self._reads.straight.read(self._entry, self._source, self._position, stop)
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                self._position += len(piece)
                self.from_origin += len(piece)
                await sink.send(piece)


def _ended(block: int, extent: Extent | None) -> BlockFill:
    fill = BlockFill(block, 0 if extent is None else extent.length)
    fill.end(extent)
    return fill


__all__ = ["Reads", "Run", "Stream"]
