"""What an origin of type gcs promises beyond the contract: generations, conditions, digests, tokens."""

from __future__ import annotations

import asyncio
import base64
import gzip
from collections.abc import AsyncIterator

import pytest
from awscrt import checksums as crt

from gateway.config.schema import OriginConfig
from gateway.errors import ConditionFailed, NotFound, OriginDenied, Refused, Unsupported
from gateway.model import Conditions, Part, Remote, VersionEntry
from gateway.origins.base import ForwardRequest
from gateway.origins.factory import make_origin
from gateway.origins.gcs import GcsOrigin
from tests import stores
from tests.origins.bodies import body, read

BUCKET, VERSIONED = "gcs-plain", "gcs-versioned"
DATA = bytes(range(256)) * 1000
CRC32C = base64.b64encode(crt.crc32c(DATA).to_bytes(4, "big")).decode()
NOTHING = Conditions()


async def _origin(server: stores.Gcs, **changes: object) -> AsyncIterator[GcsOrigin]:
    origin = make_origin(OriginConfig(**{**server.as_origin("lake"), "deadline": 5, **changes}))
    assert isinstance(origin, GcsOrigin)
    yield origin
    await origin.close()


@pytest.fixture
async def origin(gcs: stores.Gcs) -> AsyncIterator[GcsOrigin]:
    gcs.make_buckets(BUCKET, VERSIONED)
    client = gcs.client()
    client.put_bucket_versioning(Bucket=VERSIONED, VersioningConfiguration={"Status": "Enabled"})
    client.close()
    async for one in _origin(gcs):
        yield one


@pytest.fixture
def at(key: str) -> Remote:
    return Remote(BUCKET, key)


@pytest.fixture
def versioned(key: str) -> Remote:
    return Remote(VERSIONED, key)


# --- digests


async def test_the_crc32c_of_the_whole_comes_with_whole_reads_only(origin: GcsOrigin, at: Remote) -> None:
    result = await origin.put(at, body(DATA), NOTHING)
    sums = {"x-amz-checksum-crc32c": CRC32C, "x-amz-checksum-type": "FULL_OBJECT"}
    assert sums.items() <= result.headers.items()
    assert (await origin.head(at)).checksums == sums
    assert (await read(origin, at, 0, None))[0].checksums == sums
    assert (await read(origin, at, 0, 10))[0].checksums == {}


async def test_an_object_of_parts_has_one_too(origin: GcsOrigin, at: Remote) -> None:
    upload_id, _ = await origin.create_upload(at, {})
    part = await origin.put_part(at, upload_id, 1, body(DATA))
    await origin.complete_upload(at, upload_id, [Part(1, part.etag)], {}, NOTHING)
    assert (await origin.head(at)).checksums["x-amz-checksum-crc32c"] == CRC32C


@pytest.mark.parametrize(
    "headers", [{"x-amz-checksum-crc32c": "AAAAAA=="}, {"content-md5": base64.b64encode(b"m" * 16).decode()}]
)
async def test_a_digest_known_beforehand_is_checked_by_google(
    origin: GcsOrigin, at: Remote, headers: dict[str, str]
) -> None:
    with pytest.raises(Refused) as raised:
        await origin.put(at, body(DATA, headers), NOTHING)
    assert raised.value.code == "BadDigest"
    upload_id, _ = await origin.create_upload(at, {})
    with pytest.raises(Refused) as raised:
        await origin.put_part(at, upload_id, 1, body(DATA, headers))
    assert raised.value.code == "BadDigest"
    with pytest.raises(NotFound):
        await origin.head(at)


async def test_what_is_stored_compressed_is_read_as_it_is_stored(origin: GcsOrigin, at: Remote) -> None:
    packed = gzip.compress(DATA)
    await origin.put(at, body(packed, {"content-encoding": "gzip"}), NOTHING)
    meta, whole = await read(origin, at, 0, None)
    assert (whole, meta.size, meta.headers["content-encoding"]) == (packed, len(packed), "gzip")
    assert (await read(origin, at, 5, 50))[1] == packed[5:50]
    assert (await origin.head(at)).size == len(packed)


async def test_storage_classes_have_googles_names(origin: GcsOrigin, at: Remote) -> None:
    await origin.put(at, body(b"x", {"x-amz-storage-class": "STANDARD_IA"}), NOTHING)
    assert (await origin.head(at)).headers["x-amz-storage-class"] == "NEARLINE"
    await origin.put(at, body(b"x", {"x-amz-storage-class": "STANDARD"}), NOTHING)
    assert "x-amz-storage-class" not in (await origin.head(at)).headers


async def test_what_cannot_be_stored_is_refused_before_anything_is(origin: GcsOrigin, at: Remote) -> None:
    for headers in ({"x-amz-tagging": "a=1"}, {"x-amz-server-side-encryption": "aws:kms"}):
        with pytest.raises(Unsupported):
            await origin.put(at, body(b"x", headers), NOTHING)
    with pytest.raises(Unsupported):
        await origin.put(Remote(BUCKET, "a\nb"), body(b"x"), NOTHING)
    with pytest.raises(NotFound):
        await origin.head(at)


# --- conditions


@pytest.mark.parametrize("size", [1, 200_000])
async def test_of_many_that_create_one_does(origin: GcsOrigin, at: Remote, size: int) -> None:
    only = Conditions(if_none_match="*")
    puts = [origin.put(at, body(bytes([n]) * size), only) for n in range(8)]
    done = await asyncio.gather(*puts, return_exceptions=True)
    won = [n for n, one in enumerate(done) if not isinstance(one, BaseException)]
    assert len(won) == 1
    assert all(isinstance(one, ConditionFailed) for n, one in enumerate(done) if n not in won)
    assert (await read(origin, at, 0, None))[1] == bytes(won) * size


@pytest.mark.parametrize("size", [1, 200_000])
async def test_of_many_that_replace_the_same_etag_one_does(origin: GcsOrigin, at: Remote, size: int) -> None:
    first = await origin.put(at, body(b"first"), NOTHING)
    swap = Conditions(if_match=first.etag)
    puts = [origin.put(at, body(bytes([n]) * size), swap) for n in range(8)]
    done = await asyncio.gather(*puts, return_exceptions=True)
    won = [n for n, one in enumerate(done) if not isinstance(one, BaseException)]
    assert len(won) == 1
    assert all(isinstance(one, ConditionFailed) for n, one in enumerate(done) if n not in won)
    assert (await read(origin, at, 0, None))[1] == bytes(won) * size


async def test_conditions_that_no_generation_can_say_are_refused(origin: GcsOrigin, at: Remote) -> None:
    for conditions in (
        Conditions(if_none_match='"some"'),
        Conditions(if_match="*", if_none_match="*"),
        Conditions(if_unmodified_since=1),
    ):
        with pytest.raises(Unsupported):
            await origin.put(at, body(b"x"), conditions)
    upload_id, _ = await origin.create_upload(at, {})
    with pytest.raises(Unsupported, match="condition"):
        await origin.complete_upload(at, upload_id, [], {}, Conditions(if_none_match="*"))
    await origin.put(at, body(b"x"), NOTHING)
    await origin.put(at, body(b"y"), Conditions(if_match="*"))


async def test_a_copy_may_depend_on_its_target_and_on_its_source(origin: GcsOrigin, at: Remote) -> None:
    source, target = at, Remote(BUCKET, f"{at.key}-copy")
    first = await origin.put(source, body(DATA), NOTHING)
    await origin.copy(source, target, {"if-none-match": "*"})
    for refused in (
        {"if-none-match": "*"},
        {"if-match": '"other"'},
        {"x-amz-copy-source-if-match": '"other"'},
        {"x-amz-copy-source-if-none-match": first.etag},
    ):
        with pytest.raises(ConditionFailed):
            await origin.copy(source, target, refused)
    result = await origin.copy(source, target, {"if-match": first.etag})
    assert (await origin.head(target)).etag == result.etag


async def test_a_copy_onto_itself_keeps_what_it_is_not_told_to_change(origin: GcsOrigin, at: Remote) -> None:
    headers = {"content-type": "text/x", "x-amz-meta-a": "1", "x-amz-storage-class": "NEARLINE"}
    await origin.put(at, body(DATA, headers), NOTHING)
    await origin.copy(at, at, {"x-amz-storage-class": "ARCHIVE"})
    meta, data = await read(origin, at, 0, None)
    assert data == DATA
    assert {name: meta.headers[name] for name in headers} == {**headers, "x-amz-storage-class": "ARCHIVE"}


# --- uploads


@pytest.mark.parametrize(("size", "code"), [(3, None), (4, "InvalidRequest")])
async def test_the_size_that_a_client_says_is_checked(
    origin: GcsOrigin, at: Remote, size: int, code: str | None
) -> None:
    upload_id, _ = await origin.create_upload(at, {})
    part = await origin.put_part(at, upload_id, 1, body(b"abc"))
    await origin.put_part(at, upload_id, 2, body(b"not named"))
    end = origin.complete_upload(
        at, upload_id, [Part(1, part.etag)], {"x-amz-mp-object-size": str(size)}, NOTHING
    )
    if code is None:
        await end
        assert (await origin.head(at)).size == 3
        return
    with pytest.raises(Refused) as raised:
        await end
    assert raised.value.code == code


async def test_a_part_is_streamed_from_the_generation_that_is_named(
    origin: GcsOrigin, versioned: Remote
) -> None:
    old = await origin.put(versioned, body(b"0123456789"), NOTHING)
    await origin.put(versioned, body(b"changed since"), NOTHING)
    target = Remote(VERSIONED, f"{versioned.key}-copy")
    upload_id, _ = await origin.create_upload(target, {})
    part = await origin.copy_part(
        versioned,
        target,
        upload_id,
        1,
        {"x-amz-copy-source-range": "bytes=2-5"},
        source_version=old.headers["x-amz-version-id"],
    )
    await origin.complete_upload(target, upload_id, [Part(1, part.etag)], {}, NOTHING)
    assert (await read(origin, target, 0, None))[1] == b"2345"


# --- generations


async def _put_three(origin: GcsOrigin, remote: Remote) -> list[str]:
    """Their generations, oldest first."""
    done = [await origin.put(remote, body(b"v%d" % n * n), NOTHING) for n in (1, 2, 3)]
    return [one.headers["x-amz-version-id"] for one in done]


async def _forwarded(origin: GcsOrigin, method: str, remote: Remote, query: str) -> tuple[int, str, bytes]:
    async with origin.forward(ForwardRequest(method, remote, query, {})) as answer:
        data = b"".join([piece async for piece in answer.chunks()])
        return answer.status, answer.headers.get("x-amz-version-id", ""), data


async def test_each_version_is_read_copied_and_deleted_by_itself(
    origin: GcsOrigin, versioned: Remote
) -> None:
    ids = await _put_three(origin, versioned)
    for number, version in enumerate(ids, 1):
        found = await _forwarded(origin, "GET", versioned, f"versionId={version}")
        assert found == (200, version, b"v%d" % number * number)
    copy = Remote(VERSIONED, f"{versioned.key}-copy")
    await origin.copy(versioned, copy, {}, source_version=ids[0])
    assert (await read(origin, copy, 0, None))[1] == b"v1"
    await origin.delete(versioned, version_id=ids[1])
    assert (await _forwarded(origin, "GET", versioned, f"versionId={ids[1]}"))[0] == 404
    assert (await read(origin, versioned, 0, None))[1] == b"v3" * 3
    await origin.delete(versioned)
    with pytest.raises(NotFound):
        await origin.head(versioned)
    assert (await _forwarded(origin, "GET", versioned, f"versionId={ids[2]}"))[2] == b"v3" * 3


async def _listed(
    origin: GcsOrigin, prefix: str, delimiter: str, page_keys: int
) -> tuple[list[VersionEntry], list[str]]:
    entries: list[VersionEntry] = []
    groups: list[str] = []
    key_marker = id_marker = ""
    while True:
        page = await origin.list_versions(VERSIONED, prefix, delimiter, key_marker, id_marker, page_keys)
        assert 0 < len(page.entries) + len(page.common_prefixes) <= page_keys
        entries += page.entries
        groups += page.common_prefixes
        if page.next_key_marker is None:
            return entries, groups
        key_marker, id_marker = page.next_key_marker, page.next_version_id_marker or ""


@pytest.mark.parametrize("page_keys", [1, 2, 3, 4, 5, 1000])
async def test_versions_are_listed_newest_first_whatever_the_page(
    origin: GcsOrigin, versioned: Remote, page_keys: int
) -> None:
    root = f"{versioned.key}/"
    ids = {
        name: await _put_three(origin, Remote(VERSIONED, root + name)) for name in ("a", "b/1", "b/2", "c")
    }
    await origin.delete(Remote(VERSIONED, root + "c"))
    entries, groups = await _listed(origin, root, "", page_keys)
    assert [(entry.key, entry.version_id, entry.size) for entry in entries] == [
        (root + name, version, 2 * size)
        for name in ids
        for version, size in zip(ids[name][::-1], (3, 2, 1), strict=True)
    ]
    latest = [entry.key for entry in entries if entry.is_latest]
    assert latest == [root + name for name in ("a", "b/1", "b/2")]
    assert groups == []
    entries, groups = await _listed(origin, root, "/", page_keys)
    assert [entry.key for entry in entries] == [root + "a"] * 3 + [root + "c"] * 3
    assert groups == [root + "b/"]


async def test_an_object_of_a_bucket_without_versions_has_the_one_it_has(
    origin: GcsOrigin, at: Remote
) -> None:
    first, second = [
        (await origin.put(at, body(data), NOTHING)).headers["x-amz-version-id"] for data in (b"1", b"2")
    ]
    assert int(second) > int(first)
    assert (await origin.head(at)).headers["x-amz-version-id"] == second
    assert (await _forwarded(origin, "GET", at, f"versionId={first}"))[0] == 404
    assert (await _forwarded(origin, "GET", at, f"versionId={second}"))[2] == b"2"


async def test_a_delete_may_depend_on_what_is_there(origin: GcsOrigin, at: Remote) -> None:
    etag = (await origin.put(at, body(b"x"), NOTHING)).etag
    with pytest.raises(ConditionFailed):
        async with origin.forward(ForwardRequest("DELETE", at, "", {"if-match": '"other"'})):
            pass
    async with origin.forward(ForwardRequest("DELETE", at, "", {"if-match": etag})) as answer:
        assert answer.status == 204
    with pytest.raises(NotFound):
        await origin.head(at)


@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("GET", "tagging="),
        ("PUT", "acl="),
        ("GET", "versionId=1&partNumber=1"),
        ("POST", "restore="),
        ("PUT", ""),
    ],
)
async def test_calls_that_google_does_not_have_are_refused(
    origin: GcsOrigin, at: Remote, method: str, query: str
) -> None:
    with pytest.raises(Unsupported, match="Google Cloud Storage"):
        async with origin.forward(ForwardRequest(method, at, query, {})):
            pass
    with pytest.raises(Unsupported, match="Google Cloud Storage"):
        async with origin.forward(ForwardRequest(method, Remote(BUCKET, ""), query or "lifecycle=", {})):
            pass


# --- tokens


async def test_a_token_of_the_config_is_as_good_as_a_key(
    gcs: stores.Gcs, origin: GcsOrigin, at: Remote
) -> None:
    keys = {"access_key": "", "secret_key": ""}
    async for other in _origin(gcs, **keys, session_token=gcs.token):
        await other.put(at, body(DATA), Conditions(if_none_match="*"))
        assert (await read(other, at, 1, 9))[1] == DATA[1:9]
        assert [entry.key for entry in (await other.list(BUCKET, at.key)).entries] == [at.key]
    async for other in _origin(gcs, **keys, session_token="ya29.not-valid"):
        with pytest.raises(OriginDenied) as raised:
            await read(other, at, 0, None)
        assert "ya29" not in str(raised.value)
    async for other in _origin(gcs, secret_key="wrong"):
        with pytest.raises(OriginDenied):
            await other.head(at)
