"""OAuth tokens for Google Cloud Storage: one that the config gives, or Google's own chain through google-auth (service
account files, workload identity, `gcloud`'s, the metadata server).

A token of the chain is fetched in a thread, by one call for all who wait. From `SOON_S` before its end a new one is
fetched while the old one is still used, so no request waits for it; a failure then is tried again after `PAUSE_S` and
matters only once the old one has ended. Tokens are in no message and no log line.
"""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import Callable
from datetime import UTC
from typing import Any, Final, NamedTuple

import structlog

from gateway.aio import Tasks, Threads
from gateway.errors import GatewayError, OriginDenied, Unreachable, Unsupported
from gateway.s3.signer import Credentials

log = structlog.get_logger()

SCOPE: Final = "https://www.googleapis.com/auth/devstorage.full_control"
# A metadata server gives a token anew only in its last minutes: asking much earlier would give the same one.
SOON_S: Final = 225.0
# A token is not used in its last seconds: clocks differ, and requests take a while.
LAST_S: Final = 10.0
PAUSE_S: Final = 15.0
# Without a metadata server its address may swallow packets; google-auth gives up after some ten seconds.
CHAIN_TIMEOUT_S: Final = 30.0
MISSING_EXTRA: Final = (
    "credentials of Google's own chain need the extra: pip install 's3-training-gateway[gcs]'"
)


class Token(NamedTuple):
    """`until`: seconds since the epoch, infinite for one that does not end."""

    value: str
    until: float

    def __repr__(self) -> str:
        return f"Token(until={self.until})"


class FixedToken:
    def __init__(self, token: str) -> None:
        self._credentials = Credentials("", "", token)

    async def get(self) -> Credentials:
        return self._credentials


class GoogleChain:
    """A `CredentialSource` over `fetch`, which is called in a thread and gives a new token, or raises OriginDenied or
    Unreachable."""

    def __init__(
        self, origin: str, fetch: Callable[[], Token], clock: Callable[[], float] = time.time
    ) -> None:
        self._origin = origin
        self._fetch = fetch
        self._clock = clock
        self._tasks = Tasks()
        self._threads = Threads(f"tokens-{origin}", 1)
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
            async with asyncio.timeout(CHAIN_TIMEOUT_S):
                self._token = await self._threads.run(self._fetch)
            return self._token
        except TimeoutError:
            error: GatewayError = Unreachable("Google's credentials could not be fetched in time.")
        except GatewayError as failure:
            error = failure
        log.warning("no new token", origin=self._origin, error=str(error))
        return error

    async def close(self) -> None:
        await self._tasks.close()
        await asyncio.get_running_loop().run_in_executor(None, self._threads.close)


def have_google_auth() -> bool:
    try:
        return importlib.util.find_spec("google.auth") is not None
    except ModuleNotFoundError:  # no `google` at all
        return False


def default_chain(origin: str) -> GoogleChain:
    """Raises Unsupported without google-auth. Nothing is looked for before the first request."""
    if not have_google_auth():
        raise Unsupported(f"The origin {origin} has no keys in the config, and {MISSING_EXTRA}.")
    return GoogleChain(origin, _Chain(origin).fetch)


class _Chain:
    """google-auth's own search and refresh, blocking."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._found: Any = None

    def fetch(self) -> Token:
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError

        try:
            return self._fetch()
        except DefaultCredentialsError as error:
            raise OriginDenied(
                f"No credentials for origin {self._origin}: the config has none and Google's chain found none."
            ) from error
        except TransportError as error:
            raise Unreachable(self._failed(error)) from error
        except GoogleAuthError as error:
            raise (Unreachable if error.retryable else OriginDenied)(self._failed(error)) from error
        except Exception as error:  # files, subprocesses, HTTP of whatever provider it is
            raise Unreachable(self._failed(error)) from error

    def _fetch(self) -> Token:
        import google.auth
        from google.auth.credentials import with_scopes_if_required
        from google.auth.transport.requests import Request

        if self._found is None:
            # With scopes, `default` would ask Google for the project's name, of which there is no need here.
            found, _ = google.auth.default()
            scoped: Any = with_scopes_if_required
            self._found = scoped(found, [SCOPE])
        request = Request()
        try:
            self._found.refresh(request)
        finally:
            request.session.close()
        expiry = self._found.expiry
        until = float("inf") if expiry is None else expiry.replace(tzinfo=UTC).timestamp()
        return Token(self._found.token, until)

    def _failed(self, error: Exception) -> str:
        """By the error's kind alone: its text may quote an answer of a token server."""
        return f"The credentials for origin {self._origin} cannot be fetched: {type(error).__name__}."
