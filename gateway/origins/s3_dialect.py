"""What a store wants to see on the wire beside the call itself: names of headers, keys, a signature. S3's own way is
here, Google's in `gcs_dialect.py`; everything above the wire speaks S3's names."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

from gateway.origins.s3_credentials import CredentialSource
from gateway.s3.signer import Credentials, sign

if TYPE_CHECKING:
    from gateway.origins.s3_http import Call

# Sent and not signed: proxies may change them. `identity`: an object is read as it is stored.
UNSIGNED_HEADERS: Final = {
    "accept": "*/*",
    "accept-encoding": "identity",
    "user-agent": "s3-training-gateway",
}


class Dialect(Protocol):
    async def keys(self) -> Credentials:
        """What to sign with now. Raises OriginDenied when there are none, Unreachable when they cannot be fetched at
        the moment."""

    def unsigned(self, call: Call) -> Mapping[str, str]:
        """Headers sent beside the signed ones."""

    def signed(self, call: Call, host: str, path: str, keys: Credentials) -> Mapping[str, str]:
        """The call's headers in the store's own names, with its authentication. Raises Unsupported for a header
        that the store has no word for."""

    def received(self, headers: dict[str, str]) -> dict[str, str]:
        """An answer's headers in S3's names."""


class Amazon:
    def __init__(self, credentials: CredentialSource, region: str) -> None:
        self._credentials = credentials
        self._region = region

    async def keys(self) -> Credentials:
        return await self._credentials.get()

    def unsigned(self, call: Call) -> Mapping[str, str]:
        return UNSIGNED_HEADERS

    def signed(self, call: Call, host: str, path: str, keys: Credentials) -> Mapping[str, str]:
        return sign(
            call.method,
            host,
            path,
            call.query,
            call.headers,
            call.payload_hash,
            keys,
            self._region,
            time.time(),
        )

    def received(self, headers: dict[str, str]) -> dict[str, str]:
        return headers
