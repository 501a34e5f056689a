"""A worker's config while it changes: what one config makes of views and origins is a generation.

    prepare   a new generation is made beside the current one; origins whose entry did not change are the same objects
    commit    requests from now on get the new one; those under way keep what they began with
    retire    nobody uses the old one any more, or the drain timeout is over: its origins are closed, but for those that
              live on in another

Users of an old generation are not counted one by one. A request is a task, and what works on for it (fills, questions,
changes that are carried out) are tasks, too: once every request task of the moment of the commit has ended, and after
that every working task there is, no one is left who began before. Under load this waits for some strangers as well,
never for too few.

Shared work (a fill, a question to the origin) is named by cache keys, and keys by places (`origins/places.py`).
`by_place` therefore finds an origin that has the key's data whatever was reloaded meanwhile: the current generation's
where two have it, the prepared one's for a neighbour who was told to commit a moment earlier, an old one's for requests
that began under it.
"""

from __future__ import annotations

import asyncio
from asyncio import Task
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from gateway.aio import Tasks, Threads
from gateway.config.schema import Config
from gateway.objects.context import View
from gateway.origins.base import Origin
from gateway.origins.places import places_of

log = structlog.get_logger()

MakeOrigins = Callable[[Config, Mapping[str, Origin]], Mapping[str, Origin]]


@dataclass(frozen=True, eq=False)
class Generation:
    """`origins`: by name."""

    config: Config
    view: View
    origins: Mapping[str, Origin]

    def by_place(self) -> dict[str, Origin]:
        places = places_of(self.config)
        return {places[name]: origin for name, origin in self.origins.items()}


class Generations:
    """Of one worker. `make_origins`: of a config, given those to keep. `work`: where all tasks run that use origins
    beside the requests themselves."""

    def __init__(
        self,
        config: Config,
        make_origins: MakeOrigins,
        view_of: Callable[[Config], View],
        work: Tasks,
        threads: Threads,
    ) -> None:
        """Raises GatewayError."""
        self._make_origins = make_origins
        self._view_of = view_of
        self._work = work
        self._threads = threads
        self._retiring = Tasks()
        self.current = Generation(config, view_of(config), make_origins(config, {}))
        self.by_place: dict[str, Origin] = self.current.by_place()
        self._prepared: Generation | None = None
        self._old: list[Generation] = []
        self._unclosed: dict[int, Origin] = {}  # of no generation any more

    async def prepare(self, config: Config) -> None:
        """Replaces what was prepared before. Raises GatewayError; then nothing is prepared. One at a time."""
        self.abort()
        view = await self._threads.run(self._view_of, config)  # ten thousand identities take a second
        before = {entry.name: entry for entry in self.current.config.origins}
        same = [entry.name for entry in config.origins if before.get(entry.name) == entry]
        kept = {name: self.current.origins[name] for name in same}
        self._prepared = Generation(config, view, self._make_origins(config, kept))
        for place, origin in self._prepared.by_place().items():
            self.by_place.setdefault(place, origin)

    def abort(self) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            self._retiring.spawn(self._close(self._take_out(prepared)), "abort reload")

    def commit(self, requests: Tasks, timeout_s: float) -> Generation:
        """What is prepared is current from here on. `requests`: the tasks of all requests under way; `timeout_s`:
        how long they may go on using origins that are no more."""
        assert self._prepared is not None
        old, self.current, self._prepared = self.current, self._prepared, None
        self.by_place.update(self.current.by_place())
        self._old.append(old)
        self._retiring.spawn(self._retire(old, requests.live(), timeout_s), "retire")
        return self.current

    async def _retire(self, old: Generation, requests: Collection[Task[Any]], timeout_s: float) -> None:
        gone: list[Origin] | None = None
        try:
            async with asyncio.timeout(timeout_s):
                await _ended(requests)
                gone = self._take_out(old)
                if gone:
                    await _ended(self._work.live())
        except TimeoutError:
            gone = self._take_out(old) if gone is None else gone
            if gone:
                names = [origin.name for origin in gone]
                log.warning("closing origins that are still used", origins=names, after_s=timeout_s)
        await self._close(gone or ())

    def _take_out(self, generation: Generation) -> list[Origin]:
        """Forgets it. The origins that no other generation has: they cannot be found any more."""
        if generation in self._old:
            self._old.remove(generation)
        used = {id(origin) for other in self._all() for origin in other.origins.values()}
        gone = {id(origin): origin for origin in generation.origins.values() if id(origin) not in used}
        for place, origin in list(self.by_place.items()):
            if id(origin) in gone:
                del self.by_place[place]
        self._unclosed |= gone
        return list(gone.values())

    def views(self) -> list[View]:
        """Those that some worker may judge requests by at this moment; a neighbour may have committed already."""
        return [generation.view for generation in self._all()]

    def _all(self) -> list[Generation]:
        return [*self._old, self.current, *([self._prepared] if self._prepared is not None else [])]

    async def _close(self, origins: Iterable[Origin]) -> None:
        for origin in origins:
            try:
                await origin.close()
            except Exception as error:  # it is of no use any more; the others are closed all the same
                log.warning("an origin was not closed cleanly", origin=origin.name, error=repr(error))
            self._unclosed.pop(id(origin), None)

    async def close(self) -> None:
        """Nobody uses anything any more."""
        await self._retiring.close()
        for generation in self._all():
            self._unclosed |= {id(origin): origin for origin in generation.origins.values()}
        await self._close(list(self._unclosed.values()))


async def _ended(tasks: Collection[Task[Any]]) -> None:
    if tasks:
        await asyncio.wait(tasks)


__all__ = ["Generation", "Generations"]
