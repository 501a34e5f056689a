"""Retries, requests at once, bytes per second: decided without waiting."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from gateway.errors import GatewayError, NotFound, Throttled, Unreachable
from gateway.origins.limits import (
    BURST_S,
    RETRY_PAUSE_S_MAX,
    TRIES_MAX,
    Aimd,
    Gate,
    Limits,
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
