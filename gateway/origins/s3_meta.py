"""Headers of S3 answers as ObjectMeta and WriteResult, and the headers that a write may carry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from gateway.errors import Unreachable
from gateway.model import ObjectMeta, WriteResult
from gateway.origins.s3_xml import quoted
from gateway.s3.checksums import HEADER_PREFIX
from gateway.s3.conditions import parse_http_date

_STORED: Final = frozenset(
    """
    cache-control content-disposition content-encoding content-language content-type expires
    x-amz-archive-status x-amz-expiration x-amz-missing-meta x-amz-mp-parts-count x-amz-object-lock-legal-hold
    x-amz-object-lock-mode x-amz-object-lock-retain-until-date x-amz-replication-status x-amz-restore
    x-amz-storage-class x-amz-tagging-count x-amz-version-id x-amz-website-redirect-location
    """.split()
)
_STORED_PREFIXES: Final = ("x-amz-meta-", "x-amz-server-side-encryption")
_WRITTEN: Final = frozenset(
    "x-amz-expiration x-amz-version-id x-amz-copy-source-version-id x-amz-object-size x-amz-delete-marker".split()
)
_WRITTEN_PREFIXES: Final = (HEADER_PREFIX, "x-amz-server-side-encryption")


def object_meta(headers: Mapping[str, str], size: int, *, whole: bool) -> ObjectMeta:
    """`whole`: the answer speaks of the whole object, so its checksums are the object's. Raises Unreachable for an
    answer without ETag or date: nothing could be said of such an object later."""
    etag = headers.get("etag")
    modified = parse_http_date(headers.get("last-modified", ""))
    if not etag or modified is None:
        raise Unreachable("The origin's answer has no ETag or no Last-Modified.")
    stored = {
        name: value for name, value in headers.items() if name in _STORED or name.startswith(_STORED_PREFIXES)
    }
    checksums = {name: v for name, v in headers.items() if name.startswith(HEADER_PREFIX)} if whole else {}
    return ObjectMeta(size, quoted(etag), modified, stored, checksums)


def write_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of a write's answer that its client is to see."""
    return {
        name: value
        for name, value in headers.items()
        if name in _WRITTEN or name.startswith(_WRITTEN_PREFIXES)
    }


def write_result(headers: Mapping[str, str]) -> WriteResult:
    """Raises Unreachable without an ETag: then it is not certain that the write took place."""
    etag = headers.get("etag")
    if not etag:
        raise Unreachable("The origin's answer has no ETag.")
    return WriteResult(quoted(etag), write_headers(headers))


def sent_headers(headers: Mapping[str, str], *, checksums: bool) -> Iterator[tuple[str, str]]:
    """Those of a client's write that go to the origin; without `checksums` none that it would not know (they were
    verified here)."""
    for name, value in headers.items():
        if checksums or not name.startswith((HEADER_PREFIX, "x-amz-sdk-checksum")):
            yield name, value
