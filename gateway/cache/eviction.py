"""Which segment goes next, and which of its blocks outlive it. Pure: the evictor (`evictor.py`) acts on the answer.

Segments go in the order in which they were begun (FIFO); a block that was read while it was in the segment is
hot and is appended again, as in S3-FIFO (Yang et al., SOSP 2023): one access byte per block instead of lists
that every hit would have to write. What is appended again starts with a count of zero, so it has to earn the
next round.

Two things change that order. A segment of which half is dead (its blocks were dropped for a quota or because their time
was over) goes first, and all that lives in it is appended again: nobody else's blocks pay for what a quota let in. And
one that is mostly pinned stays where it is for as long as there is another, because pinned blocks are always appended
again and its eviction would write much to free little.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from gateway.cache.entry import Extent
from gateway.cache.segment import FREQUENCY

# At most half of a segment's bytes are written again because they are hot, or because the other half is dead: such an
# eviction frees at least half a segment, and a byte that is admitted costs at most one more byte of SSD wear.
KEEP_SHARE: Final = 0.5
DEAD_SHARE: Final = 0.5
# Pins are bounded over the whole cache (`tags.PINS_SHARE`), so one segment at least has less than this, but for
# rounding in the smallest caches; there the rest of its pins is let go, so that every eviction frees something.
PINNED_SHARE_MAX: Final = 0.9
# Above this share of pins a segment stays as long as others can go: at worst three bytes are written to free one.
PINNED_SHARE_LATE: Final = 0.75


class Victim(NamedTuple):
    """A sealed segment: `bytes` as its row says; of them `dead` and `pinned`."""

    segment: int
    bytes: int
    dead: int = 0
    pinned: int = 0

    @property
    def mostly_dead(self) -> bool:
        return self.dead >= DEAD_SHARE * self.bytes and self.dead > 0


@dataclass(frozen=True, slots=True)
class Candidate:
    version: int
    block: int
    key: bytes
    extent: Extent
    access: int
    pinned: bool = False

    @property
    def frequency(self) -> int:
        return self.access & FREQUENCY


def victim(oldest_first: Sequence[Victim]) -> Victim | None:
    for one in oldest_first:
        if one.mostly_dead:
            return one
    for one in oldest_first:
        if one.pinned <= PINNED_SHARE_LATE * one.bytes:
            return one
    return min(oldest_first, key=lambda one: one.pinned / one.bytes, default=None)


def keep(
    candidates: Iterable[Candidate],
    segment_bytes: int,
    share: float = KEEP_SHARE,
    *,
    everything: bool = False,
) -> list[Candidate]:
    """The blocks to append again, in the order of their offsets: pinned ones (of more than can be kept the newest),
    then the most used that fit into `share` of the segment. Blocks never read are not kept, unless `everything` is."""
    found = list(candidates)
    left = int(segment_bytes * PINNED_SHARE_MAX)
    chosen: list[Candidate] = []
    for candidate in sorted((c for c in found if c.pinned), key=lambda c: -c.extent.offset):
        left -= candidate.extent.taken
        if left < 0:
            break
        chosen.append(candidate)
    budget = int(segment_bytes * share) - sum(c.extent.length for c in chosen)
    others = [c for c in found if not c.pinned and (c.frequency or everything)]
    for candidate in sorted(others, key=lambda c: (-c.frequency, -c.extent.offset)):
        if candidate.extent.length > budget:
            continue
        budget -= candidate.extent.length
        chosen.append(candidate)
    return sorted(chosen, key=lambda c: c.extent.offset)
