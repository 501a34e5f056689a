"""A store that throttles: a real HTTP server which answers 503 or 429 to whatever is more than it wants, and keeps
count. It knows one object, for HEAD and ranged GET, in the words of S3, Google and Azure alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

BODY = b"0123456789" * 1000
_HEAD = {
    "ETag": '"0123456789abcdef0123456789abcdef"',
    "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
    "Content-Type": "binary/octet-stream",
    "x-goog-generation": "1",
    "x-goog-stored-content-length": str(len(BODY)),
    "x-goog-stored-content-encoding": "identity",
    "x-ms-blob-type": "BlockBlob",
    "x-ms-creation-time": "Thu, 01 Jan 2026 00:00:00 GMT",
}


@dataclass
class Store:
    """`at_once_max`: with more requests than that under way it throttles; 0: whatever comes. `served` good answers,
    `refused` others, `most` requests at once ever."""

    port: int = 0
    at_once_max: int = 1000
    status: int = 503
    latency_s: float = 0.0
    served: int = 0
    refused: int = 0
    most: int = 0
    inside: int = 0

    @property
    def requests(self) -> int:
        return self.served + self.refused

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            throttles = self.inside > self.at_once_max
            await asyncio.sleep(self.latency_s)
        finally:
            self.inside -= 1
        if throttles:
            self.refused += 1
            text = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
            return web.Response(status=self.status, text="" if request.method == "HEAD" else text)
        self.served += 1
        if request.method == "HEAD":
            return web.Response(headers={**_HEAD, "Content-Length": str(len(BODY))})
        first, _, last = request.headers["Range"].removeprefix("bytes=").partition("-")
        body = BODY[int(first) : int(last) + 1]
        span = f"bytes {first}-{int(first) + len(body) - 1}/{len(BODY)}"
        return web.Response(status=206, body=body, headers={**_HEAD, "Content-Range": span})


@asynccontextmanager
async def throttling(**settings: float) -> AsyncIterator[Store]:
    store = Store(**settings)  # type: ignore[arg-type]
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", store.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        store.port = runner.addresses[0][1]
        yield store
    finally:
        await runner.cleanup()
