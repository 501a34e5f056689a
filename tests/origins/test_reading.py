"""Promises of `head` and `get`."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import Changed, NotFound, RangeNotSatisfiable
from gateway.model import Conditions, Remote
from tests.origins.bodies import body, read
from tests.origins.conftest import Cloud

DATA = bytes(range(256)) * 4096  # 1 MiB


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (0, 10), (5, 70_000), (1_048_575, 1_048_576), (1_000_000, None), (0, 5 << 20)]
)
async def test_a_range_is_exactly_these_bytes(cloud: Cloud, start: int, stop: int | None) -> None:
    await cloud.put(DATA)
    async with cloud.origin.get(cloud.at(), start, stop) as reading:
        data = b"".join([piece async for piece in reading.chunks()])
    assert data == DATA[start:stop]
    assert (reading.start, reading.stop) == (start, min(len(DATA), stop or len(DATA)))
    assert reading.meta.size == len(DATA)
    assert reading.meta.checksums == {}


async def test_the_whole_object(cloud: Cloud) -> None:
    result = await cloud.put(DATA)
    meta, data = await read(cloud.origin, cloud.at(), 0, None)
    assert data == DATA
    assert meta.etag == result.etag
    assert (await cloud.head()).etag == result.etag


async def test_an_empty_object(cloud: Cloud) -> None:
    await cloud.put(b"")
    meta, data = await read(cloud.origin, cloud.at(), 0, None)
    assert (meta.size, data) == (0, b"")
    for stop in (1, 10, None):
        with pytest.raises(RangeNotSatisfiable) as raised:
            await read(cloud.origin, cloud.at(), 0 if stop else 1, stop)
        assert raised.value.size in (0, None)


async def test_a_range_past_the_end(cloud: Cloud) -> None:
    await cloud.put(b"0123456789")
    with pytest.raises(RangeNotSatisfiable) as raised:
        await read(cloud.origin, cloud.at(), 10, 20)
    assert raised.value.size in (10, None)


async def test_if_match(cloud: Cloud) -> None:
    old = await cloud.put(b"old")
    assert (await read(cloud.origin, cloud.at(), 0, 3, old.etag))[1] == b"old"
    await cloud.put(b"new")
    with pytest.raises(Changed):
        await read(cloud.origin, cloud.at(), 0, 3, old.etag)
    with pytest.raises(Changed):
        await read(cloud.origin, cloud.at(), 0, None, old.etag)


@pytest.mark.needs("headers")
async def test_headers_and_metadata_come_back(cloud: Cloud) -> None:
    headers = {
        "content-type": "text/plain; charset=utf-8",
        "cache-control": "max-age=60",
        "content-encoding": "gzip",
        "x-amz-meta-author": "Zoë".encode().decode("latin-1"),
    }
    await cloud.origin.put(cloud.at(), body(b"x", headers), Conditions())
    for meta in (await cloud.head(), (await read(cloud.origin, cloud.at(), 0, 1))[0]):
        assert {name: meta.headers[name] for name in headers} == headers


async def test_a_missing_key(cloud: Cloud) -> None:
    with pytest.raises(NotFound):
        await cloud.head()
    with pytest.raises(NotFound):
        await read(cloud.origin, cloud.at(), 0, 10)


async def test_a_reading_given_up_half_way_leaves_the_origin_usable(cloud: Cloud) -> None:
    await cloud.put(DATA)
    for _ in range(3):
        async with cloud.origin.get(cloud.at(), 0, None) as reading:
            chunks = reading.chunks()
            assert await anext(chunks)
            await chunks.aclose()  # type: ignore[attr-defined]
    assert await cloud.get() == DATA


async def test_a_cancelled_read_leaves_the_origin_usable(cloud: Cloud) -> None:
    await cloud.put(DATA)
    begun = asyncio.Event()

    async def half() -> None:
        async with cloud.origin.get(cloud.at(), 0, None) as reading:
            async for _ in reading.chunks():
                begun.set()
                await asyncio.Event().wait()

    task = asyncio.ensure_future(half())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await cloud.get() == DATA


async def test_every_call_is_observed(cloud: Cloud) -> None:
    await cloud.put(DATA)
    await cloud.head()
    await read(cloud.origin, cloud.at(), 0, 1000)
    with pytest.raises(NotFound):
        await cloud.origin.head(Remote("contract", cloud.key + "-not"))
    assert [op for op, _ in cloud.counts.requests] == ["put", "head", "get", "head"]
    assert [status[0] for _, status in cloud.counts.requests] == ["2", "2", "2", "4"]
    assert cloud.counts.bytes["in"] >= 1000
    assert cloud.counts.bytes["out"] == len(DATA)
