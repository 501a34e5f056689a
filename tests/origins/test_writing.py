"""Promises of `put`, `delete`, `copy`, and of keys."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib

import pytest

from gateway.errors import ConditionFailed, GatewayError, NotFound, Refused, Unsupported
from gateway.model import Conditions, Remote, ToDelete
from gateway.origins.base import DeletesMany
from tests.origins.bodies import TornError, body, read, stuck, torn
from tests.origins.conftest import BUCKET, Cloud

DATA = bytes(range(256)) * 4096


async def test_what_is_put_is_there(cloud: Cloud) -> None:
    result = await cloud.put(DATA)
    assert result.etag == f'"{hashlib.md5(DATA, usedforsecurity=False).hexdigest()}"'
    assert await cloud.get() == DATA


async def test_a_declared_digest_and_a_declared_md5(cloud: Cloud) -> None:
    digest = base64.b64encode(hashlib.md5(DATA, usedforsecurity=False).digest()).decode()
    sent = body(DATA, {"content-md5": digest}, sha256=hashlib.sha256(DATA).hexdigest())
    await cloud.origin.put(cloud.at(), sent, Conditions())
    assert await cloud.get() == DATA


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 3_000_000])
async def test_a_trailing_checksum_is_not_part_of_the_object(cloud: Cloud, size: int) -> None:
    data = b"abc" * 1_000_000
    data = data[:size]
    checksum = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    sent = body(data, {"content-encoding": "gzip"}, trailer=("x-amz-checksum-crc32", lambda: checksum))
    await cloud.origin.put(cloud.at(), sent, Conditions())
    meta, stored = await read(cloud.origin, cloud.at(), 0, None)
    assert stored == data
    if "headers" in cloud.faithful:
        assert meta.headers["content-encoding"] == "gzip"


@pytest.mark.needs("checksums")
async def test_a_declared_checksum_comes_back_with_the_whole_object_only(cloud: Cloud) -> None:
    checksum = base64.b64encode(zlib.crc32(DATA).to_bytes(4, "big")).decode()
    headers = {"x-amz-checksum-crc32": checksum, "x-amz-sdk-checksum-algorithm": "CRC32"}
    await cloud.origin.put(cloud.at(), body(DATA, headers), Conditions())
    assert (await cloud.head()).checksums["x-amz-checksum-crc32"] == checksum
    whole, _ = await read(cloud.origin, cloud.at(), 0, None)
    assert whole.checksums["x-amz-checksum-crc32"] == checksum
    part, _ = await read(cloud.origin, cloud.at(), 0, 10)
    assert part.checksums in ({}, whole.checksums)


def _needs_cut_bodies(cloud: Cloud) -> None:
    if cloud.kind == "localstack":
        pytest.skip("LocalStack stores what came of a body that was cut off")


@pytest.mark.parametrize("at_the_end", [False, True])
async def test_a_body_that_raises_leaves_nothing(cloud: Cloud, at_the_end: bool) -> None:
    _needs_cut_bodies(cloud)
    with pytest.raises(TornError):
        await cloud.origin.put(cloud.at(), torn(DATA, at_the_end=at_the_end), Conditions())
    with pytest.raises(NotFound):
        await cloud.head()


async def test_a_body_that_raises_keeps_the_old_object(cloud: Cloud) -> None:
    _needs_cut_bodies(cloud)
    await cloud.put(b"old")
    with pytest.raises(TornError):
        await cloud.origin.put(cloud.at(), torn(DATA), Conditions())
    assert await cloud.get() == b"old"


@pytest.mark.parametrize("wrong", [-1, 1])
async def test_a_body_of_another_length_leaves_nothing(cloud: Cloud, wrong: int) -> None:
    _needs_cut_bodies(cloud)
    sent = body(DATA)
    sent.length += wrong
    with pytest.raises(Refused):
        await cloud.origin.put(cloud.at(), sent, Conditions())
    with pytest.raises(NotFound):
        await cloud.head()


async def test_a_cancelled_put_leaves_nothing(cloud: Cloud) -> None:
    _needs_cut_bodies(cloud)
    reached = asyncio.Event()
    task = asyncio.ensure_future(cloud.origin.put(cloud.at(), stuck(DATA, reached), Conditions()))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(NotFound):
        await cloud.head()


async def test_conditional_writes(cloud: Cloud) -> None:
    if not cloud.origin.capabilities.conditional_writes:
        with pytest.raises(Unsupported):
            await cloud.put(b"x", conditions=Conditions(if_none_match="*"))
        return
    first = await cloud.put(b"first", conditions=Conditions(if_none_match="*"))
    with pytest.raises(ConditionFailed):
        await cloud.put(b"second", conditions=Conditions(if_none_match="*"))
    await cloud.put(b"third", conditions=Conditions(if_match=first.etag))
    with pytest.raises(ConditionFailed):
        await cloud.put(b"fourth", conditions=Conditions(if_match=first.etag))
    assert await cloud.get() == b"third"
    with pytest.raises(NotFound):
        await cloud.put(b"x", "-missing", Conditions(if_match=first.etag))


async def test_delete(cloud: Cloud) -> None:
    await cloud.put(b"x")
    await cloud.origin.delete(cloud.at())
    with pytest.raises(NotFound):
        await cloud.head()
    await cloud.origin.delete(cloud.at())


async def test_many_are_deleted_in_one_request(cloud: Cloud) -> None:
    if not cloud.origin.capabilities.batch_delete:
        pytest.skip("this store has no such request")
    assert isinstance(cloud.origin, DeletesMany)
    keys = ["a+b", "a b/c", "é<&>\"'", "%2F", "k" * 150, "kept"]
    for key in keys:
        await cloud.origin.put(cloud.at(key), body(b"x"), Conditions())
    doomed = [ToDelete(cloud.at(key).key) for key in (*keys[:-1], "missing", "dir//./x")]
    outcomes = await cloud.origin.delete_many(BUCKET, doomed)
    assert [isinstance(outcome, GatewayError) for outcome in outcomes] == [False] * len(doomed)
    for key in keys[:-1]:
        with pytest.raises(NotFound):
            await cloud.head(key)
    assert await cloud.get("kept") == b"x"
    with pytest.raises(Unsupported):
        await cloud.origin.delete_many(BUCKET, [ToDelete("a\x01b")])


@pytest.mark.needs("copy")
async def test_copy(cloud: Cloud) -> None:
    await cloud.origin.put(cloud.at("a+b c"), body(DATA, {"content-type": "text/x"}), Conditions())
    result = await cloud.origin.copy(cloud.at("a+b c"), cloud.at("copy"), {})
    assert await cloud.get("copy") == DATA
    meta = await cloud.head("copy")
    assert meta.etag == result.etag
    if "headers" in cloud.faithful:
        assert meta.headers["content-type"] == "text/x"
    with pytest.raises(NotFound):
        await cloud.origin.copy(cloud.at("missing"), cloud.at("copy"), {})


@pytest.mark.needs("copy", "copy_conditions")
async def test_copy_with_a_condition_on_its_source(cloud: Cloud) -> None:
    await cloud.put(b"x")
    with pytest.raises(ConditionFailed):
        await cloud.origin.copy(cloud.at(), cloud.at("copy"), {"x-amz-copy-source-if-match": '"other"'})
    with pytest.raises(NotFound):
        await cloud.head("copy")


ODD_KEYS = [
    "a//b",
    "a/b",
    "dir/",
    "dir",
    "./x",
    "x",
    "k/../l",
    "l",
    "a+b c",
    "%41",
    "A",
    "a%2Fb",
    "a?b#c&d=e",
    "é€𝄞",
    "<&>\"'",
    "\u00a0\u2028",
    "Ω" * 60,
]


async def test_no_two_keys_share_an_object(cloud: Cloud) -> None:
    """Each key holds what was put there, or is refused before it can hold something else."""
    held = []
    for key in (f"{cloud.key}/{odd}" for odd in ODD_KEYS):
        try:
            await cloud.put_key(key, key.encode())
        except Unsupported:
            continue
        except Refused as error:
            if cloud.kind == "rclone":  # a file where a directory is wanted
                continue
            raise AssertionError(f"{key!r}: {error}") from None
        held.append(key)
    assert len(held) >= 10
    for key in held:
        assert (await read(cloud.origin, Remote(BUCKET, key), 0, None))[1] == key.encode()
    listed = await cloud.origin.list(BUCKET, f"{cloud.key}/")
    assert [entry.key for entry in listed.entries] == sorted(held, key=str.encode)


@pytest.mark.needs("slashes_in_keys")
async def test_a_key_of_1024_bytes(cloud: Cloud) -> None:
    key = (cloud.key + "/" + "k" * 100 + "/") * 10
    key = key + "é" * 512
    while len(key.encode()) > 1024:
        key = key[:-1]
    await cloud.put_key(key, b"x")
    assert (await cloud.origin.head(Remote(BUCKET, key))).size == 1


async def test_a_header_that_would_start_another_is_refused(cloud: Cloud) -> None:
    if cloud.kind == "file":
        pytest.skip("a directory sends no headers; the front door lets none of these in")
    with pytest.raises(GatewayError):
        await cloud.origin.put(
            cloud.at(), body(b"x", {"x-amz-meta-a": "1\r\nx-amz-acl: public"}), Conditions()
        )
    with pytest.raises(NotFound):
        await cloud.head()
