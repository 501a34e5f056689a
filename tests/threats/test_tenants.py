"""Bert asks for what anna's reads have brought into the cache, and for names that only look like hers."""

from __future__ import annotations

import pytest

from tests.threats.conftest import Front
from tests.threats.signing import Signer
from tests.threats.wire import Answer

# Some for the hot path, some for the handlers; some of several blocks.
SIZES = [11, 100_000, 2_500_000]


@pytest.fixture(params=SIZES)
def cached(front: Front, target: str, request: pytest.FixtureRequest) -> bytes:
    """What lies at `target`, and in the cache."""
    body = bytes(range(256)) * (int(request.param) // 256) + b"anna's own "
    front.put(target, body)
    while read(front, front.anna, target).headers["x-gateway-cache"] != "hit":
        pass
    return body


def read(front: Front, signer: Signer, target: str, method: str = "GET", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return front.ask(signer.call(method, target, headers=named))


def test_another_tenant_asks_for_a_cached_key(front: Front, target: str, cached: bytes) -> None:
    """GET, HEAD, range, 304 and what else a read can be: 403, in the words of a key that is not there, and nothing is
    looked up for it."""
    etag = read(front, front.anna, target).headers["etag"]
    reads: list[tuple[str, dict[str, str]]] = [
        ("GET", {}),
        ("HEAD", {}),
        ("GET", {"range": "bytes=0-3"}),
        ("GET", {"range": f"bytes={len(cached)}-"}),
        ("GET", {"if_none_match": etag}),
        ("HEAD", {"if_none_match": etag}),
        ("GET", {"if_match": '"another"'}),
        ("GET", {"if_modified_since": "Fri, 01 Jan 2100 00:00:00 GMT"}),
        ("GET", {"x_amz_checksum_mode": "ENABLED"}),
    ]
    for method, headers in reads:
        assert read(front, front.anna, target, method, **headers).status in (200, 206, 304, 412, 416)
        mine = read(front, front.bert, target, method, **headers)
        missing = read(front, front.bert, target + "-missing", method, **headers)
        for answer in (mine, missing):
            assert answer.status == 403
            assert answer.code == ("" if method == "HEAD" else "AccessDenied")
            assert "x-gateway-cache" not in answer.headers
            assert "etag" not in answer.headers
            assert "content-range" not in answer.headers
        assert normal(mine, target) == normal(missing, target + "-missing")
    for query in ("attributes", "acl", "tagging", "partNumber=1", "versionId=null"):
        answer = read(front, front.bert, f"{target}?{query}", x_amz_object_attributes="ETag")
        assert answer.said == (403, "AccessDenied")


def normal(answer: Answer, target: str) -> tuple[int, dict[str, str], bytes]:
    """An answer without what differs between any two: the request's id, its name, the time."""
    request_id = answer.headers["x-amz-request-id"]
    changing = {"date", "x-amz-request-id", "content-length"}
    headers = {name: value for name, value in answer.headers.items() if name not in changing}
    body = answer.body.replace(request_id.encode(), b"ID").replace(target.encode(), b"TARGET")
    return answer.status, headers, body


def test_a_refusal_costs_neither_cache_nor_origin(public: Front) -> None:
    """The same work for what is cached, what is only at the origin, and what is nowhere, so no clock tells them
    apart: neither bytes are read nor origins asked. At the node of one worker, whose counters are of one moment."""
    public.put("/anna/cached", b"anna's own")
    (public.lake / "anna-store" / "only-at-the-origin").write_bytes(b"anna's own")
    while read(public, public.anna, "/anna/cached").headers["x-gateway-cache"] != "hit":
        pass
    names = ["/anna/cached", "/anna/only-at-the-origin", "/anna/nowhere"]
    asked = public.secrets.answers
    before = public.gateway.settled_metrics(asked)
    for name in names:
        for method in ("GET", "HEAD"):
            assert read(public, public.bert, name, method).status == 403
    after = public.gateway.settled_metrics(asked + 2 * len(names))
    assert after.total("requests_total", status="403") == before.total("requests_total", status="403") + 6
    for counter in ("read_bytes_total", "origin_requests_total", "origin_bytes_total"):
        assert after.total(counter) == before.total(counter)


def test_another_tenant_lists_a_bucket_or_all(front: Front, target: str) -> None:
    for query in ("", "?list-type=2", "?uploads", "?versions", "?location", "?prefix=bert%2F"):
        assert read(front, front.bert, f"/anna{query}").said == (403, "AccessDenied")
    assert b"anna" not in read(front, front.bert, "/").body


def test_a_right_counts_for_each_key_not_for_the_connection(front: Front, target: str) -> None:
    """Both tenants on one connection that a balancer shares out, one behind the other."""
    with front.line() as line:
        for _ in range(3):
            line.send(front.anna.call("GET", target).wire() + front.bert.call("GET", target).wire())
            assert line.answer().body == b"before"
            assert line.answer().said == (403, "AccessDenied")


def test_the_same_bucket_name_on_two_origins(front: Front) -> None:
    """Bucket, key and even size and time are alike at both: each is cached and answered for itself."""
    for size in SIZES:
        bodies = {"north": b"n" * size, "south": b"s" * size}
        for bucket, root in (("north", front.lake), ("south", front.pond)):
            (root / "same" / f"key-{size}").write_bytes(bodies[bucket])
        for _ in range(5):
            for bucket, body in bodies.items():
                assert read(front, front.anna, f"/{bucket}/key-{size}").body == body
                part = read(front, front.anna, f"/{bucket}/key-{size}", range="bytes=3-9")
                assert (part.status, part.body) == (206, body[3:10])
        front.put(f"/north/key-{size}", b"changed")
        assert read(front, front.anna, f"/south/key-{size}").body == bodies["south"]
        assert front.ask(front.anna.call("DELETE", f"/north/key-{size}")).status == 204
        assert read(front, front.anna, f"/south/key-{size}").body == bodies["south"]
        assert read(front, front.anna, f"/north/key-{size}").said == (404, "NoSuchKey")
