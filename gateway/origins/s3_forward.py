"""Any other S3 call: re-signed, streamed both ways, its answer handed back as it came."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Final

from gateway.origins.base import ForwardRequest
from gateway.origins.s3_body import Upload
from gateway.origins.s3_client import Client
from gateway.origins.s3_http import Answer, Call
from gateway.origins.s3_write import with_body

# Of this hop, or made anew by the signer and the wire.
_NOT_SENT: Final = frozenset(
    """
    accept accept-encoding authorization connection content-length date expect host keep-alive proxy-authenticate
    proxy-authorization proxy-connection te trailer transfer-encoding upgrade user-agent x-amz-content-sha256
    x-amz-date x-amz-security-token
    """.split()
)
_HOP: Final = frozenset(
    "connection keep-alive proxy-authenticate proxy-connection te trailer transfer-encoding upgrade".split()
)


class S3Forward:
    """A `ForwardResponse` and the context manager that opens it. Never retried: what the call does is not known
    here."""

    status: int
    headers: Mapping[str, str]

    def __init__(self, client: Client, request: ForwardRequest) -> None:
        self._client = client
        self._request = request
        self._answer: Answer | None = None
        self._upload: Upload | None = None

    async def __aenter__(self) -> S3Forward:
        request = self._request
        self._client.flavour.require_holdable(request.remote.key)
        headers = {name: value for name, value in request.headers.items() if name not in _NOT_SENT}
        call = Call("forward", request.method, *request.remote, request.query, headers)
        if request.body is not None:
            self._upload, call = with_body(self._client, call, request.body, {})
            await self._upload.prepare()
        self._answer = answer = await self._client.wire.send(call)
        self.status = answer.status
        self.headers = {name: value for name, value in answer.headers.items() if name not in _HOP}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._answer is not None:
            self._answer.close()
        if self._upload is not None:
            await self._upload.finish()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises Unreachable when the answer breaks off (aiohttp holds it to its Content-Length)."""
        answer, limits = self._answer, self._client.limits
        while answer is not None and (piece := await answer.piece()):
            await limits.pace(len(piece))
            yield piece
