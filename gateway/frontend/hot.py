"""The hot path: a GetObject or HeadObject of which everything is in the page cache, answered inside the read callback.

No task, no await, no object per request beyond its head and record. Whatever is not plain (a miss, a stale entry, an
unchecked block, an override, an error of any kind) returns False, and the handlers begin from the start: so there is
one place that judges errors, and this one only has to be right about successes.

The order is the invariant's: through the door (`admit_read`), then the rule, then the index.

Where the time of a 4 KiB hit goes is in ARCHITECTURE.md, measured by `loadtest/hot_profile.py`.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Final

from gateway.cache.store import OBJECT, SMALL_MAX, Entry, Extent
from gateway.frontend.exchange import RequestHead
from gateway.frontend.request import admit_read
from gateway.objects.context import Services
from gateway.objects.revalidate import SUMS_UNKNOWN, is_fresh
from gateway.s3.conditions import check, parse_conditions
from gateway.s3.errors import S3Error
from gateway.s3.ranges import parse_range

if TYPE_CHECKING:
    from gateway.frontend.connection import HotConnection
    from gateway.frontend.exchange import FileSlice

# A read of more blocks is better served by a stream with a window than by one long list of slices.
BLOCKS_MAX: Final = 64

_CONDITIONS: Final = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since"})
# Headers that change nothing about what a hit's answer is. Any other name sends the request to the handlers.
_PLAIN: Final = _CONDITIONS | frozenset(
    "accept accept-encoding accept-language amz-sdk-invocation-id amz-sdk-request authorization cache-control"
    " connection content-length content-type date host pragma priority range te user-agent x-amz-api-version"
    " x-amz-checksum-mode x-amz-content-sha256 x-amz-date x-amz-user-agent x-amzn-trace-id x-forwarded-for"
    " x-forwarded-host x-forwarded-proto x-real-ip".split()
)
_SIGNING: Final = frozenset({"awsaccesskeyid", "expires", "signature"})


class HotPath:
    """Implements `application.Hot`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._reads = services.reads
        self._store = services.reads.store
        self._block_size = services.reads.block_size
        self._domain = services.domain

    def __call__(self, connection: HotConnection, head: RequestHead, /) -> bool:
        headers = head.headers
        if not _PLAIN.issuperset(headers):
            return False
        view = self._services.view
        now = time()
        admitted = admit_read(head, view, self._domain, now)
        if admitted is None or admitted.target is None:
            return False
        address, target = admitted.address, admitted.target
        if address.query and not all(map(_harmless, address.query)):
            return False
        rule = view.rules.match(target.bucket, target.key)
        if not rule.cache:
            return False
        wanted = headers.get("range")
        entry, extents = self._store.lookup(target.cache_key, 0, 0 if wanted is None else -1)
        if entry is None or entry.state != OBJECT or not is_fresh(entry, rule.fresh_s, now):
            return False
        record = connection.record
        record.op = admitted.operation.name
        record.identity = view.access.name_of(admitted.auth.access_key)
        if not _CONDITIONS.isdisjoint(headers):
            code = check(parse_conditions(headers), entry.etag, entry.last_modified)
            if code is not None:
                return False
        return self._answer(connection, head, entry, extents, wanted, target.origin)

    def _answer(
        self,
        connection: HotConnection,
        head: RequestHead,
        entry: Entry,
        extents: list[Extent | None],
        wanted: str | None,
        origin: str,
    ) -> bool:
        span = None
        if wanted is not None:
            try:
                span = parse_range(wanted, entry.size)
            except S3Error:
                return False
        start, stop = span or (0, entry.size)
        sums = b""
        if (
            span is None
            and wanted is None
            and head.headers.get("x-amz-checksum-mode", "").lower() == "enabled"
        ):
            sums = entry.checksum_wire
            if sums == SUMS_UNKNOWN:
                return False
        record = connection.record
        if head.method == "HEAD":
            record.outcome = "hit"
            connection.answer(self._head(connection, entry, span, stop - start, sums))
            return True
        if start == stop:
            connection.answer(self._head(connection, entry, span, 0, sums))
            return True
        first, last = start // self._block_size, (stop - 1) // self._block_size
        if last - first >= BLOCKS_MAX:
            return False
        if wanted is not None or last:
            block, version = self._store.block, entry.version
            extents = [block(version, number) for number in range(first, last + 1)]
        length = stop - start
        record.outcome = "hit"
        if length <= SMALL_MAX and first == last:
            extent = extents[0]
            data = (
                None
                if extent is None
                else self._store.read_small(extent, start - first * self._block_size, length)
            )
            if data is None:
                return False
            connection.answer(self._head(connection, entry, span, length, sums), data)
        else:
            slices = self._slices(extents, start, stop)
            if slices is None:
                return False
            connection.answer_files(self._head(connection, entry, span, length, sums), slices)
        self._reads.count(origin, length, 0)
        if span is not None and stop < entry.size:
            self._reads.noted(entry, start, stop)
        return True

    def _slices(
        self, extents: list[Extent | None], start: int, stop: int
    ) -> list[tuple[FileSlice, int, int]] | None:
        """Where bytes [start, stop) lie, block by block; None unless all are there and checked."""
        store = self._store
        position = start - start % self._block_size
        slices: list[tuple[FileSlice, int, int]] = []
        for extent in extents:
            if extent is None or not store.verified(extent):
                return None
            segment = store.segment(extent.segment)
            if segment is None:
                return None
            skip = start - position if start > position else 0
            slices.append((segment, extent.offset + skip, min(extent.length, stop - position) - skip))
            position += self._block_size
        for extent in extents:
            store.touch(extent)  # type: ignore[arg-type]  # the loop above has seen them all
        return slices

    def _head(
        self,
        connection: HotConnection,
        entry: Entry,
        span: tuple[int, int] | None,
        length: int,
        sums: bytes,
    ) -> bytes:
        record = connection.record
        if span is None:
            record.status = 200
            line = b"HTTP/1.1 200 OK\r\n"
            cut = b""
        else:
            record.status = 206
            line = b"HTTP/1.1 206 Partial Content\r\n"
            cut = b"Content-Range: bytes %d-%d/%d\r\n" % (span[0], span[1] - 1, entry.size)
        return b"%b%bx-amz-request-id: %b\r\nx-gateway-cache: hit\r\nContent-Length: %d\r\n%b%b%b\r\n" % (
            line,
            connection.base_headers,
            record.request_id.encode("ascii"),
            length,
            cut,
            entry.wire,
            sums,
        )


def _harmless(pair: tuple[str, str]) -> bool:
    """A query key that names no part, version or override: the signature's own, and `x-id` of some SDKs."""
    name = pair[0].lower()
    return name.startswith("x-") or name in _SIGNING
