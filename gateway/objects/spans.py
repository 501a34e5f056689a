"""How the mounts of one virtual bucket share its key space, and how their listings become one. Pure.

A `Span` is one mount seen as a range of keys: every virtual key that begins with `virtual_prefix`, except those
that a deeper mount of the same bucket takes over (`shadows`). Within a span, virtual and remote keys differ by a
fixed prefix, so both have the same UTF-8 byte order and a position in one is a position in the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.errors import Unsupported
from gateway.model import ListPage

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
        """The remote position of "keys > after", empty for the beginning, None if the span ends before it."""
        if after.startswith(self.virtual_prefix):
            return self.to_remote(after) if after else ""
        return "" if order(after) < order(self.virtual_prefix) else None

    def hides(self, key: str) -> bool:
        """Another mount answers for `key`."""
        return key.startswith(self.shadows) if self.shadows else False


@dataclass(frozen=True, slots=True)
class Part:
    """What one span contributes to a page: its keys under a prefix, or (`folded`) only whether it has any, in
    which case its whole range shows as that common prefix."""

    span: Span
    prefix: str
    start_after: str
    folded: str | None = None


def order(key: str) -> bytes:
    """S3 lists in the byte order of UTF-8."""
    return key.encode("utf-8", "surrogatepass")


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
    """What to ask of which span for the page of `prefix` after `start_after`. Raises Unsupported for a delimiter that
    may begin in a mount's path and end in its keys: the origin knows only the keys."""
    found = (_part(span, prefix, delimiter, start_after) for span in spans)
    return [part for part in found if part is not None]


def _part(span: Span, prefix: str, delimiter: str, start_after: str) -> Part | None:
    if not _meets(span, prefix) or _hidden(span, prefix):
        return None
    position = span.resume(start_after)
    if position is None:
        return None
    folded = fold(span.virtual_prefix, prefix, delimiter)
    if folded is None:
        _require_inside(span, prefix, delimiter)
        below = span.to_remote(prefix) if prefix.startswith(span.virtual_prefix) else span.remote_prefix
        return Part(span, below, position)
    if start_after.endswith(delimiter) and start_after.startswith(folded):
        return None  # that common prefix was on an earlier page
    return Part(span, span.remote_prefix, position, folded)


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
    entries = (entry._replace(key=span.to_virtual(entry.key)) for entry in page.entries)
    prefixes = (span.to_virtual(prefix) for prefix in page.common_prefixes)
    return ListPage(
        tuple(entry for entry in entries if not span.hides(entry.key)),
        tuple(prefix for prefix in prefixes if not span.hides(prefix)),
        None if page.next_after is None else _past_shadows(span, span.to_virtual(page.next_after)),
    )


def _past_shadows(span: Span, after: str) -> str:
    for shadow in span.shadows:
        if after.startswith(shadow):
            return shadow + _LAST
    return after
