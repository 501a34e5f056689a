"""Promises of multipart uploads."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.errors import NotFound, Refused
from gateway.model import Conditions, Part
from tests.origins.bodies import TornError, body, read, stuck, torn
from tests.origins.conftest import BUCKET, Cloud

FIVE = b"five MiB" * (5 << 17)  # the smallest that a part but the last may be


async def _uploaded(cloud: Cloud, *contents: bytes) -> tuple[str, list[Part]]:
    upload_id, _ = await cloud.origin.create_upload(cloud.at(), {"content-type": "text/x"})
    parts = []
    for number, content in enumerate(contents, 1):
        result = await cloud.origin.put_part(cloud.at(), upload_id, number, body(content))
        parts.append(Part(number, result.etag))
    return upload_id, parts


async def _complete(cloud: Cloud, upload_id: str, parts: list[Part]) -> str:
    return (await cloud.origin.complete_upload(cloud.at(), upload_id, parts, {}, Conditions())).etag


async def test_parts_become_one_object_when_completed(cloud: Cloud) -> None:
    upload_id, parts = await _uploaded(cloud, FIVE, b"end")
    with pytest.raises(NotFound):
        await cloud.head()
    etag = await _complete(cloud, upload_id, parts)
    if "multipart_etag" in cloud.faithful:
        assert (await cloud.head()).etag == etag
        assert (await read(cloud.origin, cloud.at(), 0, None))[0].etag == etag
    assert (await read(cloud.origin, cloud.at(), len(FIVE) - 2, None))[1] == FIVE[-2:] + b"end"


async def test_a_repeated_complete_answers_as_the_first(cloud: Cloud) -> None:
    upload_id, parts = await _uploaded(cloud, b"only")
    etag = await _complete(cloud, upload_id, parts)
    if "repeated_complete" in cloud.faithful or "multipart_etag" in cloud.faithful:
        assert await _complete(cloud, upload_id, parts) == etag
    assert await cloud.get() == b"only"


@pytest.mark.needs("no_upload")
async def test_an_unknown_upload(cloud: Cloud) -> None:
    await cloud.put(b"something else")
    with pytest.raises(Refused) as raised:
        await _complete(cloud, "no-such-upload", [Part(1, '"9e107d9d372bb6826bd81d3542a419d6"')])
    assert raised.value.code == "NoSuchUpload"


@pytest.mark.needs("complete_errors")
async def test_a_part_that_was_not_uploaded(cloud: Cloud) -> None:
    upload_id, parts = await _uploaded(cloud, b"only")
    with pytest.raises(Refused) as raised:
        await _complete(cloud, upload_id, [replace(parts[0], etag='"9e107d9d372bb6826bd81d3542a419d6"')])
    assert raised.value.code == "InvalidPart"
    with pytest.raises(NotFound):
        await cloud.head()


async def test_a_copied_part(cloud: Cloud) -> None:
    await cloud.put(b"0123456789", "-source")
    upload_id, parts = await _uploaded(cloud, FIVE)
    headers = {"x-amz-copy-source-range": "bytes=2-5"}
    result = await cloud.origin.copy_part(cloud.at("-source"), cloud.at(), upload_id, 2, headers)
    await _complete(cloud, upload_id, [*parts, Part(2, result.etag)])
    assert (await read(cloud.origin, cloud.at(), len(FIVE), None))[1] == b"2345"


@pytest.mark.needs("list_parts")
async def test_list_parts(cloud: Cloud) -> None:
    upload_id, parts = await _uploaded(cloud, FIVE, b"two", b"three")
    page = await cloud.origin.list_parts(cloud.at(), upload_id, 0, 2)
    assert [(entry.number, entry.etag, entry.size) for entry in page.entries] == [
        (1, parts[0].etag, len(FIVE)),
        (2, parts[1].etag, 3),
    ]
    assert page.next_number == 2
    rest = await cloud.origin.list_parts(cloud.at(), upload_id, 2, 2)
    assert [entry.number for entry in rest.entries] == [3]
    assert rest.next_number is None
    await cloud.origin.abort_upload(cloud.at(), upload_id)


@pytest.mark.needs("list_uploads")
async def test_list_uploads_and_abort(cloud: Cloud) -> None:
    upload_id, _ = await _uploaded(cloud, b"x")
    page = await cloud.origin.list_uploads(BUCKET, cloud.key)
    assert [(entry.key, entry.upload_id) for entry in page.entries] == [(cloud.key, upload_id)]
    await cloud.origin.abort_upload(cloud.at(), upload_id)
    assert not (await cloud.origin.list_uploads(BUCKET, cloud.key)).entries


async def test_a_torn_part_is_no_part(cloud: Cloud) -> None:
    if cloud.kind == "localstack":
        pytest.skip("LocalStack stores what came of a body that was cut off")
    upload_id, _ = await _uploaded(cloud)
    with pytest.raises(TornError):
        await cloud.origin.put_part(cloud.at(), upload_id, 1, torn(FIVE))
    assert not (await cloud.origin.list_parts(cloud.at(), upload_id)).entries
    await cloud.origin.abort_upload(cloud.at(), upload_id)


async def test_a_cancelled_part_is_no_part(cloud: Cloud) -> None:
    if cloud.kind == "localstack":
        pytest.skip("LocalStack stores what came of a body that was cut off")
    upload_id, _ = await _uploaded(cloud)
    reached = asyncio.Event()
    task = asyncio.ensure_future(
        cloud.origin.put_part(cloud.at(), upload_id, 1, stuck(b"data" * 1000, reached))
    )
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (await cloud.origin.list_parts(cloud.at(), upload_id)).entries
    await cloud.origin.abort_upload(cloud.at(), upload_id)


async def test_a_conditional_complete(cloud: Cloud) -> None:
    if not cloud.origin.capabilities.conditional_writes:
        pytest.skip("no conditional writes are declared")
    await cloud.put(b"first")
    upload_id, parts = await _uploaded(cloud, b"second")
    with pytest.raises(Exception, match=r"precondition|Precondition|condition"):
        await cloud.origin.complete_upload(cloud.at(), upload_id, parts, {}, Conditions(if_none_match="*"))
    assert await cloud.get() == b"first"
