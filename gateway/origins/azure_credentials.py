"""What requests to Azure are authorized with: the account's key, a SAS, or tokens of azure-identity's chain.

The chain (environment, workload identity, managed identity, the developer's own log-in) is azure-identity's, as every
other tool on the machine follows it; it is imported and asked only when the config names neither key nor SAS.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from gateway.errors import OriginDenied, Unreachable, Unsupported
from gateway.origins.tokens import Token, TokenSource
from gateway.s3.signer import Credentials

SCOPE: Final = "https://storage.azure.com/.default"


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


def tokens_of(origin: str, provider: TokenProvider) -> TokenSource:
    """Its `get` raises OriginDenied when the chain finds no identity, Unreachable when it does not answer."""

    async def fetch() -> Token:
        try:
            found = await provider.get_token(SCOPE)
        except Exception as error:  # whatever the chain's HTTP, files and subprocesses raise
            # By its name: azure-identity is an extra, and its errors share no base with anything here.
            if type(error).__name__ in ("ClientAuthenticationError", "CredentialUnavailableError"):
                raise OriginDenied(
                    f"No credentials for origin {origin}: the config has none and azure-identity found none."
                ) from error
            text = f"The credentials for origin {origin} cannot be fetched: {type(error).__name__}."
            raise Unreachable(text) from error
        return Token(found.token, found.expires_on)

    return TokenSource(origin, fetch, provider.close)


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
