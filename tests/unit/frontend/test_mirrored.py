"""A mount with mirrors behind the front door: refusals reach the client as sentences, nothing is half done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import OriginDenied
from gateway.namespace.mounts import Mount
from gateway.origins.base import Capabilities, ForwardRequest
from gateway.origins.file import FileOrigin
from gateway.origins.mirror import Mirror, Place
from tests.unit.frontend.fake_s3 import FakeResponse, FakeS3
from tests.unit.frontend.harness import Node, running
from tests.unit.origins.dict_origin import DictOrigin, etag_of

NEW, OLD = "new~1\0data/", "old~1\0attic/in/"
MOUNTS = (
    Mount("data", "mirror:data", "data", place="mirror:data~1", mirror=(NEW, OLD)),
    Mount("new", "new", "data", place="new~1"),
    Mount("old", "old", "attic", remote_prefix="in/", place="old~1"),
)


@asynccontextmanager
async def moving(directory: Path) -> AsyncIterator[tuple[Node, DictOrigin]]:
    (directory / "new" / "data").mkdir(parents=True)
    new, old = FileOrigin("new", str(directory / "new"), part_bytes_min=10), DictOrigin("old")
    old.buckets_["attic"] = {"in/k": b"old bytes"}
    places: list[Any] = [Place(new, "data"), Place(old, "attic", "in/")]  # type: ignore[arg-type]
    origins = {"mirror:data": Mirror("mirror:data", places), "new": new, "old": old}
    async with running(directory, mounts=MOUNTS, origins=origins) as node:
        yield node, old
    await new.close()


async def test_a_delete_that_the_old_place_denies_is_refused_in_words(tmp_path: Path) -> None:
    async with moving(tmp_path) as (node, old):
        old.errors["delete"] = OriginDenied("read-only")
        refused = await node.call("DELETE", "/data/k")
        assert (refused.status, refused.code) == (403, "AccessDenied")
        assert "old:attic/in" in refused.text("Message")
        assert await node.get("/data/k") == b"old bytes"
        await node.put("/data/fresh", b"x")
        assert (await node.call("DELETE", "/data/fresh")).status == 204
        assert await node.get("/data/fresh") is None


async def test_a_write_is_forgotten_under_every_name_of_the_object(tmp_path: Path) -> None:
    async with moving(tmp_path) as (node, _):
        await node.put("/data/k", b"1")
        assert set(node.store.forgotten) == {b"mirror:data~1\0data/k", b"new~1\0data/k", b"old~1\0attic/in/k"}
        node.store.forgotten.clear()
        await node.call("DELETE", "/old/k")
        assert set(node.store.forgotten) >= {b"old~1\0attic/in/k", b"mirror:data~1\0data/k"}


async def test_conditions_of_writes_see_the_old_place(tmp_path: Path) -> None:
    async with moving(tmp_path) as (node, _):
        created = await node.call("PUT", "/data/k", body=b"x", headers={"if-none-match": "*"})
        assert (created.status, created.code) == (412, "PreconditionFailed")
        swapped = await node.call("PUT", "/data/k", body=b"x", headers={"if-match": etag_of(b"old bytes")})
        assert swapped.status == 200
        copied = await node.call(
            "PUT", "/data/k", headers={"x-amz-copy-source": "/old/k", "if-none-match": "*"}
        )
        assert (copied.status, copied.code) == (412, "PreconditionFailed")


async def test_copies_take_and_bring_what_is_in_the_old_place(tmp_path: Path) -> None:
    async with moving(tmp_path) as (node, old):
        for target in ("/data/copy", "/data/k"):
            copied = await node.call("PUT", target, headers={"x-amz-copy-source": "/data/k"})
            assert (copied.status, copied.code) == (200, "")
        old.buckets_["attic"].clear()
        assert [await node.get(path) for path in ("/data/copy", "/data/k")] == [b"old bytes"] * 2
        again = await node.call("PUT", "/data/k", headers={"x-amz-copy-source": "/data/k"})
        assert (again.status, again.code) == (400, "InvalidRequest")


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "code"),
    [
        ("GET", "/data", "policy=", {}, "NotImplemented"),
        ("PUT", "/data/k", "tagging=", {}, "NotImplemented"),
        ("DELETE", "/data/k", "", {"if-match": '"x"'}, "NotImplemented"),
        ("GET", "/data/k", "versionId=v1", {}, "NoSuchVersion"),
        ("GET", "/data/none", "partNumber=1", {}, "NoSuchKey"),
        ("PUT", "/data/copy", "", {"x-amz-copy-source": "/data/k?versionId=v1"}, "NotImplemented"),
        ("DELETE", "/data/k", "versionId=v1", {}, "NotImplemented"),
    ],
)
async def test_what_cannot_be_answered_soundly_is_refused(
    tmp_path: Path, method: str, path: str, query: str, headers: dict[str, str], code: str
) -> None:
    async with moving(tmp_path) as (node, _):
        refused = await node.call(method, path, query=query, headers=headers)
        assert refused.code == code, refused.sent
        assert await node.get("/data/k") == b"old bytes"


class Cloud(DictOrigin):
    """Speaks S3: keeps what is forwarded and answers with `response`."""

    def __init__(self, name: str) -> None:
        super().__init__(name, {"b": {}}, Capabilities(forward=True, versions=True, conditional_writes=True))
        self.s3 = FakeS3()

    def forward(self, request: ForwardRequest) -> AbstractAsyncContextManager[Any]:
        return self.s3.forward(request)


@asynccontextmanager
async def between_clouds(directory: Path) -> AsyncIterator[tuple[Node, Cloud, Cloud]]:
    new, old = Cloud("new"), Cloud("old")
    old.buckets_["b"] = {"k": b"old bytes"}
    places: list[Any] = [Place(new, "b"), Place(old, "b")]  # type: ignore[arg-type]
    mounts = (Mount("data", "mirror:data", "b", place="mirror:data~1"), Mount("out", "disk", "data"))
    async with running(
        directory,
        mounts=mounts,
        origins={"mirror:data": Mirror("mirror:data", places), "new": new, "old": old},
    ) as node:
        yield node, new, old


async def test_a_delete_asks_whose_the_bucket_is(tmp_path: Path) -> None:
    async with between_clouds(tmp_path) as (node, new, old):
        owner = {"x-amz-expected-bucket-owner": "1234"}
        new.s3.response = FakeResponse(403)
        refused = await node.call("DELETE", "/data/k", headers=owner)
        assert (refused.status, refused.code) == (403, "AccessDenied")
        [asked] = new.s3.requests
        assert (asked.method, asked.remote, dict(asked.headers)) == ("HEAD", ("b", ""), owner)
        assert old.buckets_["b"] == {"k": b"old bytes"}
        new.s3.response = FakeResponse(200)
        assert (await node.call("DELETE", "/data/k", headers=owner)).status == 204
        assert old.buckets_["b"] == {}


async def test_its_version_null_is_the_object_whatever_its_place_calls_it(tmp_path: Path) -> None:
    async with between_clouds(tmp_path) as (node, _, old):
        old.s3.response = FakeResponse(206, {"content-length": "3"}, b"old")
        assert await node.get("/data/k", query="versionId=null") == b"old bytes"
        for query in ("partNumber=1&versionId=null", "tagging=&versionId=null"):
            await node.call("GET", "/data/k", query=query)
        assert [request.query for request in old.s3.requests] == ["partNumber=1", "tagging="]
        for target in ("/out/k", "/data/copy"):
            copied = await node.call("PUT", target, headers={"x-amz-copy-source": "/data/k?versionId=null"})
            assert (copied.status, copied.code) == (200, "")
        assert [await node.get(path) for path in ("/out/k", "/data/copy")] == [b"old bytes"] * 2
        assert (await node.call("DELETE", "/data/k", query="versionId=null")).status == 204
        assert await node.get("/data/k") is None


async def test_what_common_clients_ask_of_a_place_without_tags_is_answered(tmp_path: Path) -> None:
    async with moving(tmp_path) as (node, _):
        assert (await node.call("GET", "/data/k", query="tagging=")).texts("TagSet") == [""]
        assert (await node.call("GET", "/data", query="versioning=")).status == 200
        assert (await node.call("GET", "/data/k", query="partNumber=1")).sent == b"old bytes"
        assert (await node.call("HEAD", "/data/k", query="versionId=null")).status == 200
        attributes = await node.call(
            "GET", "/data/k", query="attributes=", headers={"x-amz-object-attributes": "ObjectSize"}
        )
        assert attributes.text("ObjectSize") == "9"
