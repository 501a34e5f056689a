"""An origin from hell: a raw TCP server that answers each request with the next of the scripted answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.config.schema import OriginConfig
from gateway.origins.base import Observer
from gateway.origins.factory import make_origin
from gateway.origins.s3 import S3Origin

ETAG = '"0123456789abcdef0123456789abcdef"'


@dataclass
class Step:
    """Bytes to send once a request's head is there. Then, with `body`, the request's body is read first; `reset`
    breaks the connection, `close` ends it, `hang` sends nothing more."""

    answer: bytes = b""
    close: bool = False
    reset: bool = False
    hang: bool = False


def answer(
    status: int, body: bytes = b"", *headers: str, length: int | None = None, etag: str = ETAG
) -> bytes:
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Length: {len(body) if length is None else length}",
        f"ETag: {etag}",
        "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def error(status: int, code: str, *headers: str, extra: str = "") -> bytes:
    document = f"<Error><Code>{code}</Code><Message>because</Message>{extra}</Error>"
    return answer(status, document.encode(), *headers)


@dataclass
class Hell:
    """`requests`: the heads received, `bodies` what came behind each."""

    port: int = 0
    steps: list[Step] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    served: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def will(self, *steps: Step | bytes) -> None:
        self.steps += [step if isinstance(step, Step) else Step(step) for step in steps]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                self.requests.append(head)
                body = await self._body(head, reader)
                self.bodies.append(body)
                if not await self._act(self.steps.pop(0), writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # cancelled: by the end of the test's loop
        finally:
            writer.close()

    async def _body(self, head: str, reader: asyncio.StreamReader) -> bytes:
        length = next(
            (int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:")), 0
        )
        try:
            return await reader.readexactly(length)
        except asyncio.IncompleteReadError as cut:
            self.bodies.append(cut.partial)
            self.served.set()
            raise

    async def _act(self, step: Step, writer: asyncio.StreamWriter) -> bool:
        writer.write(step.answer)
        await writer.drain()
        self.served.set()
        if step.hang:
            await self.released.wait()
        if step.reset:
            writer.transport.abort()
        return not (step.close or step.reset or step.hang)


@asynccontextmanager
async def hell(*steps: Step | bytes) -> AsyncIterator[Hell]:
    place = Hell()
    place.will(*steps)
    server = await asyncio.start_server(place.serve, "127.0.0.1", 0)
    place.port = server.sockets[0].getsockname()[1]
    try:
        yield place
    finally:
        place.released.set()
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def origin_at(
    place: Hell, observer: Observer | None = None, **settings: object
) -> AsyncIterator[S3Origin]:
    config = OriginConfig(
        **{
            "name": "lake",
            "type": "s3",
            "endpoint": f"http://127.0.0.1:{place.port}",
            "access_key": "key",
            "secret_key": "secret",
            "deadline": 2,
            **settings,
        }
    )
    origin = make_origin(config, observer)
    assert isinstance(origin, S3Origin)
    try:
        yield origin
    finally:
        await origin.close()
