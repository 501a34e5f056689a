"""Listings and buckets through the front door."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from gateway.namespace.mounts import Mount
from tests.unit.frontend.harness import MOUNTS, Node, allow, identity, running

KEYS = ["a/1", "a/2", "a/b/3", "b&<>", "c", "d/4", "ä/ö"]


async def fill(node: Node) -> None:
    for key in KEYS:
        await node.put(f"/data/{quote(key)}")


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize("delimiter", ["", "/"])
async def test_pages_of_v2_put_together_are_the_whole(node: Node, size: int, delimiter: str) -> None:
    await fill(node)
    keys: list[str] = []
    prefixes: list[str] = []
    token = ""
    for _ in range(20):
        query = f"delimiter={quote(delimiter, safe='')}&encoding-type=url&list-type=2&max-keys={size}"
        if token:
            query = f"continuation-token={quote(token, safe='')}&{query}"
        page = await node.call("GET", "/data", query=query)
        assert page.status == 200, page.sent
        keys += [unquote(key) for key in page.texts("Key")]
        shown = page.texts("Prefix")
        prefixes += [unquote(prefix) for prefix in shown if prefix]
        assert int(page.text("KeyCount")) == len(page.texts("Key")) + len([one for one in shown if one])
        if page.text("IsTruncated") == "false":
            break
        token = page.text("NextContinuationToken")
    assert keys == ([key for key in KEYS if "/" not in key] if delimiter else KEYS)
    assert prefixes == (["a/", "d/", "ä/"] if delimiter else [])


async def test_v1_pages_by_its_marker(node: Node) -> None:
    await fill(node)
    first = await node.call("GET", "/data", query="max-keys=3")
    assert first.texts("Key") == KEYS[:3]
    marker = quote(first.text("NextMarker"), safe="")
    rest = await node.call("GET", "/data", query=f"marker={marker}")
    assert (rest.texts("Key"), rest.text("IsTruncated")) == (KEYS[3:], "false")
    assert rest.texts("Owner") != []


async def test_start_after_and_owner(node: Node) -> None:
    await fill(node)
    got = await node.call("GET", "/data", query="fetch-owner=true&list-type=2&start-after=c")
    assert (got.texts("Key"), got.texts("StartAfter")) == (["d/4", "ä/ö"], ["c"])
    assert len(got.texts("Owner")) == 2


async def test_every_version_of_a_directory_is_null(node: Node) -> None:
    await fill(node)
    got = await node.call("GET", "/data", query="max-keys=2&versions=")
    assert (got.texts("Key"), got.texts("VersionId")) == (KEYS[:2], ["null"] * 2)
    assert got.text("NextKeyMarker") == KEYS[1]


@pytest.mark.parametrize(
    "query",
    [
        "list-type=2&max-keys=-1",
        "list-type=2&max-keys=many",
        "max-keys=99999999999",
        "encoding-type=base64&list-type=2",
        "continuation-token=nonsense&list-type=2",
        "max-uploads=x&uploads=",
    ],
)
async def test_nonsense_is_an_invalid_argument(node: Node, query: str) -> None:
    got = await node.call("GET", "/data", query=query)
    assert (got.status, got.code) == (400, "InvalidArgument")


@pytest.mark.parametrize(("asked", "told"), [("0", "0"), ("5000", "1000"), ("", "1000")])
async def test_max_keys_is_cut_at_a_thousand(node: Node, asked: str, told: str) -> None:
    got = await node.call("GET", "/data", query=f"list-type=2&max-keys={asked}")
    assert (got.status, got.text("MaxKeys"), got.text("IsTruncated")) == (200, told, "false")


async def test_optional_attributes_and_odd_parameters_change_nothing(node: Node) -> None:
    await fill(node)
    headers = {"x-amz-optional-object-attributes": "RestoreStatus"}
    got = await node.call("GET", "/data/", query="list-type=2&x-id=ListObjectsV2", headers=headers)
    assert got.texts("Key") == KEYS


async def test_a_bucket_of_several_mounts_is_one(tmp_path: Path) -> None:
    mounts = (Mount("mix", "disk", "data"), Mount("mix", "far", "data", prefix="far/"))
    async with running(tmp_path, mounts=mounts) as node:
        for key in ("a", "far/1", "far/x/2", "z"):
            await node.put(f"/mix/{key}")
        got = await node.call("GET", "/mix", query="list-type=2")
        assert got.texts("Key") == ["a", "far/1", "far/x/2", "z"]
        got = await node.call("GET", "/mix", query="delimiter=%2F&list-type=2")
        assert (got.texts("Key"), [p for p in got.texts("Prefix") if p]) == (["a", "z"], ["far/"])
        refused = await node.call("GET", "/mix", query="uploads=")
        assert (refused.status, refused.code) == (501, "NotImplemented")
        assert (await node.call("GET", "/mix", query="prefix=far%2F&uploads=")).status == 200


# Buckets


async def test_the_list_of_buckets_shows_what_an_identity_may_list(tmp_path: Path) -> None:
    everyone = (
        identity("root", allow("*", actions=("*",))),
        identity("some", allow("*", actions=("s3:ListAllMyBuckets",)), allow("data/*", "sh*")),
        identity("blind", allow("*", actions=("s3:ListAllMyBuckets",))),
        identity("alice", allow("data/*")),
    )
    async with running(tmp_path, identities=everyone) as node:
        assert (await node.call("GET", "/")).texts("Name") == sorted(mount.bucket for mount in MOUNTS)
        assert (await node.call("GET", "/", who="some")).texts("Name") == ["data", "shelf"]
        assert (await node.call("GET", "/", who="blind")).texts("Name") == []
        assert (await node.call("GET", "/", who="alice")).code == "AccessDenied"
        first = await node.call("GET", "/", query="max-buckets=2&prefix=d")
        assert first.texts("Name") == ["data", "data2"]
        first = await node.call("GET", "/", query="max-buckets=1")
        token = quote(first.text("ContinuationToken"), safe="")
        second = await node.call("GET", "/", query=f"continuation-token={token}&max-buckets=1")
        assert (first.texts("Name"), second.texts("Name")) == (["data"], ["data2"])


async def test_a_mount_of_every_bucket_shows_the_origins(tmp_path: Path) -> None:
    mounts = (Mount("data", "disk", "data"), Mount("*", "far", ""))
    async with running(tmp_path, mounts=mounts) as node:
        assert (await node.call("GET", "/")).texts("Name") == ["data", "data2"]
        await node.put("/data2/k", b"far")
        assert (tmp_path / "far/data2/k").read_bytes() == b"far"
        assert (await node.call("HEAD", "/unknown")).status == 404


async def test_heads_and_locations_of_buckets(node: Node) -> None:
    head = await node.call("HEAD", "/data")
    assert (head.status, head.headers["x-amz-bucket-region"]) == (200, "us-east-1")
    where = await node.call("GET", "/data", query="location=")
    assert where.text("LocationConstraint") == ""
    for bucket, status in (("/no-such-bucket", 404), ("/gone", 404)):
        assert (await node.call("HEAD", bucket)).status == status
        assert (await node.call("HEAD", bucket, who="alice")).status == 403
