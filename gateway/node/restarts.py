"""When a dead worker is started again, and when the node gives up. Pure: times come in, decisions go out.

    it died                                          then
    ------------------------------------------------ ---------------------------------------------------
    after it had served for 10 s or more             at once
    sooner                                           after 0.1 s, doubled each time, at most 5 s
    without having become ready, a fifth time in     the node gives up: what keeps a worker from starting
    one minute                                       (a port, a file, a bug) does not go away by trying

A worker that does become ready is always replaced, however often: half a node serves better than none.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

SERVED_S: Final = 10.0
FIRST_DELAY_S: Final = 0.1
DELAY_S_MAX: Final = 5.0
STARTS_FAILED_MAX: Final = 5
WINDOW_S: Final = 60.0


@dataclass(slots=True)
class RestartPolicy:
    """Of one slot."""

    _failed: deque[float] = field(default_factory=lambda: deque(maxlen=STARTS_FAILED_MAX))
    _quick: int = 0

    def died(self, now: float, *, served_s: float | None) -> float | None:
        """The delay in seconds before the next start; None: give up. `now` on a monotonic clock, `served_s` how
        long the worker was ready, None if it never was."""
        if served_s is not None and served_s >= SERVED_S:
            self._quick = 0
            return 0.0
        if served_s is None:
            self._failed.append(now)
            if len(self._failed) == STARTS_FAILED_MAX and now - self._failed[0] <= WINDOW_S:
                return None
        delay = min(FIRST_DELAY_S * 2.0**self._quick, DELAY_S_MAX)
        self._quick = min(self._quick + 1, 16)
        return delay


__all__ = ["RestartPolicy"]
