"""Brings what is cached already in line with the rules, beside everything else: the one worker of a node that holds
a lock does in each step what is due.

    bounds     a quota that was lowered, pins that have less room than before: brought down in small steps
    counting   after the rules changed or the index was rebuilt, every block is given its tags (`tags.py`)
    times      blocks whose `ttl` is over are dropped. Reads never wait for this: they look at the entry themselves
    pins       blocks of versions that are not current any more lose theirs
    space      segments in which nothing is left are removed, without waiting until somebody needs the room

Blocks, in a thread of its own; small read transactions that decide, small changes that act and look again, and a pause
between them. Where no rule pins, has a quota or a ttl, `due` says so for the price of two look-ups a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import lmdb
import structlog

from gateway.cache.changes import Changes
from gateway.cache.index import ACTIVE, SEALED, Index, decode_content, slot_key, split_tag_key, tag_key
from gateway.cache.layout import FileLock
from gateway.cache.tags import DEAD, Place
from gateway.cache.writer import IndexWriter
from gateway.errors import StoreFull
from gateway.namespace.keeping import PIN, UNSURE, Keeping

log = structlog.get_logger()

ROWS_PER_STEP: Final = 256  # some 3 ms of this thread, and of a write transaction where every row is stale
PAUSE_S: Final = 0.005
# Pinned blocks looked at per step: all of 100 GiB in blocks of 1 MiB within two minutes.
PINS_PER_STEP: Final = 1024
# A segment is looked at for expired blocks when its last one is, or so often: a million blocks cost 2 % of a core.
LOOK_S: Final = 600.0
LOOKS_S: Final = 5.0  # whether any is due: of ten thousand segments that is asked within 10 ms


class Sweeper:
    def __init__(
        self,
        index: Index,
        changes: Changes,
        writer: IndexWriter,
        lock: FileLock,
        clear_empty: Callable[[], object],
        now: Callable[[], float] = time.time,
    ) -> None:
        """`clear_empty` has segments removed in which nothing is left, some time soon."""
        self._index = index
        self._changes = changes
        self._writer = writer
        self._lock = lock
        self._clear_empty = clear_empty
        self._now = now
        self._held = False
        self._stopped = threading.Event()
        self._pins_after: Place = (0, 0)
        self._looks: dict[int, float] = {}  # segment → when to look for expired blocks again
        self._looked_for: Keeping | None = None
        self._look_after = 0.0

    def stop(self) -> None:
        self._stopped.set()

    def due(self) -> bool:
        """Is there anything that a step might do?"""
        keeping, number = self._changes.keeping, self._index.number
        return bool(keeping.fingerprint) or keeping.has_ttl or number(b"policy") != number(b"counted")

    def step(self) -> None:
        """Errors of the index end the step; the next one tries again."""
        if not self._held and not self._lock.acquire():
            return
        self._held = True  # until this worker ends: what has been looked at is known here
        keeping = self._changes.keeping
        try:
            # First: counting would drop all that a lowered quota is over it in one change.
            self._bound(keeping)
            self._count(keeping)
            self._look(keeping)
            self._release_pins(keeping)
            if self._anything_empty():
                self._clear_empty()
        except (StoreFull, lmdb.Error) as error:
            log.info("sweep of the cache stopped", error=str(error))

    # --- counting

    def _count(self, keeping: Keeping) -> None:
        number = self._index.number
        told = number(b"told")  # before the policy: whatever is told from here on is noticed in the end
        policy = number(b"policy")
        if policy != keeping.fingerprint:
            return  # a reload is under way
        if number(b"counted") == policy and not self._index.tagged_bytes(UNSURE):
            return
        if number(b"counted") != policy and not self._count_all(keeping):
            return
        while places := self._tagged(UNSURE, (0, 0), ROWS_PER_STEP):
            self._writer.call(self._changes.retag_all, places, keeping)
            if self._changes.keeping is not keeping or number(b"told") != told or self._pause():
                return
        if self._writer.call(self._changes.set_counted, policy, told):
            log.info("cache counted by the rules")

    def _count_all(self, keeping: Keeping) -> bool:
        """False when other rules came before the end."""
        after: Place | None = (0, 0)
        while after is not None and self._changes.keeping is keeping:
            after, stale = self._stale(after)
            if stale:
                self._writer.call(self._changes.retag_all, stale, keeping)
            if self._pause():
                raise StoreFull("the cache is closed")
        return self._changes.keeping is keeping

    def _stale(self, after: Place) -> tuple[Place | None, list[Place]]:
        """Where to go on, and of the rows looked at those whose tags are not what they should be."""
        stale: list[Place] = []
        with self._index.env.begin() as txn, txn.cursor(self._index.contents) as cursor:
            found = cursor.set_range(slot_key(*after))
            for _ in range(ROWS_PER_STEP):
                if not found:
                    return None, stale
                place = _place(cursor.key())
                content = decode_content(cursor.value())
                if self._changes.wanted(txn, content) != content.tags:
                    stale.append(place)
                found = cursor.next()
            return (_place(cursor.key()) if found else None), stale

    def _tagged(self, tag: int, after: Place, limit: int) -> list[Place]:
        places: list[Place] = []
        with self._index.env.begin() as txn, txn.cursor(self._index.tagged) as cursor:
            found = cursor.set_range(tag_key(tag, *after))
            while found and len(places) < limit:
                carried, segment, slot = split_tag_key(cursor.key())
                if carried != tag:
                    break
                places.append((segment, slot))
                found = cursor.next()
        return places

    # --- bounds and pins

    def _bound(self, keeping: Keeping) -> None:
        for tag in (PIN, *keeping.quotas):
            before = -1
            while (held := self._index.tagged_bytes(tag)) != before and held > (
                self._changes.limit(tag) or 0
            ):
                if self._changes.keeping is not keeping or self._pause():
                    return
                self._writer.call(self._changes.fit, tag, 0)
                before = held

    def _release_pins(self, keeping: Keeping) -> None:
        if not self._index.tagged_bytes(PIN):
            return
        places = self._tagged(PIN, self._pins_after, PINS_PER_STEP)
        with self._index.env.begin() as txn:
            found = [(place, self._changes.live(txn, place)) for place in places]
            stale = [
                place
                for place, live in found
                if live is not None and self._changes.current(txn, live[0]) is None
            ]
        if stale:
            self._writer.call(self._changes.retag_all, stale, keeping)
        last = places[-1] if len(places) == PINS_PER_STEP else None
        self._pins_after = (0, 0) if last is None else (last[0], last[1] + 1)

    # --- times

    def _look(self, keeping: Keeping) -> None:
        if self._looked_for is not keeping:
            self._looked_for, self._looks, self._look_after = keeping, {}, 0.0
        now = self._now()
        if not keeping.has_ttl or now < self._look_after <= now + LOOKS_S:
            return
        self._look_after = now + LOOKS_S
        rows = self._index.segment_rows()
        self._looks = {segment: at for segment, at in self._looks.items() if segment in rows}
        for segment, row in rows.items():
            if row.state in (SEALED, ACTIVE) and self._looks.get(segment, 0.0) <= now:
                again = self._look_into(segment, now)
                self._looks[segment] = min(again, now + LOOK_S) if row.state == ACTIVE else again
                if self._pause():
                    return

    def _look_into(self, segment: int, now: float) -> float:
        """Drops what is over; when to look again."""
        first = last = float("inf")
        slot: int | None = 0
        while slot is not None:
            with self._index.env.begin() as txn:
                rows = self._changes.rows_of(txn, segment, slot, ROWS_PER_STEP)
                dues = [
                    (at, due) for at, content in rows if (due := self._changes.due(txn, content)) is not None
                ]
            over = [(segment, at) for at, due in dues if due <= now]
            if over:
                self._writer.call(self._changes.drop_expired, over, now)
            later = [due for _, due in dues if due > now]
            if later:
                first = min(first, *later)
                last = max(*later, last if last < float("inf") else 0.0)
            slot = rows[-1][0] + 1 if len(rows) == ROWS_PER_STEP and rows[-1][0] < 0xFFFF else None
            if slot is not None and self._pause():
                return now
        return last if last <= now + LOOK_S or first == last else max(first, now + LOOK_S)

    # --- space

    def _anything_empty(self) -> bool:
        with self._index.env.begin() as txn:
            dead = self._changes.segment_sums(txn, DEAD)
            empty = [segment for segment in dead if not self._changes.rows_of(txn, segment, 0, 1)]
        rows = [self._index.segment_row(segment) for segment in empty]
        return any(row is not None and row.state == SEALED for row in rows)

    def _pause(self) -> bool:
        """True when the worker ends."""
        return self._stopped.wait(PAUSE_S)


def _place(key: bytes) -> Place:
    return int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big")
