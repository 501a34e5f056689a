"""Retries, requests at once, bytes per second: decided without waiting."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from gateway.errors import GatewayError, NotFound, Throttled, Unreachable
from gateway.origins.health import Health
from gateway.origins.limits import (
    BURST_S,
    RETRY_BASE_S,
    RETRY_PAUSE_S_MAX,
    TRIES_MAX,
    Aimd,
    Gate,
    Limits,
    RequestRate,
    TokenBucket,
    retry_delay,
)


class FakeTime:
    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def limits(time: FakeTime, **more: object) -> Limits:
    settings: dict[str, object] = {"connections_max": 8, "deadline_s": 10.0, "draw": lambda: 0.999, **more}
    return Limits("lake", clock=time.clock, sleep=time.sleep, **settings)  # type: ignore[arg-type]


def failing(*failures: GatewayError) -> Callable[[], asyncio.Future[str]]:
    left = list(failures)

    async def call() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return call  # type: ignore[return-value]


def test_pauses_grow_are_jittered_and_bounded() -> None:
    pauses = [retry_delay(n, None, 1e9, 1.0) for n in range(1, TRIES_MAX)]
    assert pauses == sorted(pauses)  # type: ignore[type-var]
    assert pauses[0] == 0.1
    assert pauses[-1] == RETRY_PAUSE_S_MAX
    assert retry_delay(3, None, 1e9, 0.0) == 0.0
    assert retry_delay(TRIES_MAX, None, 1e9, 0.5) is None


def test_a_pause_never_ends_after_the_deadline_nor_before_the_origins_hint() -> None:
    assert retry_delay(1, None, 0.05, 0.9) is None
    assert retry_delay(1, 3.0, 10.0, 0.9) == 3.0
    assert retry_delay(1, 3.0, 2.0, 0.9) is None


async def test_a_call_is_repeated_until_it_succeeds() -> None:
    time = FakeTime()
    assert await limits(time).retried(failing(Unreachable("a"), Throttled("b", 2.0))) == "done"
    assert time.slept == [pytest.approx(0.0999), 2.0]


async def test_a_call_is_given_up_at_its_deadline_with_its_own_error() -> None:
    time = FakeTime()
    with pytest.raises(Unreachable, match="why"):
        await limits(time).retried(failing(*[Unreachable("why")] * 100))
    assert time.now <= 1010
    assert len(time.slept) < TRIES_MAX


async def test_errors_that_a_repetition_does_not_help_are_raised_at_once() -> None:
    time = FakeTime()
    with pytest.raises(NotFound):
        await limits(time).retried(failing(NotFound("x")))
    with pytest.raises(Unreachable):
        await limits(time).retried(failing(Unreachable("x")), lambda error: isinstance(error, Throttled))
    assert time.slept == []


def test_aimd_halves_once_per_congestion_and_grows_by_one_per_window() -> None:
    aimd = Aimd(64)
    epoch = aimd.epoch
    for _ in range(20):  # all of them were under way when the first was refused
        aimd.throttled(epoch)
    assert aimd.limit == 32
    for _ in range(32):
        aimd.succeeded()
    assert aimd.limit == 33
    for _ in range(20):
        aimd.throttled(aimd.epoch)
    assert aimd.limit == 1
    for _ in range(10_000):
        aimd.succeeded()
    assert aimd.limit == 64


async def test_the_gate_lets_in_as_many_as_allowed_in_order_of_arrival() -> None:
    gate = Gate(3)
    running, most, order = 0, 0, []

    async def one(number: int) -> None:
        nonlocal running, most
        await gate.enter()
        order.append(number)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        gate.leave()

    await asyncio.gather(*(one(number) for number in range(20)))
    assert most == 3
    assert order == list(range(20))
    assert gate.inside == 0


async def test_the_gate_survives_cancellations_at_any_point() -> None:
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    gate = Gate(2)

    async def one() -> None:
        await gate.enter()
        try:
            for _ in range(draw.randrange(3)):
                await asyncio.sleep(0)
        finally:
            gate.leave()

    tasks = [asyncio.ensure_future(one()) for _ in range(200)]
    for _ in range(300):
        await asyncio.sleep(0)
        draw.choice(tasks).cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert gate.inside == 0, f"seed {seed}"
    assert await gate.enter() == 0


def test_the_bucket_lets_a_burst_pass_and_then_the_rate() -> None:
    bucket = TokenBucket(1000.0, 0.0)
    assert bucket.take(int(1000 * BURST_S), 0.0) == 0.0
    assert bucket.take(1000, 0.0) == 1.0
    assert bucket.take(0, 1.0) == 0.0
    assert bucket.take(int(1000 * BURST_S), 100.0) == 0.0  # a long rest saves up no more than the burst
    assert bucket.take(100, 100.0) == pytest.approx(0.1)


async def test_a_worker_has_its_share_of_the_nodes_bandwidth() -> None:
    time = FakeTime()
    paced = limits(time, bandwidth=4000, workers=4)
    for _ in range(100):
        await paced.pace(100)
    assert time.now - 1000 == pytest.approx(10 - BURST_S)
    assert paced.paced
    assert not limits(time).paced


def begins(rate: RequestRate, count: int, now: float) -> list[float]:
    """When so many requests begin that all came at `now`."""
    times = []
    for _ in range(count):
        now += rate.due(now)
        rate.take(now)
        times.append(now)
    return times


@pytest.mark.parametrize(("per_s", "burst"), [(100, 25), (8, 2), (4, 1), (0.5, 1)])
def test_requests_begin_in_a_burst_and_then_evenly(per_s: float, burst: int) -> None:
    rate = RequestRate(per_s, 50.0)
    times = begins(rate, burst + 10, 50.0)
    assert times[:burst] == [50.0] * burst
    assert times[burst:] == pytest.approx([50 + number / per_s for number in range(1, 11)])
    after = times[-1] + 1000  # a long rest saves up no more
    assert begins(rate, burst + 1, after) == [after] * burst + [pytest.approx(after + 1 / per_s)]


def test_how_long_a_request_will_wait_is_known_beforehand() -> None:
    rate = RequestRate(2.0, 0.0)
    assert [rate.due(0.0, ahead) for ahead in range(3)] == [0.0, 0.5, 1.0]
    rate.take(0.0)
    assert [rate.due(0.25, ahead) for ahead in range(3)] == [0.25, 0.75, 1.25]


async def test_a_worker_has_its_share_of_the_nodes_requests() -> None:
    time = FakeTime()
    shared = limits(time, deadline_s=1000.0, request_rate=4, workers=4)
    for _ in range(11):
        await shared.enter()
        shared.succeeded()
        shared.leave()
    assert time.now - 1000 == pytest.approx(10)


async def test_turns_come_in_order_of_arrival_and_who_leaves_the_line_takes_none() -> None:
    order: list[int] = []
    shared = Limits("lake", 1000, 60.0, request_rate=500)

    async def one(number: int) -> None:
        await shared.enter()
        order.append(number)
        shared.leave()

    tasks = [asyncio.ensure_future(one(number)) for number in range(200)]
    for _ in range(3):
        await asyncio.sleep(0)
    for task in tasks[150::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [*range(150), *range(151, 200, 2)]
    assert (shared.gate.inside, shared._waiting) == (0, 0)


async def test_who_would_wait_beyond_his_deadline_is_told_at_once_with_the_wait() -> None:
    time = FakeTime()
    shared = limits(time, deadline_s=1.0, request_rate=0.5)
    await shared.enter()
    with pytest.raises(Throttled) as raised:
        await shared.enter()
    assert (raised.value.retry_after_s, time.now) == (2.0, 1000.0)
    assert shared.gate.inside == 1
    shared.leave()


async def test_a_repeated_call_waits_no_longer_than_its_own_deadline() -> None:
    """Its second try comes after 0.7 s, and its turn would come after 1.25 s: soon enough for a new call, not for one
    that has to end after a second."""
    time = FakeTime()
    shared = limits(time, deadline_s=1.0, request_rate=0.8)
    tries = []

    async def call() -> None:
        tries.append(await shared.enter())
        shared.leave()
        time.now += 0.6
        raise Throttled("slow down")

    with pytest.raises(Throttled):
        await shared.retried(call)
    assert len(tries) == 1
    assert time.now < 1001


def test_a_single_request_that_is_throttled_makes_the_next_one_wait_longer_and_longer() -> None:
    aimd = Aimd(2)
    aimd.throttled(aimd.epoch)
    assert (aimd.limit, aimd.pause_s) == (1, 0.0)
    pauses = []
    for _ in range(10):
        aimd.throttled(aimd.epoch)
        pauses.append(aimd.pause_s)
    assert pauses[:3] == [RETRY_BASE_S, 2 * RETRY_BASE_S, 4 * RETRY_BASE_S]
    assert pauses[-1] == RETRY_PAUSE_S_MAX
    aimd.succeeded()
    assert aimd.pause_s == 0.0


async def test_the_rest_is_kept_by_whoever_comes_next() -> None:
    time = FakeTime()
    shared = limits(time, connections_max=1)
    for _ in range(4):
        epoch = await shared.enter()
        shared.throttled(epoch)
        shared.leave()
    assert time.slept == [
        pytest.approx(pause) for pause in (RETRY_BASE_S, 2 * RETRY_BASE_S, 4 * RETRY_BASE_S)
    ]


def test_the_state_is_told_from_what_came_lately() -> None:
    health = Health()
    assert health.state(0.0) == "ok"
    health.failed(1.0)
    health.failed(1.1)
    assert health.state(1.2) == "ok"
    health.failed(1.2)
    assert health.state(1.2) == health.state(61.2) == "unreachable"
    assert health.state(61.3) == "ok"
    health.throttled(70.0)
    assert health.state(79.9) == "throttled"
    assert health.state(80.1) == "ok"
    for now in (81.0, 81.1, 81.2):
        health.failed(now)
    assert health.state(81.2) == "unreachable"
    health.succeeded()
    assert health.state(81.2) == "ok"
