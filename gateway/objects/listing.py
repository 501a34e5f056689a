"""ListObjects and ListObjectVersions: keys of one virtual bucket, whatever mounts it is made of."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from gateway.errors import NoSuchBucket, Unsupported
from gateway.model import ListPage, VersionPage
from gateway.objects.context import Services, View
from gateway.objects.spans import Part, Span, behind, parts, sole, visible
from gateway.origins.base import null_versions
from gateway.origins.list_merge import merge

# A page that is empty because a deeper mount hides all of it is asked for again from its end. Each round skips a
# whole hidden range, so a handful is plenty; beyond it the client gets an empty, truncated page and asks on.
_ROUNDS_MAX = 8


# The mounts of a bucket share its key space in ranges, so a page in the midst of a listing mostly lies in one: that is
# asked alone, since each page of another would be fetched in vain, and paid. At the beginning nothing is known, and
# small mounts are many: some are asked at once. Every further step doubles, so a page of n mounts takes log n of them.
_FIRST_ASKED = 4


@dataclass(frozen=True, slots=True)
class ListQuery:
    """One page: at most `max_keys` keys and common prefixes after `start_after`, in UTF-8 byte order."""

    bucket: str
    prefix: str = ""
    delimiter: str = ""
    start_after: str = ""
    max_keys: int = 1000


@dataclass(frozen=True, slots=True)
class VersionQuery:
    bucket: str
    prefix: str = ""
    delimiter: str = ""
    key_marker: str = ""
    version_id_marker: str = ""
    max_keys: int = 1000


async def list_objects(services: Services, view: View, query: ListQuery) -> ListPage:
    """Raises NoSuchBucket. `next_after` of the answer is the next page's `start_after`."""
    spans = spans_of(view, query.bucket)
    page = ListPage(())
    for _ in range(_ROUNDS_MAX):
        page = await _round(services, spans, query)
        if page.entries or page.common_prefixes or page.next_after is None:
            break
        query = replace(query, start_after=page.next_after)
    return page


async def _round(services: Services, spans: tuple[Span, ...], query: ListQuery) -> ListPage:
    """Asks the mounts whose keys come first, and further ones as long as they may have something for this page."""
    left = parts(spans, query.prefix, query.delimiter, query.start_after)
    if query.max_keys == 0 or not left:
        return ListPage(())
    seen: list[ListPage] = []
    count, room = 1 if query.start_after else _FIRST_ASKED, query.max_keys
    while True:
        now, left = left[:count], left[count:]
        pages = await asyncio.gather(*(_ask(services, part, query.delimiter, room) for part in now))
        seen += [visible(part, page) for part, page in zip(now, pages, strict=True)]
        page = merge(seen, query.max_keys)
        if not left or (page.next_after is not None and page.next_after < left[0].floor):
            return page
        # One key tells at least whether the page is the last.
        count, room = 2 * count, max(1, query.max_keys - _count_before(page, left[0].floor))


def _count_before(page: ListPage, floor: str) -> int:
    keys = [entry.key < floor for entry in page.entries]
    return sum(keys) + sum([prefix < floor for prefix in page.common_prefixes])


async def _ask(services: Services, part: Part, delimiter: str, max_keys: int) -> ListPage:
    origin, bucket = services.origins[part.span.origin], part.span.remote_bucket
    if part.folded is None:
        return await origin.list(bucket, part.prefix, delimiter, part.start_after, max_keys)
    page = await origin.list(bucket, part.prefix, "", part.start_after, 1)
    while (after := behind(part, page)) is not None:  # at most once for each deeper mount
        page = await origin.list(bucket, part.prefix, "", after, 1)
    return page


async def list_versions(services: Services, view: View, query: VersionQuery) -> VersionPage:
    """Versions newest first under each key. At an origin without versions every object is its own only version,
    `null`, as in a bucket that never had versioning on."""
    span = sole_span(view, query.bucket, query.prefix)
    if span is None:
        raise Unsupported("Versions of a bucket made of several mounts are listed under a prefix inside one.")
    position = span.resume(query.key_marker)
    if position is None or query.max_keys == 0:
        return VersionPage(())
    origin = services.origins[span.origin]
    if not origin.capabilities.versions:
        keys = ListQuery(query.bucket, query.prefix, query.delimiter, query.key_marker, query.max_keys)
        return null_versions(await list_objects(services, view, keys))
    page = await origin.list_versions(
        span.remote_bucket,
        span.to_remote(query.prefix),
        query.delimiter,
        position,
        query.version_id_marker,
        query.max_keys,
    )
    marker = page.next_key_marker
    return replace(
        page,
        entries=tuple(replace(entry, key=span.to_virtual(entry.key)) for entry in page.entries),
        common_prefixes=tuple(span.to_virtual(prefix) for prefix in page.common_prefixes),
        next_key_marker=None if marker is None else span.to_virtual(marker),
    )


def sole_span(view: View, bucket: str, prefix: str) -> Span | None:
    """The mount that holds every key under `prefix`; None if several do. Raises NoSuchBucket."""
    return sole(spans_of(view, bucket), prefix)


def spans_of(view: View, bucket: str) -> tuple[Span, ...]:
    """The bucket's mounts as spans, longest prefix first. Raises NoSuchBucket."""
    mounts = view.mounts.of_bucket(bucket)
    if not mounts:
        raise NoSuchBucket("The specified bucket does not exist")
    prefixes = [mount.prefix for mount in mounts]
    return tuple(
        Span(
            mount.prefix,
            mount.origin,
            mount.remote_bucket_of(bucket),
            mount.remote_prefix,
            tuple(p for p in prefixes if p != mount.prefix and p.startswith(mount.prefix)),
        )
        for mount in mounts
    )
