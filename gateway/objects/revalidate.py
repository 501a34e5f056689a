"""Which version of an object is current: what the cache knows while it is fresh, else a question to the origin.

A question is asked once for all who wait for its answer: in this process, and, because every key has one worker
that asks for it (`cache/neighbours.py`), on this node. Under `strict` nobody takes the answer to a question that was
asked before he came.

What is asked: HEAD for an object that is known (its blocks stay when the ETag does) or whose body nobody wants; for
one of which nothing is known, the ranged GET of the first blocks wanted: its head tells the version and its body is
what will be read next, so a cold object costs one round trip. The whole object's checksums come with no ranged
answer; where a client asks for them, a HEAD runs beside the GET, or, where the objects beside it were all small, the
GET goes without a range and brings them itself. (Should that object be large, its body is received to the end.)

A write that finishes in between makes an answer worthless (`Superseded`): the question is asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gateway.aio import Tasks
from gateway.cache.fills import Fills, Source, source_of
from gateway.cache.neighbours import Gone, Message, Neighbours, decode_error
from gateway.cache.store import ABSENT, OBJECT, Entry, Store
from gateway.errors import (
    GatewayError,
    NotFound,
    RangeNotSatisfiable,
    StoreFull,
    Superseded,
    Unreachable,
)
from gateway.model import ObjectMeta
from gateway.namespace.rules import IMMUTABLE, STRICT
from gateway.origins.base import Origin
from gateway.s3.object_headers import checksum_lines, meta_of, wire_lines
from gateway.telemetry.metrics import Metrics

# How long "there is no such object" is believed at most: whoever waits for a file to appear polls.
NEGATIVE_S: Final = 5.0
# A clock that was set back this far makes entries look as if they came from the future: ask.
CLOCK_BACK_S: Final = 2.0
# An object that is replaced within every round trip for this many of them is not served.
ATTEMPTS_MAX: Final = 6
# What is fetched without a range when it can be expected to be no larger: the length of a run.
SMALL_BLOCKS: Final = 8
# "Directories" whose objects' sizes are remembered: some 200 KB.
PREFIXES_MAX: Final = 1024
# `checksum_wire` of an entry whose checksums nobody has asked for yet.
SUMS_UNKNOWN: Final = b"?"


class Wanted(NamedTuple):
    """What the asker will read next: blocks first…last (None: no body), and whether he needs the checksums."""

    first: int | None = None
    last: int = 0
    checksums: bool = False


class Direct(Exception):
    """The object is not worth keeping, or cannot be kept: ask the origin for yourself alone."""


def trusted(entry: Entry, fresh_s: float, ttl_s: float = IMMUTABLE) -> tuple[float, float]:
    """From when and until when (wall seconds, the end not included) an entry may be served without asking."""
    if entry.validated_at == 0.0 or fresh_s <= STRICT:
        return 0.0, 0.0
    since = entry.validated_at - CLOCK_BACK_S
    if entry.state != OBJECT:
        return since, entry.validated_at + min(fresh_s, NEGATIVE_S)
    return since, min(entry.validated_at + fresh_s, entry.fetched_at + ttl_s)


def is_fresh(entry: Entry, fresh_s: float, now: float, ttl_s: float = IMMUTABLE) -> bool:
    since, until = trusted(entry, fresh_s, ttl_s)
    return since <= now < until


def meta_of_entry(entry: Entry) -> ObjectMeta:
    sums = b"" if entry.checksum_wire == SUMS_UNKNOWN else entry.checksum_wire
    return meta_of(entry.size, entry.wire, sums)


def entry_of(key: bytes, meta: ObjectMeta, asked_at: float, *, sums: bool) -> Entry:
    """An entry that is not in the index (version 0). Raises GatewayError for headers that cannot be sent on."""
    try:
        wire, checksum_wire = wire_lines(meta), checksum_lines(meta) if sums else SUMS_UNKNOWN
    except ValueError:
        raise GatewayError("The origin's answer has a header that cannot be sent on.") from None
    return Entry(key, 0, OBJECT, meta.size, asked_at, meta.etag, meta.last_modified, wire, checksum_wire)


class _Asking:
    """A question under way. `answer` may come long before the task that asked has ended."""

    def __init__(self, checksums: bool) -> None:
        self.started_ns = time.monotonic_ns()
        self.checksums = checksums
        self.answer: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()

    def tell(self, entry: Entry) -> None:
        if not self.answer.done():
            self.answer.set_result(entry)

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # perhaps nobody waits any more; that is no fault


class Questions:
    def __init__(
        self,
        store: Store,
        fills: Fills,
        neighbours: Neighbours,
        origins: Mapping[str, Origin],
        tasks: Tasks,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._fills = fills
        self._neighbours = neighbours
        self._origins = origins
        self._tasks = tasks
        self._metrics = metrics
        self._running: dict[bytes, _Asking] = {}
        self._small: OrderedDict[bytes, bool] = OrderedDict()  # prefix → its last object fitted into one run
        self._small_bytes = SMALL_BLOCKS * store.block_size

    async def current(self, key: bytes, fresh_s: float, wanted: Wanted, ttl_s: float = IMMUTABLE) -> Entry:
        """The current version. Raises NotFound, Direct (only where a body is wanted), and what origins raise."""
        came_ns = time.monotonic_ns()
        entry = self._store.entry(key)
        if entry is not None and self._serves(entry, fresh_s, ttl_s, wanted):
            if entry.state == ABSENT:
                self._metrics.add("negative_hits")
            return _existing(entry)
        # An answer to a question from before its time was over would only say again what has to go.
        expired = entry is not None and time.time() >= entry.fetched_at + ttl_s
        strict_ns = came_ns if fresh_s <= STRICT or expired else 0
        for _ in range(ATTEMPTS_MAX):
            try:
                return _existing(await self._ask(key, wanted, strict_ns))
            except Superseded:
                continue
            except Gone:
                raise Unreachable("The gateway is shutting down.") from None
        raise Unreachable("The object is being replaced faster than it can be read.")

    def _serves(self, entry: Entry, fresh_s: float, ttl_s: float, wanted: Wanted) -> bool:
        if wanted.checksums and entry.state == OBJECT and entry.checksum_wire == SUMS_UNKNOWN:
            return False
        return is_fresh(entry, fresh_s, time.time(), ttl_s)

    async def _ask(self, key: bytes, wanted: Wanted, strict_ns: int) -> Entry:
        slot = self._neighbours.owner(key, 0)
        if slot is not None:
            try:
                return await self._ask_neighbour(slot, key, wanted, strict=bool(strict_ns))
            except Gone:
                pass  # it is being replaced; one question too many is no harm
        return await self.ask_here(key, wanted, strict_ns)

    async def _ask_neighbour(self, slot: int, key: bytes, wanted: Wanted, *, strict: bool) -> Entry:
        question: Message = {"do": "current", "key": key.decode(), "strict": strict, **wanted._asdict()}
        async for reply in self._neighbours.ask(slot, question):
            if "direct" in reply:
                raise Direct
            if "error" in reply:
                raise decode_error(reply["error"])
            entry = self._store.entry(key)
            if entry is None or entry.version != reply["version"]:
                raise Superseded("it changed again while the answer was on its way")
            return entry
        raise Gone

    async def ask_here(self, key: bytes, wanted: Wanted, strict_ns: int) -> Entry:
        """This process asks the origin, or waits for somebody who has. `strict_ns`: the answer must be to a
        question that was asked since."""
        while True:
            asking = self._running.get(key)
            if asking is None:
                asking = self._running[key] = _Asking(wanted.checksums)
                self._tasks.spawn(self._question(asking, key, wanted), "ask the origin")
            elif asking.answer.done() or asking.started_ns < strict_ns or wanted.checksums > asking.checksums:
                # An answer that is out is the index's business: a write may have made it worthless since. Its body
                # may go on coming; the next question needs not wait for that.
                await asyncio.wait([asking.answer])
                if self._running.get(key) is asking:
                    del self._running[key]
                continue
            return await asyncio.shield(asking.answer)

    async def _question(self, asking: _Asking, key: bytes, wanted: Wanted) -> None:
        try:
            await self._put_question(asking, key, wanted)
        except NotFound as error:
            asking.fail(await self._absent(key, asking.started_ns) or error)
        except (GatewayError, Direct) as error:
            asking.fail(error)
        except BaseException:
            asking.fail(Gone())  # this worker ends, or has a bug: another may still do it
            raise
        finally:
            if self._running.get(key) is asking:
                del self._running[key]

    async def _put_question(self, asking: _Asking, key: bytes, wanted: Wanted) -> None:
        source = source_of(key, self._origins)
        known = self._store.entry(key)
        if known is not None and self._store.expired(known, time.time()):
            known = None  # a HEAD would only give the same bytes another version
        if wanted.first is None or (known is not None and known.state == OBJECT):
            asking.tell(await self._head(asking, key, source))
        elif not self._fills.admits(key, wanted.first, 0):
            raise Direct
        else:
            await self._discover(asking, key, source, wanted)

    async def _head(self, asking: _Asking, key: bytes, source: Source) -> Entry:
        asked_at = time.time()
        meta = await source.origin.head(source.remote)
        asking.checksums = True
        return await self.install(entry_of(key, meta, asked_at, sums=True), asking.started_ns)

    async def _discover(self, asking: _Asking, key: bytes, source: Source, wanted: Wanted) -> None:
        asked_at = time.time()
        whole = wanted.checksums and wanted.first == 0 and self._small.get(_prefix(key), False)
        beside = wanted.checksums and not whole
        head = self._tasks.spawn(_quiet_head(source), "ask for checksums") if beside else None

        async def install(meta: ObjectMeta) -> Entry:
            said = None if head is None else await head
            if said is not None and (said.etag, said.size) == (meta.etag, meta.size):
                meta = said
            entry = entry_of(key, meta, asked_at, sums=whole or meta is said)
            installed = await self.install(entry, asking.started_ns)
            if not installed.version:
                raise Direct
            return installed

        assert wanted.first is not None
        try:
            last = None if whole else wanted.last
            await self._fills.discover(source, wanted.first, last, install, asking.tell)
        except RangeNotSatisfiable:  # an empty object, or a read past the end
            asking.tell(await self._head(asking, key, source))

    async def install(self, entry: Entry, started_ns: int) -> Entry:
        """Into the index; as it is, with version 0, where the index takes nothing. Raises Superseded."""
        self._learn_size(entry)
        known = self._store.entry(entry.key)
        sums = entry.checksum_wire
        if (
            sums == SUMS_UNKNOWN
            and known is not None
            and known.same_object(entry.etag, entry.size, entry.last_modified)
        ):
            sums = known.checksum_wire
        try:
            return await self._store.install(
                entry.key,
                etag=entry.etag,
                size=entry.size,
                last_modified=entry.last_modified,
                wire=entry.wire,
                checksum_wire=sums,
                started_ns=started_ns,
                validated_at=entry.validated_at,
            )
        except StoreFull:
            return entry

    def _learn_size(self, entry: Entry) -> None:
        prefix = _prefix(entry.key)
        if prefix not in self._small and len(self._small) >= PREFIXES_MAX:
            self._small.popitem(last=False)
        self._small[prefix] = entry.size <= self._small_bytes

    async def remember(self, entry: Entry, started_ns: int) -> None:
        """What a straight read learned on its way; that a write came in between is the next reader's affair."""
        with contextlib.suppress(Superseded):
            await self.install(entry, started_ns)

    async def _absent(self, key: bytes, started_ns: int) -> GatewayError | None:
        """Remembers it; an error instead when a write finished meanwhile."""
        try:
            await self._store.install_absent(key, started_ns=started_ns, validated_at=time.time())
        except Superseded as error:
            return error
        except StoreFull:
            pass
        return None


def _prefix(key: bytes) -> bytes:
    return key.rpartition(b"/")[0]


def _existing(entry: Entry) -> Entry:
    if entry.state == ABSENT:
        raise NotFound("The specified key does not exist.")
    return entry


async def _quiet_head(source: Source) -> ObjectMeta | None:
    """For what can be done without."""
    try:
        return await source.origin.head(source.remote)
    except GatewayError:
        return None


async def current_meta(services: Any, view: Any, target: Any) -> ObjectMeta:
    """What a read of `target` would find now, under its rule. Raises NotFound, Changed and what origins raise."""
    rule = view.rules.match(target.bucket, target.key)
    if not rule.cache:
        meta: ObjectMeta = await services.origin(target).head(target.remote)
        return meta
    wanted = Wanted(checksums=True)
    entry = await services.reads.questions.current(target.cache_key, rule.fresh_s, wanted, rule.ttl_s)
    return meta_of_entry(entry)
