"""ListObjectVersions over Google's list of generations.

Google lists the generations of a key oldest first, S3 its versions newest first, so the generations of one key are
gathered before the first is given out: the last key of a page of Google's waits for the next page. A page of ours that
ends inside a key names the generation after which it goes on, and the key is then gathered once more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final

from gateway.errors import Unreachable
from gateway.model import VersionEntry, VersionPage
from gateway.origins import s3_xml
from gateway.origins.s3_client import Client
from gateway.origins.s3_http import Call
from gateway.origins.s3_list import LAST_CHARACTER, passed_group, prefixes
from gateway.s3.address import KEY_BYTES_MAX
from gateway.s3.signer import encode_query

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# What Google lists at most in one page; and how many of them are gone through for one of ours, which bounds the
# memory that one key with very many generations takes.
_PAGE_KEYS: Final = 1000
_PAGES_MAX: Final = 200

# A key with its generations, newest first; or a common prefix, without any.
Group = tuple[str, list[VersionEntry]]


async def versions(
    client: Client,
    bucket: str,
    prefix: str,
    delimiter: str,
    key_marker: str,
    generation_marker: str | None,
    max_keys: int,
) -> VersionPage:
    """Raises NoSuchBucket, Unreachable."""
    entries: list[VersionEntry] = []
    groups: list[str] = []
    last = (key_marker, "")
    if max_keys <= 0:
        return VersionPage(())
    async for name, found in _wanted(client, bucket, prefix, delimiter, key_marker, generation_marker):
        room = max_keys - len(entries) - len(groups)
        if not room:
            return VersionPage(tuple(entries), tuple(groups), last[0], last[1] or None)
        if not found:
            groups.append(name)
            last = (name, "")
            continue
        entries += found[:room]
        last = (name, entries[-1].version_id)
        if len(found) > room:
            return VersionPage(tuple(entries), tuple(groups), *last)
    return VersionPage(tuple(entries), tuple(groups))


async def _wanted(
    client: Client, bucket: str, prefix: str, delimiter: str, key_marker: str, generation_marker: str | None
) -> AsyncIterator[Group]:
    """What is left of the marker's own key, then what comes after it."""
    if generation_marker is not None and key_marker:
        async for name, found in _groups(client, bucket, key_marker, "", ""):
            if name == key_marker:
                rest = [one for one in found if int(one.version_id) < int(generation_marker)]
                if rest:
                    yield name, rest
            break
    passed = passed_group(prefix, delimiter, key_marker)
    marker = key_marker if passed is None else passed + LAST_CHARACTER
    if len(marker.encode()) > KEY_BYTES_MAX:
        marker = key_marker
    async for name, found in _groups(client, bucket, prefix, delimiter, marker):
        if name > key_marker and name != passed:
            yield name, found


async def _groups(
    client: Client, bucket: str, prefix: str, delimiter: str, marker: str
) -> AsyncIterator[Group]:
    """In byte order. The last one of a page is held back: the next may have more of it."""
    held: Group | None = None
    generation = ""
    for _ in range(_PAGES_MAX):
        root = await _page(client, bucket, prefix, delimiter, marker, generation)
        fields = s3_xml.fields(root)
        decode = s3_xml.decoder(fields.get("EncodingType", "").strip())
        for group in _gathered(root, decode):
            if held is not None and held[0] == group[0]:
                held = (held[0], _newest_first(held[1] + group[1]))
                continue
            if held is not None:
                yield held
            held = group
        if fields.get("IsTruncated", "").strip() != "true":
            if held is not None:
                yield held
            return
        before = (marker, generation)
        marker = decode(fields.get("NextMarker", "")) or (held[0] if held else "")
        generation = fields.get("NextGenerationMarker", "").strip()
        if (marker, generation) == before:
            raise Unreachable("The origin's listing does not get on.")
    raise Unreachable("The origin's listing has more generations than can be put in order.")


async def _page(
    client: Client, bucket: str, prefix: str, delimiter: str, marker: str, generation: str
) -> Element:
    query = [("versions", ""), ("encoding-type", "url"), ("max-keys", str(_PAGE_KEYS)), ("prefix", prefix)]
    optional = (("delimiter", delimiter), ("marker", marker), ("generation-marker", generation))
    query += [(name, value) for name, value in optional if value]
    root, _ = await client.document(Call("list", "GET", bucket, query=encode_query(query)), "List")
    return root


def _gathered(root: Element, decode: Callable[[str], str]) -> list[Group]:
    """The keys and common prefixes of one page, each once, in byte order."""
    found: dict[str, list[VersionEntry]] = {}
    for node in root:
        if s3_xml.local(node) in ("Version", "Contents"):
            entry = _entry(node, decode)
            found.setdefault(entry.key, []).append(entry)
    keys: list[Group] = [(key, _newest_first(entries)) for key, entries in found.items()]
    keys += [(prefix, []) for prefix in prefixes(root, decode)]
    return sorted(keys, key=lambda group: group[0])


def _newest_first(entries: list[VersionEntry]) -> list[VersionEntry]:
    return sorted(entries, key=lambda entry: -int(entry.version_id))


def _entry(node: Element, decode: Callable[[str], str]) -> VersionEntry:
    found = s3_xml.fields(node)
    return VersionEntry(
        decode(found.get("Key", "")),
        str(s3_xml.number(found.get("Generation", ""))),
        found.get("IsLatest", "").strip() == "true",
        s3_xml.timestamp(found.get("LastModified", "")),
        size=s3_xml.number(found.get("Size", "")),
        etag=s3_xml.quoted(found.get("ETag", "")),
        storage_class=found.get("StorageClass", "").strip() or "STANDARD",
        owner_id=s3_xml.inner(node, "Owner", "ID"),
    )
