"""aws-chunked, the framing inside a body: a machine fed with arbitrary splits that gives the payload back
piece by piece and keeps nothing of it.

    chunk    = hex-size [";chunk-signature=" hex64] CRLF data CRLF      the last one has size 0 and no data
    trailer  = *( name ":" value LF )  [ "x-amz-trailer-signature:" hex64 LF ]  empty line

Three modes, by x-amz-content-sha256: signed; signed with trailer; unsigned with trailer. Each chunk's
signature covers the one before it, the first covers the request's, so chunks cannot be dropped, repeated or
reordered. A piece is handed out before its chunk's signature was checked: whoever stores pieces must
withhold the end of the object until `finish`.

    SIZE ──size>0──▶ DATA ──▶ DATA_END ──▶ SIZE      SIZE ──size=0──▶ TRAILER ──empty line──▶ DONE

Source: S3 API Reference, "Signature Calculations … Transferring Payload in Multiple Chunks" and "… Including
Trailing Headers". Malformed framing is a 400, whatever the bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection
from enum import Enum

from gateway.s3.authentication import (
    EMPTY_SHA256,
    STREAMING_SIGNED,
    STREAMING_SIGNED_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
    Authenticated,
    same,
)
from gateway.s3.errors import S3Error

MODES = frozenset({STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER})

# A size line is at most 16 digits, `;chunk-signature=` and 64 digits: 99 bytes. What exceeds this is no
# client of S3.
SIZE_LINE_BYTES_MAX = 128
# One checksum and one signature; room for a few names more.
TRAILER_BYTES_MAX = 4096
# Blank lines that some SDKs add after the end.
SLACK_BYTES_MAX = 8

_UNSIGNED_LINE = re.compile(rb"([0-9a-fA-F]{1,16})\r\n")
_SIGNED_LINE = re.compile(rb"([0-9a-fA-F]{1,16});chunk-signature=([0-9a-f]{64})\r\n")
_TRAILER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128})[ \t]*:([^\x00-\x08\x0a-\x1f\x7f]*)")
_SIGNATURE = "x-amz-trailer-signature"


class _State(Enum):
    SIZE = 0
    DATA = 1
    DATA_END = 2
    TRAILER = 3
    DONE = 4


class ChunkedDecoder:
    """Raises S3Error and is then of no further use. `trailers` are the names declared in x-amz-trailer,
    lower case; after `finish`, `.trailers` maps each to its value.

    Signed modes hash the payload on the way (`heavy` is true): feed large bodies in a thread.
    """

    def __init__(self, auth: Authenticated, length: int, trailers: Collection[str] = ()) -> None:
        if auth.payload not in MODES:
            raise S3Error("NotImplemented", "This form of aws-chunked is not supported.")
        self.heavy = auth.payload != STREAMING_UNSIGNED_TRAILER
        if self.heavy and not auth.signing_key:
            raise S3Error("InvalidRequest", "A chunk-signed body needs a SigV4 signature.")
        self.trailers: dict[str, str] = {}
        self._declared = frozenset(trailers) if auth.payload != STREAMING_SIGNED else frozenset[str]()
        self._trailer_signed = auth.payload == STREAMING_SIGNED_TRAILER
        self._trailer_signature: str | None = None
        self._chain = _Chain(auth) if self.heavy else None
        self._state = _State.SIZE
        self._line = bytearray()
        self._missing = length  # payload bytes still to come
        self._chunk = 0  # of the current chunk
        self._slack = 0  # bytes of trailer and of blank lines after the end

    def feed(self, data: bytes) -> list[bytes]:
        """The payload pieces in `data`, in order."""
        pieces: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            if self._state is _State.DATA:
                stop = min(end, at + self._chunk)
                piece = data if stop - at == end else data[at:stop]
                pieces.append(piece)
                self._took(piece)
                at = stop
            elif self._state is _State.DONE:
                self._after_end(data[at : at + SLACK_BYTES_MAX + 1])
                break
            else:
                at = self._feed_line(data, at)
        return pieces

    def finish(self) -> None:
        """At the end of the body. Raises IncompleteBody unless the last chunk was there,
        MalformedTrailerError or SignatureDoesNotMatch when the trailer is not what was announced."""
        if (
            self._state is _State.TRAILER
        ):  # the empty line at the very end may be missing: nothing depends on it
            if self._line:
                self._on_trailer(bytes(self._line))
            self._end()
        if self._state is not _State.DONE:
            raise S3Error("IncompleteBody")

    def _took(self, piece: bytes) -> None:
        if self._chain is not None:
            self._chain.update(piece)
        self._missing -= len(piece)
        self._chunk -= len(piece)
        if self._chunk == 0:
            if self._chain is not None:
                self._chain.check()
            self._state = _State.DATA_END

    def _feed_line(self, data: bytes, at: int) -> int:
        """Takes one line, or what there is of it, and returns where it ended."""
        limit = TRAILER_BYTES_MAX if self._state is _State.TRAILER else SIZE_LINE_BYTES_MAX
        room = limit - len(self._line)
        newline = data.find(b"\n", at, at + room)
        if newline < 0:
            if len(data) - at >= room:
                raise S3Error("InvalidRequest", "A line of the body's chunks is too long.")
            self._line += data[at:]
            return len(data)
        line = bytes(self._line) + data[at : newline + 1]
        self._line.clear()
        if self._state is _State.SIZE:
            self._on_size(line)
        elif self._state is _State.TRAILER:
            self._on_trailer(line)
        elif line == b"\r\n":
            self._state = _State.SIZE
        else:
            raise S3Error("InvalidRequest", "A chunk is longer than its size says.")
        return newline + 1

    def _on_size(self, line: bytes) -> None:
        found = (_UNSIGNED_LINE if self._chain is None else _SIGNED_LINE).fullmatch(line)
        if found is None:
            raise S3Error("InvalidRequest", "The body's chunks are malformed.")
        size = int(found[1], 16)
        if size > self._missing:
            raise S3Error("IncompleteBody", "The body is longer than x-amz-decoded-content-length says.")
        if self._chain is not None:
            self._chain.expect(found[2].decode("ascii"))
        if size:
            self._chunk = size
            self._state = _State.DATA
            return
        if self._missing:
            raise S3Error("IncompleteBody", "The body is shorter than x-amz-decoded-content-length says.")
        if self._chain is not None:
            self._chain.check()
        self._state = _State.TRAILER

    def _on_trailer(self, line: bytes) -> None:
        self._slack += len(line)
        if self._slack > TRAILER_BYTES_MAX:
            raise S3Error("MalformedTrailerError", "The trailer is too long.")
        text = line.rstrip(b"\r\n")
        if not text:
            self._end()
            return
        found = _TRAILER_LINE.fullmatch(text)
        if found is None or self._trailer_signature is not None:
            raise S3Error("MalformedTrailerError")
        name, value = found[1].decode("ascii").lower(), found[2].strip(b" \t").decode("latin-1")
        if name == _SIGNATURE and self._trailer_signed:
            self._trailer_signature = value
        elif name not in self._declared or name in self.trailers:
            raise S3Error(
                "MalformedTrailerError", "A trailer was not declared in x-amz-trailer, or comes twice."
            )
        else:
            self.trailers[name] = value

    def _end(self) -> None:
        if self._trailer_signed and self._chain is not None:
            self._chain.check_trailer(self.trailers, self._trailer_signature or "")
        if len(self.trailers) != len(self._declared):
            raise S3Error("MalformedTrailerError", "A trailer that was declared in x-amz-trailer is missing.")
        self._slack = 0
        self._state = _State.DONE

    def _after_end(self, data: bytes) -> None:
        self._slack += len(data)
        if data.strip(b"\r\n") or self._slack > SLACK_BYTES_MAX:
            raise S3Error("InvalidRequest", "There are bytes after the last chunk.")


class _Chain:
    """The chain of chunk signatures: each covers the one before it and the chunk's SHA-256."""

    def __init__(self, auth: Authenticated) -> None:
        self._key = auth.signing_key
        self._previous = auth.signature
        self._stamp = f"{auth.date}\n{auth.scope}"
        self._expected = ""
        self._hash = hashlib.sha256()

    def expect(self, signature: str) -> None:
        self._expected = signature
        self._hash = hashlib.sha256()

    def update(self, piece: bytes) -> None:
        self._hash.update(piece)

    def check(self) -> None:
        self._check("PAYLOAD", f"{EMPTY_SHA256}\n{self._hash.hexdigest()}", self._expected)

    def check_trailer(self, trailers: dict[str, str], signature: str) -> None:
        lines = "".join([f"{name}:{value}\n" for name, value in sorted(trailers.items())])
        self._check("TRAILER", hashlib.sha256(lines.encode("latin-1")).hexdigest(), signature)

    def _check(self, kind: str, digests: str, signature: str) -> None:
        message = f"AWS4-HMAC-SHA256-{kind}\n{self._stamp}\n{self._previous}\n{digests}"
        expected = hmac.digest(self._key, message.encode("latin-1"), "sha256").hex()
        if not same(expected, signature):
            raise S3Error("SignatureDoesNotMatch", "A chunk's signature does not match.")
        self._previous = expected
