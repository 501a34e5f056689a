"""Which keys the requests to an S3 origin are signed with: the config's, or the cloud's own default chain.

The chain (environment, shared config, web identity, container and instance role, …) is aiobotocore's: it is what
every other tool on the machine follows, and it refreshes temporary keys before they expire. It is imported and
asked only when the config names no keys.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

from gateway.errors import OriginDenied, Unreachable
from gateway.s3.signer import Credentials

# An instance role answers within milliseconds; without one the metadata address may swallow packets.
CHAIN_TIMEOUT_S: Final = 15.0


class CredentialSource(Protocol):
    async def get(self) -> Credentials:
        """Keys that are valid now. Raises OriginDenied when there are none, Unreachable when they cannot be
        fetched at the moment."""


class FixedCredentials:
    def __init__(self, access_key: str, secret_key: str, token: str | None = None) -> None:
        self._credentials = Credentials(access_key, secret_key, token)

    async def get(self) -> Credentials:
        return self._credentials


class DefaultChain:
    """Found at the first use; the chain's own object then refreshes itself when asked near its expiry."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._found: Any = None
        self._lock = asyncio.Lock()

    async def get(self) -> Credentials:
        try:
            async with asyncio.timeout(CHAIN_TIMEOUT_S):
                found = self._found or await self._find()
                keys = await found.get_frozen_credentials()
        except OriginDenied:
            raise
        except Exception as error:  # whatever the provider's HTTP, files or subprocesses raise
            text = f"The credentials for origin {self._origin} cannot be fetched: {type(error).__name__}."
            raise Unreachable(text) from error
        return Credentials(keys.access_key, keys.secret_key, keys.token)

    async def _find(self) -> Any:
        async with self._lock:
            if self._found is None:
                self._found = await _search()
            if self._found is None:
                raise OriginDenied(
                    f"No credentials for origin {self._origin}: the config has none and the default chain found none."
                )
            return self._found


async def _search() -> Any:
    from aiobotocore.session import get_session

    return await get_session().get_credentials()
