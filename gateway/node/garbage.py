"""Full collections of garbage, when nobody waits.

What a worker remembers of the objects it serves is some 130,000 containers. To look through them all takes 40 ms, in
which it answers nobody, and Python does so of its own whenever there are a quarter more of them. But what they are is
not garbage, and cycles are few here (errors with their tracebacks, mostly) and found by the young generations, which
go on as ever. So a full collection waits for a quiet moment, and for want of one until it is overdue.
"""

from __future__ import annotations

import gc
from typing import Final

COLLECT_S: Final = 60.0
# Without a quiet moment: for so long what old cycles hold may be held.
OVERDUE_S: Final = 600.0
_NEVER: Final = 1 << 30


class FullCollections:
    """`now`: time.monotonic()."""

    def __init__(self, now: float) -> None:
        self._last = now

    def start(self) -> None:
        """What exists now lives as long as the process: the collector need not look at it again."""
        gc.collect()
        gc.freeze()
        young, middle, _ = gc.get_threshold()
        gc.set_threshold(young, middle, _NEVER)

    def due(self, now: float, *, quiet: bool) -> bool:
        """Whether to collect now; the next one is due later then. `quiet`: no request ended lately."""
        if now - self._last < (COLLECT_S if quiet else OVERDUE_S):
            return False
        self._last = now
        return True
