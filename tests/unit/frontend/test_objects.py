"""Objects through the front door: put, copy, delete, multipart."""

from __future__ import annotations

import base64
import hashlib
import time
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import pytest

from gateway.errors import Refused
from gateway.frontend.handlers.patience import answer_patiently
from gateway.frontend.request import Request, admit
from tests.unit.frontend.harness import MemoryExchange, Node, signed


async def delete_many(
    node: Node, keys: list[str], bucket: str = "data", extra: str = "", **options: Any
) -> MemoryExchange:
    body = "".join(f"<Object><Key>{escape(key)}</Key></Object>" for key in keys)
    return await delete_body(node, f"<Delete>{body}{extra}</Delete>".encode(), bucket, **options)


async def delete_body(node: Node, body: bytes, bucket: str = "data", **options: Any) -> MemoryExchange:
    headers = {"content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()}
    return await node.call("POST", f"/{bucket}", query="delete=", headers=headers, body=body, **options)


async def test_a_put_forgets_what_was_cached_and_tells_the_etag(node: Node) -> None:
    put = await node.put("/data/a/b", b"body", headers={"x-amz-meta-step": "7", "content-type": "x/y"})
    assert put.headers["etag"] == f'"{hashlib.md5(b"body").hexdigest()}"'
    assert node.store.forgotten == [b"disk\0data/a/b"]
    got = await node.call("GET", "/data/a/b")
    assert (got.headers["x-amz-meta-step"], got.headers["content-type"]) == ("7", "x/y")


async def test_a_put_through_a_prefix_mount_lands_under_its_prefix(node: Node) -> None:
    await node.put("/shelf/k", b"on the shelf")
    assert await node.get("/data/on/the/shelf/k") == b"on the shelf"
    assert node.store.forgotten == [b"disk\0data/on/the/shelf/k"]


async def test_conditions_on_writes(node: Node) -> None:
    first = await node.put("/data/k", b"one", headers={"if-none-match": "*"})
    again = await node.call("PUT", "/data/k", body=b"two", headers={"if-none-match": "*"})
    assert (again.status, again.code) == (412, "PreconditionFailed")
    assert again.text("Condition") == "If-None-Match"
    await node.put("/data/k", b"three", headers={"if-match": first.headers["etag"]})
    stale = await node.call("PUT", "/data/k", body=b"four", headers={"if-match": first.headers["etag"]})
    assert (stale.status, stale.code) == (412, "PreconditionFailed")
    missing = await node.call("PUT", "/data/none", body=b"x", headers={"if-match": '"e"'})
    assert (missing.status, missing.code) == (404, "NoSuchKey")
    assert await node.get("/data/k") == b"three"


async def test_a_write_that_the_cache_cannot_forget_is_not_called_done(node: Node) -> None:
    node.store.error = OSError("index")
    put = await node.call("PUT", "/data/k", body=b"x")
    assert (put.status, put.code) == (500, "InternalError")


# Copies


async def test_a_copy_keeps_or_replaces_metadata(node: Node) -> None:
    await node.put("/data/s", b"bytes", headers={"x-amz-meta-a": "1", "content-type": "x/kept"})
    kept = await node.call("PUT", "/data2/t", headers={"x-amz-copy-source": "/data/s"})
    assert kept.text("ETag") == f'"{hashlib.md5(b"bytes").hexdigest()}"'
    got = await node.call("GET", "/data2/t")
    assert (got.sent, got.headers["x-amz-meta-a"], got.headers["content-type"]) == (b"bytes", "1", "x/kept")
    headers = {"x-amz-copy-source": "data2/t", "x-amz-metadata-directive": "REPLACE", "x-amz-meta-b": "2"}
    assert (await node.call("PUT", "/data2/t", headers=headers)).status == 200
    got = await node.call("GET", "/data2/t")
    assert (got.sent, got.headers.get("x-amz-meta-a"), got.headers["x-amz-meta-b"]) == (b"bytes", None, "2")
    assert node.store.forgotten[-2:] == [b"disk\0data2/t"] * 2


async def test_a_copy_between_origins_streams(node: Node) -> None:
    body = bytes(range(256)) * 4000
    await node.put("/data/s", body, headers={"x-amz-meta-a": "1"})
    assert (await node.call("PUT", "/other/t", headers={"x-amz-copy-source": "data/s"})).status == 200
    got = await node.call("GET", "/other/t")
    assert (got.sent, got.headers["x-amz-meta-a"]) == (body, "1")
    assert node.store.forgotten[-1] == b"far\0data/t"


@pytest.mark.parametrize("target", ["/data/alice/t", "/data/alice/t?partNumber=1&uploadId=u"])
@pytest.mark.parametrize(
    "source",
    [
        "data/bob/s",
        "/data/bob/s",
        "data%2Fbob%2Fs",
        "data/alice/../bob/s",
        "data/bob%2Fs",
        "data/bob/none",
        "no-such-bucket/s",
        "gone/s",
    ],
)
async def test_a_forbidden_source_is_refused_in_the_same_words(node: Node, target: str, source: str) -> None:
    await node.put("/data/bob/s", b"bobs")
    path, _, query = target.partition("?")
    got = await node.call("PUT", path, query=query, who="alice", headers={"x-amz-copy-source": source})
    if source == "data/alice/../bob/s":  # a key of her own, and no part of the name leads out of it
        assert got.status in (400, 404)
    else:
        assert (got.status, got.code) == (403, "AccessDenied")
    assert await node.get("/data/alice/t") is None


async def test_a_version_of_the_source_needs_its_own_right(node: Node) -> None:
    for source, code in (("data/s?versionId=1", "AccessDenied"), ("data/s?versionId=", "InvalidArgument")):
        got = await node.call("PUT", "/data/t", who="reader", headers={"x-amz-copy-source": source})
        assert got.code in (code, "AccessDenied")


@pytest.mark.parametrize("target", ["/data2/t", "/other/t"])
async def test_conditions_on_the_source(node: Node, target: str) -> None:
    etag = (await node.put("/data/s", b"bytes")).headers["etag"]
    source = {"x-amz-copy-source": "data/s"}
    for name, value, status in [
        ("x-amz-copy-source-if-match", '"other"', 412),
        ("x-amz-copy-source-if-none-match", etag, 412),
        ("x-amz-copy-source-if-match", etag, 200),
    ]:
        got = await node.call("PUT", target, headers={**source, name: value})
        assert got.status == status
    assert (await node.call("PUT", target, headers={"x-amz-copy-source": "data/none"})).code == "NoSuchKey"
    directive = {**source, "x-amz-metadata-directive": "MERGE"}
    assert (await node.call("PUT", target, headers=directive)).code == "InvalidArgument"


@pytest.mark.parametrize("target", ["/data2/t", "/other/t"])
async def test_conditions_on_the_target_of_a_copy(node: Node, target: str) -> None:
    await node.put("/data/s", b"new")
    etag = (await node.put(target, b"old")).headers["etag"]
    source = {"x-amz-copy-source": "data/s"}
    for condition in ({"if-none-match": "*"}, {"if-match": '"other"'}):
        got = await node.call("PUT", target, headers={**source, **condition})
        assert (got.status, got.code) == (412, "PreconditionFailed")
        assert got.text("Condition").lower() in condition
    assert await node.get(target) == b"old"
    assert (await node.call("PUT", target, headers={**source, "if-match": etag})).status == 200
    assert await node.get(target) == b"new"


async def test_a_copy_onto_itself_must_change_something(node: Node) -> None:
    await node.put("/data/on/the/shelf/k", b"x")
    for source in ("data/on/the/shelf/k", "shelf/k"):
        got = await node.call("PUT", "/shelf/k", headers={"x-amz-copy-source": source})
        assert (got.status, got.code) == (400, "InvalidRequest")


# Deletes


async def test_deleting_forgets_and_twice_is_no_error(node: Node) -> None:
    await node.put("/data/k")
    for _ in range(2):
        assert (await node.call("DELETE", "/data/k")).status == 204
        assert await node.get("/data/k") is None
    assert node.store.forgotten == [b"disk\0data/k"] * 3


async def test_of_many_each_key_is_judged_by_itself(node: Node) -> None:
    for key in ("alice/1", "alice/2&<>", "bob/1"):
        await node.put(f"/data/{quote(key)}")
    got = await delete_many(node, ["alice/1", "bob/1", "alice/2&<>", "alice/none", "bob/none"], who="alice")
    assert got.status == 200
    assert got.texts("Key") == ["alice/1", "alice/2&<>", "alice/none", "bob/1", "bob/none"]
    assert got.texts("Code") == ["AccessDenied"] * 2
    assert await node.get("/data/bob/1") == b"x"
    assert await node.get("/data/alice/1") is None


async def test_of_many_quietly_only_failures_are_named(node: Node) -> None:
    await node.put("/data/alice/1")
    got = await delete_many(node, ["alice/1", "bob/1"], extra="<Quiet>true</Quiet>", who="alice")
    assert got.texts("Key") == ["bob/1"]
    assert await node.get("/data/alice/1") is None


async def test_a_thousand_keys_at_most(node: Node) -> None:
    await node.put("/data/k0")
    got = await delete_many(node, [f"k{n}" for n in range(1001)])
    assert (got.status, got.code) == (400, "MalformedXML")
    assert await node.get("/data/k0") == b"x"
    got = await delete_many(node, [f"k{n}" for n in range(1000)])
    assert len(got.texts("Deleted")) == 1000
    assert await node.get("/data/k0") is None


async def test_many_deletes_do_not_tell_which_buckets_exist(node: Node) -> None:
    for bucket in ("no-such-bucket", "gone", "data2"):
        got = await delete_many(node, ["k"], bucket, who="nobody")
        assert (got.status, got.texts("Code")) == (200, ["AccessDenied"])
    assert (await delete_many(node, ["k"], "no-such-bucket")).code == "NoSuchBucket"


async def test_many_deletes_at_a_read_only_mount_fail_one_by_one(node: Node) -> None:
    await node.put("/data/k")
    assert (await delete_many(node, ["k"], "frozen")).texts("Code") == ["AccessDenied"]
    assert await node.get("/data/k") == b"x"


async def test_many_deletes_need_a_digest_and_keep_conditions(node: Node) -> None:
    body = b"<Delete><Object><Key>k</Key></Object></Delete>"
    bare = await node.call("POST", "/data", query="delete=", body=body)
    assert (bare.status, bare.code, bare.body_read) == (400, "InvalidRequest", 0)
    wrong = {"content-md5": base64.b64encode(bytes(16)).decode()}
    assert (await node.call("POST", "/data", query="delete=", body=body, headers=wrong)).code == "BadDigest"
    await node.put("/data/k")
    conditional = b'<Delete><Object><Key>k</Key><ETag>"e"</ETag></Object></Delete>'
    assert (await delete_body(node, conditional)).texts("Code") == ["NotImplemented"]
    assert await node.get("/data/k") == b"x"


# Multipart


async def begin(node: Node, path: str, **headers: str) -> str:
    created = await node.call(
        "POST", path, query="uploads=", headers={name.replace("_", "-"): v for name, v in headers.items()}
    )
    assert created.status == 200, created.sent
    return created.text("UploadId")


async def part(node: Node, path: str, upload_id: str, number: int, body: bytes) -> str:
    query = f"partNumber={number}&uploadId={upload_id}"
    return (await node.put(path, body, query=query)).headers["etag"]


async def complete(
    node: Node, path: str, upload_id: str, parts: list[tuple[int, str]], **headers: str
) -> MemoryExchange:
    listed = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>" for n, tag in parts)
    body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await node.call("POST", path, query=f"uploadId={upload_id}", body=body, headers=sent)


async def test_an_upload_from_beginning_to_end(node: Node) -> None:
    path = "/data/a%20b"
    upload_id = await begin(node, path, x_amz_meta_step="7")
    parts = [(n, await part(node, path, upload_id, n, b"%d" % n * 20)) for n in (1, 2)]
    listed = await node.call("GET", path, query=f"max-parts=1&uploadId={upload_id}")
    assert (listed.texts("PartNumber"), listed.text("IsTruncated")) == (["1"], "true")
    uploads = await node.call("GET", "/data", query="uploads=")
    assert uploads.texts("UploadId") == [upload_id]
    assert await node.get(path) is None
    bare = [(n, tag.strip('"')) for n, tag in parts]
    done = await complete(node, path, upload_id, bare, x_amz_mp_object_size="40")
    assert done.status == 200
    assert done.text("Location") == "http://gw.test:9000/data/a%20b"
    again = await complete(node, path, upload_id, parts)
    assert again.text("ETag") == done.text("ETag")
    got = await node.call("GET", path)
    assert (got.sent, got.headers["etag"], got.headers["x-amz-meta-step"]) == (
        b"1" * 20 + b"2" * 20,
        done.text("ETag"),
        "7",
    )
    assert node.store.forgotten == [b"disk\0data/a b"] * 2


async def test_a_wrong_complete_is_refused_and_leaves_nothing(node: Node) -> None:
    upload_id = await begin(node, "/data/k")
    one = (1, await part(node, "/data/k", upload_id, 1, b"small"))
    two = (2, await part(node, "/data/k", upload_id, 2, b"two"))
    for parts, code in [
        ([two, one], "InvalidPartOrder"),
        ([one, (2, f'"{"0" * 32}"')], "InvalidPart"),
        ([one, (3, two[1])], "InvalidPart"),
        ([one, two], "EntityTooSmall"),
        ([], "MalformedXML"),
    ]:
        got = await complete(node, "/data/k", upload_id, parts)
        assert (got.status, got.code) == (400, code)
    size = await complete(node, "/data/k", upload_id, [two], x_amz_mp_object_size="4")
    assert (size.status, size.code) == (400, "InvalidRequest")
    assert await node.get("/data/k") is None
    assert (await node.call("DELETE", "/data/k", query=f"uploadId={upload_id}")).status == 204
    late = await node.call("PUT", "/data/k", query=f"partNumber=1&uploadId={upload_id}", body=b"x")
    assert (late.status, late.code) == (404, "NoSuchUpload")


async def test_a_complete_with_the_objects_checksum_is_not_checked_against_its_own_body(node: Node) -> None:
    upload_id = await begin(
        node, "/data/k", x_amz_checksum_algorithm="CRC32", x_amz_checksum_type="FULL_OBJECT"
    )
    headers = {"x-amz-checksum-crc32": "y/Q5Jg=="}  # of 123456789
    query = f"partNumber=1&uploadId={upload_id}"
    sent = await node.call("PUT", "/data/k", query=query, body=b"123456789", headers=headers)
    assert sent.headers["x-amz-checksum-crc32"] == "y/Q5Jg=="
    done = await complete(
        node, "/data/k", upload_id, [(1, sent.headers["etag"])], x_amz_checksum_crc32="y/Q5Jg=="
    )
    assert (done.status, done.text("ChecksumCRC32")) == (200, "y/Q5Jg==")


async def test_completing_under_a_condition(node: Node) -> None:
    await node.put("/data/k", b"there")
    upload_id = await begin(node, "/data/k")
    parts = [(1, await part(node, "/data/k", upload_id, 1, b"new"))]
    refused = await complete(node, "/data/k", upload_id, parts, if_none_match="*")
    assert (refused.status, refused.code) == (412, "PreconditionFailed")
    assert refused.text("Condition") == "If-None-Match"
    assert await node.get("/data/k") == b"there"


@pytest.mark.parametrize("source", ["data/s", "other/s"])
async def test_parts_are_copied_whole_and_by_range(node: Node, source: str) -> None:
    body = bytes(range(200))
    await node.put(f"/{source}", body)
    upload_id = await begin(node, "/data/k")
    parts = []
    for number, headers in ((1, {}), (2, {"x-amz-copy-source-range": "bytes=10-19"})):
        query = f"partNumber={number}&uploadId={upload_id}"
        got = await node.call("PUT", "/data/k", query=query, headers={"x-amz-copy-source": source, **headers})
        parts.append((number, got.text("ETag")))
    for wrong in ("bytes=0-200", "bytes=5-1", "bytes=-5", "0-5"):
        headers = {"x-amz-copy-source": source, "x-amz-copy-source-range": wrong}
        query = f"partNumber=3&uploadId={upload_id}"
        assert (await node.call("PUT", "/data/k", query=query, headers=headers)).status == 400
    assert (await complete(node, "/data/k", upload_id, parts)).status == 200
    assert await node.get("/data/k") == body + body[10:20]


# Slow answers


async def slowly(node: Node, result: bytes | Exception) -> MemoryExchange:
    """A complete whose work ends only once its client has been sent something."""
    exchange = signed("POST", "/data/k", query="uploadId=x")
    admitted = admit(exchange.head, node.services.view, "", time.time())
    request = Request(exchange, exchange.head, *admitted[:4], node.services.view, admitted.target)

    async def work() -> tuple[bytes, list[tuple[str, str]]]:
        await exchange.heard.wait()
        if isinstance(result, Exception):
            raise result
        return result, []

    await answer_patiently(node.services, request, work(), quiet_s_max=0.0)
    return exchange


async def test_a_slow_answer_keeps_its_client_waiting_with_blanks(node: Node) -> None:
    got = await slowly(node, b'<?xml version="1.0" encoding="UTF-8"?>\n<Result>done</Result>')
    assert got.status == 200
    assert b"\n <Result>" in got.sent
    assert got.text("Result") == "done"


async def test_a_slow_failure_is_told_in_the_document(node: Node) -> None:
    got = await slowly(node, RuntimeError("secret"))
    assert (got.status, got.text("Code"), got.record.error) == (200, "InternalError", "InternalError")
    assert b"secret" not in got.sent
    gone = await slowly(node, Refused(404, "NoSuchUpload", "gone"))
    assert (gone.status, gone.text("Code")) == (200, "NoSuchUpload")
