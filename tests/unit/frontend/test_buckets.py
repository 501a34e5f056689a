"""Buckets that come and go: sub-directories of a directory origin under a `*` mount, and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.namespace.mounts import Mount
from tests.unit.frontend.harness import MOUNTS, Node, running


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running(tmp_path, mounts=(*MOUNTS, Mount("*", "disk", ""))) as node:
        yield node


async def test_a_bucket_is_made_used_and_removed(node: Node) -> None:
    location = b'<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>'
    made = await node.call("PUT", "/new-one", body=location)
    assert (made.status, made.headers["location"]) == (200, "/new-one")
    assert (await node.call("PUT", "/new-one")).code == "BucketAlreadyOwnedByYou"
    await node.put("/new-one/a/k")
    full = await node.call("DELETE", "/new-one")
    assert (full.status, full.code) == (409, "BucketNotEmpty")
    await node.call("DELETE", "/new-one/a/k")
    assert (await node.call("DELETE", "/new-one")).status == 204
    assert (await node.call("HEAD", "/new-one")).status == 404
    assert (await node.call("DELETE", "/new-one")).code == "NoSuchBucket"


async def test_unfinished_uploads_go_with_their_bucket(node: Node) -> None:
    for _ in range(2):
        assert (await node.call("PUT", "/new-one")).status == 200
        assert (await node.call("GET", "/new-one", query="uploads=")).texts("UploadId") == []
        assert (await node.call("POST", "/new-one/k", query="uploads=")).status == 200
        assert (await node.call("DELETE", "/new-one")).status == 204


async def test_what_a_directory_cannot_be_is_refused(node: Node, tmp_path: Path) -> None:
    assert (await node.call("PUT", "/Upper")).code == "InvalidBucketName"
    locked = {"x-amz-bucket-object-lock-enabled": "true"}
    assert (await node.call("PUT", "/locked", headers=locked)).code == "NotImplemented"
    forged = await node.call("PUT", "/forged", body=b"<CreateBucketConfiguration/>", payload="0" * 64)
    assert forged.code == "XAmzContentSHA256Mismatch"
    for name in ("Upper", "locked", "forged"):
        assert (await node.call("HEAD", f"/{name}")).status == 404


async def test_a_mount_of_one_bucket_makes_and_removes_none(node: Node) -> None:
    for method in ("PUT", "DELETE"):
        assert (await node.call(method, "/data")).code == "NotImplemented"
    assert (await node.call("HEAD", "/data")).status == 200


async def test_who_may_not_learns_nothing(node: Node) -> None:
    for name in ("data", "new-one"):
        assert (await node.call("DELETE", f"/{name}", who="nobody")).code == "AccessDenied"
        assert (await node.call("PUT", f"/{name}", who="nobody")).code == "AccessDenied"
