"""A request's body: how long it will be, which digests it must match, which headers go on with it, and the
machine that turns its wire bytes into payload.

`plan` decides from the head alone, before a byte is read. `Payload` then does the work in two separable
steps: `decode` (framing) and `update_digests` (hashing, worth a thread). Nothing is proven before `finish`
returns: whoever passes the pieces on withholds the last one until then.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hmac import compare_digest

from gateway.s3 import checksums
from gateway.s3.authentication import PAYLOAD_WORDS, STREAMING_SIGNED, Authenticated
from gateway.s3.checksums import HEADER_PREFIX, HEADERS
from gateway.s3.chunked import MODES, ChunkedDecoder
from gateway.s3.errors import S3Error

# S3's bound for one PUT and one part.
BODY_BYTES_MAX = 5 << 30
# S3's bound for user metadata: names without their prefix, plus values.
METADATA_BYTES_MAX = 2048

_LENGTH = re.compile(r"[0-9]{1,19}")
_KEPT = frozenset(
    {
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
        "x-amz-acl",
        "x-amz-expected-bucket-owner",
        "x-amz-request-payer",
        "x-amz-storage-class",
        "x-amz-tagging",
        "x-amz-website-redirect-location",
    }
)
_KEPT_PREFIXES = ("x-amz-meta-", "x-amz-grant-", "x-amz-object-lock-", "x-amz-server-side-encryption")
# They share the prefix but are no digest of the body.
_NOT_DIGESTS = frozenset({"x-amz-checksum-algorithm", "x-amz-checksum-mode", "x-amz-checksum-type"})


@dataclass(frozen=True, slots=True)
class Expected:
    """A digest that the body must have, and the S3 code if it has not."""

    name: str
    value: bytes
    code: str


@dataclass(frozen=True, slots=True)
class PayloadPlan:
    """What the head says of the body.

    decoded_length  payload bytes, framing off
    headers         to be stored or honoured (origins/base.py PutBody.headers), with the declared digests
    sha256          the payload's hex SHA-256 when the signature declares it
    trailer         the checksum header that will come as a trailer
    chunked         aws-chunked framing is on
    """

    decoded_length: int
    headers: Mapping[str, str]
    sha256: str | None = None
    trailer: str | None = None
    chunked: bool = False
    expected: tuple[Expected, ...] = field(default=())


def plan(headers: Mapping[str, str], auth: Authenticated, length: int | None) -> PayloadPlan:
    """`length` is Content-Length, None with Transfer-Encoding: chunked. Raises S3Error: MissingContentLength,
    EntityTooLarge, InvalidDigest, InvalidRequest, MetadataTooLarge."""
    chunked = auth.payload in MODES
    if not chunked and "aws-chunked" in _codings(headers.get("content-encoding", "")):
        raise S3Error("InvalidRequest", "aws-chunked needs a STREAMING- word in x-amz-content-sha256.")
    decoded = _decoded_length(headers) if chunked else length
    if decoded is None:
        raise S3Error("MissingContentLength")
    if decoded > BODY_BYTES_MAX:
        raise S3Error("EntityTooLarge", extra={"MaxSizeAllowed": str(BODY_BYTES_MAX)})
    if chunked and length is not None and length < decoded:
        raise S3Error("IncompleteBody")
    sha256 = auth.payload.lower() if auth.payload not in PAYLOAD_WORDS or len(auth.payload) == 64 else None
    trailer = _trailer(headers, auth) if chunked else None
    expected, digest_headers = _expected(headers, sha256, trailer)
    kept = {**stored_headers(headers), **digest_headers}
    return PayloadPlan(decoded, kept, sha256, trailer, chunked, expected)


def stored_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Of a PUT, a copy or CreateMultipartUpload: the headers that are part of the object or of how it is
    stored. `aws-chunked` is framing and never stored. Raises MetadataTooLarge."""
    kept = {
        name: value for name, value in headers.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }
    metadata = [(name, value) for name, value in kept.items() if name.startswith("x-amz-meta-")]
    if sum(len(name) - len("x-amz-meta-") + len(value) for name, value in metadata) > METADATA_BYTES_MAX:
        raise S3Error("MetadataTooLarge", extra={"MaxSizeAllowed": str(METADATA_BYTES_MAX)})
    if "content-encoding" in kept:
        codings = [
            name
            for name in _codings(kept.pop("content-encoding"), lower=False)
            if name.lower() != "aws-chunked"
        ]
        if codings:
            kept["content-encoding"] = ",".join(codings)
    return kept


def _codings(value: str, lower: bool = True) -> list[str]:
    return [name.strip() for name in (value.lower() if lower else value).split(",") if name.strip()]


def _decoded_length(headers: Mapping[str, str]) -> int | None:
    value = headers.get("x-amz-decoded-content-length")
    if value is None:
        return None
    if not _LENGTH.fullmatch(value):
        raise S3Error("InvalidArgument", "x-amz-decoded-content-length must be a number of bytes.")
    return int(value)


def _trailer(headers: Mapping[str, str], auth: Authenticated) -> str | None:
    declared = _codings(headers.get("x-amz-trailer", ""))
    if not declared:
        return None
    if auth.payload == STREAMING_SIGNED:
        raise S3Error(
            "InvalidRequest", "x-amz-trailer needs a STREAMING-…-TRAILER word in x-amz-content-sha256."
        )
    if len(declared) > 1 or declared[0] not in HEADERS:
        raise S3Error("InvalidRequest", "x-amz-trailer must name one x-amz-checksum- header.")
    return declared[0]


def _expected(
    headers: Mapping[str, str], sha256: str | None, trailer: str | None
) -> tuple[tuple[Expected, ...], dict[str, str]]:
    """The digests declared in the head, and their headers as they go on."""
    expected = []
    kept = {}
    if sha256 is not None:
        expected.append(Expected("sha256", bytes.fromhex(sha256), "XAmzContentSHA256Mismatch"))
    if (md5 := headers.get("content-md5")) is not None:
        value = checksums.decode(md5.strip(), "md5")
        if value is None:
            raise S3Error("InvalidDigest")
        expected.append(Expected("md5", value, "BadDigest"))
        kept["content-md5"] = md5.strip()
    declared = [name for name in headers if name.startswith(HEADER_PREFIX) and name not in _NOT_DIGESTS]
    if len(declared) + (trailer is not None) > 1:
        raise S3Error("InvalidRequest", "Expecting a single x-amz-checksum- header.")
    for name in declared:
        value = checksums.decode(headers[name], HEADERS[name]) if name in HEADERS else None
        if value is None:
            raise S3Error("InvalidRequest", f"Value for {name} header is invalid.")
        expected.append(Expected(HEADERS[name], value, "BadDigest"))
        kept[name] = headers[name]
    return tuple(expected), kept


class Payload:
    """One body. Feed its wire bytes in any splits: `decode`, then `update_digests` of what came out (or
    `feed` for both), then `finish`. `heavy` says that `decode` itself hashes (signed chunks) and belongs in
    a thread too."""

    def __init__(self, plan: PayloadPlan, auth: Authenticated) -> None:
        self._plan = plan
        trailers = (plan.trailer,) if plan.trailer else ()
        self._decoder = ChunkedDecoder(auth, plan.decoded_length, trailers) if plan.chunked else None
        self._missing = plan.decoded_length
        names = [one.name for one in plan.expected]
        if plan.trailer:
            names.append(HEADERS[plan.trailer])
        self._digests = checksums.Digests(names)
        self._trailer_value: str | None = None
        self.heavy = self._decoder is not None and self._decoder.heavy

    @property
    def hashes(self) -> bool:
        """Whether `update_digests` has anything to do."""
        return bool(self._digests)

    def feed(self, data: bytes) -> list[bytes]:
        pieces = self.decode(data)
        self.update_digests(pieces)
        return pieces

    def decode(self, data: bytes) -> list[bytes]:
        """Payload pieces without framing. Raises S3Error on malformed framing, a bad chunk signature, excess
        length."""
        if self._decoder is not None:
            return self._decoder.feed(data)
        self._missing -= len(data)
        if self._missing < 0:
            raise S3Error("IncompleteBody", "The body is longer than announced.")
        return [data] if data else []

    def update_digests(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._digests.update(piece)

    def finish(self) -> None:
        """At the body's end. Raises IncompleteBody, XAmzContentSHA256Mismatch, BadDigest, InvalidRequest,
        MalformedTrailerError, SignatureDoesNotMatch; when it returns, every promise of the head has been
        kept."""
        if self._decoder is not None:
            self._decoder.finish()
        elif self._missing:
            raise S3Error("IncompleteBody")
        for one in self._plan.expected:
            self._check(one.name, one.value, one.code)
        if self._plan.trailer and self._decoder is not None:
            text = self._decoder.trailers[self._plan.trailer]
            name = HEADERS[self._plan.trailer]
            value = checksums.decode(text, name)
            if value is None:
                raise S3Error("InvalidRequest", f"Value for {self._plan.trailer} trailing header is invalid.")
            self._check(name, value, "BadDigest")
            self._trailer_value = text

    def trailer_value(self) -> str:
        """The trailer checksum's value, verified; only after `finish`."""
        if self._trailer_value is None:
            raise RuntimeError("no verified trailer")
        return self._trailer_value

    def _check(self, name: str, value: bytes, code: str) -> None:
        if not compare_digest(self._digests.digest(name), value):
            what = "x-amz-content-sha256" if code != "BadDigest" else f"the {name.upper()} you specified"
            raise S3Error(code, f"The body does not match {what}.")
