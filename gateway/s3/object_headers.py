"""An object's response headers as wire bytes, built once and sent verbatim on every hit, and the way back.

    wire      ETag, Last-Modified, Accept-Ranges, then ObjectMeta.headers:  b"Name: value\\r\\n" each
    checksum  ObjectMeta.checksums in the same form; sent on whole-object answers only

What comes from an origin is not trusted: a name that is no token, or CR, LF, NUL or text beyond latin-1 in a
value, is refused (ValueError), so nothing stored here can start another header or another answer.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache

from gateway.model import ObjectMeta
from gateway.s3.conditions import parse_http_date

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# Their wire form; every other name goes out in lower case, which x-amz-meta-* must keep.
_NAMES = {
    "cache-control": "Cache-Control",
    "content-disposition": "Content-Disposition",
    "content-encoding": "Content-Encoding",
    "content-language": "Content-Language",
    "content-type": "Content-Type",
    "expires": "Expires",
}
# The connection's own: an origin must not set them through stored headers.
_RESERVED = frozenset(
    {
        "accept-ranges",
        "connection",
        "content-length",
        "content-range",
        "date",
        "etag",
        "keep-alive",
        "last-modified",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-amz-request-id",
        "x-gateway-cache",
        "x-gateway-node",
    }
)


def wire_lines(meta: ObjectMeta) -> bytes:
    """All that `meta` says but its size and checksums. Raises ValueError for what cannot be a header."""
    head = [("ETag", meta.etag), ("Last-Modified", http_date(meta.last_modified)), ("Accept-Ranges", "bytes")]
    return header_lines(head) + _lines(meta.headers)


def checksum_lines(meta: ObjectMeta) -> bytes:
    """The stored checksums. Raises ValueError for what cannot be a header."""
    return _lines(meta.checksums)


def header_lines(headers: Iterable[tuple[str, str]]) -> bytes:
    """`Name: value` lines in order. Raises ValueError for what cannot be a header."""
    lines = []
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError("not a header")
        lines.append(f"{name}: {value.strip(' ')}\r\n")
    return "".join(lines).encode("latin-1")


def _lines(headers: Mapping[str, str]) -> bytes:
    return header_lines(
        (_NAMES.get(name, name), value)
        for name, value in ((name.lower(), value) for name, value in headers.items())
        if name not in _RESERVED
    )


def meta_of(size: int, wire: bytes, checksum: bytes) -> ObjectMeta:
    """The inverse of the two. Raises ValueError for bytes that they did not make."""
    pairs = _pairs(wire)
    if [name for name, _ in pairs[:3]] != ["etag", "last-modified", "accept-ranges"]:
        raise ValueError("not an object's headers")
    modified = parse_http_date(pairs[1][1])
    if modified is None:
        raise ValueError("not an object's headers")
    return ObjectMeta(size, pairs[0][1], modified, dict(pairs[3:]), dict(_pairs(checksum)))


def _pairs(wire: bytes) -> list[tuple[str, str]]:
    if not wire:
        return []
    if not wire.endswith(b"\r\n"):
        raise ValueError("not header lines")
    pairs = []
    for line in wire[:-2].decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(": ")
        if not colon:
            raise ValueError("not header lines")
        pairs.append((name.lower(), value))
    return pairs


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@lru_cache(1024)
def http_date(seconds: int) -> str:
    """IMF-fixdate (RFC 9110 §5.6.7), independent of the locale."""
    at = time.gmtime(seconds)
    return (
        f"{_DAYS[at.tm_wday]}, {at.tm_mday:02d} {_MONTHS[at.tm_mon - 1]} {at.tm_year:04d} "
        f"{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d} GMT"
    )
