"""What requests to Azure are authorized with: the account's key, a SAS, or tokens of azure-identity's chain.

The chain (environment, workload identity, managed identity, the developer's own log-in) is azure-identity's, as every
other tool on the machine follows it; it is imported and asked only when the config names neither key nor SAS.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final, Protocol

from gateway.errors import OriginDenied, Unreachable, Unsupported
from gateway.s3.signer import Credentials

SCOPE: Final = "https://storage.azure.com/.default"
# A managed identity answers within milliseconds; without one, its address may swallow packets.
CHAIN_TIMEOUT_S: Final = 30.0
# Tokens live for an hour or more. Those with less left than this are renewed first, and used for as long as they are
# valid when that fails.
RENEWED_BEFORE_S: Final = 300.0


class Token(Protocol):
    token: str
    expires_on: int


class TokenProvider(Protocol):
    """azure.core's AsyncTokenCredential, as far as it is used."""

    async def get_token(self, *scopes: str) -> Any: ...

    async def close(self) -> None: ...


class AccountKey:
    def __init__(self, account: str, key: str) -> None:
        self._keys = Credentials(account, key)

    async def get(self) -> Credentials:
        return self._keys

    async def close(self) -> None:
        pass


class NoKeys:
    """For a SAS, which is part of the URL."""

    async def get(self) -> Credentials:
        return Credentials("", "")

    async def close(self) -> None:
        pass


class Tokens:
    """The chain's current token, fetched once however many requests wait for it."""

    def __init__(self, origin: str, provider: TokenProvider) -> None:
        self._origin = origin
        self._provider = provider
        self._token: Any = None
        self._lock = asyncio.Lock()

    async def get(self) -> Credentials:
        """Raises OriginDenied when the chain finds no identity, Unreachable when it does not answer."""
        if self._left_s() < RENEWED_BEFORE_S:
            async with self._lock:
                if self._left_s() < RENEWED_BEFORE_S:
                    await self._renew()
        return Credentials("", "", self._token.token)

    def _left_s(self) -> float:
        return -1.0 if self._token is None else self._token.expires_on - time.time()

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(CHAIN_TIMEOUT_S):
                self._token = await self._provider.get_token(SCOPE)
        except Exception as error:  # whatever the chain's HTTP, files and subprocesses raise
            if self._left_s() > 0:
                return
            # By its name: azure-identity is an extra, and its errors share no base with anything here.
            if type(error).__name__ in ("ClientAuthenticationError", "CredentialUnavailableError"):
                raise OriginDenied(
                    f"No credentials for origin {self._origin}: the config has none and azure-identity found none."
                ) from error
            text = f"The credentials for origin {self._origin} cannot be fetched: {type(error).__name__}."
            raise Unreachable(text) from error

    async def close(self) -> None:
        await self._provider.close()


def chain() -> TokenProvider:
    """Raises Unsupported when the extra is not installed."""
    try:
        from azure.identity.aio import DefaultAzureCredential
    except ImportError:
        raise Unsupported(
            "An azure origin without secret_key and session_token needs azure-identity: "
            "pip install 's3-training-gateway[azure]'."
        ) from None
    provider: TokenProvider = DefaultAzureCredential()
    return provider
