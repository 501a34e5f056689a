"""Signed requests with a few bytes of their heads changed: served only if they still say what was signed, and never a
failure of the gateway."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.s3.sigv2 import SIGNED_KEYS
from tests.threats.conftest import Front
from tests.threats.signing import Call
from tests.threats.wire import GOOD, Answer

BODY = b"body of the object"
# What a mutation is likely to make a difference with, and everything else.
TELLING = b"\r\n\t \0:;,=&%+/?.-_\"'\\0129azAZ\x7f\x80\xff"
BYTES = st.one_of(st.sampled_from(TELLING), st.integers(0, 255))
NAMES = ["get", "hot", "list", "put", "copy", "url", "url v2"]
SIGNED_BY_V2 = {name.encode() for name in ("AWSAccessKeyId", "Expires", "Signature", *SIGNED_KEYS)}
MUTATION = st.tuples(st.sampled_from(["flip", "insert", "delete", "repeat"]), st.floats(0, 1), BYTES)


@pytest.fixture(scope="module")
def calls(front: Front) -> dict[str, Call]:
    front.put("/anna/random", BODY)
    front.put("/anna/random%20%C3%A9", BODY)
    made = {
        "get": front.anna.call("GET", "/anna/random%20%C3%A9", headers={"range": "bytes=0-99"}),
        "hot": front.anna.call("GET", "/anna/random"),
        "list": front.anna.call("GET", "/anna?list-type=2&prefix=ran%2F"),
        "put": front.anna.call("PUT", "/anna/random-put", BODY, {"x-amz-meta-a": "b  c"}),
        "copy": front.anna.call("PUT", "/anna/random-copy", headers={"x-amz-copy-source": "/anna/random"}),
        "url": front.anna.presigned("GET", "/anna/random", query="response-content-type=text%2Fplain"),
        "url v2": front.anna.presigned_v2("GET", "/anna/random", 1 << 34),
    }
    for call in made.values():
        front.secrets.note(call.wire())
    return made


def mutate(head: bytes, mutations: list[tuple[str, float, int]]) -> bytes:
    changed = bytearray(head)
    for kind, where, byte in mutations:
        at = min(int(where * len(changed)), len(changed) - 1)
        if kind == "flip":
            changed[at] = byte
        elif kind == "insert":
            changed.insert(at, byte)
        elif kind == "delete":
            del changed[at]
        else:
            changed[at:at] = changed[max(0, at - byte) : at]
    return bytes(changed)


def meaning(wire: bytes) -> object:
    """What a lenient reader takes from a head: all that is signed, with everything undone that a signer may do in
    several ways. SigV2 signs neither Host nor the query keys that it does not know."""
    lines = wire.partition(b"\r\n\r\n")[0].split(b"\r\n")
    method, target, *_ = [*lines[0].split(b" "), b"", b""]
    path, _, query = target.partition(b"?")
    pairs = sorted(
        (plain(name), plain(value)) for name, _, value in map(split_pair, query.split(b"&")) if name
    )
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        headers[name.lower()] = b" ".join(value.split())
    authorization = sorted(re.split(rb"[,\s]+", headers.pop(b"authorization", b"")))
    signed = re.search(rb"signedheaders=([^,\s]*)", b" ".join(authorization).lower())
    names = set(signed[1].split(b";")) if signed else {b"host"}
    if b"AWSAccessKeyId" in dict(pairs):
        pairs = [(name, value) for name, value in pairs if name in SIGNED_BY_V2]
        names = {b"content-type", b"content-md5"}
    kept = {name: value for name, value in headers.items() if name in names or name.startswith(b"x-amz-")}
    return method, unquote_to_bytes(path), pairs, kept, authorization


def split_pair(item: bytes) -> tuple[bytes, bytes, bytes]:
    return item.partition(b"=")


def plain(part: bytes) -> bytes:
    return unquote_to_bytes(part.replace(b"+", b" "))


def answers(front: Front, wire: bytes) -> Iterator[Answer]:
    """All answers until the gateway closes, which it does since nothing more comes. What a changed request holds is
    no secret beyond those of the unchanged."""
    with front.line() as line:
        line.send(wire, noted=False)
        line.done_sending()
        try:
            while True:
                yield line.answer()
        except ConnectionError:
            return


@given(
    name=st.sampled_from(NAMES),
    mutations=st.lists(MUTATION, min_size=1, max_size=3),
    trusted=st.booleans(),
)
@settings(max_examples=800, deadline=None, print_blob=True)
def test_a_changed_request_is_never_served(
    front: Front, calls: dict[str, Call], name: str, mutations: list[tuple[str, float, int]], trusted: bool
) -> None:
    """Not by a connection either that has seen the unchanged one so often that it looks at little of it."""
    call = calls[name]
    head = mutate(call.head(), mutations)
    before = GOOD if trusted and call.method == "GET" else 0
    for number, answer in enumerate(answers(front, before * call.wire() + head + call.body)):
        if number < before:
            assert answer.status in (200, 206)
            continue
        assert answer.status != 500
        if answer.status < 400:
            assert meaning(head) == meaning(call.head())


def test_the_unchanged_requests_are_served(front: Front, calls: dict[str, Call]) -> None:
    """Else nothing was shown; and the gateway is whole after all that."""
    for call in calls.values():
        assert [answer.status for answer in answers(front, call.wire())] in ([200], [206])
    for name in ("get", "hot"):
        *_, last = answers(front, GOOD * calls[name].wire())
        assert last.headers["x-gateway-cache"] == "hit"
    front.unharmed()
