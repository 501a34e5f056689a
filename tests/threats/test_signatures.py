"""Who is let in: signatures in headers, each defect with its own answer, and nothing done for any of them."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.threats.conftest import Front
from tests.threats.signing import Call
from tests.threats.wire import GOOD

SKEWED_S = 16 * 60


def refused(front: Front, target: str, call: Call) -> tuple[int, str]:
    """The answer of a connection that has seen this client before and so remembers all of its heads but what differs
    from each to the next. What was there stays."""
    with front.line() as line:
        for _ in range(GOOD):
            line.send(front.anna.call("GET", target).wire())
            assert line.answer().body == b"before"
        line.send(call.wire())
        answer = line.answer(head=call.method == "HEAD")
    assert front.stored(target) == b"before"
    assert b"before" not in answer.body
    return answer.said


@pytest.mark.parametrize("value", [None, "", " "])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_no_or_empty_authorization(front: Front, target: str, method: str, value: str | None) -> None:
    call = front.anna.call(method, target, b"forged" if method == "PUT" else b"").but(authorization=value)
    assert refused(front, target, call) == (403, "" if method == "HEAD" else "AccessDenied")


def test_no_authorization_for_the_list_of_buckets_or_a_bucket(front: Front) -> None:
    for target in ("/", "/anna", "/anna?list-type=2", "/nowhere"):
        call = Call("GET", target, {"host": front.host})
        assert front.ask(call).said == (403, "AccessDenied")


def test_unknown_key(front: Front, target: str) -> None:
    for access_key in ("AKNOBODY", "AKANNA2", "akanna", "AKANNA\xe9", "%41KANNA"):
        call = replace(front.anna, access_key=access_key).call("GET", target)
        assert refused(front, target, call) == (403, "InvalidAccessKeyId")


def test_wrong_signature(front: Front, target: str) -> None:
    good = front.anna.call("PUT", target, b"forged")
    start, _, signature = good.headers["authorization"].rpartition("=")
    flipped = ("1" if signature[0] == "0" else "0") + signature[1:]
    forged = [
        *(
            good.but(authorization=f"{start}={one}")
            for one in (flipped, signature[:-1], signature + "0", "0")
        ),
        good.but(authorization=f"{start}={signature[:-1]}\xe9"),
        replace(front.anna, secret="another secret").call("PUT", target, b"forged"),
        replace(front.bert, access_key="AKANNA").call("PUT", target, b"forged"),
        replace(good, method="DELETE"),
        replace(good, target=target + "x"),
        replace(good, target=target + "?tagging"),
        good.but(x_amz_date=front.anna.stamp()[0][:-2] + "0Z", content_length="6"),
    ]
    if forged[-1].headers["x-amz-date"] == good.headers["x-amz-date"]:
        forged.pop()
    read = front.anna.call("GET", target)
    forged += [
        read.but(authorization=f"{read.headers['authorization'][:-64]}{one}") for one in ("0" * 64, flipped)
    ]
    for call in forged:
        assert refused(front, target, call) == (403, "SignatureDoesNotMatch")
    assert front.stored(target + "x") is None


def test_a_signature_of_a_key_that_another_has(front: Front, target: str) -> None:
    """Bert's own good signature, with anna's name in it."""
    call = front.bert.call("GET", target)
    forged = call.but(authorization=call.headers["authorization"].replace("AKBERT", "AKANNA"))
    assert refused(front, target, forged) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize(
    "change",
    [
        ("AWS4-HMAC-SHA256 Credential", "Credential"),
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512"),
        ("/us-east-1/s3/", "/us-east-1/"),
        ("/s3/", "/sts/"),
        ("/s3/", "/s3/../s3/"),
        ("aws4_request", "aws5_request"),
        ("Credential=", "Credential=garbage "),
        ("AKANNA/", "AKANNA/2"),
        ("SignedHeaders=", "SignedHeaders=;"),
        ("SignedHeaders=", "SignedHeaders=Host;"),
        ("SignedHeaders=host", "SignedHeaders="),
        ("Signature=", "Signature=, Signature="),
        (", Signature=", " Signature="),
        ("Signature=", "Sig="),
    ],
    ids=lambda change: f"{change[0]}-{change[1]}".replace("/", "|"),
)
def test_garbage_credential(front: Front, target: str, change: tuple[str, str]) -> None:
    call = front.anna.call("GET", target)
    said = refused(front, target, call.but(authorization=call.headers["authorization"].replace(*change)))
    assert said == (400, "AuthorizationHeaderMalformed")


def test_wrong_scope(front: Front, target: str) -> None:
    """Signed in earnest, but for another service or another day; and moved to another region."""
    yesterday = time.strftime("%Y%m%d", time.gmtime(time.time() - 86400))
    for signer in (replace(front.anna, service="sts"), replace(front.anna, day=yesterday)):
        call = signer.call("GET", target)
        assert refused(front, target, call) == (400, "AuthorizationHeaderMalformed")
    call = front.anna.call("GET", target)
    moved = call.headers["authorization"].replace("us-east-1", "us-west-2")
    assert refused(front, target, call.but(authorization=moved)) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("off_s", [-SKEWED_S, SKEWED_S])
def test_date_off_by_16_minutes(front: Front, target: str, off_s: int) -> None:
    signer = replace(front.anna, clock=lambda: time.time() + off_s)
    assert refused(front, target, signer.call("GET", target)) == (403, "RequestTimeTooSkewed")


@pytest.mark.parametrize("date", ["", "yesterday", "20260101T000000", "20261301T000000Z", "2026١١٠١T000000Z"])
def test_unparsable_date(front: Front, target: str, date: str) -> None:
    wire = date.encode().decode("latin-1")
    assert refused(front, target, front.anna.call("GET", target, date=wire)) == (403, "AccessDenied")


def test_host_not_signed(front: Front, target: str) -> None:
    call = front.anna.call("GET", target, signed=["x-amz-content-sha256", "x-amz-date"])
    assert refused(front, target, call) == (403, "AccessDenied")


def test_signed_header_absent(front: Front, target: str) -> None:
    names = ["host", "x-amz-acl", "x-amz-content-sha256", "x-amz-date"]
    assert refused(front, target, front.anna.call("GET", target, signed=names)) == (403, "AccessDenied")
    stripped = front.anna.call("PUT", target, b"forged", {"if-none-match": "*"}).but(if_none_match=None)
    assert refused(front, target, stripped) == (403, "AccessDenied")


@pytest.mark.parametrize(
    "name",
    [
        "x-amz-acl",
        "x-amz-anything",
        "x-amz-copy-source",
        "x-amz-decoded-content-length",
        "x-amz-grant-full-control",
        "x-amz-meta-a",
        "x-amz-tagging",
        "x-amz-website-redirect-location",
        "X-AMZ-Storage-Class",
    ],
)
def test_any_x_amz_header_that_is_not_signed(front: Front, target: str, name: str) -> None:
    for call in (front.anna.call("GET", target), front.anna.call("PUT", target, b"forged")):
        injected = replace(call, headers={**call.headers, name: "/anna/other"})
        assert refused(front, target, injected) == (403, "AccessDenied")
    presigned = front.anna.presigned("PUT", target)
    injected = replace(presigned, headers={**presigned.headers, name: "/anna/other"})
    assert refused(front, target, injected) == (403, "AccessDenied")


def test_header_and_query_authentication_together(front: Front, target: str) -> None:
    signed = front.anna.call("GET", target)
    urls = [
        front.anna.presigned("GET", target).target,
        front.anna.presigned_v2("GET", target, int(time.time()) + 60).target,
        f"{target}?X-Amz-Signature=0",
        f"{target}?x-amz-algorithm=AWS4-HMAC-SHA256",
    ]
    for url in urls:
        assert refused(front, target, replace(signed, target=url)) == (400, "InvalidArgument")


def test_a_signature_for_a_key_that_ends_in_a_question_mark(front: Front, target: str) -> None:
    """Not good for the key before it, not even on a connection that was sent `/key?` many times."""
    signed = front.anna.call("GET", f"{target}%3F")
    with front.line() as line:
        for _ in range(GOOD):
            line.send(replace(front.anna.call("GET", target), target=f"{target}?").wire())
            assert line.answer().body == b"before"
        line.send(replace(signed, target=f"{target}?").wire())
        assert line.answer().said == (403, "SignatureDoesNotMatch")
