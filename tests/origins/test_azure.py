"""Azure Blob Storage beyond the contract: what others do to the same blobs, what is hidden, uploads beside each other.
Azure's own SDK is the other program."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.config.schema import OriginConfig
from gateway.errors import (
    Changed,
    ConditionFailed,
    NoSuchBucket,
    NotFound,
    OriginDenied,
    Refused,
    Throttled,
    Unsupported,
)
from gateway.model import Conditions, Part, Remote
from gateway.origins import azure_multipart, azure_write
from gateway.origins.azure import AzureOrigin
from gateway.origins.azure_names import HIDDEN
from gateway.origins.base import PutBody
from gateway.origins.factory import make_origin
from tests import stores
from tests.origins.bodies import body, read

BUCKET = "contract"
FIVE = b"five MiB" * (5 << 17)
# More than one Put Blob is used for.
LARGE = b"large" * 300_000


@asynccontextmanager
async def origin_at(server: stores.Azurite, **settings: object) -> AsyncIterator[AzureOrigin]:
    server.make_buckets(BUCKET)
    origin = make_origin(OriginConfig(**{**server.as_origin("lake"), "deadline": 5, **settings}))
    assert isinstance(origin, AzureOrigin)
    try:
        yield origin
    finally:
        await origin.close()


@pytest.fixture
async def origin(azure: stores.Azurite) -> AsyncIterator[AzureOrigin]:
    async with origin_at(azure) as made:
        yield made


@pytest.fixture
def blob(azure: stores.Azurite, key: str) -> Any:
    """The SDK's client of the test's own key."""
    azure.make_buckets(BUCKET)
    with azure.service() as service:
        yield service.get_blob_client(BUCKET, key)


@pytest.fixture
def names(azure: stores.Azurite) -> Any:
    """Names of all blobs that the SDK sees, those without a committed content among them."""

    def see(prefix: str = "") -> list[str]:
        with azure.service() as service, service.get_container_client(BUCKET) as container:
            found = container.list_blobs(prefix, include=["uncommittedblobs"])
            return [entry.name for entry in found]

    return see


async def _put(origin: AzureOrigin, key: str, data: bytes, headers: dict[str, str] | None = None) -> str:
    return (await origin.put(Remote(BUCKET, key), body(data, headers), Conditions())).etag


async def _upload(origin: AzureOrigin, key: str, *contents: bytes) -> tuple[str, list[Part]]:
    here = Remote(BUCKET, key)
    upload_id, _ = await origin.create_upload(here, {})
    parts = []
    for number, content in enumerate(contents, 1):
        parts.append(Part(number, (await origin.put_part(here, upload_id, number, body(content))).etag))
    return upload_id, parts


async def _complete(
    origin: AzureOrigin, key: str, upload_id: str, parts: list[Part], conditions: Conditions | None = None
) -> str:
    here = Remote(BUCKET, key)
    return (await origin.complete_upload(here, upload_id, parts, {}, conditions or Conditions())).etag


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


# Somebody else's blobs


async def test_a_foreign_blob_has_azures_own_etag(origin: AzureOrigin, blob: Any, key: str) -> None:
    blob.upload_blob(b"foreign", metadata={"Purpose": "test"})
    theirs = blob.get_blob_properties().etag
    meta, data = await read(origin, Remote(BUCKET, key), 0, None)
    assert (meta.etag, data) == (theirs, b"foreign")
    assert theirs.startswith('"')
    assert meta.headers["x-amz-meta-purpose"] == "test"
    assert (await origin.head(Remote(BUCKET, key))).etag == theirs
    assert (await origin.list(BUCKET, key)).entries[0].etag == theirs
    assert (await read(origin, Remote(BUCKET, key), 1, 3, theirs))[1] == b"or"


@pytest.mark.parametrize("data", [b"small", LARGE])
async def test_the_s3_etag_does_not_outlive_its_content(
    origin: AzureOrigin, blob: Any, key: str, data: bytes
) -> None:
    """Another program writes as many other bytes and keeps all metadata."""
    ours = await _put(origin, key, data, {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-meta-of": "the first"})
    assert ours == f'"{_md5(data)}"'
    kept = blob.get_blob_properties().metadata
    blob.upload_blob(data[::-1], overwrite=True, metadata=kept)
    theirs = blob.get_blob_properties().etag
    now = await origin.head(Remote(BUCKET, key))
    assert (now.etag, now.checksums) == (theirs, {})
    assert (await origin.list(BUCKET, key)).entries[0].etag == theirs
    with pytest.raises(Changed):
        await read(origin, Remote(BUCKET, key), 0, 1, ours)


async def test_nor_that_of_a_multipart_object(origin: AzureOrigin, blob: Any, key: str) -> None:
    ours = await _complete(origin, key, *await _upload(origin, key, b"only"))
    assert (await origin.head(Remote(BUCKET, key))).etag == ours
    blob.upload_blob(b"ylno", overwrite=True, metadata=blob.get_blob_properties().metadata)
    assert (await origin.head(Remote(BUCKET, key))).etag == blob.get_blob_properties().etag


async def test_nor_does_it_outlive_blocks_that_were_exchanged(
    origin: AzureOrigin, blob: Any, key: str
) -> None:
    from azure.storage.blob import BlobBlock

    await _put(origin, key, LARGE)
    kept = blob.get_blob_properties().metadata
    blob.stage_block("x" * 48, LARGE[::-1])
    blob.commit_block_list([BlobBlock("x" * 48)], metadata=kept)
    assert (await origin.head(Remote(BUCKET, key))).etag == blob.get_blob_properties().etag


async def test_what_the_gateway_writes_is_a_plain_blob_to_others(
    origin: AzureOrigin, blob: Any, key: str
) -> None:
    headers = {"content-type": "text/x", "x-amz-meta-author": "me", "x-amz-meta-two-words": "a  b"}
    await _put(origin, key, LARGE, headers)
    properties = blob.get_blob_properties()
    assert bytes(blob.download_blob().readall()) == LARGE
    assert properties.content_settings.content_type == "text/x"
    assert properties.content_settings.content_md5 == bytearray.fromhex(_md5(LARGE))
    assert properties.metadata["author"] == "me"
    assert (await origin.head(Remote(BUCKET, key))).headers["x-amz-meta-two-words"] == "a  b"


async def test_a_condition_is_kept_against_others(origin: AzureOrigin, blob: Any, key: str) -> None:
    """The object changes while the body that depends on it is on its way."""
    ours = await _put(origin, key, b"first")

    async def pieces() -> AsyncIterator[bytes]:
        yield LARGE[:-1]
        blob.upload_blob(b"theirs", overwrite=True)
        yield LARGE[-1:]

    with pytest.raises(ConditionFailed):
        await origin.put(Remote(BUCKET, key), PutBody(len(LARGE), pieces()), Conditions(if_match=ours))
    assert bytes(blob.download_blob().readall()) == b"theirs"


async def test_a_leased_blob_is_no_failed_condition(origin: AzureOrigin, blob: Any, key: str) -> None:
    blob.upload_blob(b"x")
    lease = blob.acquire_lease()
    with pytest.raises(Refused) as raised:
        await _put(origin, key, b"y")
    assert (raised.value.status, raised.value.code) == (409, "OperationAborted")
    lease.break_lease(0)


async def test_a_blob_with_snapshots_is_deleted(origin: AzureOrigin, blob: Any, key: str) -> None:
    blob.upload_blob(b"x")
    blob.create_snapshot()
    await origin.delete(Remote(BUCKET, key))
    assert not blob.exists()


# Uploads beside each other


async def test_two_uploads_of_one_key_and_a_write_do_not_meet(
    origin: AzureOrigin, key: str, names: Any
) -> None:
    one, parts_one = await _upload(origin, key, FIVE, b"one")
    two, parts_two = await _upload(origin, key, FIVE, b"two")
    assert one != two
    await _put(origin, key, b"between")
    assert [e.size for e in (await origin.list_parts(Remote(BUCKET, key), one)).entries] == [len(FIVE), 3]
    etag = await _complete(origin, key, two, parts_two)
    assert (await read(origin, Remote(BUCKET, key), 0, None))[1] == FIVE + b"two"
    await _put(origin, key, b"between")
    assert await _complete(origin, key, one, parts_one) != etag
    meta, data = await read(origin, Remote(BUCKET, key), 0, None)
    assert data == FIVE + b"one"
    assert meta.parts == (len(FIVE), 3)
    assert not [name for name in names(HIDDEN) if one in name or two in name]


async def test_the_slower_of_two_large_writes_is_told_to_come_again(origin: AzureOrigin, key: str) -> None:
    """Its blocks are gone with the faster one's commit: never is one made of the other's."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield LARGE
        begun.set()
        await go_on.wait()

    task = asyncio.ensure_future(origin.put(Remote(BUCKET, key), PutBody(len(LARGE), slow()), Conditions()))
    await begun.wait()
    # The slow one's block is on its way or there; its list is not sent before `slow` has ended.
    await _put(origin, key, LARGE[::-1])
    go_on.set()
    outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    meta, data = await read(origin, Remote(BUCKET, key), 0, None)
    if isinstance(outcome, Throttled):
        assert data == LARGE[::-1]
    else:
        assert outcome.etag == meta.etag
        assert data == LARGE
    assert meta.etag == f'"{_md5(data)}"'


async def test_the_last_upload_of_a_part_counts(origin: AzureOrigin, key: str) -> None:
    here = Remote(BUCKET, key)
    upload_id, parts = await _upload(origin, key, b"first")
    again = await origin.put_part(here, upload_id, 1, body(b"second"))
    entries = (await origin.list_parts(here, upload_id)).entries
    assert [(entry.etag, entry.size) for entry in entries] == [(again.etag, 6)]
    with pytest.raises(Refused, match="not uploaded with this ETag"):
        await _complete(origin, key, upload_id, parts)
    await _complete(origin, key, upload_id, [Part(1, again.etag)])
    assert (await read(origin, here, 0, None))[1] == b"second"


async def test_a_complete_that_stopped_half_way_goes_on(
    origin: AzureOrigin, key: str, monkeypatch: pytest.MonkeyPatch, names: Any
) -> None:
    upload_id, parts = await _upload(origin, key, FIVE, b"end")

    async def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(azure_multipart, "copy_blob", crash)
        with pytest.raises(KeyboardInterrupt):
            await _complete(origin, key, upload_id, parts)
    with pytest.raises(NotFound):
        await origin.head(Remote(BUCKET, key))
    with pytest.raises(Refused, match="other parts"):
        await _complete(origin, key, upload_id, parts[:1])
    etag = await _complete(origin, key, upload_id, parts)
    assert (await origin.head(Remote(BUCKET, key))).etag == etag
    assert not [name for name in names(HIDDEN) if upload_id in name]


async def test_completes_of_one_upload_at_once_all_succeed(origin: AzureOrigin, key: str) -> None:
    upload_id, parts = await _upload(origin, key, FIVE, b"end")
    etags = await asyncio.gather(*(_complete(origin, key, upload_id, parts) for _ in range(4)))
    assert len(set(etags)) == 1
    assert (await read(origin, Remote(BUCKET, key), len(FIVE), None))[1] == b"end"


async def test_a_refused_complete_leaves_the_upload(origin: AzureOrigin, key: str) -> None:
    await _put(origin, key, b"there")
    upload_id, parts = await _upload(origin, key, b"x", b"y")
    with pytest.raises(Refused, match="smaller than the minimum"):
        await _complete(origin, key, upload_id, parts)
    with pytest.raises(Refused, match="ascending"):
        await _complete(origin, key, upload_id, parts[::-1])
    with pytest.raises(ConditionFailed):
        await _complete(origin, key, upload_id, parts[:1], Conditions(if_none_match="*"))
    await _complete(origin, key, upload_id, parts[:1])
    assert (await read(origin, Remote(BUCKET, key), 0, None))[1] == b"x"


async def test_abort_leaves_nothing(origin: AzureOrigin, key: str, names: Any) -> None:
    upload_id, _ = await _upload(origin, key, b"x")
    assert [name for name in names(HIDDEN) if upload_id in name]
    await origin.abort_upload(Remote(BUCKET, key), upload_id)
    assert not [name for name in names(HIDDEN) if upload_id in name]
    with pytest.raises(Refused) as raised:
        await origin.put_part(Remote(BUCKET, key), upload_id, 1, body(b"x"))
    assert raised.value.code == "NoSuchUpload"
    with pytest.raises(Refused):
        await origin.abort_upload(Remote(BUCKET, key), upload_id)


async def test_a_part_of_several_blocks(
    origin: AzureOrigin, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azure_multipart, "DATA_BLOCK_BYTES", 1000)
    monkeypatch.setattr(azure_write, "BLOCK_BYTES", 100_000)
    upload_id, parts = await _upload(origin, key, b"0123456789" * 450)
    assert (await origin.list_parts(Remote(BUCKET, key), upload_id)).entries[0].size == 4500
    await _complete(origin, key, upload_id, parts)
    assert (await read(origin, Remote(BUCKET, key), 0, None))[1] == b"0123456789" * 450
    await _put(origin, key, LARGE)  # and an object of fifteen
    assert (await read(origin, Remote(BUCKET, key), 0, None))[1] == LARGE


# What is the gateway's own


async def test_hidden_blobs_are_no_keys(origin: AzureOrigin, key: str) -> None:
    upload_id, _ = await _upload(origin, key, b"x")
    marker = Remote(BUCKET, f"{HIDDEN}uploads/{upload_id}")
    with pytest.raises(NotFound):
        await origin.head(marker)
    with pytest.raises(NotFound):
        await read(origin, marker, 0, None)
    with pytest.raises(Unsupported, match="the gateway's own"):
        await _put(origin, marker.key, b"x")
    with pytest.raises(NotFound):
        await origin.copy(marker, Remote(BUCKET, key), {})
    await origin.delete(marker)
    assert (await origin.list_uploads(BUCKET, key)).entries[0].upload_id == upload_id
    for prefix, delimiter in (("", ""), ("", "/"), (".", "/"), (".", "-"), (HIDDEN, ""), (HIDDEN, "/")):
        page = await origin.list(BUCKET, prefix, delimiter)
        shown = [*(entry.key for entry in page.entries), *page.common_prefixes]
        assert not [name for name in shown if name.startswith(HIDDEN)]
        assert ".s3-" not in shown
    await _put(origin, f".s3-{key}", b"x")
    assert ".s3-" in (await origin.list(BUCKET, ".", "-")).common_prefixes
    await origin.delete(Remote(BUCKET, f".s3-{key}"))
    await origin.abort_upload(Remote(BUCKET, key), upload_id)


async def test_a_copy_with_new_metadata(origin: AzureOrigin, key: str, names: Any) -> None:
    here = Remote(BUCKET, key)
    etag = await _put(
        origin, key, LARGE, {"content-type": "a/b", "x-amz-meta-old": "1", "cache-control": "no-store"}
    )
    headers = {"x-amz-metadata-directive": "REPLACE", "content-type": "c/d", "x-amz-meta-new-name": "2"}
    result = await origin.copy(here, here, headers)
    meta, data = await read(origin, here, 0, None)
    assert (result.etag, meta.etag, data) == (etag, etag, LARGE)
    assert (meta.headers["content-type"], meta.headers["x-amz-meta-new-name"]) == ("c/d", "2")
    assert "x-amz-meta-old" not in meta.headers
    assert "cache-control" not in meta.headers
    assert not names(f"{HIDDEN}copies/")


async def test_a_copy_computes_the_checksum_that_is_asked_for(origin: AzureOrigin, key: str) -> None:
    await _put(origin, key, b"123456789")
    result = await origin.copy(
        Remote(BUCKET, key), Remote(BUCKET, f"{key}-2"), {"x-amz-checksum-algorithm": "CRC32"}
    )
    assert result.headers["x-amz-checksum-crc32"] == "y/Q5Jg=="
    assert (await origin.head(Remote(BUCKET, f"{key}-2"))).checksums["x-amz-checksum-crc32"] == "y/Q5Jg=="


async def test_a_source_whose_url_is_too_long_is_copied_all_the_same(origin: AzureOrigin, key: str) -> None:
    source = f"{key}/{'é' * 400}"
    await _put(origin, source, b"x", {"x-amz-meta-a": "1"})
    await origin.copy(Remote(BUCKET, source), Remote(BUCKET, key), {})
    assert (await origin.head(Remote(BUCKET, key))).headers["x-amz-meta-a"] == "1"


async def test_storage_classes_are_tiers(origin: AzureOrigin, blob: Any, key: str) -> None:
    await _put(origin, key, b"x", {"x-amz-storage-class": "STANDARD_IA"})
    assert blob.get_blob_properties().blob_tier == "Cool"
    assert (await origin.head(Remote(BUCKET, key))).headers["x-amz-storage-class"] == "STANDARD_IA"
    assert (await origin.list(BUCKET, key)).entries[0].storage_class == "STANDARD_IA"
    blob.set_standard_blob_tier("Hot")
    assert "x-amz-storage-class" not in (await origin.head(Remote(BUCKET, key))).headers
    with pytest.raises(Unsupported, match="DEEP_ARCHIVE"):
        await _put(origin, key, b"x", {"x-amz-storage-class": "DEEP_ARCHIVE"})


@pytest.mark.parametrize("bucket", ["Upper", "a_b", "a.b", "a--b", "ab", "$web"])
async def test_names_that_no_container_has(origin: AzureOrigin, bucket: str) -> None:
    with pytest.raises(NoSuchBucket):
        await origin.head_bucket(bucket)
    with pytest.raises(NoSuchBucket):
        await origin.list(bucket)
    with pytest.raises(NoSuchBucket):
        await origin.put(Remote(bucket, "k"), body(b"x"), Conditions())


async def test_a_container_is_made_and_never_removed(origin: AzureOrigin, key: str) -> None:
    """It would be removed with what others have just written."""
    name = f"made-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    await origin.create_bucket(name)
    await origin.put(Remote(name, "k"), body(b"x"), Conditions())
    with pytest.raises(Refused) as raised:
        await origin.create_bucket(name)
    assert raised.value.code == "BucketAlreadyOwnedByYou"
    with pytest.raises(Refused) as raised:
        await origin.create_bucket("No_Container")
    assert raised.value.code == "InvalidBucketName"
    with pytest.raises(Unsupported, match="whatever is in it"):
        await origin.delete_bucket(name)


@pytest.mark.parametrize("name", ["a\\b", "./a", "a/../b", "a.", "a./b", "\x01", "a\x7f", "s/" * 254 + "x"])
async def test_keys_that_azure_would_change_are_refused(origin: AzureOrigin, key: str, name: str) -> None:
    here = Remote(BUCKET, f"{key}/{name}")
    with pytest.raises(Unsupported, match="cannot hold this key"):
        await origin.put(here, body(b"x"), Conditions())
    with pytest.raises(NotFound):
        await origin.head(here)
    with pytest.raises(Unsupported):
        await origin.create_upload(here, {})
    assert await origin.delete(here) == {}


# Listings


async def test_keys_beyond_the_bmp_come_in_byte_order(origin: AzureOrigin, key: str) -> None:
    """Azurite sorts by UTF-16 units, where U+1F600 comes before U+FF21."""
    ends = [
        "a",
        "\U0001f600",
        "\U0001f600/x",
        "\uff21",
        "\uff21/x",
        "z",
        "\U00010000",
        "é",
        "\U0001f600\uff21",
    ]
    keys = sorted((f"{key}/{end}" for end in ends), key=str.encode)
    for one in keys:
        await _put(origin, one, b"x")
    for max_keys in (1, 2, 3, 1000):
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            page = await origin.list(BUCKET, f"{key}/", "", after, max_keys)
            found += [entry.key for entry in page.entries]
            after = page.next_after
        assert found == keys
    for at, one in enumerate(keys):
        page = await origin.list(BUCKET, f"{key}/", "", one)
        assert [entry.key for entry in page.entries] == keys[at + 1 :]


async def test_any_worker_goes_on_where_another_one_ended(azure: stores.Azurite, key: str) -> None:
    async with origin_at(azure) as one, origin_at(azure) as other:
        for number in range(7):
            await _put(one, f"{key}/{number}", b"x")
        page = await one.list(BUCKET, f"{key}/", max_keys=3)
        assert page.next_after is not None
        rest = await other.list(BUCKET, f"{key}/", start_after=page.next_after)
        assert [entry.key[-1] for entry in rest.entries] == ["3", "4", "5", "6"]


# Credentials


async def test_a_sas_reads_and_writes(azure: stores.Azurite, key: str) -> None:
    from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

    sas = generate_account_sas(
        azure.account,
        azure.key,
        ResourceTypes(container=True, object=True),
        AccountSasPermissions(read=True, write=True, delete=True, list=True, create=True),
        datetime.now(UTC) + timedelta(hours=1),
    )
    async with origin_at(azure, secret_key="", session_token=sas) as origin:
        etag = await _complete(origin, key, *await _upload(origin, key, FIVE, b"end"))
        await _put(origin, f"{key}-2", LARGE)
        await origin.copy(Remote(BUCKET, key), Remote(BUCKET, f"{key}-3"), {})
        assert {e.key for e in (await origin.list(BUCKET, key)).entries} == {key, f"{key}-2", f"{key}-3"}
        assert (await origin.head(Remote(BUCKET, f"{key}-3"))).etag == etag
        await origin.head_bucket(BUCKET)


async def test_a_wrong_key_is_no_missing_object(azure: stores.Azurite) -> None:
    async with origin_at(azure, secret_key="c2VjcmV0") as origin:
        with pytest.raises(OriginDenied):
            await origin.head(Remote(BUCKET, "x"))
        with pytest.raises(OriginDenied):
            await _put(origin, "x", b"x")


async def test_times_are_the_stores(origin: AzureOrigin, key: str) -> None:
    await _put(origin, key, b"x")
    assert abs((await origin.head(Remote(BUCKET, key))).last_modified - time.time()) < 60
