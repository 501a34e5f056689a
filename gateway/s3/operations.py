"""What a request asks for: the operation's name and the IAM action that it needs.

The sub-resource keys of the query choose the operation; an unknown one never falls through to the plain
verb, where `PUT /b/k?newFeature` would overwrite the object. How a query key is read:

  * a key of `operation_table` that selects (`acl`, `uploads`, `uploadId`, …): all of them together must name
  one row;
  * `x-*` in any case (`x-id`, the X-Amz-* of presigned URLs), signature parameters: ignored, as S3 does;
  * known parameters of reads (`prefix`, `versionId`, `response-*`, …): ignored here, the handler reads them;
  * an unknown key *with* a value on GET and HEAD (`?v=17` of a cache buster): ignored, as S3 does;
  * every other unknown key, valueless or on a write: refused with NotImplemented.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from gateway.s3.address import Address
from gateway.s3.errors import S3Error
from gateway.s3.operation_table import (
    BUCKET_CONFIGURATIONS,
    BUCKET_ROWS,
    LIST_KEYS,
    OBJECT_ROWS,
    READ_KEYS,
    RESPONSE_KEYS,
    SERVICE_ROWS,
    SIGNING_KEYS,
    WRITE_KEYS,
    Row,
)

_READS = ("GET", "HEAD")
_METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE")


@dataclass(frozen=True, slots=True)
class Operation:
    """name       the S3 API's name; GetObject and HeadObject also with versionId or partNumber
    action     the IAM action on bucket/key (on the bucket where `on_object` is false); copies need
    s3:GetObject
               (with versionId s3:GetObjectVersion) on their source as well, DeleteObjects its action per key
    handled    answered by the gateway; else forwarded to the origin
    mutates    may change what the bucket or the object says
    on_object  about a key, not about a bucket or the service
    refused    the S3 code to refuse with, after authentication; None for everything that is answered
    """

    name: str
    action: str
    handled: bool
    mutates: bool
    on_object: bool
    refused: str | None = None

    def refusal(self) -> S3Error:
        """The error for an operation whose `refused` is set."""
        return S3Error(self.refused or "NotImplemented", f"{self.name} is not supported here.")


def _table(rows: tuple[Row, ...], on_object: bool) -> dict[tuple[str, str, bool], Operation]:
    found = {}
    for row in rows:
        mutates = row.method not in _READS and row.name != "SelectObjectContent"
        operation = Operation(row.name, row.action, row.handled, mutates, on_object)
        found[row.method, row.keys, False] = operation
        if row.versioned_action:
            found[row.method, row.keys, True] = replace(operation, action=row.versioned_action)
    return found


def _configurations() -> tuple[Row, ...]:
    rows = []
    for key, name, noun, has_delete in BUCKET_CONFIGURATIONS:
        rows.append(Row("GET", key, "Get" + name, "s3:Get" + noun))
        rows.append(Row("PUT", key, "Put" + name, "s3:Put" + noun))
        if has_delete:
            rows.append(Row("DELETE", key, "Delete" + name, "s3:Put" + noun))
    return tuple(rows)


_SERVICE: Final = _table(SERVICE_ROWS, False)
_BUCKET: Final = _table(BUCKET_ROWS + _configurations(), False)
_OBJECT: Final = _table(OBJECT_ROWS, True)
SELECTING_KEYS: Final = frozenset(
    key for method, keys, _ in (*_SERVICE, *_BUCKET, *_OBJECT) for key in keys.split()
) - {"partNumber"}  # on reads it is a parameter; on writes it belongs to uploadId

LIST_V2: Final = replace(_BUCKET["GET", "", False], name="ListObjectsV2")
COPY: Final = replace(_OBJECT["PUT", "", False], name="CopyObject")
COPY_PART: Final = replace(_OBJECT["PUT", "partNumber uploadId", False], name="UploadPartCopy")
POST_FORM: Final = Operation("PostObject", "s3:PutObject", False, True, False, "NotImplemented")
_PLAIN_OBJECT: Final = {method: _OBJECT.get((method, "", False)) for method in ("GET", "HEAD")}


def operations() -> list[Operation]:
    """Every operation that is not refused, for documentation and metrics' label sets."""
    known = {o.name: o for table in (_SERVICE, _BUCKET, _OBJECT) for o in table.values()}
    return [*known.values(), LIST_V2, COPY, COPY_PART]


def classify(method: str, address: Address, headers: Mapping[str, str]) -> Operation:
    """Never raises: what is unknown comes back with `refused` set. `headers` with hoisted ones merged in
    (`hoist`)."""
    if address.key and not address.query and (plain := _PLAIN_OBJECT.get(method)) is not None:
        return plain
    level = "object" if address.key else "bucket" if address.bucket else "service"
    if method not in _METHODS:
        return _refused("MethodNotAllowed", level)
    keys = _selecting_keys(method, address)
    if keys is None:
        return _refused("NotImplemented", level)
    if level == "object":
        return _object_operation(method, keys, address, headers)
    if level == "bucket":
        return _bucket_operation(method, keys, address, headers)
    return _SERVICE.get((method, keys, False)) or _refused("MethodNotAllowed", level)


def _object_operation(method: str, keys: str, address: Address, headers: Mapping[str, str]) -> Operation:
    versioned = address.get("versionId") is not None
    operation = _OBJECT.get((method, keys, versioned))
    if operation is None and method in _READS:  # ListParts ignores versionId, as S3 does; no write does
        operation = _OBJECT.get((method, keys, False))
    if operation is None:
        return _refused("NotImplemented" if keys or versioned else "MethodNotAllowed", "object")
    if operation.mutates and not _CHANGING_HEADERS.isdisjoint(headers):
        return _refused("NotImplemented", "object")
    if "x-amz-copy-source" not in headers or not operation.mutates:
        return operation
    if operation.name == "PutObject":
        return COPY
    return COPY_PART if operation.name == "UploadPart" else _refused("NotImplemented", "object")


# Headers that turn a write into another one (append, rename, conditional delete of directory buckets):
# passing over them would overwrite or delete what the client meant to keep.
_CHANGING_HEADERS: Final = frozenset(
    {
        "x-amz-if-match-last-modified-time",
        "x-amz-if-match-size",
        "x-amz-rename-source",
        "x-amz-write-offset-bytes",
    }
)


def _bucket_operation(method: str, keys: str, address: Address, headers: Mapping[str, str]) -> Operation:
    if method == "GET" and not keys and (list_type := address.get("list-type")) is not None:
        return LIST_V2 if list_type == "2" else _refused("InvalidArgument", "bucket")
    if method == "POST" and not keys:
        form = headers.get("content-type", "").lower().startswith("multipart/form-data")
        return POST_FORM if form else _refused("MethodNotAllowed", "bucket")
    return _BUCKET.get((method, keys, False)) or _refused("NotImplemented", "bucket")


def _selecting_keys(method: str, address: Address) -> str | None:
    """The sorted selecting keys joined by spaces; None when a key is there that must not be ignored."""
    reads = method in _READS
    selecting = set()
    others = []
    for key, value in address.query:
        if key in SELECTING_KEYS or (key == "partNumber" and not reads and address.key):
            selecting.add(key)
        elif not _ignored(key, value, reads):
            others.append(key)
    keys = " ".join(sorted(selecting))
    allowed = WRITE_KEYS.get(keys, frozenset())
    if any(key not in allowed and not (key == "versionId" and address.key) for key in others):
        return None
    return keys


def _ignored(key: str, value: str, reads: bool) -> bool:
    lower = key.lower()
    if lower.startswith("x-") or lower in SIGNING_KEYS:
        return True
    return reads and (bool(value) or key in LIST_KEYS or key in READ_KEYS or key in RESPONSE_KEYS)


@lru_cache(16)  # three levels, a few codes
def _refused(code: str, level: str) -> Operation:
    name = "Unknown" if code == "NotImplemented" else "Unsupported"
    return Operation(name, "s3:" + name, False, True, level == "object", code)


def hoist(headers: Mapping[str, str], address: Address) -> Mapping[str, str]:
    """Headers with those that presigning SDKs move into the query put back (`?x-amz-copy-source=…`): they
    are part of what was signed, and dropping one would turn a copy into an empty PUT. A real header wins:
    when it is there it was signed as well. SigV2 URLs also carry content-type and content-md5. Raises
    InvalidArgument for a name or value that could not have been a header."""
    if not address.query:
        return headers
    sigv2 = address.get("AWSAccessKeyId") is not None
    moved = {}
    for key, value in address.query:
        name = key.lower()
        if name in headers or name in moved or name in SIGNATURE_KEYS:
            continue
        if name.startswith("x-amz-") or (sigv2 and name in ("content-type", "content-md5")):
            if not _HEADER_NAME.fullmatch(name) or _CONTROL.search(value):
                raise S3Error("InvalidArgument", "A query parameter that stands for a header is malformed.")
            moved[name] = value.strip(" ").encode("utf-8").decode("latin-1")
    return {**headers, **moved} if moved else headers


_HEADER_NAME = re.compile(r"[a-z0-9._-]{1,256}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
SIGNATURE_KEYS = frozenset(
    [
        "x-amz-algorithm",
        "x-amz-content-sha256",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-security-token",
        "x-amz-signature",
        "x-amz-signedheaders",
    ]
)
