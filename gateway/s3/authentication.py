"""What authentication proves, and the parts that all its forms share: payload words, dates, keys, canonical
forms. Source: Amazon S3 API Reference, "Authenticating Requests (AWS Signature Version 4)"."""

from __future__ import annotations

import calendar
import hashlib
import hmac
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Final, NamedTuple

from gateway.s3.address import host_name
from gateway.s3.errors import S3Error
from gateway.s3.text import percent_decode_bytes, uri_encode

ALGORITHM: Final = "AWS4-HMAC-SHA256"
SKEW_S: Final = 15 * 60
UNSIGNED: Final = "UNSIGNED-PAYLOAD"
STREAMING_UNSIGNED_TRAILER: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
STREAMING_SIGNED: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
PAYLOAD_WORDS: Final = frozenset(
    {UNSIGNED, STREAMING_UNSIGNED_TRAILER, STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, EMPTY_SHA256}
)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_HEX64 = re.compile(r"[0-9a-fA-F]{64}")
_AMZ_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z", re.ASCII)
_CREDENTIAL = re.compile(r"(?s)(.{1,256})/(\d{8})/([A-Za-z0-9_-]{1,64})/s3/aws4_request", re.ASCII)


class Authenticated(NamedTuple):
    """A request whose signature holds.

    payload      the value of x-amz-content-sha256: a hex digest or one of PAYLOAD_WORDS; UNSIGNED without one
    signature    hex; the seed of the chunk signatures of STREAMING-AWS4-… bodies
    date, scope  `20260101T000000Z` and `20260101/region/s3/aws4_request`, "" with SigV2
    signing_key  the derived SigV4 key, b"" with SigV2 (such a body cannot be chunk-signed)
    """

    access_key: str
    payload: str
    signature: str
    date: str
    scope: str
    signing_key: bytes
    presigned: bool

    def __repr__(self) -> str:
        """Without the signature and the key: reprs end in logs."""
        return f"Authenticated(access_key={self.access_key!r}, payload={self.payload!r})"


class SigningKey:
    """A derived key with its two HMAC states already keyed.

    Copying two keyed SHA-256 states costs 0.5 µs against 1.1 µs of OpenSSL's one-shot HMAC, which fetches
    and keys the digest anew on each call (timeit, CPython 3.11; the pure `_sha256` is slower than either).

    `names`: what a secret is prefixed with, the service and the end of the scope; those of S3 unless given.
    """

    __slots__ = ("inner", "key", "outer")

    def __init__(
        self,
        secret: str,
        day: str,
        region: str,
        names: tuple[str, str, str] = ("AWS4", "s3", "aws4_request"),
    ) -> None:
        prefix, *steps = names
        key = hmac.digest((prefix + secret).encode("utf-8"), day.encode("ascii"), "sha256")
        for step in (region, *steps):
            key = hmac.digest(key, step.encode("ascii"), "sha256")
        padded = key.ljust(64, b"\0")
        self.key = key
        self.inner = hashlib.sha256(bytes(b ^ 0x36 for b in padded))
        self.outer = hashlib.sha256(bytes(b ^ 0x5C for b in padded))

    def sign(self, message: bytes) -> str:
        inner, outer = self.inner.copy(), self.outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.hexdigest()


# Keys live for a day; 1024 covers every identity times the regions clients name. lru_cache holds secrets
# only in this process's memory, where the configuration holds them anyway.
signing_key = lru_cache(1024)(SigningKey)


def parse_credential(value: str) -> tuple[str, str, str] | None:
    """(access key, day, region) of `AKID/20260101/region/s3/aws4_request`, else None."""
    found = _CREDENTIAL.fullmatch(value)
    return (found[1], found[2], found[3]) if found else None


@lru_cache(1024)  # one value per client and second
def amz_date(value: str) -> int | None:
    """Seconds since the epoch of `20260101T000000Z`, None when it is not such a date."""
    found = _AMZ_DATE.fullmatch(value)
    if found is None:
        return None
    year, month, day, hour, minute, second = map(int, found.groups())
    if year < 1 or not 1 <= month <= 12 or not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    if hour > 23 or minute > 59 or second > 60:
        return None
    return calendar.timegm((year, month, day, hour, minute, second))


def check_payload(value: str) -> None:
    """Raises InvalidArgument unless `value` may stand in x-amz-content-sha256."""
    if value not in PAYLOAD_WORDS and not _HEX64.fullmatch(value):
        raise S3Error(
            "InvalidArgument",
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a supported STREAMING- word or a SHA-256 in hex.",
        )


class Query(NamedTuple):
    """A query for authentication: canonical (name, value) pairs in canonical order, and which way of signing
    the names speak of: "v4", "v2" or ""."""

    pairs: tuple[tuple[str, str], ...]
    text: str
    kind: str


_NO_QUERY = Query((), "", "")


def analyse_query(raw: str) -> Query:
    if not raw:
        return _NO_QUERY
    # Long queries hardly repeat; caching them would only let clients fill memory (1024 entries of 8 kB).
    return _analyse_cached(raw) if len(raw) <= 128 else _analyse(raw)


def _analyse(raw: str) -> Query:
    pairs = []
    kind = ""
    for item in raw.split("&"):
        if not item:
            continue
        name, _, value = item.partition("=")
        name = _recode(name)
        pairs.append((name, _recode(value)))
        lower = name.lower()
        if lower in ("x-amz-algorithm", "x-amz-credential", "x-amz-signature"):
            kind = "v4"
        elif lower in ("awsaccesskeyid", "signature"):
            kind = kind or "v2"
    pairs.sort()
    return Query(tuple(pairs), "&".join([f"{name}={value}" for name, value in pairs]), kind)


_analyse_cached = lru_cache(1024)(_analyse)


def _recode(wire: str) -> str:
    return uri_encode(percent_decode_bytes(wire.replace("+", "%20")), keep_slash=False)


def raw_query_sorted(raw: str, without: str = "") -> str:
    """The query as sent, only sorted: what a few clients sign instead of the canonical encoding."""
    items = [item if "=" in item else item + "=" for item in raw.split("&") if item]
    return "&".join(sorted(item for item in items if not without or not item.startswith(without)))


def candidates(
    key: SigningKey,
    method: str,
    raw_path: str,
    queries: Iterable[str],
    names: Sequence[str],
    headers: Mapping[str, str],
    payloads: Iterable[str],
    date: str,
    scope: str,
) -> Iterator[str]:
    """Every signature that stock clients could have made for this request, the proper one first: the path as
    sent or encoded anew, the query encoded or as sent, Host with or without its port. Raises KeyError for an
    absent header. All variants name the same bucket, key and parameters, so none widens what a signature is
    good for."""
    hosts = host_variants(headers["host"])
    blocks = [header_block(names, {**headers, "host": host}) for host in hosts]
    for path, query, block, payload in product(_unique(path_variants(raw_path)), queries, blocks, payloads):
        canonical = f"{method}\n{path}\n{query}\n{block}{payload}".encode("latin-1")
        digest = hashlib.sha256(canonical).hexdigest()
        yield key.sign(f"{ALGORITHM}\n{date}\n{scope}\n{digest}".encode("latin-1"))


def header_block(names: Sequence[str], headers: Mapping[str, str]) -> str:
    """The canonical headers and the line of their names, each with what follows it in a canonical request."""
    lines = "".join([f"{name}:{trim(headers[name])}\n" for name in names])
    return f"{lines}\n{';'.join(names)}\n"


def same(expected: str, given: str) -> bool:
    """In constant time. Bytes, because compare_digest raises on text that is not ASCII."""
    return hmac.compare_digest(expected.encode("latin-1"), given.encode("latin-1"))


def path_variants(raw_path: str) -> Iterator[str]:
    """As sent; decoded once and encoded; the same with `%2F` kept."""
    yield raw_path
    yield uri_encode(percent_decode_bytes(raw_path))
    parts = raw_path.split("/")
    yield "/".join([uri_encode(percent_decode_bytes(part), keep_slash=False) for part in parts])


def host_variants(host: str) -> Iterator[str]:
    """Host as sent, and without its port, which some clients leave out of what they sign."""
    yield host
    if (bare := host_name(host)) != host:
        yield bare


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


_SPACES = re.compile(r"[ \t]+")


def trim(value: str) -> str:
    """A header value as SigV4 hashes it: trimmed, inner runs of spaces collapsed."""
    return _SPACES.sub(" ", value).strip(" ")


def check_names(signed: str, malformed: str) -> list[str]:
    """SignedHeaders: lower-case names, `host` among them. Raises S3Error(malformed) or AccessDenied."""
    names = signed.split(";")
    if not all(map(_NAME.fullmatch, names)):
        raise S3Error(malformed, "The signed headers must be lower-case header names.")
    if "host" not in names:
        raise S3Error("AccessDenied", "The Host header must be signed.")
    return names


def check_all_signed(headers: Mapping[str, str], signed: Container[str]) -> None:
    """Every x-amz-* header that is there must be covered, or anybody on the way could add a copy source or
    an ACL."""
    if "x-amz-security-token" in headers:
        raise S3Error("InvalidToken")
    for name in headers:
        if name.startswith("x-amz-") and name not in signed:
            raise S3Error("AccessDenied", "An x-amz- header is not signed.", extra={"HeadersNotSigned": name})
