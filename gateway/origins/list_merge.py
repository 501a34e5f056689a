"""Pages of several listings put together into one. Pure.

Python compares text by code point, and UTF-8 keeps the order of code points: that is S3's order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.model import ListEntry, ListPage

Item = tuple[str, ListEntry | None]


def merge(pages: Sequence[ListPage], max_keys: int) -> ListPage:
    """One page out of one page of each, each in order; of one key the first page's entry. Nothing behind the point
    where some page was cut may be shown yet: more may come in front of it. An empty result with a `next_after` means:
    ask again."""
    told = [page for page in pages if page.entries or page.common_prefixes or page.next_after is not None]
    if len(told) <= 1:
        return _shortened(told[0], max_keys) if told else ListPage(())
    bound = min([page.next_after for page in told if page.next_after is not None], default=None)
    items: dict[str, ListEntry | None] = {}
    for page in told:
        for key, entry in _items(page):
            if bound is None or key <= bound:
                items.setdefault(key, entry)
    return _page(sorted(items.items(), key=_key), bound, max_keys)


def _shortened(page: ListPage, max_keys: int) -> ListPage:
    if len(page.entries) + len(page.common_prefixes) <= max_keys:
        return page
    return _page(sorted(_items(page), key=_key), page.next_after, max_keys)


def _page(items: Sequence[Item], more_after: str | None, max_keys: int) -> ListPage:
    """The first of `items`, which are in order; `more_after`: where to go on behind all of them."""
    if len(items) > max_keys:
        items = items[:max_keys]
        more_after = items[-1][0] if items else None
    return ListPage(
        tuple([entry for _, entry in items if entry is not None]),
        tuple([key for key, entry in items if entry is None]),
        more_after,
    )


def _items(page: ListPage) -> Iterable[Item]:
    """Keys with their entry, common prefixes with None."""
    yield from [(entry.key, entry) for entry in page.entries]
    yield from [(prefix, None) for prefix in page.common_prefixes]


def _key(item: Item) -> str:
    return item[0]
