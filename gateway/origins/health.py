"""How an origin is doing, told from what it answered lately. Pure: times come in.

    state         when
    ------------- ------------------------------------------------------------------------------------
    unreachable   the last three tries or more had no answer or a 5xx, the latest within a minute
    throttled     it asked to slow down within the last ten seconds
    ok            else; also an origin that nobody has asked

One broken connection among many good ones is no news, and one success ends a bad time. A retried call fails three
times within half a second, so an origin that is down is seen with the first read that needs it.
"""

from __future__ import annotations

from typing import Final, Literal

State = Literal["ok", "throttled", "unreachable"]
FAILURES_MIN: Final = 3
FAILED_S: Final = 60.0
THROTTLED_S: Final = 10.0
_NEVER: Final = float("-inf")


class Health:
    """Times are of one monotonic clock."""

    __slots__ = ("_failed_at", "_failures", "_throttled_at")

    def __init__(self) -> None:
        self._failures = 0
        self._failed_at = _NEVER
        self._throttled_at = _NEVER

    def succeeded(self) -> None:
        """It answered; a 404 is an answer."""
        self._failures = 0

    def throttled(self, now: float) -> None:
        self._failures = 0
        self._throttled_at = now

    def failed(self, now: float) -> None:
        self._failures += 1
        self._failed_at = now

    def state(self, now: float) -> State:
        if self._failures >= FAILURES_MIN and now - self._failed_at <= FAILED_S:
            return "unreachable"
        return "throttled" if now - self._throttled_at <= THROTTLED_S else "ok"


__all__ = ["Health", "State"]
