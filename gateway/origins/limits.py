"""How hard an origin is pressed: retries, requests at once, bytes per second. What to do is decided by small
pure objects (`retry_delay`, `Aimd`, `TokenBucket`); `Gate` and `Limits` do the waiting.

  retries      full jitter (a uniform draw up to 50 ms · 2^n, at most 5 s; "Exponential Backoff And Jitter",
               AWS Architecture Blog), at most 10 tries, never beyond the request's deadline; an origin's own
               Retry-After is a lower bound of the wait
  concurrency  AIMD between 1 and `connections_max`: one Throttled halves the limit, a limit's worth of successes
               adds one. Requests that were under way at a halving cause no second one.
  bandwidth    a token bucket in debt: who takes more than there is waits until it is paid back, so large pieces
               need no splitting and waiters are served in the order in which they took
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from gateway.errors import GatewayError, Throttled, Unreachable

T = TypeVar("T")

RETRY_BASE_S: Final = 0.05
# A longer pause than this costs more than asking again.
RETRY_PAUSE_S_MAX: Final = 5.0
# With ten draws the last pauses are at their cap: an origin that is down for longer is for the caller to report.
TRIES_MAX: Final = 10
# What may pass at once after a quiet time, in seconds of the rate: short against any human's graph, long against
# one piece of a body.
BURST_S: Final = 0.25


def retry_delay(failures: int, hint_s: float | None, left_s: float, draw: float) -> float | None:
    """Seconds to wait after the `failures`-th failure (1 is the first), or None to give up.

    hint_s  the origin's Retry-After;  left_s  until the deadline;  draw  uniform in [0, 1)
    """
    if failures >= TRIES_MAX:
        return None
    pause = draw * min(RETRY_BASE_S * 2**failures, RETRY_PAUSE_S_MAX)
    if hint_s is not None:
        pause = max(pause, hint_s)
    return pause if pause < left_s else None


class Aimd:
    """The limit of requests at once. `epoch` counts halvings: a request reports the one it began in."""

    def __init__(self, limit_max: int) -> None:
        self.limit = limit_max
        self.epoch = 0
        self._limit_max = limit_max
        self._successes = 0

    def succeeded(self) -> None:
        self._successes += 1
        if self._successes >= self.limit:
            self._successes = 0
            self.limit = min(self.limit + 1, self._limit_max)

    def throttled(self, epoch: int) -> None:
        self._successes = 0
        if epoch == self.epoch:
            self.epoch += 1
            self.limit = max(1, self.limit // 2)


class TokenBucket:
    """`rate` bytes per second, with `BURST_S` of them saved up at most."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._tokens = rate * BURST_S
        self._at = now

    def take(self, count: int, now: float) -> float:
        """Seconds to wait before going on. The count is taken in any case."""
        self._tokens = min(self._rate * BURST_S, self._tokens + (now - self._at) * self._rate) - count
        self._at = now
        return max(0.0, -self._tokens / self._rate)


class Gate:
    """At most `aimd.limit` inside; the others wait in line. The line itself is bounded by who calls: requests of
    clients (`limits.connections`) and fills (`FETCHES_MAX`)."""

    def __init__(self, limit_max: int) -> None:
        self.aimd = Aimd(limit_max)
        self.inside = 0
        self._line: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> int:
        """The epoch to report a throttling with. Every `enter` is followed by one `leave`."""
        if self.inside < self.aimd.limit and not self._line:
            self.inside += 1
            return self.aimd.epoch
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # let in and cancelled at once: the place goes to the next
            raise
        return self.aimd.epoch

    def leave(self) -> None:
        self.inside -= 1
        while self._line and self.inside < self.aimd.limit:
            turn = self._line.popleft()
            if not turn.done():
                self.inside += 1
                turn.set_result(None)


class Limits:
    """One origin's limits in one worker. Clock, sleep and draw are injected so that tests need not wait."""

    def __init__(
        self,
        origin: str,
        connections_max: int,
        deadline_s: float,
        bandwidth: int | None = None,
        workers: int = 1,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`bandwidth`: bytes per second of the whole node, of which this worker takes its share, in and out
        together."""
        self.gate = Gate(connections_max)
        self.deadline_s = deadline_s
        self._origin = origin
        self._clock, self._sleep, self._draw = clock, sleep, draw
        self._bucket = TokenBucket(bandwidth / workers, clock()) if bandwidth else None

    async def retried(
        self,
        call: Callable[[], Awaitable[T]],
        retryable: Callable[[GatewayError], bool] = lambda error: True,
        timeout_s: float | None = None,
    ) -> T:
        """`call` until it succeeds, fails for good, or the deadline has come. For calls that may be repeated; with
        `retryable` only after failures that it accepts (Throttled and Unreachable are the only candidates).
        `timeout_s`: of one try, for calls that may outlast the deadline; it then bounds only the failures."""
        until = self._clock() + self.deadline_s
        last: GatewayError | None = None
        failures = 0
        while True:
            left_s = until - self._clock()
            if last is not None and left_s <= 0:
                raise last
            try:
                async with asyncio.timeout(left_s if timeout_s is None else timeout_s):
                    return await call()
            except TimeoutError:
                text = f"The origin {self._origin} did not answer within {self.deadline_s:.3g} s."
                last = last or Unreachable(text)
            except (Throttled, Unreachable) as error:
                last = error
            failures += 1
            hint_s = last.retry_after_s if isinstance(last, Throttled) else None
            pause = retry_delay(failures, hint_s, until - self._clock(), self._draw())
            if pause is None or not retryable(last):
                raise last
            await self._sleep(pause)

    async def pace(self, count: int) -> None:
        """Accounts for `count` bytes moved and waits while the bandwidth is overdrawn."""
        if self._bucket is not None:
            delay = self._bucket.take(count, self._clock())
            if delay > 0:
                await self._sleep(delay)

    @property
    def paced(self) -> bool:
        return self._bucket is not None
