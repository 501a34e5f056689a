"""Which blocks of a segment outlive it. Pure: the evictor (`evictor.py`) acts on the answer.

Segments go in the order in which they were begun (FIFO); a block that was read while it was in the segment is
hot and is appended again, as in S3-FIFO (Yang et al., SOSP 2023): one access byte per block instead of lists
that every hit would have to write. What is appended again starts with a count of zero, so it has to earn the
next round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from gateway.cache.entry import Extent
from gateway.cache.segment import FREQUENCY

# At most half of a segment's bytes are written again, so an eviction always frees at least half a segment and
# a byte that is admitted costs at most one more byte of SSD wear.
KEEP_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Candidate:
    version: int
    block: int
    key: bytes
    extent: Extent
    access: int

    @property
    def frequency(self) -> int:
        return self.access & FREQUENCY


def keep(
    candidates: Iterable[Candidate],
    segment_bytes: int,
    pinned: Callable[[Candidate], bool] | None = None,
    share: float = KEEP_SHARE,
) -> list[Candidate]:
    """The blocks to append again, in the order of their offsets. Pinned ones always, then the most used that
    fit into `share` of the segment; blocks never read are not kept."""
    held = [c for c in candidates if c.frequency or (pinned is not None and pinned(c))]
    chosen = [c for c in held if pinned is not None and pinned(c)]
    budget = int(segment_bytes * share) - sum(c.extent.length for c in chosen)
    names = {(c.version, c.block) for c in chosen}
    for candidate in sorted(held, key=lambda c: (-c.frequency, -c.extent.offset)):
        if (candidate.version, candidate.block) in names or candidate.extent.length > budget:
            continue
        budget -= candidate.extent.length
        chosen.append(candidate)
    return sorted(chosen, key=lambda c: c.extent.offset)
