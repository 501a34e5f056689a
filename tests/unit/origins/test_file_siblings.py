"""Keys that share a directory do not disturb each other when they come and go at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.model import Conditions, Remote
from gateway.origins.base import PutBody
from gateway.origins.file import FileOrigin
from gateway.origins.file_tree import Tree

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


async def test_a_listing_tells_the_etag_of_an_object_whose_record_appears_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first objects of a bucket: when the page began there was no directory that could hold their records."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "foreign").write_bytes(b"by others")
    origin = FileOrigin("disk", str(tmp_path))
    await origin.put(KEYS[0], PutBody(1, body()), Conditions())
    real, asked = Tree.sidecar_shards, []

    def late(tree: Tree, bucket: str) -> frozenset[bytes]:
        asked.append(bucket)
        return real(tree, bucket) if len(asked) > 1 else frozenset()

    monkeypatch.setattr(Tree, "sidecar_shards", late)
    page = await origin.list("b")
    told = {entry.key: entry.etag for entry in page.entries}
    heads = {key: (await origin.head(Remote("b", key))).etag for key in told}
    assert told == heads
    assert len(told) == 2
    assert "-1" not in told[KEYS[0].key]
    await origin.close()
