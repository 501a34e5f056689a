"""Calls that go on to the origin: what is passed on, what is held back, what comes of it."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.errors import Unreachable
from gateway.namespace.mounts import Mount
from gateway.origins.base import Capabilities
from gateway.s3.authentication import STREAMING_UNSIGNED_TRAILER
from tests.unit.frontend.fake_s3 import FakeResponse, FakeS3
from tests.unit.frontend.harness import MOUNTS, Node, running, signed

CLOUD_MOUNTS = (
    *MOUNTS,
    Mount("lake", "cloud", "corp-lake"),
    Mount("part", "cloud", "corp-lake", remote_prefix="a/part/"),
    Mount("still", "cloud", "corp-lake", read_only=True),
)


@pytest.fixture
def cloud() -> FakeS3:
    return FakeS3()


@pytest.fixture
async def lake(tmp_path: Path, cloud: FakeS3) -> AsyncIterator[Node]:
    async with running(tmp_path, mounts=CLOUD_MOUNTS, origins={"cloud": cloud}) as node:
        yield node


async def test_a_call_goes_on_with_the_remote_names_and_without_the_clients_signature(
    lake: Node, cloud: FakeS3
) -> None:
    cloud.response = FakeResponse(
        200,
        {"content-type": "application/xml", "content-length": "10", "x-amz-request-id": "theirs"},
        b"<Tagging/>",
    )
    got = await lake.call(
        "GET",
        "/part/k%C3%BC",
        query="tagging=&versionId=3",
        headers={
            "accept-encoding": "gzip",
            "amz-sdk-request": "attempt=1",
            "x-amz-request-payer": "requester",
        },
    )
    assert (got.status, got.sent) == (200, b"<Tagging/>")
    assert "x-amz-request-id" not in got.headers
    [sent] = cloud.requests
    assert (sent.method, sent.remote, sent.query) == (
        "GET",
        ("corp-lake", "a/part/kü"),
        "tagging=&versionId=3",
    )
    assert dict(sent.headers) == {"x-amz-request-payer": "requester"}
    assert sent.body is None


async def test_a_read_that_is_forwarded_says_bypass(lake: Node, cloud: FakeS3) -> None:
    cloud.response = FakeResponse(
        206,
        {"content-length": "3", "content-range": "bytes 0-2/9", "x-amz-checksum-crc32": "AAAAAA=="},
        b"abc",
    )
    got = await lake.call("GET", "/lake/k", query="versionId=7", headers={"range": "bytes=0-2"})
    assert (got.status, got.sent, got.record.outcome) == (206, b"abc", "bypass")
    assert got.headers["content-range"] == "bytes 0-2/9"
    assert "x-amz-checksum-crc32" not in got.headers
    assert cloud.requests[0].headers["range"] == "bytes=0-2"
    head = await lake.call("HEAD", "/lake/k", query="versionId=7")
    assert (head.sent, head.headers["content-length"]) == (b"", "3")


async def test_what_changes_an_object_is_forgotten_before_it_is_answered(lake: Node, cloud: FakeS3) -> None:
    body = b"<Tagging><TagSet/></Tagging>"
    cloud.response = FakeResponse(200, {"content-length": "0"})
    put = await lake.call("PUT", "/part/k", query="tagging=", body=body)
    assert put.status == 200
    assert cloud.bodies == [body]
    assert lake.store.forgotten == [b"cloud\0corp-lake/a/part/k"]
    await lake.call("GET", "/part/k", query="tagging=")
    assert len(lake.store.forgotten) == 1


async def test_a_conditional_delete_is_the_origins_to_judge(lake: Node, cloud: FakeS3) -> None:
    cloud.response = FakeResponse(204)
    gone = await lake.call("DELETE", "/lake/k", headers={"if-match": '"e"'})
    assert gone.status == 204
    assert cloud.requests[0].headers["if-match"] == '"e"'
    assert lake.store.forgotten == [b"cloud\0corp-lake/k"]
    owner = {"x-amz-expected-bucket-owner": "1234"}
    assert (await lake.call("DELETE", "/lake/k", headers=owner)).status == 204
    assert cloud.requests[1].headers["x-amz-expected-bucket-owner"] == "1234"
    await lake.put("/data/k")
    kept = await lake.call("DELETE", "/data/k", headers={"if-match": '"e"'})
    assert (kept.status, kept.code) == (501, "NotImplemented")
    assert await lake.get("/data/k") == b"x"


async def test_a_condition_that_a_store_would_pass_over_deletes_nothing(lake: Node, cloud: FakeS3) -> None:
    cloud.capabilities = Capabilities(forward=True)
    for headers in (
        {"if-match": '"e"'},
        {"x-amz-if-match-size": "5"},
        {"x-amz-if-match-last-modified-time": "Thu, 01 Jan 2026 00:00:00 GMT"},
    ):
        kept = await lake.call("DELETE", "/lake/k", headers=headers)
        assert (kept.status, kept.code) == (501, "NotImplemented")
    assert cloud.requests == []


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("HEAD", "/lake", ""),
        ("GET", "/lake", "location="),
        ("GET", "/lake", ""),
        ("GET", "/part", "list-type=2"),
        ("GET", "/lake", "versions="),
        ("GET", "/lake", "uploads="),
        ("GET", "/lake/k", "attributes="),
        ("GET", "/lake/k", "uploadId=u"),
        ("DELETE", "/lake/k", "uploadId=u"),
    ],
)
async def test_a_bucket_of_somebody_else_is_refused_by_whatever_is_made_of_other_requests(
    lake: Node, cloud: FakeS3, method: str, path: str, query: str
) -> None:
    cloud.response = FakeResponse(403)
    owner = {"x-amz-expected-bucket-owner": "1234"}
    got = await lake.call(method, path, query=query, headers=owner)
    assert got.status == 403
    [asked] = cloud.requests
    assert (asked.method, asked.remote, dict(asked.headers)) == ("HEAD", ("corp-lake", ""), owner)


async def test_several_deletes_ask_once_whose_the_bucket_is(lake: Node, cloud: FakeS3) -> None:
    cloud.response = FakeResponse(403)
    body = b"<Delete><Object><Key>k</Key></Object><Object><Key>l</Key></Object></Delete>"
    digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    headers = {"x-amz-expected-bucket-owner": "1234", "content-md5": digest}
    got = await lake.call("POST", "/lake", query="delete=", body=body, headers=headers)
    assert (got.status, got.code) == (403, "AccessDenied")
    assert len(cloud.requests) == 1


async def test_a_directory_belongs_to_no_account(lake: Node) -> None:
    await lake.put("/data/k")
    owner = {"x-amz-expected-bucket-owner": "1234"}
    assert (await lake.call("HEAD", "/data", headers=owner)).status == 200
    listed = await lake.call("GET", "/data", query="list-type=2", headers=owner)
    assert listed.texts("Key") == ["k"]


async def test_a_forged_body_never_reaches_the_origin(lake: Node, cloud: FakeS3) -> None:
    put = await lake.call("PUT", "/lake/k", query="tagging=", body=b"<Tagging/>", payload="0" * 64)
    assert (put.status, put.code) == (400, "XAmzContentSHA256Mismatch")
    long = await lake.call("PUT", "/lake/k", query="tagging=", body=b"x", length=5 << 20)
    assert (long.code, long.body_read) == ("MaxMessageLengthExceeded", 0)
    assert cloud.requests == []


async def test_a_checksum_from_the_trailer_goes_on_as_a_header(lake: Node, cloud: FakeS3) -> None:
    body = b"<Tagging/>"
    value = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    wire = b"%x\r\n%b\r\n0\r\nx-amz-checksum-crc32:%b\r\n\r\n" % (len(body), body, value.encode())
    headers = {
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": str(len(body)),
        "x-amz-trailer": "x-amz-checksum-crc32",
        "x-amz-sdk-checksum-algorithm": "CRC32",
    }
    put = await lake.call(
        "PUT", "/lake/k", query="tagging=", body=wire, headers=headers, payload=STREAMING_UNSIGNED_TRAILER
    )
    assert put.status == 200
    assert cloud.bodies == [body]
    assert dict(cloud.requests[0].headers) == {
        "x-amz-sdk-checksum-algorithm": "CRC32",
        "x-amz-checksum-crc32": value,
    }


@pytest.mark.parametrize(
    ("method", "query"),
    [("PUT", ""), ("DELETE", ""), ("PUT", "policy="), ("GET", "policy="), ("GET", "acl=")],
)
async def test_a_bucket_is_spoken_of_only_through_a_mount_of_all_of_it(
    lake: Node, cloud: FakeS3, method: str, query: str
) -> None:
    whole = await lake.call(method, "/lake", query=query)
    assert whole.status == 200
    assert cloud.requests[0].remote == ("corp-lake", "")
    part = await lake.call(method, "/part", query=query)
    assert (part.status, part.code) == (501, "NotImplemented")
    assert "whole bucket" in part.text("Message")
    assert len(cloud.requests) == 1
    if method != "GET":
        still = await lake.call(method, "/still", query=query)
        assert (still.status, still.code) == (403, "AccessDenied")


async def test_making_a_bucket_names_the_virtual_one(lake: Node, cloud: FakeS3) -> None:
    cloud.response = FakeResponse(200, {"location": "/corp-lake"})
    made = await lake.call("PUT", "/lake")
    assert (made.status, made.headers["location"]) == (200, "/lake")


ERROR = b"<Error><Code>%b</Code><Message>%b</Message><AWSAccessKeyId>GATEWAYKEY</AWSAccessKeyId></Error>"


@pytest.mark.parametrize(
    ("status", "code", "answer"),
    [
        (404, "NoSuchLifecycleConfiguration", (404, "NoSuchLifecycleConfiguration")),
        (409, "BucketNotEmpty", (409, "BucketNotEmpty")),
        (403, "InvalidAccessKeyId", (403, "AccessDenied")),
        (403, "SignatureDoesNotMatch", (403, "AccessDenied")),
        (503, "SlowDown", (503, "SlowDown")),
        (429, "TooMany", (503, "SlowDown")),
        (500, "InternalError", (503, "ServiceUnavailable")),
        (307, "TemporaryRedirect", (503, "ServiceUnavailable")),
    ],
)
async def test_errors_keep_their_code_and_nothing_of_the_gateways_account(
    lake: Node, cloud: FakeS3, status: int, code: str, answer: tuple[int, str]
) -> None:
    cloud.response = FakeResponse(status, {"location": "http://elsewhere"}, ERROR % (code.encode(), b"why"))
    got = await lake.call("GET", "/lake", query="lifecycle=")
    assert (got.status, got.code) == answer
    assert b"GATEWAYKEY" not in got.sent
    assert "location" not in got.headers
    if answer[1] == "SlowDown":
        assert got.headers["x-amz-retry-after"] == "1000"


async def test_an_error_without_a_document_has_a_code_all_the_same(lake: Node, cloud: FakeS3) -> None:
    for status, code in ((404, "NoSuchKey"), (412, "PreconditionFailed"), (403, "AccessDenied")):
        for body in (b"", b"<html>", b"<!DOCTYPE x><Error/>"):
            cloud.response = FakeResponse(status, {}, body)
            got = await lake.call("GET", "/lake/k", query="versionId=1")
            assert (got.status, got.code) == (status, code)
    cloud.response = FakeResponse(304, {"etag": '"e"'})
    same = await lake.call("GET", "/lake/k", query="versionId=1")
    assert (same.status, same.sent, same.headers) == (304, b"", {"etag": '"e"'})
    cloud.response = FakeResponse(405, {"x-amz-delete-marker": "true"})
    marker = await lake.call("HEAD", "/lake/k", query="versionId=1")
    assert (marker.status, marker.headers["x-amz-delete-marker"]) == (405, "true")


async def test_a_directory_says_of_itself_what_common_clients_ask(lake: Node) -> None:
    await lake.put("/data/k")
    versioning = await lake.call("GET", "/data", query="versioning=")
    assert (versioning.status, versioning.texts("Status")) == (200, [])
    tags = await lake.call("GET", "/data/k", query="tagging=")
    assert (tags.status, tags.texts("Tag")) == (200, [])
    assert (await lake.call("GET", "/data/none", query="tagging=")).code == "NoSuchKey"
    for method, path, query in [
        ("GET", "/data", "policy="),
        ("PUT", "/data", ""),
        ("GET", "/data/k", "acl="),
    ]:
        got = await lake.call(method, path, query=query)
        assert (got.status, got.code) == (501, "NotImplemented")


async def test_attributes_are_the_origins_own_or_made_from_its_head(lake: Node, cloud: FakeS3) -> None:
    wanted = {"x-amz-object-attributes": "ETag,ObjectSize"}
    cloud.response = FakeResponse(200, {"content-length": "4"}, b"<x/>")
    assert (await lake.call("GET", "/lake/k", query="attributes=", headers=wanted)).sent == b"<x/>"
    put = await lake.put("/data/k", b"12345")
    made = await lake.call("GET", "/data/k", query="attributes=", headers=wanted)
    assert (made.text("ETag"), made.text("ObjectSize")) == (put.headers["etag"].strip('"'), "5")
    wrong = await lake.call(
        "GET", "/data/k", query="attributes=", headers={"x-amz-object-attributes": "Colour"}
    )
    assert wrong.code == "InvalidArgument"


async def test_an_answer_that_breaks_off_is_cut_not_ended(lake: Node, cloud: FakeS3) -> None:
    class Torn(FakeResponse):
        async def chunks(self) -> AsyncIterator[bytes]:
            yield b"half"
            raise Unreachable("cut short")

    cloud.response = Torn(200, {"content-length": "8"})
    got = await lake.call("GET", "/lake/k", query="versionId=1")
    assert (got.status, got.aborted, got.ended) == (200, True, False)
    assert got.record.error == "ServiceUnavailable"


async def test_a_client_that_has_gone_is_no_error_of_ours(
    lake: Node, cloud: FakeS3, capsys: pytest.CaptureFixture[str]
) -> None:
    exchange = signed("GET", "/lake/k", query="versionId=1")

    async def gone(*_: object) -> None:
        raise ConnectionResetError

    exchange.respond = exchange.start = gone  # type: ignore[method-assign]
    await lake.handle(exchange)
    assert (exchange.aborted, exchange.record.error) == (True, "")
    assert capsys.readouterr().out == ""
