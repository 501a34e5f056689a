"""Tokens: when they are fetched anew, and who waits for it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import GatewayError, Unreachable
from gateway.origins import tokens as module
from gateway.origins.tokens import PAUSE_S, SOON_S, Token, TokenSource

HOUR_S = 3600.0


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Source:
    """Gives `token-1`, `token-2`, … each for an hour. Waits until `held` is set; with `failure` it raises that."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.calls = 0
        self.failure: GatewayError | None = None
        self.held = asyncio.Event()
        self.held.set()
        self.closed = False

    def tokens(self) -> TokenSource:
        return TokenSource("lake", self.fetch, self.close, self.clock)

    async def fetch(self) -> Token:
        self.calls += 1
        call = self.calls
        await asyncio.sleep(0)
        await self.held.wait()
        if self.failure is not None:
            raise self.failure
        return Token(f"token-{call}", self.clock.now + HOUR_S)

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source(clock: Clock) -> Source:
    return Source(clock)


async def _settled() -> None:
    """Until the fetch has ended."""
    for task in [task for task in asyncio.all_tasks() if task.get_name().startswith("token-")]:
        await asyncio.wait([task])


async def test_one_fetch_serves_all_who_wait_and_all_who_come(clock: Clock, source: Source) -> None:
    tokens = source.tokens()
    found = await asyncio.gather(*(tokens.get() for _ in range(20)))
    assert {keys.token for keys in found} == {"token-1"}
    clock.now += HOUR_S - SOON_S - 1
    assert (await tokens.get()).token == "token-1"
    assert source.calls == 1
    await tokens.close()
    assert source.closed


async def test_a_token_is_renewed_before_its_end_and_nobody_waits(clock: Clock, source: Source) -> None:
    tokens = source.tokens()
    await tokens.get()
    clock.now += HOUR_S - SOON_S
    source.held.clear()
    assert [(await tokens.get()).token for _ in range(5)] == ["token-1"] * 5
    source.held.set()
    await _settled()
    assert source.calls == 2
    assert (await tokens.get()).token == "token-2"
    assert source.calls == 2
    await tokens.close()


async def test_a_renewal_that_fails_is_tried_again_and_matters_at_the_end_only(
    clock: Clock, source: Source
) -> None:
    tokens = source.tokens()
    await tokens.get()
    clock.now += HOUR_S - SOON_S
    source.failure = Unreachable("no answer")
    assert (await tokens.get()).token == "token-1"
    await _settled()
    assert source.calls == 2
    assert (await tokens.get()).token == "token-1"
    assert source.calls == 2  # not with every request
    clock.now += PAUSE_S
    assert (await tokens.get()).token == "token-1"
    await _settled()
    assert source.calls == 3
    clock.now += SOON_S
    with pytest.raises(Unreachable, match="no answer"):
        await tokens.get()
    source.failure = None
    assert (await tokens.get()).token == "token-5"
    await tokens.close()


async def test_a_waiter_that_leaves_does_not_end_the_fetch_of_others(clock: Clock, source: Source) -> None:
    tokens = source.tokens()
    source.held.clear()
    first, second = asyncio.ensure_future(tokens.get()), asyncio.ensure_future(tokens.get())
    while not source.calls:  # noqa: ASYNC110
        await asyncio.sleep(0)
    first.cancel()
    source.held.set()
    assert (await second).token == "token-1"
    with pytest.raises(asyncio.CancelledError):
        await first
    await tokens.close()


async def test_all_who_wait_are_told_of_one_failure(clock: Clock, source: Source) -> None:
    """One after the other they would wait for as long as all the fetches take together."""
    tokens = source.tokens()
    source.failure = Unreachable("no answer")
    found = await asyncio.gather(*(tokens.get() for _ in range(20)), return_exceptions=True)
    assert found == [source.failure] * 20
    assert source.calls == 1
    await tokens.close()


async def test_a_fetch_that_takes_too_long_is_given_up(
    clock: Clock, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FETCH_TIMEOUT_S", 0)
    source.held.clear()
    tokens = source.tokens()
    with pytest.raises(Unreachable, match="in time"):
        await tokens.get()
    await tokens.close()


def test_a_token_is_not_in_what_is_printed_of_it() -> None:
    assert "secret" not in repr(Token("secret", 1.0))
