"""The request head, from bytes to `RequestHead` (RFC 9112 §2–3, §5–6), with nothing repaired.

A cache in front of a store is where two readings of one request do harm, so whatever could be read in two ways is
refused: every line ends in CRLF, names are tokens with the colon right behind them, no folding, no control
characters, the target is origin-form, the framing headers appear once and in one spelling. Refusals are `S3Error`s;
their texts quote nothing of the request.

Pure: no socket, no clock.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from gateway.frontend.exchange import RequestHead
from gateway.s3.errors import S3Error

HEAD_BYTES_MAX: Final = 16 * 1024  # S3 allows 8 KiB of headers; the rest is for long presigned targets
HEADER_BYTES_MAX: Final = 8 * 1024
HEADERS_MAX: Final = 100
TARGET_BYTES_MAX: Final = 8 * 1024
# The largest object is 5 TiB and aws-chunked framing adds well under a tenth.
LENGTH_MAX: Final = 8 << 40

METHODS: Final = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE"})

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# No control character but the tab; and the colon right behind the name.
_HEADER: Final = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)")
_TARGET: Final = re.compile(r"/[!-~]*")
_USUAL: Final = re.compile(r"(GET|HEAD|PUT|POST|DELETE) (/[!-~]*) HTTP/1\.1")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._~\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_DIGITS: Final = re.compile(r"[0-9]{1,15}")
_BARE: Final = re.compile(rb"(?<!\r)\n|\r[^\n]")

# Headers whose second copy could give a request a second meaning: framing, authentication, what is read or written,
# and on which condition. Any x-amz-* counts as one.
_SINGLE: Final = frozenset(
    [
        "host",
        "content-length",
        "transfer-encoding",
        "authorization",
        "range",
        "content-type",
        "content-md5",
        "date",
        "expect",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "if-range",
    ]
)
# The spellings that stock clients send; any other is lower-cased after it was checked to be a token.
_KNOWN: Final = {
    spelling: name
    for name in [
        "host",
        "user-agent",
        "accept",
        "accept-encoding",
        "accept-language",
        "connection",
        "authorization",
        "range",
        "content-type",
        "content-length",
        "content-md5",
        "content-encoding",
        "content-disposition",
        "content-language",
        "cache-control",
        "transfer-encoding",
        "date",
        "expect",
        "expires",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "amz-sdk-invocation-id",
        "amz-sdk-request",
        "x-amz-date",
        "x-amz-content-sha256",
        "x-amz-checksum-mode",
        "x-amz-security-token",
        "x-amz-user-agent",
        "x-amz-decoded-content-length",
        "x-amz-trailer",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-checksum-crc32",
        "x-amz-checksum-crc64nvme",
        "x-amz-copy-source",
        "x-amz-expected-bucket-owner",
        "x-amz-api-version",
        "x-amz-meta-mtime",
    ]
    for spelling in (name, name.title(), "-".join(part.capitalize() for part in name.split("-")))
}
_DIGEST: Final = "x-amz-content-sha256"
_REPEATED_DIGESTS: Final = frozenset(["UNSIGNED-PAYLOAD", hashlib.sha256().hexdigest()])
# Names whose lines a client repeats.
_REPEATED: Final = frozenset(
    [
        "host",
        "user-agent",
        "accept",
        "accept-encoding",
        "accept-language",
        "connection",
        "cache-control",
        "x-amz-date",
        "x-amz-checksum-mode",
        "x-amz-api-version",
        "x-amz-user-agent",
        "amz-sdk-request",
        _DIGEST,
    ]
)


def bad(message: str, status: int = 400) -> S3Error:
    return S3Error("BadRequest", message, status=status)


def hopeless(partial: bytes) -> S3Error | None:
    """Whether a head that is not complete yet can be refused already, so that a client which ends lines wrongly or
    never ends is answered rather than left to a timeout."""
    if (
        not 65 <= partial[0] <= 90
    ):  # nothing but a capital starts a method: TLS on the plain port, a stray CRLF
        return bad("The request line is malformed.")
    if len(partial) > HEAD_BYTES_MAX:
        return S3Error("RequestHeaderSectionTooLarge")
    if _BARE.search(partial):
        return bad("A line does not end in CRLF.")
    return None


class _HeaderLines(dict[str, tuple[str, str]]):
    """Header line to (name, value), checked. Lines that clients repeat in every request are remembered, which halves
    what a head costs; at most 256 of them, of 256 characters, none with a signature in it. Raises S3Error."""

    LINES_MAX: Final = 256
    LINE_CHARACTERS_MAX: Final = 256

    def __missing__(self, line: str) -> tuple[str, str]:
        spelling, _, value = line.partition(":")
        name = _KNOWN.get(spelling)
        if name is None or not value.isprintable():
            name, value = _unusual(line)
        else:
            value = value.strip(" ")
        if len(line) > HEADER_BYTES_MAX:
            raise S3Error("RequestHeaderSectionTooLarge", "A header is too long.")
        if name in _REPEATED:
            self._remember(line, name, value)
        return name, value

    def _remember(self, line: str, name: str, value: str) -> None:
        if name == "host" and not _HOST.fullmatch(value):
            raise bad("The Host header is malformed.")
        if len(line) > self.LINE_CHARACTERS_MAX or (name == _DIGEST and value not in _REPEATED_DIGESTS):
            return
        if len(self) >= self.LINES_MAX:
            self.clear()
        self[line] = (name, value)


def _unusual(line: str) -> tuple[str, str]:
    match = _HEADER.fullmatch(line)
    if match is None:
        raise bad("A header line is malformed.")
    return _KNOWN.get(match[1]) or match[1].lower(), match[2].strip(" \t")


_known_line = _HeaderLines().__getitem__


def parse_head(raw: bytes) -> RequestHead:
    """`raw` is everything up to and including the empty line. Raises S3Error. 4 µs for a boto3 GET, which is why what
    nearly every request without a body looks like is judged here, in few calls, and the rest in `_judged`."""
    if len(raw) > HEAD_BYTES_MAX:
        raise S3Error("RequestHeaderSectionTooLarge")
    lines = raw.decode("latin-1").split("\r\n")
    if len(lines) < 3 or lines.pop() or lines.pop():
        raise bad("The request head does not end in an empty line.")
    if len(lines) > HEADERS_MAX + 1:
        raise S3Error("RequestHeaderSectionTooLarge", "The request has too many headers.")
    request_line = lines[0]
    del lines[0]
    headers = dict(map(_known_line, lines))
    if len(headers) != len(lines):
        headers = _joined(lines)
    usual = _USUAL.fullmatch(request_line)
    if (
        usual is not None
        and "host" in headers
        and "content-length" not in headers
        and "transfer-encoding" not in headers
        and "connection" not in headers
        and "expect" not in headers
        and len(request_line) <= TARGET_BYTES_MAX
    ):
        return RequestHead(usual[1], usual[2], headers, 0, True)
    return _judged(request_line, headers)


def _judged(request_line: str, headers: dict[str, str]) -> RequestHead:
    method, target, current = _request_line(request_line, headers)
    if not _TARGET.fullmatch(target):
        target = _strict_target(target, headers)
    length = _length(headers, current)
    if "expect" in headers and headers["expect"].lower() != "100-continue":
        raise bad("No expectation but 100-continue is met.", 417)
    return RequestHead(method, target, headers, length, current and _keep_alive(headers), current)


def _joined(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in map(_known_line, lines):
        if name in headers:
            if name in _SINGLE or name.startswith("x-amz-"):
                raise bad("A header that may appear once appears twice.")
            value = f"{headers[name]},{value}"
        headers[name] = value
    return headers


def _request_line(line: str, headers: dict[str, str]) -> tuple[str, str, bool]:
    """(method, target, whether the version is 1.1)."""
    parts = line.split(" ")
    if len(parts) != 3:
        raise bad("The request line is malformed.")
    method, target, version = parts
    if version != "HTTP/1.1" and version != "HTTP/1.0":
        if re.fullmatch(r"HTTP/[0-9]\.[0-9]", version):
            raise bad("Only HTTP/1.1 and HTTP/1.0 are spoken here.", 505)
        raise bad("The request line is malformed.")
    if method not in METHODS:
        if method == "OPTIONS":
            raise S3Error("MethodNotAllowed", "CORS is not served by this gateway.")
        if not _TOKEN.fullmatch(method):
            raise bad("The request line is malformed.")
        raise S3Error("MethodNotAllowed")
    if "host" not in headers and version == "HTTP/1.1":
        raise bad("The Host header is missing.")
    if len(line) > TARGET_BYTES_MAX:
        raise S3Error("InvalidURI", "The request target is too long.")
    return method, target, version == "HTTP/1.1"


def _strict_target(target: str, headers: dict[str, str]) -> str:
    """Origin-form of a target that is not: absolute-form is taken when it names the very host that Host names
    (RFC 9112 §3.2.2 lets it win over Host, which is signed, so they must not differ)."""
    scheme, separator, rest = target.partition("://")
    if separator and scheme.lower() in ("http", "https"):
        authority, slash, path = rest.partition("/")
        if slash and authority.lower() == headers.get("host", "").lower() and _TARGET.fullmatch("/" + path):
            return "/" + path
        raise bad("The request target names another host than the Host header.")
    raise S3Error("InvalidURI", "The request target is not an absolute path of visible ASCII.")


def _length(headers: dict[str, str], current: bool) -> int | None:
    """Content-Length, 0 without a body, None when chunked. Both at once is how requests are smuggled."""
    length = headers.get("content-length")
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if length is not None:
            raise bad("Content-Length and Transfer-Encoding exclude each other.")
        if not current:
            raise bad("Transfer-Encoding needs HTTP/1.1.")
        if coding != "chunked":
            if coding.lower().endswith("chunked") and "," in coding:
                raise S3Error("NotImplemented", "No transfer coding but chunked is implemented.")
            raise bad("Transfer-Encoding is malformed.")
        return None
    if length is None:
        return 0
    if not _DIGITS.fullmatch(length) or int(length) > LENGTH_MAX:
        raise bad("Content-Length is malformed or out of bounds.")
    return int(length)


def _keep_alive(headers: dict[str, str]) -> bool:
    """Of HTTP/1.1; an HTTP/1.0 client never gets a second answer, which saves telling it so in every head."""
    connection = headers.get("connection")
    if connection is None:
        return True
    return "close" not in [token.strip(" \t") for token in connection.lower().split(",")]
