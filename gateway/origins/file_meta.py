"""What is known of an object beyond its bytes: the sidecar record, and the ETag of files that have none.

A sidecar is `<root>/.gateway/meta/<bucket>/<2 hex>/<sha256 of the key>`: a JSON list of at most two records,
newest first. A record holds for exactly one file: the one with its inode, size and mtime. It is written
before the file is renamed into place, beside the record of the file that it replaces, so readers find the
matching metadata on either side of the rename, and a crash in between changes nothing. A file changed behind
our back matches none.

Such a foreign file has the ETag "<32 hex of size, mtime, ctime, inode>-1": it changes whenever the content
may have changed (ctime cannot be set back), also when only the mode did. The `-1` keeps clients from taking
it for an MD5. Two writes in place of the same length within one tick of the kernel's clock (1–4 ms) are one
change to it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gateway.errors import Unsupported
from gateway.model import Conditions, ObjectMeta
from gateway.s3.conditions import matches

_STORED = frozenset(
    (
        "content-type",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "expires",
        "x-amz-website-redirect-location",
    )
)
_CANNED_ACLS = ("private", "bucket-owner-full-control", "bucket-owner-read")


@dataclass(frozen=True, slots=True)
class Record:
    """`parts`: sizes of the parts of a multipart upload; `upload`: its id, which makes complete
    idempotent."""

    key: str
    etag: str
    headers: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[int, ...] = ()
    upload: str = ""
    inode: int = 0
    size: int = 0
    mtime_ns: int = 0

    def matches(self, stat: os.stat_result) -> bool:
        return (self.inode, self.size, self.mtime_ns) == (stat.st_ino, stat.st_size, stat.st_mtime_ns)


def encode(records: list[Record]) -> bytes:
    return json.dumps([asdict(record) for record in records], separators=(",", ":")).encode()


def decode(data: bytes) -> list[Record]:
    """Records of a sidecar; none when it is damaged (the file is then a foreign one)."""
    try:
        return [_record(raw) for raw in json.loads(data)]
    except (ValueError, TypeError, KeyError):
        return []


def _record(raw: dict[str, Any]) -> Record:
    return Record(**{**raw, "parts": tuple(raw["parts"])})


def foreign_etag(stat: os.stat_result) -> str:
    seed = f"{stat.st_size}/{stat.st_mtime_ns}/{stat.st_ctime_ns}/{stat.st_ino}"
    return f'"{hashlib.blake2b(seed.encode(), digest_size=16).hexdigest()}-1"'


def object_meta(stat: os.stat_result, record: Record | None) -> ObjectMeta:
    headers = {"content-type": "binary/octet-stream"}
    if record is None:
        return ObjectMeta(stat.st_size, foreign_etag(stat), int(stat.st_mtime), headers)
    headers.update(record.headers)
    modified = int(stat.st_mtime)
    return ObjectMeta(stat.st_size, record.etag, modified, headers, record.checksums, record.parts)


def stored_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The part of a write's headers that is kept and given back. Raises Unsupported for what a directory
    cannot do, rather than dropping a promise (encryption, tags, locks, public access) without a word."""
    kept = {}
    for name, value in headers.items():
        if name in _STORED or name.startswith("x-amz-meta-"):
            kept[name] = value
        elif name == "x-amz-storage-class" and value != "STANDARD":
            raise Unsupported("A directory has only the storage class STANDARD.")
        elif name.startswith("x-amz-server-side-encryption"):
            raise Unsupported("A directory does not encrypt objects.")
        elif name == "x-amz-tagging" and value:
            raise Unsupported("A directory keeps no object tags.")
        elif name.startswith("x-amz-object-lock"):
            raise Unsupported("A directory has no object lock.")
        elif name.startswith("x-amz-grant-") or (name == "x-amz-acl" and value not in _CANNED_ACLS):
            raise Unsupported("A directory keeps no access control lists.")
    return kept


def declared_checksums(headers: Mapping[str, str]) -> dict[str, str]:
    """The x-amz-checksum-* values among the headers, without the algorithm, mode and type headers."""
    skip = ("x-amz-checksum-algorithm", "x-amz-checksum-mode", "x-amz-checksum-type")
    return {k: v for k, v in headers.items() if k.startswith("x-amz-checksum-") and k not in skip}


def write_allowed(conditions: Conditions, etag: str | None) -> bool:
    """If-Match and If-None-Match of a write against the current object (`None`: there is none)."""
    if conditions.if_match is not None and (
        etag is None or not matches(conditions.if_match, etag, weak=False)
    ):
        return False
    return not (
        conditions.if_none_match is not None
        and etag is not None
        and matches(conditions.if_none_match, etag, weak=True)
    )
