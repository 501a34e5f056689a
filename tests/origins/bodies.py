"""Bodies to send, good and bad, and reading back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from gateway.model import ObjectMeta, Remote
from gateway.origins.base import Origin, PutBody


class TornError(Exception):
    """What a body raises whose digest turned out wrong."""


async def pieces(data: bytes, count: int = 3) -> AsyncIterator[bytes]:
    size = max(1, -(-len(data) // count))
    for at in range(0, len(data), size):
        yield data[at : at + size]


def body(data: bytes, headers: Mapping[str, str] | None = None, **more: object) -> PutBody:
    return PutBody(len(data), pieces(data), headers or {}, **more)  # type: ignore[arg-type]


def torn(data: bytes, *, at_the_end: bool = False) -> PutBody:
    """Raises in place of its last piece, or after it."""

    async def chunks() -> AsyncIterator[bytes]:
        async for piece in pieces(data[:-1]):
            yield piece
        if at_the_end:
            yield data[-1:]
        raise TornError

    return PutBody(len(data), chunks())


def stuck(data: bytes, reached: asyncio.Event) -> PutBody:
    """Gives all but its last byte, and then nothing."""

    async def chunks() -> AsyncIterator[bytes]:
        async for piece in pieces(data[:-1]):
            yield piece
        reached.set()
        await asyncio.Event().wait()
        yield data[-1:]

    return PutBody(len(data), chunks())


async def read(
    origin: Origin, remote: Remote, start: int, stop: int | None, if_match: str | None = None
) -> tuple[ObjectMeta, bytes]:
    async with origin.get(remote, start, stop, if_match=if_match) as reading:
        data = b"".join([piece async for piece in reading.chunks()])
        assert len(data) == reading.stop - reading.start
        return reading.meta, data
