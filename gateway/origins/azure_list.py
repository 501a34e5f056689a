"""Listings on top of List Blobs, whose pages go on from opaque markers only, in an order of its own making.

**Going on from a key.** A worker remembers, for the last pages it gave out, which marker goes on behind their last key
(`Marks`). Any other `start_after` is reached by going through the keys before it, 5,000 a request; after
`_PAGES_MAX` requests the answer is an empty page that says to go on, and how far that came is remembered, too.

**Order.** S3 lists by UTF-8 bytes, and that is how Python compares text. Azure promises alphabetical order, and
emulators compare UTF-16 units; the two differ only where a character beyond U+FFFF meets one of U+E000 to U+FFFF behind
a common beginning. So keys of a page are sorted here, and a page that ends inside such a beginning is taken together
with the next ones, up to `_JOINED_PAGES_MAX`. A key that still comes too late ends the listing with an error: none is
lost or shown twice.

**Groups.** Azure groups by delimiters of one character; longer ones are grouped here. A group that holds nothing but
the gateway's own blobs, or nothing behind `start_after`, is not shown.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.errors import Unreachable, Unsupported
from gateway.model import ListEntry, ListPage
from gateway.origins import azure_meta, azure_names, s3_xml
from gateway.origins.azure_client import AzureClient
from gateway.origins.s3_http import Call
from gateway.origins.s3_list import passed_group
from gateway.s3.checksums import HEADER_PREFIX
from gateway.s3.signer import encode_query

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_PAGE_KEYS_MAX: Final = 5000
_PAGES_MAX: Final = 200
_JOINED_PAGES_MAX: Final = 8
# Two keys and a marker of at most 3 KiB each.
_MARKS_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class Mark:
    """`exact`: no key up to the remembered one comes behind the marker."""

    marker: str
    exact: bool


class Marks:
    """Where the latest pages ended: (bucket, prefix, delimiter, last key) → marker."""

    def __init__(self) -> None:
        self._marks: OrderedDict[tuple[str, str, str, str], Mark] = OrderedDict()

    def put(self, bucket: str, prefix: str, delimiter: str, after: str, mark: Mark) -> None:
        self._marks[bucket, prefix, delimiter, after] = mark
        self._marks.move_to_end((bucket, prefix, delimiter, after))
        if len(self._marks) > _MARKS_MAX:
            self._marks.popitem(last=False)

    def get(self, bucket: str, prefix: str, delimiter: str, after: str) -> Mark:
        return self._marks.get((bucket, prefix, delimiter, after)) or Mark("", False)


@dataclass(frozen=True, slots=True)
class Item:
    """A key with its entry, or a common prefix."""

    key: str
    entry: ListEntry | None


@dataclass(frozen=True, slots=True)
class Batch:
    """One page of Azure's or some together, sorted. `marker`: where it begins, `following`: where the next does."""

    items: list[Item]
    marker: str
    following: str


async def page(
    client: AzureClient,
    marks: Marks,
    bucket: str,
    prefix: str,
    delimiter: str,
    start_after: str,
    max_keys: int,
) -> ListPage:
    azure_names.require_container(bucket)
    if max_keys <= 0:
        return ListPage(())
    if not azure_names.can_begin(prefix):  # nor can the answer's XML repeat it
        await ask(client, bucket, "", "", "", 1)
        return ListPage(())
    if not azure_names.can_begin(delimiter):
        delimiter = ""
    return await _Pager(client, marks, bucket, prefix, delimiter, start_after, max_keys).run()


class _Pager:
    def __init__(
        self,
        client: AzureClient,
        marks: Marks,
        bucket: str,
        prefix: str,
        delimiter: str,
        start_after: str,
        max_keys: int,
    ) -> None:
        self._client = client
        self._marks = marks
        self._place = (bucket, prefix, delimiter)
        self._after = start_after
        self._max_keys = max_keys
        self._passed = passed_group(prefix, delimiter, start_after)
        self._entries: list[ListEntry] = []
        self._groups: list[str] = []
        self._passing_by = False

    async def run(self) -> ListPage:
        bucket, prefix, delimiter = self._place
        mark = self._marks.get(*self._place, self._after)
        last = self._after if mark.exact else ""
        # Up to the prefix there is one key at most.
        self._passing_by = self._after > prefix and not mark.exact
        position = self._after
        marker = mark.marker
        for _ in range(_PAGES_MAX):
            here = await batch(self._client, bucket, prefix, delimiter, marker, self._wanted())
            for item in here.items[:1]:  # they are sorted
                if item.key < last:
                    raise Unsupported(
                        "This origin does not list in byte order; its pages cannot be put together."
                    )
            last = max([last, *(item.key for item in here.items[-1:])])
            for item in here.items:
                if not await self._is_wanted(item):
                    continue
                if self._count == self._max_keys:
                    return self._cut(position, Mark(here.marker, False))
                position = self._take(item)
            if not here.following:
                return ListPage(tuple(self._entries), tuple(self._groups))
            if self._count == self._max_keys:
                return self._cut(position, Mark(here.following, True))
            marker = here.following
        return self._cut(position, Mark(marker, position >= last))

    @property
    def _count(self) -> int:
        return len(self._entries) + len(self._groups)

    def _wanted(self) -> int:
        """Just what is missing, so that a page of ours ends where one of Azure's does; the most, while passing by."""
        if self._passing_by and not self._count:
            return _PAGE_KEYS_MAX
        return min(self._max_keys - self._count, _PAGE_KEYS_MAX)

    async def _is_wanted(self, item: Item) -> bool:
        if item.entry is not None:
            if item.key > self._after:
                group = self._group_of(item.key)
                return group is None or await self._shows(group)
            return False
        return await self._shows(item.key)

    def _group_of(self, key: str) -> str | None:
        """The common prefix of a key that Azure did not group."""
        _, prefix, delimiter = self._place
        at = key.find(delimiter, len(prefix)) if len(delimiter) > 1 else -1
        return None if at < 0 else key[: at + len(delimiter)]

    async def _shows(self, group: str) -> bool:
        if group == self._passed or group in self._groups[-1:]:
            return False
        bucket, _, delimiter = self._place
        behind = group > self._after
        if len(delimiter) > 1 or (behind and not azure_names.HIDDEN.startswith(group)):
            return True
        if not behind and not self._after.startswith(group):
            return False
        found = await page(self._client, self._marks, bucket, group, "", self._after if not behind else "", 1)
        return bool(found.entries)

    def _take(self, item: Item) -> str:
        group = item.key if item.entry is None else self._group_of(item.key)
        if group is None and item.entry is not None:
            self._entries.append(item.entry)
            return item.key
        self._groups.append(group or item.key)
        self._passed = group
        return group or item.key

    def _cut(self, position: str, mark: Mark) -> ListPage:
        self._marks.put(*self._place, position, mark)
        return ListPage(tuple(self._entries), tuple(self._groups), position)


async def batch(
    client: AzureClient, bucket: str, prefix: str, delimiter: str, marker: str, count: int
) -> Batch:
    """One page, or those that must be sorted together."""
    items: list[Item] = []
    following = marker
    for _ in range(_JOINED_PAGES_MAX):
        found, following = await ask(client, bucket, prefix, delimiter, following, count)
        items += found
        if not following or not _goes_on([item.key for item in items]):
            break
        count = _PAGE_KEYS_MAX
    visible = [item for item in items if not item.key.startswith(azure_names.HIDDEN)]
    return Batch(sorted(visible, key=lambda item: item.key), marker, following)


def _goes_on(keys: list[str]) -> bool:
    """Whether keys to come may belong before one of these: one that has their last one's beginning up to a character
    beyond U+FFFF."""
    if all(map(str.isascii, keys)):
        return False
    last = max(keys, key=lambda key: key.encode("utf-16-be"))
    for key in keys:
        at = next((at for at, character in enumerate(key) if character > "\uffff"), None)
        if at is not None and last.startswith(key[:at]) and last[at : at + 1] > "\ud7ff":
            return True
    return False


async def ask(
    client: AzureClient, bucket: str, prefix: str, delimiter: str, marker: str, count: int
) -> tuple[list[Item], str]:
    """One page of Azure's, and the next one's marker (empty: none). Raises Unreachable for half a listing."""
    single = delimiter if len(delimiter) == 1 else ""
    asked = (("prefix", prefix), ("delimiter", single), ("maxresults", str(count)))
    nodes, following = await _nodes(client, bucket, marker, asked)
    items: list[Item] = []
    for node in nodes:
        kind = s3_xml.local(node)
        if kind == "Blob":
            items.append(_item(node))
        elif kind == "BlobPrefix":
            items.append(Item(name_of(node), None))
    return items, following


async def everything(
    client: AzureClient, bucket: str, prefix: str
) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """Names and headers of all blobs under a prefix, the gateway's own ones, too."""
    marker = ""
    while True:
        nodes, marker = await _nodes(client, bucket, marker, [("prefix", prefix)])
        for node in nodes:
            if s3_xml.local(node) == "Blob":
                yield name_of(node), headers_of(node)
        if not marker:
            return


async def _nodes(
    client: AzureClient, bucket: str, marker: str, asked: Iterable[tuple[str, str]]
) -> tuple[list[Element], str]:
    """What one page of Azure's lists, and the next one's marker."""
    pairs = [("restype", "container"), ("comp", "list"), ("include", "metadata")]
    pairs += [(name, value) for name, value in (*asked, ("marker", marker)) if value]
    call = Call("list", "GET", bucket, query=encode_query(pairs))
    root, _ = await client.document(call, "EnumerationResults")
    following = s3_xml.fields(root).get("NextMarker", "")
    if following and following == marker:
        raise Unreachable("The origin's listing does not get on.")
    return [node for group in s3_xml.children(root, "Blobs") for node in group], following


def name_of(node: Element) -> str:
    """Percent-encoded where XML cannot hold it."""
    for child in node:
        if s3_xml.local(child) == "Name":
            text = child.text or ""
            return s3_xml.decoder("url")(text.replace("+", "%2B")) if child.get("Encoded") == "true" else text
    raise Unreachable("The origin's listing has an entry without a name.")


def headers_of(node: Element) -> dict[str, str]:
    """An entry of a listing as the headers that HEAD would answer with."""
    headers: dict[str, str] = {}
    for child in node:
        kind = s3_xml.local(child)
        if kind == "Properties":
            found = s3_xml.fields(child)
            headers.update({header: found[name] for name, header in _PROPERTIES.items() if found.get(name)})
        elif kind == "Metadata":
            for name, value in s3_xml.fields(child).items():
                headers[f"x-ms-meta-{name.lower()}"] = value
    return headers


_PROPERTIES: Final = {
    "Last-Modified": "last-modified",
    "Etag": "etag",
    "Content-Length": "content-length",
    "Content-MD5": "content-md5",
    "BlobType": "x-ms-blob-type",
    "AccessTier": "x-ms-access-tier",
}


def _item(node: Element) -> Item:
    headers = headers_of(node)
    key = name_of(node)
    meta = azure_meta.blob_of(headers, s3_xml.number(headers.get("content-length", ""))).meta
    algorithms = tuple(
        name.removeprefix(HEADER_PREFIX).upper() for name in azure_meta.declared_checksums(meta.checksums)
    )
    entry = ListEntry(
        key,
        meta.size,
        meta.etag,
        meta.last_modified,
        meta.headers.get("x-amz-storage-class", "STANDARD"),
        algorithms,
        meta.checksums.get("x-amz-checksum-type"),
    )
    return Item(key, entry)
