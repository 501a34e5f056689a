"""An origin that speaks S3, as far as forwarding sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway.origins.base import Capabilities, ForwardRequest


@dataclass
class FakeResponse:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    async def chunks(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self.body), 7):
            yield self.body[at : at + 7]


class FakeS3:
    """Remembers what was forwarded, with its body, and answers with `response`."""

    capabilities = Capabilities(
        forward=True, versions=True, conditional_writes=True, conditional_deletes=True
    )

    def __init__(self) -> None:
        self.name = "cloud"
        self.response = FakeResponse()
        self.requests: list[ForwardRequest] = []
        self.bodies: list[bytes] = []

    def forward(self, request: ForwardRequest) -> AbstractAsyncContextManager[Any]:
        return self._forward(request)

    @asynccontextmanager
    async def _forward(self, request: ForwardRequest) -> AsyncIterator[FakeResponse]:
        self.requests.append(request)
        body = b"" if request.body is None else b"".join([piece async for piece in request.body.chunks])
        self.bodies.append(body)
        yield self.response

    async def close(self) -> None: ...
