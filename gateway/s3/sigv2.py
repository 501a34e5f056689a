"""Verification of presigned SigV2 URLs (`AWSAccessKeyId`, `Expires`, `Signature`): what stock boto3 and
awscli make for a custom endpoint in us-east-1.

SigV2 signs the method, Content-MD5, Content-Type, Expires, every x-amz-* header, the path with its bucket,
and a fixed list of query keys. It leaves the other query keys unsigned, so a holder of a URL could add some:
any that selects another operation is refused here, and what remains (`prefix` of a listing) is a weakness of
SigV2 itself. Source: S3 User Guide, "Signing and authenticating REST requests (AWS signature version 2)".
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Mapping

from gateway.s3.address import host_bucket
from gateway.s3.authentication import UNSIGNED, Authenticated, check_payload, path_variants, same
from gateway.s3.errors import S3Error
from gateway.s3.operations import SELECTING_KEYS
from gateway.s3.text import percent_decode_bytes

# The query keys that are part of the resource. Sorted by name in the string to sign, values decoded.
SIGNED_KEYS = frozenset(
    [
        "accelerate",
        "acl",
        "analytics",
        "cors",
        "defaultObjectAcl",
        "delete",
        "inventory",
        "lifecycle",
        "location",
        "logging",
        "metrics",
        "notification",
        "object-lock",
        "partNumber",
        "policy",
        "replication",
        "requestPayment",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
        "restore",
        "select",
        "select-type",
        "storageClass",
        "tagging",
        "torrent",
        "uploadId",
        "uploads",
        "versionId",
        "versioning",
        "versions",
        "website",
    ]
)
_NAME = re.compile(rb"[a-z0-9._-]{1,256}")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_SECONDS = re.compile(r"[0-9]{1,12}")

Item = tuple[bytes, bytes | None]


def verify_sigv2(
    method: str,
    raw_path: str,
    raw_query: str,
    headers: Mapping[str, str],
    now: float,
    secret_of: Callable[[str], str | None],
    domain: str,
) -> Authenticated:
    """Raises S3Error; see `Verifier.verify` for the arguments."""
    items = _items(raw_query)
    access_key = _only(items, b"AWSAccessKeyId")
    expires = _only(items, b"Expires")
    signature = _only(items, b"Signature").replace(" ", "+")
    if not _SECONDS.fullmatch(expires):
        raise S3Error("AccessDenied", "Expires must be seconds since the epoch.")
    secret = secret_of(access_key)
    if secret is None:
        raise S3Error("InvalidAccessKeyId")
    if now > int(expires):
        raise S3Error("AccessDenied", "The request has expired.", extra={"Expires": expires})
    covered = _covered(headers, items)
    if b"x-amz-security-token" in covered:
        raise S3Error("InvalidToken")
    _refuse_unsigned_selection(items)
    bucket = host_bucket(headers.get("host", ""), domain)
    prefix = f"/{bucket}" if bucket is not None else ""
    tail = _sub_resources(items)
    lines = [method.encode("latin-1"), covered.get(b"content-md5", b""), covered.get(b"content-type", b"")]
    lines.append(expires.encode("ascii"))
    lines += [name + b":" + covered[name] for name in sorted(covered) if name.startswith(b"x-amz-")]
    head = b"\n".join(lines) + b"\n"
    secret_bytes = secret.encode("utf-8")
    for path in path_variants(raw_path):
        message = head + (prefix + path).encode("latin-1") + tail
        expected = base64.b64encode(hmac.digest(secret_bytes, message, "sha1")).decode("ascii")
        if same(expected, signature):
            payload = covered.get(b"x-amz-content-sha256", b"").decode("latin-1") or UNSIGNED
            check_payload(payload)
            return Authenticated(access_key, payload, signature, "", "", b"", True)
    raise S3Error("SignatureDoesNotMatch")


def _items(raw_query: str) -> list[Item]:
    """Decoded (name, value) in order; None for a key without `=`, which the string to sign tells from an
    empty one."""
    items: list[Item] = []
    for item in raw_query.split("&"):
        if item:
            name, equals, value = item.partition("=")
            items.append((percent_decode_bytes(name), percent_decode_bytes(value) if equals else None))
    return items


def _only(items: list[Item], name: bytes) -> str:
    values = [value for key, value in items if key == name]
    if len(values) != 1 or not values[0]:
        raise S3Error("AccessDenied", f"The query must have {name.decode()} once.")
    return values[0].decode("latin-1")


def _covered(headers: Mapping[str, str], items: list[Item]) -> dict[bytes, bytes]:
    """The headers that are signed. Signers put them into the query; a real header of the same name wins, as
    in `operations.hoist`, so what is verified is what will be done."""
    covered: dict[bytes, bytes] = {}
    for name, value in headers.items():
        if name.startswith("x-amz-") or name in ("content-md5", "content-type"):
            covered[name.encode("latin-1")] = value.strip(" \t").encode("latin-1")
    for key, given in items:
        lower = key.lower()
        if lower.startswith(b"x-amz-") or lower in (b"content-md5", b"content-type"):
            if not _NAME.fullmatch(lower) or _CONTROL.search(given or b""):
                raise S3Error("AccessDenied", "A query parameter that stands for a header is malformed.")
            covered.setdefault(lower, (given or b"").strip(b" "))
    return covered


def _refuse_unsigned_selection(items: list[Item]) -> None:
    for key, _ in items:
        name = key.decode("latin-1")
        if name in SELECTING_KEYS and name not in SIGNED_KEYS:
            raise S3Error("AccessDenied", f"SigV2 does not sign {name}; please use SigV4.")


def _sub_resources(items: list[Item]) -> bytes:
    """The signed query keys as the string to sign has them. Their values stand there decoded, so that
    `a=1%26versionId%3D2` would read like two keys: a value that imitates a key is refused."""
    chosen = [(key, value) for key, value in items if key.decode("latin-1") in SIGNED_KEYS]
    chosen.sort(key=lambda item: item[0])
    for _, value in chosen:
        for part in (value or b"").split(b"&")[1:]:
            if part.partition(b"=")[0].decode("latin-1") in SIGNED_KEYS:
                raise S3Error("AccessDenied", "A query value imitates a signed parameter.")
    if not chosen:
        return b""
    return b"?" + b"&".join([key if value is None else key + b"=" + value for key, value in chosen])
