"""What Google Cloud Storage's XML API refuses before it looks at any object: judged from a request's head alone.

Signatures are checked by this module's own reading of Google's documents ("Canonical requests", "Signatures"), not by
the code that the gateway signs with: two readings agree, or a test fails.
"""

from __future__ import annotations

import base64
import binascii
import calendar
import hashlib
import hmac
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes
from xml.sax.saxutils import escape

ALGORITHM: Final = "GOOG4-HMAC-SHA256"
UNSIGNED: Final = "UNSIGNED-PAYLOAD"
SKEW_S: Final = 15 * 60
_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} Credential=([^,/\s]+)/(\d{{8}})/([A-Za-z0-9-]+)/storage/goog4_request,\s*"
    r"SignedHeaders=([a-z0-9;-]+),\s*Signature=([0-9a-f]{64})"
)
_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME_REFUSED = re.compile(r"[\r\n]|\A\.{1,2}\Z|\A\.well-known/acme-challenge/")
_NAME_BYTES_MAX: Final = 1024
# What this front knows of Google's query parameters, by (method, whether an object is named).
_QUERIES: Final[Mapping[tuple[str, bool], tuple[frozenset[str], ...]]] = {
    ("GET", False): (
        frozenset(
            "list-type prefix delimiter start-after continuation-token max-keys encoding-type fetch-owner".split()
        ),
        frozenset("versions prefix delimiter marker generation-marker max-keys encoding-type".split()),
        frozenset("uploads prefix delimiter key-marker upload-id-marker max-uploads encoding-type".split()),
        frozenset({"versioning"}),
    ),
    ("HEAD", False): (frozenset(),),
    ("PUT", False): (frozenset({"versioning"}),),
    ("DELETE", False): (frozenset(),),
    ("GET", True): (
        frozenset({"generation", "response-content-type", "response-content-disposition"}),
        frozenset({"uploadId", "max-parts", "part-number-marker", "encoding-type"}),
    ),
    ("HEAD", True): (frozenset({"generation"}),),
    ("PUT", True): (frozenset(), frozenset({"partNumber", "uploadId"})),
    ("POST", True): (frozenset({"uploads"}), frozenset({"uploadId"})),
    ("DELETE", True): (frozenset({"generation"}), frozenset({"uploadId"})),
}


class Refusal(Exception):
    """An error answer."""

    def __init__(self, status: int, code: str, details: str = "") -> None:
        super().__init__(f"{status} {code}: {details}")
        self.status = status
        self.document = (
            "<?xml version='1.0' encoding='UTF-8'?>"
            f"<Error><Code>{code}</Code><Message>{code}</Message><Details>{escape(details)}</Details></Error>"
        ).encode()


@dataclass(frozen=True, slots=True)
class Head:
    """A request without its body. `target` as on the wire; header names in lower case, text in latin-1."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        pairs = [item.partition("=") for item in self.target.partition("?")[2].split("&") if item]
        return {_text(name): _text(value.replace("+", "%20")) for name, _, value in pairs}

    @property
    def bucket(self) -> str:
        return _text(self.path.split("/")[1])

    @property
    def key(self) -> str:
        return _text(self.path[1:].partition("/")[2])


def _text(wire: str) -> str:
    try:
        return unquote_to_bytes(wire.encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError:
        raise Refusal(400, "InvalidURI", "not UTF-8") from None


def check_head(head: Head, secrets: Mapping[str, str], tokens: Collection[str], now: float) -> None:
    """Raises Refusal for everything that Google answers with an error whatever the object is."""
    _check_dialect(head.headers)
    check_authentication(head, secrets, tokens, now)
    query = head.query
    if head.method == "POST" and not head.key:  # DeleteObjects
        raise Refusal(400, "InvalidArgument", "POST object expects Content-Type multipart/form-data")
    if "partNumber" in query and "x-goog-copy-source" in head.headers:  # UploadPartCopy
        raise Refusal(501, "NotImplemented", "A part cannot be copied from an object.")
    known = _QUERIES.get((head.method, bool(head.key)), ())
    if not any(query.keys() <= names for names in known):
        raise Refusal(501, "NotImplemented", f"{head.method} with {', '.join(query)}")
    if _NAME_REFUSED.search(head.key) or len(head.key.encode()) > _NAME_BYTES_MAX:
        raise Refusal(400, "InvalidObjectName", "The name is not allowed.")
    if head.method in ("PUT", "POST", "DELETE") and ({"if-match", "if-none-match"} & head.headers.keys()):
        # Google ignores them, which a client would find out too late.
        raise Refusal(400, "InvalidArgument", "Writes depend on x-goog-if-generation-match alone.")


def _check_dialect(headers: Mapping[str, str]) -> None:
    payload = headers.get("x-goog-content-sha256", headers.get("x-amz-content-sha256", UNSIGNED))
    if payload.startswith("STREAMING-"):
        raise Refusal(400, "InvalidArgument", "Streaming signatures are not known.")
    if "aws-chunked" in headers.get("content-encoding", ""):
        raise Refusal(400, "InvalidArgument", "aws-chunked would be stored as it came.")
    if any(name.startswith("x-amz-checksum-") or name == "x-amz-trailer" for name in headers):
        raise Refusal(400, "InvalidArgument", "There are no x-amz-checksum headers.")
    if any(name.startswith("x-amz-") for name in headers):
        raise Refusal(400, "ExcessHeaderValues", "x-amz- headers beside x-goog- authentication.")


def check_authentication(head: Head, secrets: Mapping[str, str], tokens: Collection[str], now: float) -> None:
    """Raises Refusal."""
    given = head.headers.get("authorization")
    if given is None:
        raise Refusal(403, "AccessDenied", "Anonymous caller.")
    if given.startswith("Bearer "):
        if given.removeprefix("Bearer ") not in tokens:
            raise Refusal(401, "AuthenticationRequired", "The token is not valid.")
        return
    found = _AUTHORIZATION.fullmatch(given)
    if found is None:
        raise Refusal(400, "InvalidSecurity", f"Authorization is neither Bearer nor {ALGORITHM}.")
    access_key, day, location, signed, signature = found.groups()
    if access_key not in secrets:
        raise Refusal(403, "InvalidAccessKeyId")
    names = signed.split(";")
    date = head.headers.get("x-goog-date", "")
    _check_date(date, day, now)
    _check_names(head.headers, names)
    secret, scope = secrets[access_key], f"{day}/{location}/storage/goog4_request"
    if not hmac.compare_digest(_signature(head, names, date, scope, secret), signature):
        raise Refusal(403, "SignatureDoesNotMatch", "Access denied.")


def _check_date(date: str, day: str, now: float) -> None:
    try:
        at = calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        raise Refusal(403, "AccessDenied", "x-goog-date is missing or no date.") from None
    if date[:8] != day or abs(at - now) > SKEW_S:
        raise Refusal(403, "RequestTimeTooSkewed")


def _check_names(headers: Mapping[str, str], names: list[str]) -> None:
    if names != sorted(set(names)) or "host" not in names or any(name not in headers for name in names):
        raise Refusal(400, "InvalidSecurity", "SignedHeaders are not right.")
    extensions = {name for name in headers if name.startswith("x-goog-")} - {"x-goog-content-sha256"}
    if not extensions <= set(names):
        raise Refusal(403, "SignatureDoesNotMatch", "An x-goog- header is not signed.")


def _signature(head: Head, names: list[str], date: str, scope: str, secret: str) -> str:
    headers = dict(head.headers)
    if "accept-encoding" in headers:  # what Google's front end makes of it before anybody checks
        headers["accept-encoding"] += ",gzip(gfe)"
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in head.query.items()
    )
    canonical = "\n".join(
        [
            head.method,
            head.path,
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{' '.join(headers[name].split())}" for name in names),
            "",
            ";".join(names),
            headers.get("x-goog-content-sha256", UNSIGNED),
        ]
    )
    digest = hashlib.sha256(canonical.encode("latin-1")).hexdigest()
    key = b"GOOG4" + secret.encode()
    for step in scope.split("/"):
        key = hmac.digest(key, step.encode(), "sha256")
    return hmac.digest(key, f"{ALGORITHM}\n{date}\n{scope}\n{digest}".encode(), "sha256").hex()


@dataclass(frozen=True, slots=True)
class Expected:
    """The digests that a body must have, None where the request names none."""

    md5: bytes | None = None
    crc32c: bytes | None = None
    sha256: bytes | None = None


def expected_digests(headers: Mapping[str, str]) -> Expected:
    """Of Content-MD5, x-goog-hash and the signed payload. Raises Refusal for what is no digest."""
    hashes = dict(
        item.strip().split("=", 1) for item in headers.get("x-goog-hash", "").split(",") if "=" in item
    )
    if strange := hashes.keys() - {"md5", "crc32c"}:
        raise Refusal(400, "InvalidArgument", f"x-goog-hash: {min(strange)}")
    md5 = headers.get("content-md5", hashes.get("md5"))
    payload = headers.get("x-goog-content-sha256", UNSIGNED)
    if payload != UNSIGNED and not _HEX_SHA256.fullmatch(payload):
        raise Refusal(400, "InvalidArgument", "x-goog-content-sha256")
    return Expected(
        None if md5 is None else _digest(md5, 16),
        _digest(hashes["crc32c"], 4) if "crc32c" in hashes else None,
        None if payload == UNSIGNED else bytes.fromhex(payload),
    )


def _digest(text: str, size: int) -> bytes:
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != size:
        raise Refusal(400, "InvalidDigest", "The digest is none.")
    return digest
