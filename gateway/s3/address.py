"""Where a request points: bucket and key, decoded exactly once from the raw target.

The answer is the only name that authorization, the cache and the origin ever see, so there is nothing to
disagree about: `..`, `.`, `//` and `%2e%2e` are literal parts of a key and never move a request into another
bucket; `%2F` in a key is a slash of the key; `%25ff` is `%ff`; a `+` in a path is a plus (in a query it is a
space, as S3 reads it).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from gateway.s3.errors import S3Error
from gateway.s3.text import percent_decode

KEY_BYTES_MAX = 1024
# No S3 call has more than a dozen; the bound keeps classification cheap.
QUERY_PAIRS_MAX = 100

# What S3 accepts for access, a little wider (upper case and `_` of legacy buckets): no slash, no leading
# dot, no `..`.
_BUCKET = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]", re.ASCII)


class Address(NamedTuple):
    """bucket "" means the service, key "" the bucket. `query` holds decoded pairs in order; a valueless key
    has ""."""

    bucket: str
    key: str
    raw_query: str = ""
    query: list[tuple[str, str]] = []  # noqa: RUF012 never mutated: an address is a value

    def get(self, name: str) -> str | None:
        """The first value of a query key, None when it is absent."""
        for key, value in self.query:
            if key == name:
                return value
        return None


class CopySource(NamedTuple):
    bucket: str
    key: str
    version_id: str | None


def parse_address(raw_path: str, raw_query: str, host: str, domain: str) -> Address:
    """Path style, or virtual-host style when `host` is `BUCKET.domain`. All arguments are wire text
    (latin-1).
    Raises InvalidURI, InvalidBucketName, KeyTooLongError, InvalidArgument."""
    if raw_path[:1] != "/":
        raise S3Error("InvalidURI", "The request target must be an absolute path.")
    query = parse_query(raw_query) if raw_query else []
    bucket = host_bucket(host, domain) if domain else None
    if bucket is not None:
        check_bucket(bucket)
        raw_key = raw_path[1:]
    else:
        raw_bucket, _, raw_key = raw_path[1:].partition("/")
        if not raw_bucket:
            if raw_key:
                raise S3Error("InvalidBucketName", "The path has no bucket.")
            return Address("", "", raw_query, query)
        bucket = _bucket(raw_bucket)
    return Address(bucket, decode_key(raw_key) if raw_key else "", raw_query, query)


@lru_cache(1024)  # the same few buckets on every request
def _bucket(wire: str) -> str:
    name = _decode(wire)
    check_bucket(name)
    return name


def check_bucket(name: str) -> None:
    """Raises InvalidBucketName unless S3 could have such a bucket (3–63 characters, `..` never)."""
    if not _BUCKET.fullmatch(name):
        raise S3Error("InvalidBucketName")


def decode_key(wire: str) -> str:
    """A key from its percent-encoded form. Raises InvalidURI (bad encoding, NUL) and KeyTooLongError."""
    key = _decode(wire)
    if len(key) * 4 > KEY_BYTES_MAX and len(key.encode("utf-8")) > KEY_BYTES_MAX:
        raise S3Error("KeyTooLongError", extra={"MaxSizeAllowed": str(KEY_BYTES_MAX)})
    return key


def _decode(wire: str) -> str:
    try:
        text = percent_decode(wire)
    except ValueError:
        raise S3Error("InvalidURI") from None
    if "\0" in text:
        raise S3Error("InvalidURI", "NUL is not allowed in a name.")
    return text


def parse_query(raw: str) -> list[tuple[str, str]]:
    """Decoded pairs in order. Raises InvalidURI (bad encoding, NUL) and InvalidArgument (too many)."""
    items = raw.split("&")
    if len(items) > QUERY_PAIRS_MAX:
        raise S3Error("InvalidArgument", "Too many query parameters.")
    pairs = []
    for item in items:
        if item:
            name, _, value = item.replace("+", " ").partition("=")
            pairs.append((_decode(name), _decode(value)))
    return pairs


def host_bucket(host: str, domain: str) -> str | None:
    """The bucket that a Host header names, None when it is not below `domain`. The port does not matter."""
    if not domain:
        return None
    name = host_name(host)
    suffix = "." + domain.lower()
    return name[: -len(suffix)] if name.endswith(suffix) else None


def host_name(host: str) -> str:
    """A Host header without its port and the root's dot, in lower case."""
    name, colon, port = host.rpartition(":")
    if colon and (not port or port.isdecimal()) and not (":" in name and not name.startswith("[")):
        host = name
    return host.lower().removesuffix(".")


def parse_copy_source(value: str) -> CopySource:
    """`x-amz-copy-source`: `[/]bucket/key[?versionId=…]`, percent-encoded. The key is literal, as in a path.
    Raises InvalidArgument, InvalidBucketName, KeyTooLongError."""
    path, mark, version = value.strip().partition("?")
    raw_bucket, slash, raw_key = path.removeprefix("/").partition("/")
    if not slash and "%2f" in raw_bucket.lower():  # some clients encode the slash after the bucket as well
        raw_bucket, slash, raw_key = _slash_decoded(raw_bucket)
    if not slash or not raw_key or raw_bucket.startswith("arn:"):
        raise S3Error("InvalidArgument", "x-amz-copy-source must be bucket/key.")
    version_id = None
    if mark:
        name, _, version_id = version.partition("=")
        if name != "versionId" or not version_id:
            raise S3Error("InvalidArgument", "x-amz-copy-source knows only ?versionId=.")
        version_id = _decode(version_id)
    return CopySource(_bucket(raw_bucket), decode_key(raw_key), version_id)


def _slash_decoded(wire: str) -> tuple[str, str, str]:
    at = wire.lower().index("%2f")
    return wire[:at], "/", wire[at + 3 :]
