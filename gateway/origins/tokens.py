"""Tokens that are fetched from time to time: by one call for all who wait, and never while a valid one is there.

From `SOON_S` before a token's end a new one is fetched while the old one is still used, so no request waits for it; a
failure then is tried again after `PAUSE_S` and matters only once the old one has ended. Tokens are in no message and no
log line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import structlog

from gateway.aio import Tasks
from gateway.errors import GatewayError, Unreachable
from gateway.s3.signer import Credentials

log = structlog.get_logger()

# Google's metadata server gives a token anew only in its last minutes, azure-identity in its last five: asking much
# earlier would give the same one.
SOON_S: Final = 225.0
# A token is not used in its last seconds: clocks differ, and requests take a while.
LAST_S: Final = 10.0
PAUSE_S: Final = 15.0
# A metadata server or managed identity answers within milliseconds; without one, its address may swallow packets.
FETCH_TIMEOUT_S: Final = 30.0


class Token(NamedTuple):
    """`until`: seconds since the epoch, infinite for one that does not end."""

    value: str
    until: float

    def __repr__(self) -> str:
        return f"Token(until={self.until})"


class TokenSource:
    """A `CredentialSource`. `fetch`: gives a new token, or raises OriginDenied or Unreachable; `close`: what `fetch`
    uses."""

    def __init__(
        self,
        origin: str,
        fetch: Callable[[], Awaitable[Token]],
        close: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._origin = origin
        self._fetch = fetch
        self._close = close
        self._clock = clock
        self._tasks = Tasks()
        self._token: Token | None = None
        self._fetching: asyncio.Task[Token | GatewayError] | None = None
        self._not_before = 0.0

    async def get(self) -> Credentials:
        """Raises OriginDenied, Unreachable."""
        token, now = self._token, self._clock()
        if token is not None and token.until - LAST_S > now:
            if token.until - SOON_S <= now and now >= self._not_before:
                self._renew()
            return Credentials("", "", token.value)
        outcome = await asyncio.shield(self._renew())
        if isinstance(outcome, GatewayError):
            raise outcome
        return Credentials("", "", outcome.value)

    def _renew(self) -> asyncio.Task[Token | GatewayError]:
        """The fetch under way, or a new one. Its failure is its result: it may be that nobody waits for it."""
        if self._fetching is None or self._fetching.done():
            self._not_before = self._clock() + PAUSE_S
            self._fetching = self._tasks.spawn(self._fetched(), f"token-{self._origin}")
        return self._fetching

    async def _fetched(self) -> Token | GatewayError:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                self._token = await self._fetch()
            return self._token
        except TimeoutError:
            error: GatewayError = Unreachable(
                f"The credentials for origin {self._origin} could not be fetched in time."
            )
        except GatewayError as failure:
            error = failure
        log.warning("no new token", origin=self._origin, error=str(error))
        return error

    async def close(self) -> None:
        await self._tasks.close()
        await self._close()
