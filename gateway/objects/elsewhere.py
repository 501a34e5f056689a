"""Blocks that another worker of this node fills: asked for over its socket, and read from the segments once whole.

    reader ─ ensure ─▶ table (version, block) ─ joins ─▶ LentFill ◀─ "blocks": extent or error ─ owner
                                                             └─ a reader waits ─▶ "watch" ─▶ its bytes, as they come

A reader that waits for a block which is not whole yet gets the bytes he waits for over the socket, out of the memory
of the owner's fill: the same bytes, under the same promises, as the owner's own readers. What nobody waits for crosses
as a name alone. An owner that dies in the midst is replaced: this worker fetches the run itself, and readers go on
behind the last byte they had, which is of the same version. So is one that does not find the version in the index: it
was replaced, which the origin will say, or evicted with its last block, and then each worker fetches for itself.

Bounds: a lent block is in memory from when a reader first waits for it until its owner has it whole, and once,
however many readers wait. So there are no more of them than fills of the other workers (`fills.py`). Messages with
bytes are no more than the pieces in which the origin sent them.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from gateway.aio import Tasks
from gateway.cache.fills import BlockFill, Fills, Source, source_of
from gateway.cache.neighbours import Gone, Message, Neighbours, decode_error, encode_error
from gateway.cache.store import Entry, Extent
from gateway.errors import GatewayError, UnknownPlace
from gateway.origins.base import Origin

# Of one message: others on the same connection get their answers in between.
PIECE_BYTES_MAX: Final = 128 << 10


class LentFill(BlockFill):
    """A block that its owner fills. Of its bytes only [start, written) are here, and none before a reader waits."""

    __slots__ = ("_watch", "start", "stop", "watched")

    def __init__(self, block: int, length: int, watch: Callable[[LentFill], object]) -> None:
        super().__init__(block, length)
        self.start = self.stop = 0
        self.watched = False  # one watch runs, until all that was waited for has come
        self._watch = watch

    def at(self, position: int) -> memoryview | None:
        return super().at(position) if position >= self.start else None

    async def progress(self, start: int = 0, stop: int = 0) -> None:
        """A reader who comes after another, and waits for bytes before the other's, waits for the whole block."""
        if not self.stop:
            self.start = self.written = start
        if stop > self.stop:
            self.stop = stop
            if not self.watched:
                self.watched = True
                self._watch(self)
        await super().progress()


class Elsewhere:
    """The blocks of other workers that readers of this one wait for."""

    def __init__(
        self, fills: Fills, origins: Mapping[str, Origin], neighbours: Neighbours, tasks: Tasks
    ) -> None:
        self._fills = fills
        self._origins = origins
        self._neighbours = neighbours
        self._tasks = tasks
        self._lent: dict[tuple[int, int], LentFill] = {}

    def __len__(self) -> int:
        return len(self._lent)

    def ensure(self, slot: int, entry: Entry, first: int, last: int) -> list[BlockFill]:
        """Blocks first…last (of one stripe, whose owner is `slot`), each running or ended."""
        found: list[BlockFill] = []
        missing: list[LentFill] = []
        watch = functools.partial(self._begin_watch, slot, entry)
        for block in range(first, last + 1):
            fill = self._lent.get((entry.version, block))
            if fill is None:
                fill = LentFill(block, self._fills.length_of(entry.size, block), watch)
                self._lent[entry.version, block] = fill
                missing.append(fill)
            found.append(fill)
        if len(missing) < len(found):
            self._fills.coalesced(len(found) - len(missing))
        if missing:
            self._tasks.spawn(self._ask(slot, entry, missing), "ask for blocks")
        return found

    async def _ask(self, slot: int, entry: Entry, missing: list[LentFill]) -> None:
        """Ends all of them in any case."""
        waiting = {fill.block: fill for fill in missing}
        question = _question("blocks", entry, first=missing[0].block, last=missing[-1].block)
        error: GatewayError | None = None
        try:
            async for reply in self._neighbours.ask(slot, question):
                if "block" not in reply:
                    raise decode_error(reply["error"])
                fill = waiting.pop(reply["block"], None)
                if fill is None:
                    continue  # between two missing ones lay one that somebody had asked for already
                if "error" in reply:
                    self._end(entry, fill, None, decode_error(reply["error"]))
                else:
                    extent = None if reply["extent"] is None else Extent(*reply["extent"])
                    self._end(entry, fill, extent, None)
                if not waiting:
                    break
        except Gone:
            with contextlib.suppress(UnknownPlace):  # readers know their origin, and go there
                await self._replace(entry, waiting)
        except GatewayError as failed:
            error = failed
        finally:
            for fill in waiting.values():
                self._end(entry, fill, None, error)

    def _end(self, entry: Entry, fill: LentFill, extent: Extent | None, error: GatewayError | None) -> None:
        del self._lent[entry.version, fill.block]
        fill.end(extent, error)

    async def _replace(self, entry: Entry, waiting: dict[int, LentFill]) -> None:
        """The owner died under it, or the version has left the index: this worker fetches what is left."""
        source = source_of(entry.key, self._origins)
        for local in self._fills.ensure(entry, source, min(waiting), max(waiting)):
            lent = waiting.get(local.block)
            while lent is not None and not local.ended:
                piece = local.at(lent.written) if lent.stop else None
                if piece is None:
                    await local.progress()
                else:
                    lent.feed(piece)
            if lent is not None:
                del waiting[local.block]
                self._end(entry, lent, local.extent, local.error)

    # --- bytes of blocks that are not whole yet

    def _begin_watch(self, slot: int, entry: Entry, fill: LentFill) -> None:
        self._tasks.spawn(self._watch(slot, entry, fill), "watch a block")

    async def _watch(self, slot: int, entry: Entry, fill: LentFill) -> None:
        """That the owner does not answer, or its fill fails, is told by the question for the block."""
        start = -1
        try:
            while start < fill.written < fill.stop and not fill.ended:
                start = fill.written
                question = _question("watch", entry, block=fill.block, start=start, stop=fill.stop)
                async for reply in self._neighbours.ask(slot, question):
                    if "data" not in reply or fill.ended:
                        break
                    if reply["at"] == fill.written:  # else the owner was replaced meanwhile
                        fill.feed(memoryview(reply["data"]))
        except Gone:
            pass
        finally:
            fill.watched = False

    # --- what others ask of us

    async def answer_blocks(
        self, entry: Entry, source: Source, first: int, last: int
    ) -> AsyncIterator[Message]:
        """Each as it ends."""
        for fill in self._fills.ensure(entry, source, first, last):
            await fill.done()
            if fill.error is not None:
                yield {"block": fill.block, "error": encode_error(fill.error)}
            else:
                yield {"block": fill.block, "extent": fill.extent}

    async def answer_watch(self, entry: Entry, block: int, start: int, stop: int) -> AsyncIterator[Message]:
        """Bytes [start, stop) of a block for as long as it is being filled."""
        fill = self._fills.running(entry.version, block)
        at = start
        while fill is not None and not fill.ended and at < stop:
            piece = fill.at(at)
            if piece is None:
                await fill.progress()
            else:
                piece = piece[: min(PIECE_BYTES_MAX, stop - at)]
                yield {"at": at, "data": piece}
                at += len(piece)
        yield {"end": True}


def _question(do: str, entry: Entry, **more: int) -> Message:
    return {"do": do, "key": entry.key.decode(), "version": entry.version, **more}
