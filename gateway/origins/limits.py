"""How hard an origin is pressed: retries, requests at once, requests and bytes per second. What to do is decided by
small pure objects (`retry_delay`, `Aimd`, `RequestRate`, `TokenBucket`); `Gate` and `Limits` do the waiting.

  retries      full jitter (a uniform draw up to 50 ms · 2^n, at most 5 s; "Exponential Backoff And Jitter",
               AWS Architecture Blog), at most 10 tries, never beyond the request's deadline; an origin's own
               Retry-After is a lower bound of the wait
  concurrency  AIMD between 1 and `connections_max`: one Throttled halves the limit, a limit's worth of successes
               adds one. Requests that were under way at a halving cause no second one. An origin that throttles
               one request at a time, too, is left alone between two of them, up to 5 s: what a thousand waiting
               requests ask together is then no more than what one of them would
  requests     at most `request_limit` a second begin, evenly spaced but for a burst; each waits for its turn
               holding its place inside, so that they really leave at that rate
  bandwidth    a token bucket in debt: who takes more than there is waits until it is paid back, so large pieces
               need no splitting and waiters are served in the order in which they took

Every try of every call passes `Limits.enter` before it takes a connection, in order of arrival. Nobody waits there
beyond its deadline: who cannot be served by then is told so at once where that can be known (the rate), else when
the deadline comes, as Throttled. So the line is never longer than what a deadline's time can serve.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeVar, runtime_checkable

from gateway.errors import GatewayError, Throttled, Unreachable
from gateway.origins.budgets import Budgets
from gateway.origins.health import Health, State

T = TypeVar("T")

RETRY_BASE_S: Final = 0.05
# A longer pause than this costs more than asking again.
RETRY_PAUSE_S_MAX: Final = 5.0
# With ten draws the last pauses are at their cap: an origin that is down for longer is for the caller to report.
TRIES_MAX: Final = 10
# What may pass at once after a quiet time, in seconds of the rate: short against any human's graph, long against
# one piece of a body. Of requests always one at least.
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
    """The limit of requests at once. `epoch` counts halvings: a request reports the one it began in. `pause_s`: how
    long to leave the origin alone before the next request, because it throttles even a single one."""

    def __init__(self, limit_max: int) -> None:
        self.limit = limit_max
        self.epoch = 0
        self.pause_s = 0.0
        self._limit_max = limit_max
        self._successes = 0

    def succeeded(self) -> None:
        self.pause_s = 0.0
        self._successes += 1
        if self._successes >= self.limit:
            self._successes = 0
            self.limit = min(self.limit + 1, self._limit_max)

    def throttled(self, epoch: int) -> None:
        self._successes = 0
        if epoch == self.epoch:
            self.epoch += 1
            if self.limit == 1:
                self.pause_s = min(2 * self.pause_s or RETRY_BASE_S, RETRY_PAUSE_S_MAX)
            self.limit = max(1, self.limit // 2)


class RequestRate:
    """`rate` requests per second, with `BURST_S` of them, at least one, saved up at most."""

    def __init__(self, rate: float, now: float) -> None:
        self._interval_s = 1 / rate
        self._slack_s = max(BURST_S - self._interval_s, 0.0)
        self._next = now - self._slack_s  # when the next one is due, had none been saved up

    def due(self, now: float, ahead: int = 0) -> float:
        """Seconds until one may begin, when `ahead` others go before it."""
        return max(max(self._next, now - self._slack_s) + ahead * self._interval_s - now, 0.0)

    def take(self, now: float) -> None:
        """One begins."""
        self._next = max(self._next, now - self._slack_s) + self._interval_s


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

    @property
    def free(self) -> bool:
        """Whether `enter` would not wait."""
        return self.inside < self.aimd.limit and not self._line

    async def enter(self) -> int:
        """The epoch to report a throttling with. Every `enter` is followed by one `leave`."""
        if self.free:
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


@dataclass(slots=True)
class _Try:
    """One try of a call under `retried`: until when it may wait, and whether it has been let in."""

    until: float
    entered: bool = False


_TRY: Final[ContextVar[_Try | None]] = ContextVar("try", default=None)


class Limits:
    """One origin's limits in one worker, and what is known of the origin from them. Clock, sleep and draw are injected
    so that tests need not wait."""

    def __init__(
        self,
        origin: str,
        connections_max: int,
        deadline_s: float,
        bandwidth: int | None = None,
        workers: int = 1,
        request_rate: float = 0.0,
        budgets: Budgets | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`bandwidth`: bytes per second of the whole node, of which this worker takes its share, in and out
        together; `request_rate`: requests per second, likewise, 0: as many as there are."""
        self.gate = Gate(connections_max)
        self.deadline_s = deadline_s
        self._origin = origin
        self._budgets = budgets
        self._clock, self._sleep, self._draw = clock, sleep, draw
        self._bucket = TokenBucket(bandwidth / workers, clock()) if bandwidth else None
        self._rate = RequestRate(request_rate / workers, clock()) if request_rate else None
        self._turn = asyncio.Lock()  # held by the next to begin; fair
        self._waiting = 0
        self._rest_until = 0.0
        self._health = Health()

    # --- one try

    async def enter(self) -> int:
        """Until a request may begin. Returns what to report a throttling with; one `leave` follows, and before it
        one of `succeeded`, `throttled`, `failed` when the origin was asked. Raises Throttled when the wait outlasts
        the deadline: of the call under `retried` that this is a try of, else this request's own."""
        this = _TRY.get()
        if self._rate is None and self.gate.free and self._clock() >= self._rest_until:
            epoch = await self.gate.enter()
        else:
            until = self._clock() + self.deadline_s if this is None else this.until
            epoch = await self._wait(until - self._clock())
        if this is not None:
            this.entered = True
        return epoch

    async def _wait(self, left_s: float) -> int:
        if self._rate is not None:
            expected_s = self._rate.due(self._clock(), self._waiting)
            if expected_s > left_s:
                raise self._too_late(expected_s)
        self._waiting += 1
        try:
            async with asyncio.timeout(left_s):
                epoch = await self.gate.enter()
                try:
                    async with self._turn:
                        await self._rest()
                except BaseException:
                    self.gate.leave()
                    raise
        except TimeoutError:
            raise self._too_late(None) from None
        finally:
            self._waiting -= 1
        return epoch

    async def _rest(self) -> None:
        """Until the next request is due."""
        while (pause := max(self._rest_until - self._clock(), self._rate_due())) > 0:
            await self._sleep(pause)
        if self._rate is not None:
            self._rate.take(self._clock())

    def _rate_due(self) -> float:
        return 0.0 if self._rate is None else self._rate.due(self._clock())

    def _too_late(self, after_s: float | None) -> Throttled:
        text = (
            f"More is asked of the origin {self._origin} than it may be asked within {self.deadline_s:.3g} s."
        )
        return Throttled(text, after_s)

    def leave(self) -> None:
        self.gate.leave()

    def succeeded(self) -> None:
        """The origin answered, whatever it said."""
        self.gate.aimd.succeeded()
        self._health.succeeded()

    def throttled(self, epoch: int) -> None:
        """It asked to slow down."""
        aimd, now = self.gate.aimd, self._clock()
        aimd.throttled(epoch)
        self._rest_until = now + aimd.pause_s
        self._health.throttled(now)

    def failed(self) -> None:
        """No answer, or a 5xx that is no throttling."""
        self._health.failed(self._clock())

    # --- what is known

    @property
    def state(self) -> State | Literal["budget"]:
        if self._budgets is not None and self._budgets.refuses(self._origin):
            return "budget"
        return self._health.state(self._clock())

    def require_budget(self) -> None:
        """Before object data is fetched. Raises BudgetSpent."""
        if self._budgets is not None:
            self._budgets.require(self._origin)

    # --- a whole call

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
            this = _Try(until)
            outer = _TRY.set(this)
            try:
                async with asyncio.timeout(left_s if timeout_s is None else timeout_s):
                    return await call()
            except TimeoutError:
                last = last or self._not_answered(this)
            except (Throttled, Unreachable) as error:
                last = error
            finally:
                _TRY.reset(outer)
            failures += 1
            hint_s = last.retry_after_s if isinstance(last, Throttled) else None
            pause = retry_delay(failures, hint_s, until - self._clock(), self._draw())
            if pause is None or not retryable(last):
                raise last
            await self._sleep(pause)

    def _not_answered(self, this: _Try) -> GatewayError:
        if not this.entered:
            return self._too_late(None)
        return Unreachable(f"The origin {self._origin} did not answer within {self.deadline_s:.3g} s.")

    async def pace(self, count: int) -> None:
        """Accounts for `count` bytes moved and waits while the bandwidth is overdrawn."""
        if self._bucket is not None:
            delay = self._bucket.take(count, self._clock())
            if delay > 0:
                await self._sleep(delay)

    @property
    def paced(self) -> bool:
        return self._bucket is not None


@runtime_checkable
class Limited(Protocol):
    """An origin that says what presses it: all but those made of several others."""

    @property
    def limits(self) -> Limits: ...


def require_budgets(origins: Iterable[object]) -> None:
    """Before data of them is promised to anybody. Raises BudgetSpent."""
    for origin in origins:
        if isinstance(origin, Limited):
            origin.limits.require_budget()


def pressure(origin: object) -> dict[str, object]:
    """For the status page (`admin/status.py`): requests under way, how many may be, how the origin is."""
    if not isinstance(origin, Limited):
        return {}
    limits = origin.limits
    return {"in_flight": limits.gate.inside, "concurrency": limits.gate.aimd.limit, "state": limits.state}
