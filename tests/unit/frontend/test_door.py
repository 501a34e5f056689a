"""Who gets in: every refusal comes before anything is looked at, and says nothing about what exists."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from gateway.frontend.request import admit_read
from gateway.s3.authentication import EMPTY_SHA256
from gateway.s3.errors import S3Error
from gateway.telemetry.requests import RequestRecord
from tests.unit.frontend.harness import HOST, Node, allow, credentials, exchange, identity, running, signed


def presigned(method: str, path: str, *, version: str, who: str = "root", expires: int = 60) -> Any:
    """A URL of stock boto3, as a request."""
    keys = credentials(who)
    boto = BotoCredentials(keys.access_key, keys.secret_key)
    request = AWSRequest(method, f"http://{HOST}{path}")
    if version == "v4":
        botocore.auth.S3SigV4QueryAuth(boto, "s3", "us-east-1", expires).add_auth(request)
    else:
        botocore.auth.HmacV1QueryAuth(boto, expires).add_auth(request)
    url = request.prepare().url
    assert url is not None
    return exchange(method, url.removeprefix(f"http://{HOST}"), {"host": HOST})


async def test_a_signed_request_is_served(node: Node) -> None:
    await node.put("/data/k", b"hello")
    assert await node.get("/data/k") == b"hello"


@pytest.mark.parametrize("headers", [{"host": HOST}, {"host": HOST, "authorization": ""}])
async def test_without_a_signature_nothing_is_served(node: Node, headers: dict[str, str]) -> None:
    for path in ("/", "/data", "/data/k", "/no-such-bucket/k"):
        got = await node.handle(exchange("GET", path, headers))
        assert (got.status, got.code) == (403, "AccessDenied")


async def test_an_unknown_key_is_named_as_such(node: Node) -> None:
    got = await node.call("GET", "/data/k", who="stranger")
    assert (got.status, got.code) == (403, "InvalidAccessKeyId")


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"x-amz-date": "20200101T000000Z"}, (403, "RequestTimeTooSkewed")),
        ({"x-amz-date": "yesterday"}, (403, "AccessDenied")),
        ({"x-amz-copy-source": "data/secret"}, (403, "AccessDenied")),
        ({"x-amz-acl": "public-read"}, (403, "AccessDenied")),
        ({"authorization": "AWS4-HMAC-SHA256 Credential=nonsense"}, (400, "AuthorizationHeaderMalformed")),
        ({"authorization": "Bearer token"}, (400, "AuthorizationHeaderMalformed")),
        ({"host": "elsewhere"}, (403, "SignatureDoesNotMatch")),
    ],
)
async def test_a_changed_head_is_refused(node: Node, change: dict[str, str], answer: tuple[int, str]) -> None:
    put = await node.handle(signed("PUT", "/data/k", body=b"x", unsigned=change))
    assert (put.status, put.code) == answer
    assert put.body_read == 0
    assert await node.get("/data/k") is None


async def test_a_wrong_signature_is_refused_before_the_body_is_read(node: Node) -> None:
    forged = signed("PUT", "/data/k", body=b"x")
    forged.head.headers["authorization"] = forged.head.headers["authorization"][:-4] + "0000"
    put = await node.handle(forged)
    assert (put.status, put.code, put.body_read) == (403, "SignatureDoesNotMatch", 0)


async def test_a_request_from_another_quarter_of_an_hour_is_refused(node: Node) -> None:
    for off in (-16 * 60, 16 * 60):
        got = await node.call("GET", "/data/k", now=time.time() + off)
        assert (got.status, got.code) == (403, "RequestTimeTooSkewed")


async def test_two_ways_of_signing_at_once_are_refused(node: Node) -> None:
    both = signed("GET", "/data/k", query="X-Amz-Credential=x&X-Amz-Signature=y")
    got = await node.handle(both)
    assert (got.status, got.code) == (400, "InvalidArgument")


@pytest.mark.parametrize("version", ["v4", "v2"])
async def test_presigned_urls_are_good_for_what_they_were_made_for(node: Node, version: str) -> None:
    await node.put("/data/k", b"presigned")
    got = await node.handle(presigned("GET", "/data/k", version=version))
    assert got.sent == b"presigned"
    assert got.record.identity == "root"
    late = await node.handle(presigned("GET", "/data/k", version=version, expires=-10))
    assert late.status in (400, 403)
    other = presigned("GET", "/data/k", version=version)
    other.head.method = "PUT"
    assert (await node.handle(other)).code == "SignatureDoesNotMatch"
    for more in ("&versionId=null", "&response-content-type=text/html"):
        changed = presigned("GET", "/data/k", version=version)
        changed.head.target += more
        assert (await node.handle(changed)).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("version", ["v4", "v2"])
async def test_a_presigned_url_has_no_more_rights_than_its_maker(node: Node, version: str) -> None:
    await node.put("/data/bob/k", b"bobs")
    got = await node.handle(presigned("GET", "/data/bob/k", version=version, who="alice"))
    assert (got.status, got.code) == (403, "AccessDenied")
    assert b"bobs" not in got.sent


@pytest.mark.parametrize(
    ("who", "method", "path", "query", "status"),
    [
        ("alice", "GET", "/data/alice/k", "", 200),
        ("alice", "GET", "/data/bob/k", "", 403),
        ("alice", "HEAD", "/data/bob/k", "", 403),
        ("alice", "GET", "/data/bob/no-such-key", "", 403),
        ("alice", "GET", "/data/alice/no-such-key", "", 404),
        ("alice", "DELETE", "/data/bob/k", "", 403),
        ("alice", "GET", "/data/bob/k", "acl=", 403),
        ("alice", "GET", "/data/bob/k", "attributes=", 403),
        ("alice", "GET", "/data/bob/k", "uploadId=x", 403),
        ("alice", "GET", "/no-such-bucket/k", "", 403),
        ("alice", "HEAD", "/no-such-bucket", "", 403),
        ("alice", "GET", "/", "", 403),
        ("alice", "GET", "/data", "", 403),
        ("alice", "GET", "/data", "prefix=alice%2F", 200),
        ("alice", "GET", "/data", "list-type=2&prefix=alice%2F", 200),
        ("alice", "GET", "/data", "prefix=alice%2F&versions=", 200),
        ("alice", "GET", "/data", "prefix=alice%2F&uploads=", 200),
        ("alice", "GET", "/data", "list-type=2&prefix=alice", 403),
        ("alice", "GET", "/data", "list-type=2&prefix=bob%2F", 403),
        ("reader", "GET", "/data/bob/k", "", 200),
        ("reader", "GET", "/data/bob/k", "versionId=null", 403),
        ("reader", "DELETE", "/data/bob/k", "", 403),
        ("nobody", "GET", "/data/alice/k", "", 403),
        ("root", "GET", "/no-such-bucket/k", "", 404),
        ("root", "GET", "/gone", "", 404),
    ],
)
async def test_rights_are_per_identity_action_and_key(
    node: Node, who: str, method: str, path: str, query: str, status: int
) -> None:
    await node.put("/data/alice/k", b"alices")
    await node.put("/data/bob/k", b"bobs")
    got = await node.call(method, path, query=query, who=who)
    assert got.status == status, got.sent
    if status == 403:
        assert got.code in ("AccessDenied", "")
        assert b"bobs" not in got.sent


async def test_the_same_words_refuse_what_exists_and_what_does_not(node: Node) -> None:
    await node.put("/data/bob/k", b"bobs")
    answers = [
        await node.call("GET", path, who="alice")
        for path in ("/data/bob/k", "/data/bob/none", "/no-such-bucket/k", "/gone/k")
    ]
    assert {(one.status, one.code, one.text("Message")) for one in answers} == {
        (403, "AccessDenied", answers[0].text("Message"))
    }


async def test_whoever_may_list_all_buckets_is_told_that_there_is_none(tmp_path: Path) -> None:
    who = identity("some", allow("*", actions=("s3:ListAllMyBuckets",)), allow("data/*"))
    async with running(tmp_path, identities=[who]) as node:
        for method, path, code in [
            ("GET", "/no-such-bucket/k", "NoSuchBucket"),
            ("PUT", "/no-such-bucket/k", "NoSuchBucket"),
            ("GET", "/data2/k", "AccessDenied"),
            ("GET", "/gone/k", "AccessDenied"),
        ]:
            assert (await node.call(method, path, who="some")).code == code
        source = {"x-amz-copy-source": "no-such-bucket/k"}
        assert (await node.call("PUT", "/data/k", who="some", headers=source)).code == "NoSuchBucket"


@pytest.mark.parametrize(
    "path", ["/data/alice/../bob/k", "/data/alice/%2e%2e/bob/k", "/data/../data/bob/k", "/../data/bob/k"]
)
async def test_dots_never_lead_into_what_is_anothers(node: Node, path: str) -> None:
    await node.put("/data/bob/k", b"bobs")
    got = await node.call("GET", path, who="alice")
    assert got.status in (400, 403, 404)
    assert b"bobs" not in got.sent


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/data/a%00b", (400, "InvalidURI")),
        ("/data/a%zzb", (400, "InvalidURI")),
        ("/data/" + "k" * 1025, (400, "KeyTooLongError")),
        ("/../k", (400, "InvalidBucketName")),
        ("/a..b/k", (400, "InvalidBucketName")),
    ],
)
async def test_names_that_are_none_are_refused(node: Node, path: str, answer: tuple[int, str]) -> None:
    got = await node.call("PUT", path, body=b"x")
    assert (got.status, got.code) == answer


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("PUT", "/data/k", "newFeature="),
        ("PUT", "/data/k", "uploads="),
        ("DELETE", "/data/k", "lifecycle="),
        ("POST", "/data/k", ""),
        ("GET", "/data", "list-type=3"),
    ],
)
async def test_unknown_operations_are_refused_only_to_those_who_are_known(
    node: Node, method: str, path: str, query: str
) -> None:
    await node.put("/data/k", b"kept")
    known = await node.call(method, path, query=query)
    assert known.status in (400, 405, 501)
    unknown = await node.call(method, path, query=query, who="stranger")
    assert unknown.code == "InvalidAccessKeyId"
    assert await node.get("/data/k") == b"kept"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-amz-acl": "public-read"}, 403),
        ({"x-amz-acl": "private"}, 200),
        ({"x-amz-grant-read": "uri=everybody"}, 403),
        ({"x-amz-tagging": "a=1"}, 403),
        ({"x-amz-object-lock-mode": "GOVERNANCE"}, 403),
    ],
)
async def test_whoever_may_put_an_object_may_not_publish_or_lock_it(
    node: Node, headers: dict[str, str], status: int
) -> None:
    put = await node.call("PUT", "/data/k", who="writer", body=b"x", headers=headers)
    assert put.status == status


async def test_a_read_only_mount_refuses_whatever_changes_something(node: Node) -> None:
    await node.put("/data/k", b"kept")
    for method, query, headers in [
        ("PUT", "", {}),
        ("PUT", "", {"x-amz-copy-source": "data/k"}),
        ("DELETE", "", {}),
        ("POST", "uploads=", {}),
        ("PUT", "tagging=", {}),
        ("DELETE", "uploadId=x", {}),
    ]:
        got = await node.call(method, "/frozen/k", query=query, headers=headers)
        assert (got.status, got.code) == (403, "AccessDenied"), (method, query)
        assert "read-only" in got.text("Message")
    assert await node.get("/frozen/k") == b"kept"


async def test_making_a_bucket_that_no_mount_shows_says_what_is_missing(node: Node) -> None:
    made = await node.call("PUT", "/new-bucket")
    assert (made.status, made.code) == (403, "AccessDenied")
    assert "mount" in made.text("Message")


async def test_a_virtual_host_names_the_bucket(tmp_path: Path) -> None:
    async with running(tmp_path, domain="s3.test") as node:
        await node.put("/data/a/b", b"by path", host="s3.test:9000")
        assert await node.get("/a/b", host="data.s3.test:9000") == b"by path"
        denied = await node.call("GET", "/bob/k", host="data.s3.test", who="alice")
        assert denied.code == "AccessDenied"


async def test_the_record_tells_who_asked_for_what(node: Node) -> None:
    got = await node.call("GET", "/data/bob/k", who="alice")
    assert (got.record.op, got.record.identity, got.record.error) == ("GetObject", "alice", "AccessDenied")
    assert got.text("RequestId") == got.request_id


async def test_an_answer_to_head_has_no_body(node: Node) -> None:
    got = await node.call("HEAD", "/data/none")
    assert (got.status, got.sent) == (404, b"")


async def test_the_hot_way_in_admits_reads_that_the_door_admits_and_nothing_else(node: Node) -> None:
    view, now = node.services.view, time.time()

    def admitted(*args: Any, **options: Any) -> bool:
        return admit_read(signed(*args, **options).head, view, "", now) is not None

    assert admitted("GET", "/data/alice/k", who="alice")
    assert admitted("HEAD", "/data/alice/k", who="alice")
    assert not admitted("GET", "/data/bob/k", who="alice")
    assert not admitted("GET", "/data/alice/k", who="stranger")
    assert not admitted("GET", "/data/alice/k", who="alice", query="acl=")
    assert not admitted("GET", "/no-such-bucket/k")
    assert not admitted("PUT", "/data/k")
    assert not admitted("GET", "/data/k", unsigned={"x-amz-date": "never"})
    assert not admitted("GET", "/data/k", payload=EMPTY_SHA256, unsigned={"x-amz-expected-bucket-owner": "1"})


async def test_a_changed_view_counts_for_the_next_request(node: Node) -> None:
    await node.put("/data/alice/k", b"alices")
    async with running(node.directory / "other", identities=()) as nobody_left:
        node.door.adopt(replace(node.services, view=nobody_left.services.view))
        assert (await node.call("GET", "/data/alice/k", who="alice")).code == "InvalidAccessKeyId"
    node.door.adopt(node.services)
    assert await node.get("/data/alice/k", who="alice") == b"alices"


async def test_an_unexpected_failure_says_nothing(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr(node.services.origins["disk"], "head_bucket", broken)
    got = await node.call("GET", "/data", query="location=")
    assert (got.status, got.code) == (500, "InternalError")
    assert b"hunter2" not in got.sent


async def test_a_head_that_could_not_be_parsed_is_answered_without_its_words(node: Node) -> None:
    record = RequestRecord("ID0", "192.0.2.1", "", "")
    status, headers, body = node.door.refuse(S3Error("BadRequest", "malformed", status=505), record)
    assert (status, dict(headers)["Content-Type"], record.error) == (505, "application/xml", "BadRequest")
    assert b"<RequestId>ID0</RequestId>" in body
