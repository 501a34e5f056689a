"""What S3 knows of an object and Azure does not, in the blob's metadata; and ObjectMeta out of an answer's headers.

One entry, `s3gateway`, holds it as ASCII JSON (beyond 4 KiB zlib and base64 behind `z:`): the S3 ETag, checksums,
sizes of parts, headers without a property of their own, and user metadata whose names or values Azure cannot hold.
Other user metadata are entries of their own, for every tool to see. Azure's names are C# identifiers, without regard
to case, and its order of them is no plain one (`azure_dialect.py`): only lower-case letters and digits go as they are.

**Whose content it is.** Azure drops metadata when content is replaced, but a program may write new content with the old
metadata, append through the Data Lake API, or edit the block list. So what the record says of the content holds only
for

    a block blob                    of the recorded size,
    with the Content-MD5 that the ETag is (none for a multipart object: the service adds one to every Put Blob),
    last modified within two minutes of when the record was made.

Else the blob is somebody else's work and its ETag is Azure's own, which changes with every write. A metadata change by
somebody else makes the object look new, too; that costs a fetch and serves nothing wrong.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from gateway.errors import Refused, Throttled, Unreachable, Unsupported
from gateway.model import ObjectMeta
from gateway.origins.s3_xml import quoted
from gateway.s3.checksums import HEADER_PREFIX
from gateway.s3.conditions import parse_http_date

NAME: Final = "s3gateway"
_HEADER: Final = f"x-ms-meta-{NAME}"
# Between a record's making and its blob's Last-Modified lies one request and what two clocks differ by.
_APART_S_MAX: Final = 120
_METADATA_BYTES_MAX: Final = 8 << 10
_PLAIN_BYTES_MAX: Final = 4 << 10
_UNPACKED_BYTES_MAX: Final = 256 << 10

# S3's header → the property's header on a write. An answer has them under S3's names.
_PROPERTIES: Final = {
    "content-type": "x-ms-blob-content-type",
    "cache-control": "x-ms-blob-cache-control",
    "content-disposition": "x-ms-blob-content-disposition",
    "content-encoding": "x-ms-blob-content-encoding",
    "content-language": "x-ms-blob-content-language",
}
_KEPT: Final = ("expires", "x-amz-website-redirect-location")
_CANNED_ACLS: Final = ("private", "bucket-owner-full-control", "bucket-owner-read")
_DEFAULT_TYPE: Final = "binary/octet-stream"
# "" leaves the tier to the account's default.
_TIERS: Final = {
    "STANDARD": "",
    "REDUCED_REDUNDANCY": "",
    "INTELLIGENT_TIERING": "",
    "STANDARD_IA": "Cool",
    "ONEZONE_IA": "Cool",
    "GLACIER_IR": "Cold",
}
_CLASSES: Final = {"Cool": "STANDARD_IA", "Cold": "GLACIER_IR", "Archive": "GLACIER"}
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_PLAIN_NAME = re.compile(r"[a-z][a-z0-9]{0,127}")
_PLAIN_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")


@dataclass(frozen=True, slots=True)
class Record:
    """etag     without its quotes; empty for content whose S3 ETag nobody knows
    at       seconds since the epoch, when the record was made
    headers  S3 headers without a property; meta  user metadata without its prefix, where Azure cannot hold it
    upload   the multipart upload that the object came from, which makes a repeated complete recognizable
    """

    etag: str = ""
    size: int = 0
    at: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[int, ...] = ()
    upload: str = ""


@dataclass(frozen=True, slots=True)
class Blob:
    """What an answer says of a blob. `etag`: Azure's own, for conditions. `record`: only while it holds."""

    meta: ObjectMeta
    etag: str
    record: Record | None


# Writing


def stored_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The part of a write's headers that is kept and given back. Raises Unsupported for a promise that could not be
    kept."""
    kept = {"content-type": _DEFAULT_TYPE}
    for name, value in headers.items():
        if not _VALUE.fullmatch(value):
            raise Refused(400, "InvalidArgument", "A header holds what no header may hold.")
        if name in _PROPERTIES or name in _KEPT or name.startswith("x-amz-meta-"):
            kept[name] = value
        elif name == "x-amz-storage-class":
            if value not in _TIERS:
                raise Unsupported(f"Azure has no tier like {value} that can be read from at once.")
            kept[name] = value
        elif name == "x-amz-server-side-encryption" and value == "AES256":
            kept[name] = value  # Azure encrypts everything so
        elif name.startswith("x-amz-server-side-encryption"):
            raise Unsupported("Azure blobs are encrypted by the account's own settings.")
        elif name == "x-amz-tagging" and value:
            raise Unsupported("Object tags are not kept at Azure.")
        elif name.startswith("x-amz-object-lock"):
            raise Unsupported("Object lock is a setting of the container at Azure.")
        elif name.startswith("x-amz-grant-") or (name == "x-amz-acl" and value not in _CANNED_ACLS):
            raise Unsupported("Azure blobs have no access control lists.")
    return kept


def property_headers(stored: Mapping[str, str], md5: bytes | None) -> dict[str, str]:
    """The properties of a write; `md5`: of the whole content, None when it is not known."""
    sent = {_PROPERTIES[name]: v for name, v in stored.items() if name in _PROPERTIES and v.isascii() and v}
    if md5 is not None:
        sent["x-ms-blob-content-md5"] = base64.b64encode(md5).decode()
    return sent


def tier_header(stored: Mapping[str, str]) -> dict[str, str]:
    tier = _TIERS.get(stored.get("x-amz-storage-class", ""), "")
    return {"x-ms-access-tier": tier} if tier else {}


def metadata_headers(
    stored: Mapping[str, str],
    *,
    etag: str,
    size: int,
    checksums: Mapping[str, str],
    parts: tuple[int, ...] = (),
    upload: str = "",
) -> dict[str, str]:
    """All metadata of a blob. Raises Refused when they exceed what Azure holds."""
    sent, meta, headers = {}, {}, {}
    for name, value in stored.items():
        bare = name.removeprefix("x-amz-meta-")
        if bare == name:
            if name not in _PROPERTIES or not (value.isascii() and value):
                headers[name] = value
        elif bare != NAME and _PLAIN_NAME.fullmatch(bare) and _is_plain(value):
            sent[f"x-ms-meta-{bare}"] = value
        else:
            meta[bare] = value
    record = Record(etag, size, int(time.time()), headers, meta, checksums, parts, upload)
    sent[_HEADER] = encode(record)
    if _length(sent) > _METADATA_BYTES_MAX and parts:
        sent[_HEADER] = encode(Record(etag, size, record.at, headers, meta, checksums, (), upload))
    if _length(sent) > _METADATA_BYTES_MAX:
        raise Refused(400, "MetadataTooLarge", "The headers and metadata exceed Azure's 8 KiB.")
    return sent


def _is_plain(value: str) -> bool:
    return "  " not in value and _PLAIN_VALUE.fullmatch(value) is not None


def _length(sent: Mapping[str, str]) -> int:
    return sum(len(name) - len("x-ms-meta-") + len(value) for name, value in sent.items())


def encode(record: Record) -> str:
    raw: dict[str, Any] = {
        "etag": record.etag,
        "size": record.size,
        "at": record.at,
        "headers": dict(record.headers),
        "meta": dict(record.meta),
        "sums": dict(record.checksums),
        "parts": _packed(record.parts),
        "upload": record.upload,
    }
    return pack({name: value for name, value in raw.items() if value or name in ("size", "at")})


def pack(raw: Mapping[str, Any]) -> str:
    """JSON in one line of printable ASCII, without spaces, as headers and signatures take it."""
    text = json.dumps(raw, separators=(",", ":")).replace(" ", "\\u0020")
    if len(text) > _PLAIN_BYTES_MAX:
        return "z:" + base64.b64encode(zlib.compress(text.encode())).decode()
    return text


def unpack(text: str) -> dict[str, Any]:
    """Raises ValueError for what `pack` did not make."""
    if text.startswith("z:"):
        try:
            unpacker = zlib.decompressobj()
            data = unpacker.decompress(base64.b64decode(text[2:], validate=True), _UNPACKED_BYTES_MAX)
        except (zlib.error, binascii.Error) as error:
            raise ValueError("not packed") from error
        if not unpacker.eof:
            raise ValueError("too long")
        text = data.decode()
    raw = json.loads(text)
    if not isinstance(raw, dict):
        raise ValueError("no object")
    return raw


# Each block of an object is read with the object's metadata. One with ten thousand parts takes 400 KB.
@lru_cache(128)
def decode(text: str) -> Record | None:
    """None for a damaged one: the blob is then somebody else's."""
    try:
        raw = unpack(text)
        return Record(
            str(raw.get("etag", "")),
            int(raw["size"]),
            int(raw["at"]),
            _texts(raw.get("headers", {})),
            _texts(raw.get("meta", {})),
            _texts(raw.get("sums", {})),
            _unpacked(str(raw.get("parts", ""))),
            str(raw.get("upload", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _texts(raw: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in raw.items()}


def _packed(parts: tuple[int, ...]) -> str:
    """Sizes of parts, runs of equal ones as SIZExCOUNT: `8388608x99,17`."""
    runs: list[list[int]] = []
    for size in parts:
        if runs and runs[-1][0] == size:
            runs[-1][1] += 1
        else:
            runs.append([size, 1])
    return ",".join(f"{size}x{count}" if count > 1 else str(size) for size, count in runs)


def _unpacked(text: str) -> tuple[int, ...]:
    sizes: list[int] = []
    for run in filter(None, text.split(",")):
        size, _, count = run.partition("x")
        number = int(count or 1)
        if not 0 < number <= 10_000 - len(sizes):  # S3's most parts
            raise ValueError("too many parts")
        sizes += [int(size)] * number
    return tuple(sizes)


# Reading


def blob_of(headers: Mapping[str, str], size: int, *, whole: bool = True) -> Blob:
    """From an answer to GET or HEAD. Raises Unreachable without ETag or date, Throttled for a blob that a copy has not
    yet filled."""
    modified = parse_http_date(headers.get("last-modified", ""))
    if not headers.get("etag") or modified is None:
        raise Unreachable("The origin's answer has no ETag or no Last-Modified.")
    if headers.get("x-ms-copy-status") == "pending":
        raise Throttled("The object is being copied.")
    own = quoted(headers["etag"])
    text = headers.get(_HEADER)
    record = None if text is None else decode(text)
    stored = _stored(headers, record)
    if record is None or not _holds(record, headers, size, modified):
        return Blob(ObjectMeta(size, own, modified, stored), own, None)
    checksums = record.checksums if whole else {}
    return Blob(ObjectMeta(size, f'"{record.etag}"', modified, stored, checksums, record.parts), own, record)


def _holds(record: Record, headers: Mapping[str, str], size: int, modified: int) -> bool:
    md5 = headers.get("x-ms-blob-content-md5") or headers.get("content-md5") or ""
    return (
        bool(record.etag)
        and record.size == size
        and headers.get("x-ms-blob-type") == "BlockBlob"
        and abs(modified - record.at) <= _APART_S_MAX
        and md5 == _md5_of(record.etag)
    )


def _md5_of(etag: str) -> str:
    """The Content-MD5 that a blob of this S3 ETag has: none when the ETag is a multipart one."""
    try:
        return "" if "-" in etag else base64.b64encode(bytes.fromhex(etag)).decode()
    except ValueError:
        return ""


def _stored(headers: Mapping[str, str], record: Record | None) -> dict[str, str]:
    stored = {name: headers[name] for name in _PROPERTIES if name in headers}
    for name, value in headers.items():
        if name.startswith("x-ms-meta-") and name != _HEADER:
            stored[f"x-amz-meta-{name[10:]}"] = value
    if record is not None:
        stored.update(record.headers)
        stored.update({f"x-amz-meta-{name}": value for name, value in record.meta.items()})
    tier = headers.get("x-ms-access-tier", "")
    if _TIERS.get(stored.get("x-amz-storage-class", "STANDARD"), "") != (tier if tier in _CLASSES else ""):
        stored["x-amz-storage-class"] = _CLASSES.get(tier, "STANDARD")
    if stored.get("x-amz-storage-class") == "STANDARD":
        del stored["x-amz-storage-class"]
    return stored


def declared_checksums(headers: Mapping[str, str]) -> dict[str, str]:
    """The x-amz-checksum-* values among the headers, without algorithm, mode and type."""
    skip = {HEADER_PREFIX + word for word in ("algorithm", "mode", "type")}
    return {name: v for name, v in headers.items() if name.startswith(HEADER_PREFIX) and name not in skip}
