"""OAuth tokens for Google Cloud Storage: one that the config gives, or Google's own chain through google-auth (service
account files, workload identity, `gcloud`'s, the metadata server).

A token of the chain is fetched in a thread (`tokens.py` says when). Tokens are in no message and no log line.
"""

from __future__ import annotations

import asyncio
import importlib.util
from datetime import UTC
from functools import partial
from typing import Any, Final

from gateway.aio import Threads
from gateway.errors import OriginDenied, Unreachable, Unsupported
from gateway.origins.tokens import Token, TokenSource
from gateway.s3.signer import Credentials

SCOPE: Final = "https://www.googleapis.com/auth/devstorage.full_control"
MISSING_EXTRA: Final = (
    "credentials of Google's own chain need the extra: pip install 's3-training-gateway[gcs]'"
)


class FixedToken:
    def __init__(self, token: str) -> None:
        self._credentials = Credentials("", "", token)

    async def get(self) -> Credentials:
        return self._credentials


def have_google_auth() -> bool:
    try:
        return importlib.util.find_spec("google.auth") is not None
    except ModuleNotFoundError:  # no `google` at all
        return False


def default_chain(origin: str) -> TokenSource:
    """Raises Unsupported without google-auth. Nothing is looked for before the first request."""
    if not have_google_auth():
        raise Unsupported(f"The origin {origin} has no keys in the config, and {MISSING_EXTRA}.")
    chain, threads = _Chain(origin), Threads(f"tokens-{origin}", 1)

    async def close() -> None:
        await asyncio.get_running_loop().run_in_executor(None, threads.close)  # a fetch may be under way

    return TokenSource(origin, partial(threads.run, chain.fetch), close)


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
