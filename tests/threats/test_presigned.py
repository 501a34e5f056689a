"""What a holder of a presigned URL can make of it: what it was made for, while it lasts."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.threats.conftest import Front

EXPIRED_S = 120


def test_a_url_is_good_for_what_it_was_made_for(front: Front, target: str) -> None:
    later = int(time.time()) + 60
    for call in (front.anna.presigned("GET", target), front.anna.presigned_v2("GET", target, later)):
        assert front.ask(call).body == b"before"


def test_expired(front: Front, target: str) -> None:
    before = replace(front.anna, clock=lambda: time.time() - EXPIRED_S)
    past = int(time.time()) - EXPIRED_S
    for call in (before.presigned("GET", target), before.presigned_v2("GET", target, past)):
        assert front.ask(call).said == (403, "AccessDenied")


@pytest.mark.parametrize(
    "expires", ["0", None, "604801", "-1", "+60", "1e3", "60.0", "", "99999999999999999999"]
)
def test_expires_zero_missing_or_too_long(front: Front, target: str, expires: str | None) -> None:
    answer = front.ask(front.anna.presigned("GET", target, expires))
    assert answer.said == (400, "AuthorizationQueryParametersError")


def test_expires_twice(front: Front, target: str) -> None:
    call = front.anna.presigned("GET", target, query="X-Amz-Expires=9")
    assert front.ask(call).said == (400, "AuthorizationQueryParametersError")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_a_get_used_for_something_else(front: Front, target: str, method: str) -> None:
    later = int(time.time()) + 60
    for call in (front.anna.presigned("GET", target), front.anna.presigned_v2("GET", target, later)):
        used = replace(call, method=method, body=b"forged").but(content_length="6")
        assert front.ask(used).said == (403, "SignatureDoesNotMatch")
    assert front.stored(target) == b"before"


@pytest.mark.parametrize(
    "extra",
    [
        "versionId=null",
        "response-content-type=text/html",
        "response-content-disposition=attachment",
        "partNumber=1",
        "acl",
        "X-Amz-Expires=604800",
        "x-amz-copy-source=%2Fbert%2Fk",
    ],
)
def test_an_extra_parameter(front: Front, target: str, extra: str) -> None:
    call = front.anna.presigned("GET", target)
    answer = front.ask(replace(call, target=f"{call.target}&{extra}"))
    assert answer.status in (400, 403)
    assert answer.code in ("SignatureDoesNotMatch", "AuthorizationQueryParametersError")
    v2 = front.anna.presigned_v2("GET", target, int(time.time()) + 60)
    if not extra.startswith("X-Amz-"):
        answer = front.ask(replace(v2, target=f"{v2.target}&{extra}"))
        assert answer.said == (403, "SignatureDoesNotMatch")


def test_another_key_bucket_or_life(front: Front, target: str) -> None:
    front.put("/anna/other", b"other")
    for call in (
        front.anna.presigned("GET", target),
        front.anna.presigned_v2("GET", target, int(time.time()) + 60),
    ):
        for old, new in ((target, "/anna/other"), ("/anna/", "/common/"), ("xpires=", "xpires=9")):
            changed = replace(call, target=call.target.replace(old, new, 1))
            assert front.ask(changed).said[0] in (400, 403)


def test_a_url_has_no_more_rights_than_its_maker(front: Front, target: str) -> None:
    later = int(time.time()) + 60
    for call in (front.bert.presigned("GET", target), front.bert.presigned_v2("GET", target, later)):
        assert front.ask(call).said == (403, "AccessDenied")


def test_a_copy_source_in_the_query_is_judged(front: Front, target: str) -> None:
    """SDKs presign a copy by moving the header into the query: it must neither be dropped nor pass unjudged."""
    copy = f"x-amz-copy-source={target.replace('/', '%2F')}"
    assert front.ask(front.bert.presigned("PUT", "/bert/stolen", query=copy)).said == (403, "AccessDenied")
    assert front.stored("/bert/stolen") is None
