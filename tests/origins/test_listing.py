"""Promises of `list`, `list_versions`, `buckets`."""

from __future__ import annotations

import pytest

from gateway.errors import NoSuchBucket
from gateway.model import ListPage
from tests.origins.conftest import BUCKET, Cloud

NAMES = ("a", "b/1", "b/2", "b/c/3", "b0", "c/4", "d e+f", "é")


async def _fill(cloud: Cloud) -> list[str]:
    for name in NAMES:
        await cloud.put(b"x" * len(name), f"/{name}")
    return sorted((f"{cloud.key}/{name}" for name in NAMES), key=str.encode)


async def _pages(cloud: Cloud, delimiter: str, max_keys: int, start_after: str = "") -> list[ListPage]:
    pages = []
    after: str | None = start_after
    while after is not None:
        page = await cloud.origin.list(BUCKET, f"{cloud.key}/", delimiter, after, max_keys)
        assert len(page.entries) + len(page.common_prefixes) <= max_keys
        pages.append(page)
        after = page.next_after
        assert len(pages) < 50
    return pages


@pytest.mark.needs("pages")
@pytest.mark.parametrize("max_keys", [1, 2, 3, 1000])
async def test_all_keys_in_order_whatever_the_page(cloud: Cloud, max_keys: int) -> None:
    wanted = await _fill(cloud)
    pages = await _pages(cloud, "", max_keys)
    assert [entry.key for page in pages for entry in page.entries] == wanted


@pytest.mark.needs("pages")
@pytest.mark.parametrize("max_keys", [1, 2, 1000])
async def test_common_prefixes_count_and_come_once(cloud: Cloud, max_keys: int) -> None:
    await _fill(cloud)
    pages = await _pages(cloud, "/", max_keys)
    root = cloud.key + "/"
    assert [p for page in pages for p in page.common_prefixes] == [root + "b/", root + "c/"]
    assert [e.key for page in pages for e in page.entries] == [root + n for n in ("a", "b0", "d e+f", "é")]


@pytest.mark.needs("pages")
async def test_start_after_a_key_and_inside_a_prefix(cloud: Cloud) -> None:
    wanted = await _fill(cloud)
    root = cloud.key + "/"
    page = await cloud.origin.list(BUCKET, root, "", root + "b/1")
    assert [entry.key for entry in page.entries] == [key for key in wanted if key > root + "b/1"]
    if cloud.kind == "file":  # as S3; moto and rclone leave out a prefix that is less than `start-after`
        page = await cloud.origin.list(BUCKET, root, "/", root + "b/1")
        assert page.common_prefixes[0] == root + "b/"
    page = await cloud.origin.list(BUCKET, root, "/", root + "b/c/")
    assert page.common_prefixes == (root + "c/",)
    page = await cloud.origin.list(BUCKET, root, "/", root + "b/")
    assert page.common_prefixes == (root + "c/",)
    assert [entry.key for entry in page.entries] == [root + n for n in ("b0", "d e+f", "é")]


@pytest.mark.needs("pages")
@pytest.mark.parametrize("max_keys", [1, 2, 1000])
async def test_any_delimiter(cloud: Cloud, max_keys: int) -> None:
    for name in ("a", "b--1", "b--2", "c--", "d-e", "f--g--h"):
        await cloud.put(b"x", f"/{name}")
    pages = await _pages(cloud, "--", max_keys)
    root = cloud.key + "/"
    assert [p for page in pages for p in page.common_prefixes] == [root + p for p in ("b--", "c--", "f--")]
    assert [e.key for page in pages for e in page.entries] == [root + "a", root + "d-e"]


async def test_an_entry_says_what_head_says(cloud: Cloud) -> None:
    await cloud.put(b"12345")
    entry = (await cloud.origin.list(BUCKET, cloud.key)).entries[0]
    meta = await cloud.head()
    assert (entry.key, entry.size, entry.etag) == (cloud.key, 5, meta.etag)
    assert abs(entry.last_modified - meta.last_modified) < 2


async def test_an_empty_listing_and_max_keys_0(cloud: Cloud) -> None:
    assert await cloud.origin.list(BUCKET, cloud.key + "-nothing") == ListPage(())
    assert await cloud.origin.list(BUCKET, cloud.key, max_keys=0) == ListPage(())


async def test_a_missing_bucket(cloud: Cloud) -> None:
    with pytest.raises(NoSuchBucket):
        await cloud.origin.list("no-such-bucket-here")
    with pytest.raises(NoSuchBucket):
        await cloud.origin.head_bucket("no-such-bucket-here")


async def test_buckets(cloud: Cloud) -> None:
    assert BUCKET in [bucket.name for bucket in await cloud.origin.buckets()]
    await cloud.origin.head_bucket(BUCKET)


@pytest.mark.needs("pages")
async def test_versions(cloud: Cloud) -> None:
    if not cloud.origin.capabilities.versions and cloud.kind not in ("file", "azure"):
        pytest.skip("no versions are declared")
    first = await cloud.put(b"1", "/a")
    await cloud.put(b"2", "/b")
    page = await cloud.origin.list_versions(BUCKET, cloud.key + "/", max_keys=1)
    assert [(entry.key, entry.etag, entry.is_latest) for entry in page.entries] == [
        (cloud.key + "/a", first.etag, True)
    ]
    marker = page.next_key_marker
    assert marker is not None
    rest = await cloud.origin.list_versions(
        BUCKET, cloud.key + "/", "", marker, page.next_version_id_marker or ""
    )
    assert [entry.key for entry in rest.entries] == [cloud.key + "/b"]
    assert rest.next_key_marker is None
