"""How the mounts of one virtual bucket share its key space, and how their listings become one. Pure.

A `Span` is one mount seen as a range of keys: every virtual key that begins with `virtual_prefix`, except those
that a deeper mount of the same bucket takes over (`shadows`). Within a span, virtual and remote keys differ by a
fixed prefix, so both have the same order and a position in one is a position in the other. S3 lists in the byte order
of UTF-8, which is the order of code points and so of Python's text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from gateway.errors import Unsupported
from gateway.model import ListEntry, ListPage

# Greater than every key that goes on after a prefix in practice (no UTF-8 text sorts after U+10FFFF).
_LAST = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Span:
    """One mount as a range of the bucket's keys. Prefixes are empty or end where the key goes on (`a/`)."""

    virtual_prefix: str
    origin: str
    remote_bucket: str
    remote_prefix: str
    shadows: tuple[str, ...] = ()

    def to_remote(self, key: str) -> str:
        return self.remote_prefix + key.removeprefix(self.virtual_prefix)

    def to_virtual(self, remote_key: str) -> str:
        return self.virtual_prefix + remote_key.removeprefix(self.remote_prefix)

    def resume(self, after: str) -> str | None:
        """The remote position of "keys > after", empty for the beginning, None if the span ends before it. A bucket
        begins behind its mount's path: the object called like that, which consoles make as a "folder", has no name in
        it."""
        if after.startswith(self.virtual_prefix):
            return self.to_remote(after)
        return "" if after < self.virtual_prefix else None


@dataclass(frozen=True, slots=True)
class Part:
    """What one span contributes to a page: its keys under a prefix, or (`folded`) only whether it has any, in
    which case its whole range shows as that common prefix. `floor`: nothing that it shows sorts before that."""

    span: Span
    prefix: str
    start_after: str
    folded: str | None = None
    floor: str = ""


def sole(spans: Sequence[Span], prefix: str) -> Span | None:
    """The one span that holds every key under `prefix`, or None if several do."""
    holders = [span for span in spans if _meets(span, prefix) and not _hidden(span, prefix)]
    if len(holders) != 1 or not prefix.startswith(holders[0].virtual_prefix):
        return None
    return holders[0]


def _meets(span: Span, prefix: str) -> bool:
    return prefix.startswith(span.virtual_prefix) or span.virtual_prefix.startswith(prefix)


def _hidden(span: Span, prefix: str) -> bool:
    return any(prefix.startswith(shadow) for shadow in span.shadows)


def parts(spans: Iterable[Span], prefix: str, delimiter: str, start_after: str) -> list[Part]:
    """What to ask of which span for the page of `prefix` after `start_after`, in the order of what they show. Raises
    Unsupported for a delimiter that may begin in a mount's path and end in its keys: the origin knows only the
    keys."""
    found = (_part(span, prefix, delimiter, start_after) for span in spans)
    return sorted([part for part in found if part is not None], key=attrgetter("floor"))


def _part(span: Span, prefix: str, delimiter: str, start_after: str) -> Part | None:
    if not _meets(span, prefix) or _hidden(span, prefix):
        return None
    if not delimiter or not start_after.endswith(
        delimiter
    ):  # else it may name a common prefix that was shown
        start_after = _past_shadows(span, start_after)
    position = span.resume(start_after)
    if position is None:
        return None
    folded = fold(span.virtual_prefix, prefix, delimiter)
    if folded is None:
        _require_inside(span, prefix, delimiter)
        below = span.to_remote(prefix) if prefix.startswith(span.virtual_prefix) else span.remote_prefix
        # A page that starts inside a common prefix shows it once more: it sorts before that.
        begin = fold(start_after, prefix, delimiter) or start_after
        return Part(span, below, position, floor=max(begin, span.virtual_prefix, prefix))
    if start_after.endswith(delimiter) and start_after.startswith(folded):
        return None  # that common prefix was on an earlier page
    return Part(span, span.remote_prefix, position, folded, folded)


def _require_inside(span: Span, prefix: str, delimiter: str) -> None:
    if len(prefix) >= len(span.virtual_prefix):
        return
    if any(span.virtual_prefix.endswith(delimiter[:count]) for count in range(1, len(delimiter))):
        raise Unsupported(f"This delimiter cannot be told from the path of the mount {span.virtual_prefix}")


def fold(key: str, prefix: str, delimiter: str) -> str | None:
    """The common prefix that `key` belongs to, or None if it is shown by itself."""
    if not delimiter or not key.startswith(prefix):
        return None
    end = key.find(delimiter, len(prefix))
    return None if end < 0 else key[: end + len(delimiter)]


def visible(part: Part, page: ListPage) -> ListPage:
    """A span's page in virtual keys, without what a deeper mount takes over. `next_after` may lie behind the
    last entry, or in front of the end of a hidden range, which is then skipped whole."""
    span = part.span
    if part.folded is not None:
        return ListPage((), (part.folded,) if page.entries else ())
    entries, prefixes = page.entries, page.common_prefixes
    if span.remote_prefix != span.virtual_prefix:
        ours, cut = span.virtual_prefix, len(span.remote_prefix)
        entries = tuple([ListEntry(ours + entry[0][cut:], *entry[1:]) for entry in entries])
        prefixes = tuple([ours + prefix[cut:] for prefix in prefixes])
    if span.shadows:
        entries = tuple([entry for entry in entries if not entry[0].startswith(span.shadows)])
        prefixes = tuple([prefix for prefix in prefixes if not prefix.startswith(span.shadows)])
    after = page.next_after
    return ListPage(entries, prefixes, None if after is None else _past_shadows(span, span.to_virtual(after)))


def behind(part: Part, page: ListPage) -> str | None:
    """Of a folded part: where to look on, remotely, because the key that was found is a deeper mount's."""
    for entry in page.entries:
        key = part.span.to_virtual(entry.key)
        after = _past_shadows(part.span, key)
        if after != key:
            return part.span.to_remote(after)
    return None


def _past_shadows(span: Span, after: str) -> str:
    """Where to go on for a position inside a deeper mount: behind its end, the outermost one's."""
    inside = [shadow for shadow in span.shadows if after.startswith(shadow)]
    return min(inside, key=len) + _LAST if inside else after
