"""The hot path: a GetObject or HeadObject of which everything is in the page cache, answered inside the read callback.

No task, no await, hardly an object per request beyond its head and record. Whatever is not plain (a miss, a stale
entry, an unchecked block, an override, an error of any kind) returns False, and the handlers begin from the start: so
there is one place that judges errors, and this one only has to be right about successes.

The order is the invariant's: through the door (`request.py`), then the rule, then the index.

What a target without a query has been found to mean is remembered (`_Known`): its address, its mount and rule, who
was allowed it last, and what the index says of it. The last holds as long as no worker of the node has committed
anything since (`Store.stamp`), which in a warm epoch is for ever, the rest as long as the view does. Signature,
freshness and conditions are judged on every request, rights whenever another signs.

That saves two fifths of a hit, but only of a data set that a worker can remember, and only from its second reading on.
So what is done for a target that is not remembered is kept short, too (`loadtest`, scenario `hit_many`).

Where the time of a 4 KiB hit goes: `python -m loadtest.hot_profile`.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Final

from gateway.cache.store import OBJECT, SMALL_MAX, Entry, Extent
from gateway.frontend.exchange import RequestHead
from gateway.frontend.request import READ_METHODS, admit_read, admit_signed, signer_of
from gateway.frontend.traits import Traits
from gateway.namespace.mounts import Target
from gateway.namespace.rules import Rule
from gateway.objects.context import Services, View
from gateway.objects.revalidate import SUMS_UNKNOWN, trusted
from gateway.s3.conditions import check, parse_conditions
from gateway.s3.errors import S3Error
from gateway.s3.operations import SIGNATURE_KEYS, Operation
from gateway.s3.ranges import parse_range

if TYPE_CHECKING:
    from gateway.frontend.connection import HotConnection
    from gateway.frontend.exchange import FileSlice

# A read of more blocks is better served by a stream with a window than by one long list of slices.
BLOCKS_MAX: Final = 64
# Some 1.7 KB each. Full, they are forgotten, two for each new one, as all at once would stop everything for 20 ms;
# keeping an order would cost more on every hit.
KNOWN_MAX: Final = 32_768

# Of a query: the signature's own, and what some SDKs add. Others may stand for headers (`operations.hoist`).
_SIGNING: Final = SIGNATURE_KEYS | {"awsaccesskeyid", "expires", "signature", "x-id"}


class _Known:
    """`stamp` -1: the index has to be asked. `extents`: of the whole object, up to `BLOCKS_MAX` blocks. `since`,
    `until`: when the entry may be served without a question.

    `who` and `whose`: the access key that was allowed this last under `view`, and its identity's name.

    `single`: the one block that is the whole object, for a GET of which the head's end is made once: `tail`, and with
    the stored checksums `tail_sums`, each when it is first asked for."""

    __slots__ = (
        "action",
        "bucket",
        "cache_key",
        "entry",
        "extents",
        "key",
        "op",
        "origin",
        "rule",
        "since",
        "single",
        "stamp",
        "tail",
        "tail_sums",
        "until",
        "view",
        "who",
        "whose",
    )

    def __init__(self, view: View, operation: Operation, target: Target, rule: Rule, who: str) -> None:
        self.view = view
        self.rule = rule
        self.op = operation.name
        self.action = operation.action
        self.bucket = target.bucket
        self.key = target.key
        self.cache_key = target.cache_key
        self.origin = target.origin
        self.stamp = -1
        self.entry: Entry | None = None
        self.since = self.until = 0.0
        self.extents: list[Extent | None] = []
        self.single: Extent | None = None
        self.tail: bytes | None = None
        self.tail_sums: bytes | None = None
        self.who = who
        self.whose = view.access.name_of(who)

    def found(self, entry: Entry | None, extents: list[Extent | None], stamp: int) -> None:
        self.entry, self.extents, self.stamp = entry, extents, stamp
        self.single = self.tail = self.tail_sums = None
        if entry is not None:
            self.since, self.until = trusted(entry, self.rule.fresh_s, self.rule.ttl_s)
            if len(extents) == 1 and entry.size and self.op == "GetObject":
                self.single = extents[0]

    def make_tail(self, *, sums: bool) -> bytes | None:
        """None when nobody has asked the origin for the checksums yet."""
        entry = self.entry
        assert entry is not None
        if sums and entry.checksum_wire == SUMS_UNKNOWN:
            return None
        tail = b"\r\nx-gateway-cache: hit\r\nContent-Length: %d\r\n%b%b\r\n" % (
            entry.size,
            entry.wire,
            entry.checksum_wire if sums else b"",
        )
        if sums:
            self.tail_sums = tail
        else:
            self.tail = tail
        return tail


class HotPath:
    """`answer` is an `application.Hot`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._reads = services.reads
        self._store = services.reads.store
        self._block_size = services.reads.block_size
        self._domain = services.domain
        self._known: dict[str, _Known] = {}
        self._forgotten: dict[str, _Known] = {}
        self._sent: dict[str, int] = {}  # bytes by origin, not counted yet

    def adopt(self, services: Services) -> None:
        """What was learned under another view is not only useless: it would keep taken-away secrets alive."""
        self._services = services
        self._known.clear()
        self._forgotten.clear()

    def publish(self) -> None:
        """Counts what was sent since the last time: on a hit, even a dictionary of metrics costs too much."""
        sent, self._sent = self._sent, {}
        for origin, length in sent.items():
            self._reads.count(origin, length, 0)

    def answer(self, connection: HotConnection, head: RequestHead, /) -> bool:
        """True if it has answered."""
        shape = head.shape
        if shape is not None:
            traits = shape.traits
        elif head.method in READ_METHODS:
            traits = Traits.of(head.headers)
        else:
            return False
        if not traits.plain:
            return False
        view = self._services.view
        now = time()
        known = self._judge(head, view, now) if "?" in head.target else self._know(head, view, now)
        if known is None:
            return False
        stamp = self._store.stamp()
        if known.stamp != stamp:
            self._look_up(known, stamp)
        entry = known.entry
        if entry is None or not known.since <= now < known.until:
            return False
        record = connection.record
        record.op = known.op
        record.identity = known.whose
        if known.single is not None and traits.whole:
            return self._answer_single(connection, known, entry.version, known.single, traits.sums)
        if traits.conditional:
            code = check(parse_conditions(head.headers), entry.etag, entry.last_modified)
            if code is not None:
                return False
        return self._answer(connection, head, known, entry, traits)

    def _answer_single(
        self, connection: HotConnection, known: _Known, version: int, extent: Extent, sums: bool
    ) -> bool:
        """The whole of an object of one block: what a data set of samples is made of."""
        tail = known.tail_sums if sums else known.tail
        if tail is None:
            tail = known.make_tail(sums=sums)
            if tail is None:
                return False
        small = extent.length <= SMALL_MAX
        data = self._store.read_small(extent, 0, extent.length) if small else None
        source = None if small else self._store.sendable(extent, version, 0)
        if data is None and source is None:
            return False
        record = connection.record
        record.status, record.outcome = 200, "hit"
        parts = b"HTTP/1.1 200 OK\r\n", connection.base_headers, record.request_id.encode(), tail
        if source is not None:
            connection.answer_files(b"".join(parts), [(source, extent.offset, extent.length)])
        elif data is not None:
            connection.answer(b"".join((*parts, data)), extent.length)
        self._sent[known.origin] = self._sent.get(known.origin, 0) + extent.length
        return True

    def _know(self, head: RequestHead, view: View, now: float) -> _Known | None:
        """What a target without a query means, to whoever may read it and signed for it."""
        access_key = signer_of(head, view, now)
        if access_key is None:
            return None
        name = head.method + head.target
        if self._domain:
            name = f"{head.headers.get('host')} {name}"
        known = self._known.get(name)
        if known is None or known.view is not view:
            admitted = admit_signed(head, view, self._domain, access_key)
            if admitted is None:
                return None
            operation, target = admitted
            rule = view.rules.match(target.bucket, target.key)
            if not rule.cache:
                return None
            self._make_room()
            self._known[name] = known = _Known(view, operation, target, rule, access_key)
        elif access_key != known.who:
            if not view.access.allowed(access_key, known.action, known.bucket, known.key):
                return None
            known.who, known.whose = access_key, view.access.name_of(access_key)
        return known

    def _make_room(self) -> None:
        forgotten = self._forgotten
        if forgotten:
            forgotten.popitem()
            if forgotten:
                forgotten.popitem()
        elif len(self._known) >= KNOWN_MAX:
            self._forgotten, self._known = self._known, forgotten

    def _judge(self, head: RequestHead, view: View, now: float) -> _Known | None:
        """As `_know`, of a target with a query. Not remembered: a presigned URL is seldom used twice, and its query is
        part of what it means. An empty one is, too: `/k?` may be signed as the path of another key."""
        admitted = admit_read(head, view, self._domain, now)
        if admitted is None:
            return None
        access_key, operation, address, target = admitted
        if not all(map(_harmless, address.query)):
            return None
        rule = view.rules.match(target.bucket, target.key)
        return _Known(view, operation, target, rule, access_key) if rule.cache else None

    def _look_up(self, known: _Known, stamp: int) -> None:
        entry, extents = self._store.lookup(known.cache_key, 0, 0)
        if entry is not None and entry.state != OBJECT:
            entry = None
        if entry is not None and entry.size > self._block_size:
            last = min((entry.size - 1) // self._block_size, BLOCKS_MAX - 1)
            block, version = self._store.block, entry.version
            extents += [block(version, number) for number in range(1, last + 1)]
        known.found(entry, extents, stamp)

    def _answer(
        self, connection: HotConnection, head: RequestHead, known: _Known, entry: Entry, traits: Traits
    ) -> bool:
        wanted = None if traits.whole else head.headers.get("range")
        span, sums = None, b""
        if wanted is not None:
            try:
                span = parse_range(wanted, entry.size)
            except S3Error:
                return False
        elif traits.sums:
            sums = entry.checksum_wire
            if sums == SUMS_UNKNOWN:
                return False
        start, stop = span or (0, entry.size)
        length = stop - start
        if head.method == "HEAD" or not length:
            connection.record.outcome = "hit"
            connection.answer(_head_bytes(connection, entry, span, length, sums), 0)
            return True
        block_size = self._block_size
        first, last = start // block_size, (stop - 1) // block_size
        extents: list[Extent | None] = known.extents
        if last < BLOCKS_MAX:
            pass
        elif last - first < BLOCKS_MAX:
            block, version = self._store.block, entry.version
            extents = [None] * first
            extents += [block(version, number) for number in range(first, last + 1)]
        else:
            return False
        return self._send(connection, known, extents, span, (start, stop), sums)

    def _send(
        self,
        connection: HotConnection,
        known: _Known,
        extents: list[Extent | None],
        span: tuple[int, int] | None,
        bounds: tuple[int, int],
        sums: bytes,
    ) -> bool:
        start, stop = bounds
        length = stop - start
        block_size = self._block_size
        first, last = start // block_size, (stop - 1) // block_size
        entry = known.entry
        assert entry is not None
        connection.record.outcome = "hit"
        if length <= SMALL_MAX and first == last:
            extent = extents[first]
            if extent is None:
                return False
            data = self._store.read_small(extent, start - first * block_size, length)
            if data is None:
                return False
            connection.answer(b"".join((_head_bytes(connection, entry, span, length, sums), data)), length)
        else:
            slices = self._slices(entry, extents[first : last + 1], first, start, stop)
            if slices is None:
                return False
            connection.answer_files(_head_bytes(connection, entry, span, length, sums), slices)
        self._sent[known.origin] = self._sent.get(known.origin, 0) + length
        if span is not None and stop < entry.size:
            self._reads.noted(entry, start, stop, known.rule.read_ahead)
        return True

    def _slices(
        self, entry: Entry, extents: list[Extent | None], first: int, start: int, stop: int
    ) -> list[tuple[FileSlice, int, int]] | None:
        """Where bytes [start, stop) lie, block by block; None unless all are there and may be sent."""
        sendable, version, block_size = self._store.sendable, entry.version, self._block_size
        slices: list[tuple[FileSlice, int, int]] = []
        for block, extent in enumerate(extents, first):
            source = None if extent is None else sendable(extent, version, block)
            if source is None or extent is None:
                return None
            position = block * block_size
            skip = start - position if start > position else 0
            slices.append((source, extent.offset + skip, min(extent.length, stop - position) - skip))
        return slices


def _head_bytes(
    connection: HotConnection, entry: Entry, span: tuple[int, int] | None, length: int, sums: bytes
) -> bytes:
    record = connection.record
    if span is None:
        record.status = 200
        line, cut = b"HTTP/1.1 200 OK\r\n", b""
    else:
        record.status = 206
        line = b"HTTP/1.1 206 Partial Content\r\n"
        cut = b"Content-Range: bytes %d-%d/%d\r\n" % (span[0], span[1] - 1, entry.size)
    return b"%b%b%b\r\nx-gateway-cache: hit\r\nContent-Length: %d\r\n%b%b%b\r\n" % (
        line,
        connection.base_headers,
        record.request_id.encode("ascii"),
        length,
        cut,
        entry.wire,
        sums,
    )


def _harmless(pair: tuple[str, str]) -> bool:
    """A query key that names no part, version, override or header."""
    return pair[0].lower() in _SIGNING
