"""Listings: objects, versions, uploads, buckets.

Pages of objects are asked for with `start-after`, not with the store's continuation tokens, so that any worker can go
on from any key. Keys come percent-encoded (`encoding-type=url`), because XML cannot hold them all.

S3 shows a common prefix again when a page starts after it (its keys are greater than the prefix itself); the
protocol here wants it passed. The page then starts after the last key that the prefix can hold, as far as U+10FFFF
is the last character; what a store shows of it nevertheless is dropped.

A store that does not list in byte order, or shows again what was passed, ends in an error instead of a listing with
holes or without an end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Final, TypeVar

from gateway.errors import Refused, Unreachable, Unsupported
from gateway.model import (
    BucketEntry,
    ListEntry,
    ListPage,
    UploadEntry,
    UploadPage,
    VersionEntry,
    VersionPage,
)
from gateway.origins import s3_xml
from gateway.origins.s3_client import Client
from gateway.origins.s3_contents import Contents
from gateway.origins.s3_http import Call
from gateway.s3.address import KEY_BYTES_MAX
from gateway.s3.signer import encode_query

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

T = TypeVar("T")

LAST_CHARACTER: Final = "\U0010ffff"
# What S3 lists at most in one page; and how many of them are gone through for one of ours.
_PAGE_KEYS: Final = 1000
_ROUNDS_MAX: Final = 100
# An account has at most some ten thousand buckets, a page a thousand or more.
_BUCKET_PAGES_MAX: Final = 100


async def page(
    client: Client, bucket: str, prefix: str, delimiter: str, start_after: str, max_keys: int
) -> ListPage:
    if max_keys <= 0 or not client.flavour.holds_under(prefix):
        return ListPage(())
    if delimiter not in ("", "/") and not client.flavour.any_delimiter:
        return await _grouped_here(client, bucket, prefix, delimiter, start_after, max_keys)
    return await _ask(client, bucket, prefix, delimiter, start_after, max_keys)


async def _ask(
    client: Client, bucket: str, prefix: str, delimiter: str, start_after: str, max_keys: int
) -> ListPage:
    passed = passed_group(prefix, delimiter, start_after)
    after = start_after if passed is None else passed + LAST_CHARACTER
    if len(after.encode()) > KEY_BYTES_MAX:
        after = start_after
    query = [("list-type", "2"), ("encoding-type", "url"), ("max-keys", str(max_keys)), ("prefix", prefix)]
    query += [(name, v) for name, v in (("delimiter", delimiter), ("start-after", after)) if v]
    call = Call("list", "GET", bucket, query=encode_query(query))
    contents = Contents()
    root, _ = await client.document(call, "ListBucket", parse=contents.parse)
    await asyncio.sleep(0)  # a large page is a few milliseconds' work; others go in between its halves
    return _page(root, contents, start_after, passed)


async def _grouped_here(
    client: Client, bucket: str, prefix: str, delimiter: str, start_after: str, max_keys: int
) -> ListPage:
    """For stores that do not know this delimiter: keys are listed without it and grouped here. A group that goes on
    past a page is jumped over. After `_ROUNDS_MAX` pages the answer may be short; it says where to go on."""
    entries: list[ListEntry] = []
    groups: list[str] = []
    last = start_after
    passed = passed_group(prefix, delimiter, start_after)
    for _ in range(_ROUNDS_MAX):
        after = last if passed is None else passed + LAST_CHARACTER
        found = await _ask(client, bucket, prefix, "", after, _PAGE_KEYS)
        for entry in found.entries:
            at = entry.key.find(delimiter, len(prefix))
            group = None if at < 0 else entry.key[: at + len(delimiter)]
            if group is not None and group == passed:
                continue
            if len(entries) + len(groups) == max_keys:
                return ListPage(tuple(entries), tuple(groups), last)
            if group is None:
                entries.append(entry)
            else:
                groups.append(group)
            passed, last = group, group or entry.key
        if found.next_after is None:
            return ListPage(tuple(entries), tuple(groups))
    return ListPage(tuple(entries), tuple(groups), last)


def passed_group(prefix: str, delimiter: str, start_after: str) -> str | None:
    """The common prefix that a page after `start_after` must not show again."""
    if not delimiter or not start_after.endswith(delimiter) or not start_after.startswith(prefix):
        return None
    at = start_after.find(delimiter, len(prefix))
    return None if at < 0 else start_after[: at + len(delimiter)]


def _page(root: Element, contents: Contents, start_after: str, passed: str | None) -> ListPage:
    found = s3_xml.fields(root)
    decode = s3_xml.decoder(found.get("EncodingType", "").strip())
    more = found.get("IsTruncated", "").strip() == "true"
    listed = contents.entries(decode)
    if listed is None:
        listed = [_entry(node, decode) for node in s3_xml.children(root, "Contents")]
    entries = _ordered(listed, itemgetter(0), more)
    groups = _ordered(prefixes(root, decode), str, more)
    if entries and entries[0].key <= start_after:
        entries = [entry for entry in entries if entry.key > start_after]
    shown = tuple(group for group in groups if group != passed and not _is_before(group, start_after))
    if not more:
        return ListPage(tuple(entries), shown)
    ends = [*(entry.key for entry in entries[-1:]), *shown[-1:]]
    if not ends:
        raise Unreachable("The origin's listing does not get on.")
    return ListPage(tuple(entries), shown, max(ends))


def _ordered(items: Sequence[T], key_of: Callable[[T], str], more: bool) -> Sequence[T]:
    """In byte order, which is that of code points. A store with another order has keys on later pages that belong
    before the last one of this page: asked for what comes after it, they would silently be missing. Raises
    Unsupported."""
    keys = list(map(key_of, items))
    if all(map(str.__le__, keys, keys[1:])):
        return items
    if more:
        raise Unsupported("This origin does not list in byte order; its pages cannot be put together.")
    return sorted(items, key=key_of)


def _is_before(group: str, start_after: str) -> bool:
    return group <= start_after and not start_after.startswith(group)


def _entry(node: Element, decode: Callable[[str], str]) -> ListEntry:
    found = s3_xml.fields(node)
    algorithms: tuple[str, ...] = ()
    if "ChecksumAlgorithm" in found:
        algorithms = tuple((c.text or "").strip() for c in s3_xml.children(node, "ChecksumAlgorithm"))
    return ListEntry(
        decode(found.get("Key", "")),
        s3_xml.number(found.get("Size", "")),
        s3_xml.quoted(found.get("ETag", "")),
        s3_xml.timestamp(found.get("LastModified", "")),
        found.get("StorageClass", "").strip() or "STANDARD",
        algorithms,
        found.get("ChecksumType", "").strip() or None,
        s3_xml.inner(node, "Owner", "ID") if "Owner" in found else None,
    )


def prefixes(root: Element, decode: Callable[[str], str]) -> tuple[str, ...]:
    nodes = s3_xml.children(root, "CommonPrefixes")
    return tuple(decode(s3_xml.fields(node).get("Prefix", "")) for node in nodes)


def _marker(found: dict[str, str], name: str, decode: Callable[[str], str] = str) -> str | None:
    """A marker of the next page; None on the last one. Raises Unreachable when a page has neither."""
    if found.get("IsTruncated", "").strip() != "true":
        return None
    return decode(found.get(name, "")) or None


async def versions(
    client: Client,
    bucket: str,
    prefix: str,
    delimiter: str,
    key_marker: str,
    version_id_marker: str,
    max_keys: int,
) -> VersionPage:
    if max_keys <= 0:
        return VersionPage(())
    query = [("versions", ""), ("encoding-type", "url"), ("max-keys", str(max_keys)), ("prefix", prefix)]
    query += _markers(delimiter, key_marker, "version-id-marker", version_id_marker)
    call = Call("list", "GET", bucket, query=encode_query(query))
    root, _ = await client.document(call, "ListVersions")
    found = s3_xml.fields(root)
    decode = s3_xml.decoder(found.get("EncodingType", "").strip())
    nodes = [node for node in root if s3_xml.local(node) in ("Version", "DeleteMarker")]
    return VersionPage(
        tuple(_version(node, decode) for node in nodes),
        prefixes(root, decode),
        _marker(found, "NextKeyMarker", decode),
        _marker(found, "NextVersionIdMarker"),
    )


def _markers(delimiter: str, key: str, id_name: str, id_marker: str) -> Sequence[tuple[str, str]]:
    pairs = (("delimiter", delimiter), ("key-marker", key), (id_name, id_marker if key else ""))
    return [(name, value) for name, value in pairs if value]


def _version(node: Element, decode: Callable[[str], str]) -> VersionEntry:
    found = s3_xml.fields(node)
    marker = s3_xml.local(node) == "DeleteMarker"
    return VersionEntry(
        decode(found.get("Key", "")),
        found.get("VersionId", "") or "null",
        found.get("IsLatest", "").strip() == "true",
        s3_xml.timestamp(found.get("LastModified", "")),
        marker,
        0 if marker else s3_xml.number(found.get("Size", "")),
        "" if marker else s3_xml.quoted(found.get("ETag", "")),
        found.get("StorageClass", "").strip() or "STANDARD",
        s3_xml.inner(node, "Owner", "ID"),
    )


async def uploads(
    client: Client,
    bucket: str,
    prefix: str,
    delimiter: str,
    key_marker: str,
    upload_id_marker: str,
    max_uploads: int,
) -> UploadPage:
    query = [("uploads", ""), ("encoding-type", "url"), ("max-uploads", str(max_uploads)), ("prefix", prefix)]
    query += _markers(delimiter, key_marker, "upload-id-marker", upload_id_marker)
    call = Call("list", "GET", bucket, query=encode_query(query))
    try:
        root, _ = await client.document(call, "ListMultipartUploads")
    except Refused as error:
        if error.code != "NoSuchUpload":
            raise
        return UploadPage(())  # `rclone serve s3`, of a bucket that never had any
    found = s3_xml.fields(root)
    decode = s3_xml.decoder(found.get("EncodingType", "").strip())
    return UploadPage(
        tuple(_upload(node, decode) for node in s3_xml.children(root, "Upload")),
        prefixes(root, decode),
        _marker(found, "NextKeyMarker", decode),
        _marker(found, "NextUploadIdMarker"),
    )


def _upload(node: Element, decode: Callable[[str], str]) -> UploadEntry:
    found = s3_xml.fields(node)
    return UploadEntry(
        decode(found.get("Key", "")),
        found.get("UploadId", ""),
        s3_xml.timestamp(found.get("Initiated", "")),
        found.get("StorageClass", "").strip() or "STANDARD",
    )


async def buckets(client: Client) -> Sequence[BucketEntry]:
    entries: list[BucketEntry] = []
    token = ""
    for _ in range(_BUCKET_PAGES_MAX):
        query = encode_query([("continuation-token", token)]) if token else ""
        root, _ = await client.document(Call("list", "GET", query=query), "ListAllMyBuckets")
        for group in s3_xml.children(root, "Buckets"):
            for node in s3_xml.children(group, "Bucket"):
                found = s3_xml.fields(node)
                created = s3_xml.timestamp(found.get("CreationDate", ""))
                entries.append(BucketEntry(found.get("Name", ""), created))
        token = s3_xml.fields(root).get("ContinuationToken", "").strip()
        if not token:
            break
    return entries
