"""Keys that share a directory do not disturb each other when they come and go at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from gateway.model import Conditions, Remote
from gateway.origins.base import PutBody
from gateway.origins.file import FileOrigin

KEYS = [Remote("b", f"deep/down/{n}") for n in range(7)]


async def body() -> AsyncIterator[bytes]:
    yield b"x"


async def test_deletes_beside_each_other_prune_their_directory_once(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    origin = FileOrigin("disk", str(tmp_path))
    for _ in range(20):
        for key in KEYS:
            await origin.put(key, PutBody(1, body()), Conditions())
        await asyncio.gather(*map(origin.delete, KEYS))
        assert list((tmp_path / "b").iterdir()) == []
    await origin.close()


async def test_a_put_outlives_the_deletes_around_it(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    origin = FileOrigin("disk", str(tmp_path))

    async def come_and_go(key: Remote) -> None:
        for _ in range(20):
            await origin.put(key, PutBody(1, body()), Conditions())
            assert (await origin.head(key)).size == 1
            await origin.delete(key)

    await asyncio.gather(*map(come_and_go, KEYS))
    await origin.close()
