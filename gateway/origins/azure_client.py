"""What the Azure calls share: `s3_client.py` with Azure's errors, its SAS, and places to keep small bodies."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gateway.aio import Threads
from gateway.errors import GatewayError
from gateway.model import Remote
from gateway.origins.azure_dialect import Azure
from gateway.origins.azure_errors import error_of
from gateway.origins.base import Capabilities
from gateway.origins.limits import Limits
from gateway.origins.s3_client import Client
from gateway.origins.s3_endpoint import Endpoint
from gateway.origins.s3_flavours import Flavour
from gateway.origins.s3_http import Answer, Call, Wire

# Bodies up to this are kept whole, because their MD5 must go out before them.
SMALL_BYTES_MAX: Final = 1 << 20
# All such bodies of one worker together; what comes beyond goes out as blocks, at one request more.
SMALL_BYTES_TOTAL: Final = 64 << 20

_FLAVOUR: Final = Flavour(Capabilities(conditional_writes=True, checksums=True))


class AzureClient(Client):
    """`sas`: a query string without its question mark, or empty."""

    def __init__(
        self, name: str, wire: Wire, limits: Limits, endpoint: Endpoint, dialect: Azure, sas: str = ""
    ) -> None:
        super().__init__(name, wire, limits, _FLAVOUR)
        self.threads = Threads(f"origin-{name}", 2)  # for MD5; two keep up with any network
        self._endpoint = endpoint
        self._dialect = dialect
        self._sas = sas.removeprefix("?")
        self._small = 0

    async def open(self, call: Call, statuses: tuple[int, ...] = (200,)) -> Answer:
        if self._sas:
            call = replace(call, query=f"{call.query}&{self._sas}" if call.query else self._sas)
        return await super().open(call, statuses)

    async def _error(self, call: Call, answer: Answer) -> GatewayError:
        return await error_of(self.name, call, answer)

    def url_of(self, remote: Remote) -> str:
        """Of a blob, as the source of a copy."""
        host, path = self._endpoint.locate(remote.bucket, remote.key)
        url = f"{self._endpoint.scheme}://{host}{path}"
        return f"{url}?{self._sas}" if self._sas else url

    def take_small(self, length: int) -> bool:
        """Whether a body of this length may be kept whole; then `give_small` follows."""
        if length > SMALL_BYTES_MAX or self._small + length > SMALL_BYTES_TOTAL:
            return False
        self._small += length
        return True

    def give_small(self, length: int) -> None:
        self._small -= length

    async def close(self) -> None:
        await self.wire.close()
        await self._dialect.close()
        self.threads.close()
