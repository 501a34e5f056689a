"""The vocabulary: values that every room passes around. No behaviour beyond what the value itself implies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Remote(NamedTuple):
    """An object's address at its origin. `key` is text exactly as S3 means it (decoded once, UTF-8)."""

    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """What an origin says of one version of an object.

    size           bytes
    etag           as on the wire, with its quotes (`"9b2c…"`, `"…-12"`); never invented by the cache
    last_modified  seconds since the epoch (whole seconds: HTTP dates have no finer unit)
    headers        what a client sees back, names in lower case: content-type, cache-control,
                   content-disposition, content-encoding, content-language, expires, x-amz-meta-*,
                   x-amz-storage-class, x-amz-version-id, x-amz-server-side-encryption*, …
    checksums      stored whole-object checksums as response headers, names in lower case
                   (x-amz-checksum-crc32, x-amz-checksum-type, …); sent on whole-object reads only
    parts          sizes of a multipart object's parts, where the origin tells them with the object; never cached
    """

    size: int
    etag: str
    last_modified: int
    headers: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Conditions:
    """Preconditions of RFC 9110 §13 as the client sent them; ETag lists keep their wire form."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: int | None = None
    if_unmodified_since: int | None = None

    def __bool__(self) -> bool:
        return not (
            self.if_match is None
            and self.if_none_match is None
            and self.if_modified_since is None
            and self.if_unmodified_since is None
        )


class ListEntry(NamedTuple):
    """One key of a listing. `headers`-like details that only some origins know stay optional. A tuple, because a page
    makes a thousand of them."""

    key: str
    size: int
    etag: str
    last_modified: float
    storage_class: str = "STANDARD"
    checksum_algorithms: tuple[str, ...] = ()
    checksum_type: str | None = None
    owner_id: str | None = None


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a listing in UTF-8 byte order. `next_after`: pass it as `start_after` for the next page
    (a key or a common prefix, both exclusive), None on the last page."""

    entries: tuple[ListEntry, ...]
    common_prefixes: tuple[str, ...] = ()
    next_after: str | None = None


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """One version or delete marker of a ListObjectVersions answer."""

    key: str
    version_id: str
    is_latest: bool
    last_modified: float
    is_delete_marker: bool = False
    size: int = 0
    etag: str = ""
    storage_class: str = "STANDARD"
    owner_id: str | None = None


@dataclass(frozen=True, slots=True)
class VersionPage:
    entries: tuple[VersionEntry, ...]
    common_prefixes: tuple[str, ...] = ()
    next_key_marker: str | None = None
    next_version_id_marker: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One part as CompleteMultipartUpload names it. `checksums`: response-header form, lower case."""

    number: int
    etag: str
    checksums: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartEntry:
    """One part as ListParts shows it."""

    number: int
    etag: str
    size: int
    last_modified: float
    checksums: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartPage:
    entries: tuple[PartEntry, ...]
    next_number: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    storage_class: str = "STANDARD"
    checksum_algorithm: str | None = None
    checksum_type: str | None = None


@dataclass(frozen=True, slots=True)
class UploadEntry:
    key: str
    upload_id: str
    initiated: float
    storage_class: str = "STANDARD"


@dataclass(frozen=True, slots=True)
class UploadPage:
    entries: tuple[UploadEntry, ...]
    common_prefixes: tuple[str, ...] = ()
    next_key_marker: str | None = None
    next_upload_id_marker: str | None = None


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What a write tells the client: the new ETag and response headers (x-amz-version-id, x-amz-checksum-*,
    x-amz-server-side-encryption, …; names in lower case). `last_modified` where the answer has one (copies)."""

    etag: str
    headers: Mapping[str, str] = field(default_factory=dict)
    last_modified: float | None = None


class ToDelete(NamedTuple):
    """One key of several to delete. `etag`: only if the object still has it, or `*`, if there is one."""

    key: str
    version_id: str | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class BucketEntry:
    name: str
    created: float
