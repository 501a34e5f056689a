"""A request that botocore signed is accepted; one that differs anywhere is not."""

from __future__ import annotations

import hashlib
import re
import string
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.s3 import signer
from gateway.s3.authentication import UNSIGNED
from gateway.s3.errors import S3Error
from gateway.s3.sigv4 import Verifier

from .signing import ACCESS, HOST, REGION, SECRET, signed, signed_at, verify

text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
tokens = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=12).filter(
    lambda name: name not in ("host", "expect", "connection", "date") and not name.startswith("x-amz")
)
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)
queries = st.lists(st.tuples(text, text), max_size=4).map(
    lambda pairs: "&".join(f"{quote(name, safe='-._~')}={quote(value, safe='-._~')}" for name, value in pairs)
)
paths = text.map(lambda key: "/bucket/" + quote(key, safe="/-._~"))
bodies = st.binary(max_size=50)


def code_of(method: str, path: str, query: str, headers: dict[str, str], now: float | None = None) -> str:
    try:
        verify(method, path, query, headers, now)
    except S3Error as error:
        return error.code
    return ""


GOOD = signed("PUT", "/b/k%20%C3%A9", "x-id=PutObject", {"x-amz-meta-a": "b", "content-type": "t/x"}, b"body")
NOW = signed_at(GOOD)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["GET", "PUT", "POST"]),
    paths,
    queries,
    st.dictionaries(tokens, values, max_size=4),
    bodies,
)
def test_whatever_botocore_signs_is_accepted(
    method: str, path: str, query: str, extra: dict[str, str], body: bytes
) -> None:
    headers = signed(
        method, path, query, {f"x-amz-meta-{name}": value for name, value in extra.items()}, body
    )
    found = verify(method, path, query, headers)
    assert (found.access_key, found.payload, found.presigned) == (
        ACCESS,
        hashlib.sha256(body).hexdigest(),
        False,
    )


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_changed_bit_is_refused(data: st.DataObject) -> None:
    """Of the method, target, any signed header, or the signature itself."""
    request = {"method": "PUT", "path": "/b/k%20%C3%A9", "query": "x-id=PutObject", **GOOD}
    name = data.draw(st.sampled_from(sorted(set(request) - {"user-agent"})))
    value = bytearray(request[name].encode("latin-1"))
    at = data.draw(st.integers(0, len(value) - 1))
    value[at] ^= 1 << data.draw(st.integers(0, 7))
    request[name] = value.decode("latin-1")
    headers = {key: request[key] for key in GOOD}
    changed = code_of(request["method"], request["path"], request["query"], headers, NOW)
    same = (
        (name == "path" and same_path(request["path"]))
        or name == "content-length"  # framing, not signed by anybody
        or (name == "authorization" and harmless_spelling(request[name]))
    )
    assert changed or same, (name, request[name])


def same_path(path: str) -> bool:
    return path.lower() == "/b/k%20%c3%a9"


def harmless_spelling(authorization: str) -> bool:
    """White space between the fields means nothing."""
    return re.sub(r"\s", " ", authorization) == re.sub(r"\s", " ", GOOD["authorization"])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"authorization": None}, "AccessDenied"),
        ({"authorization": ""}, "AccessDenied"),
        ({"authorization": "Basic abc"}, "AuthorizationHeaderMalformed"),
        ({"authorization": "AWS AKID:abc="}, "InvalidRequest"),
        ({"authorization": GOOD["authorization"].replace(ACCESS, "AKIDUNKNOWN")}, "InvalidAccessKeyId"),
        ({"authorization": GOOD["authorization"].replace("/s3/", "/ec2/")}, "AuthorizationHeaderMalformed"),
        (
            {"authorization": GOOD["authorization"].replace("aws4_request", "x")},
            "AuthorizationHeaderMalformed",
        ),
        (
            {"authorization": GOOD["authorization"].replace(f"/{REGION}/", "/eu/west/")},
            "AuthorizationHeaderMalformed",
        ),
        ({"authorization": GOOD["authorization"].replace("host;", "")}, "AccessDenied"),
        ({"authorization": GOOD["authorization"] + ", Signature=0"}, "AuthorizationHeaderMalformed"),
        ({"authorization": GOOD["authorization"][:-1] + "é"}, "SignatureDoesNotMatch"),
        ({"x-amz-date": "yesterday"}, "AccessDenied"),
        ({"x-amz-date": None}, "AccessDenied"),
        ({"x-amz-date": "20260230T000000Z"}, "AccessDenied"),
        ({"x-amz-copy-source": "/other/key"}, "AccessDenied"),
        ({"x-amz-acl": "public-read"}, "AccessDenied"),
        ({"x-amz-security-token": "t"}, "InvalidToken"),
        ({"x-amz-content-sha256": "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"}, "InvalidArgument"),
        ({"x-amz-content-sha256": None}, "InvalidRequest"),
        ({"content-type": None}, "AccessDenied"),
        ({"host": "other:9000"}, "SignatureDoesNotMatch"),
    ],
)
def test_each_kind_of_bad_authentication_has_its_code(change: dict[str, str | None], code: str) -> None:
    headers = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    assert code_of("PUT", "/b/k%20%C3%A9", "x-id=PutObject", headers, NOW) == code


@pytest.mark.parametrize(
    ("off", "code"), [(-901, "RequestTimeTooSkewed"), (901, "RequestTimeTooSkewed"), (899, "")]
)
def test_the_clocks_may_differ_by_a_quarter_of_an_hour(off: int, code: str) -> None:
    assert code_of("PUT", "/b/k%20%C3%A9", "x-id=PutObject", GOOD, NOW + off) == code


def test_a_header_that_is_no_amz_header_need_not_be_signed() -> None:
    headers = {
        **GOOD,
        "user-agent": "x",
        "amz-sdk-invocation-id": "y",
        "expect": "100-continue",
        "range": "bytes=0-1",
    }
    assert code_of("PUT", "/b/k%20%C3%A9", "x-id=PutObject", headers) == ""


def test_header_and_query_authentication_together_are_refused() -> None:
    query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a"
    assert code_of("GET", "/b/k", query, GOOD) == "InvalidArgument"
    assert code_of("GET", "/b/k", "AWSAccessKeyId=a&Expires=1&Signature=b", GOOD) == "InvalidArgument"


def test_a_memo_never_lets_a_second_request_pass_for_the_first() -> None:
    """What is remembered of a good Authorization must not accept anything else."""
    verifier = Verifier({ACCESS: SECRET}.get)
    verifier.verify("PUT", "/b/k%20%C3%A9", "x-id=PutObject", GOOD, NOW)
    verifier.verify("PUT", "/b/k%20%C3%A9", "x-id=PutObject", GOOD, NOW)
    for headers in (
        {**GOOD, "x-amz-acl": "x"},
        {**GOOD, "x-amz-meta-a": "c"},
        {**GOOD, "x-amz-meta-new": "c"},
    ):
        with pytest.raises(S3Error):
            verifier.verify("PUT", "/b/k%20%C3%A9", "x-id=PutObject", headers, NOW)
    with pytest.raises(S3Error):
        verifier.verify("DELETE", "/b/k%20%C3%A9", "x-id=PutObject", GOOD, NOW)


def test_a_withdrawn_or_changed_secret_counts_at_once() -> None:
    secrets = {ACCESS: SECRET}
    verifier = Verifier(secrets.get)
    verifier.verify("PUT", "/b/k%20%C3%A9", "x-id=PutObject", GOOD, NOW)
    secrets[ACCESS] = "other"
    with pytest.raises(S3Error, match="signature"):
        verifier.verify("PUT", "/b/k%20%C3%A9", "x-id=PutObject", GOOD, NOW)
    del secrets[ACCESS]
    with pytest.raises(S3Error, match="not known"):
        verifier.verify("PUT", "/b/k%20%C3%A9", "x-id=PutObject", GOOD, NOW)


def test_nothing_secret_shows_in_a_repr() -> None:
    shown = repr(verify("PUT", "/b/k%20%C3%A9", "x-id=PutObject", GOOD)) + repr(
        signer.Credentials(ACCESS, SECRET)
    )
    assert SECRET not in shown
    assert GOOD["authorization"].rpartition("=")[2] not in shown


@settings(max_examples=60, deadline=None)
@given(paths, st.lists(st.tuples(text, text), max_size=4), st.dictionaries(tokens, values, max_size=3))
def test_our_signer_makes_what_botocore_makes(
    path: str, pairs: list[tuple[str, str]], extra: dict[str, str]
) -> None:
    query = signer.encode_query(pairs)
    headers = {f"x-amz-meta-{name}": value for name, value in extra.items()}
    theirs = signed("GET", path, query, {**headers, "X-Amz-Content-SHA256": UNSIGNED}, b"")
    now = signed_at(theirs)
    payload = theirs["x-amz-content-sha256"]
    ours = signer.sign(
        "GET", HOST, path, query, headers, payload, signer.Credentials(ACCESS, SECRET), REGION, now
    )
    assert ours["authorization"] == theirs["authorization"]


# --- requests of one shape (`verify_alike`)


class Alike:
    """A recognised head: all headers but the date, the signature and the range are those of others."""

    def __init__(self, path: str, headers: dict[str, str], shape: Alike | None = None) -> None:
        names = ("x-amz-date", "authorization", "range")
        self.method, self.target = "GET", path
        self.headers = headers
        self.values = tuple(headers.get(name, "")[-64:].encode() for name in names)
        self.shape: Any = shape or self
        self.date_at, self.signature_at, self.range_at = 0, 1, 2 if "range" in headers else -1


def alike(path: str, wanted: str | None = None, shape: Alike | None = None) -> Alike:
    headers = {"x-amz-checksum-mode": "ENABLED"} | ({} if wanted is None else {"range": wanted})
    return Alike(path, signed("GET", path, "", headers, b""), shape)


def learn(verifier: Verifier, head: Alike) -> float:
    now = signed_at(head.headers)
    verifier.verify(head.method, head.target, "", head.headers, now)
    verifier.learn_alike(head, head.headers)
    return now


@pytest.mark.parametrize("wanted", [None, "bytes=0-99"])
def test_of_a_known_shape_only_what_differs_is_hashed_anew(wanted: str | None) -> None:
    verifier = Verifier({ACCESS: SECRET}.get)
    first = alike("/bucket/one", wanted)
    assert verifier.verify_alike(first, signed_at(first.headers)) is None  # nothing was learned yet
    now = learn(verifier, first)
    other = Alike("/bucket/other", first.headers, first)
    assert verifier.verify_alike(other, now) is None  # the signature of another path
    for _ in range(5):  # until both are of one second
        second = alike("/bucket/two%20words", wanted and "bytes=100-", first)
        if second.values[0] == first.values[0]:
            break
        first = alike("/bucket/one", wanted)
        learn(verifier, first)
        second.shape = first
    assert verifier.verify_alike(second, now) == ACCESS
    for at, value in enumerate(second.values):
        if value:
            changed = alike("/bucket/two%20words", wanted, first)
            changed.values = (*second.values[:at], value[:-1] + b"7", *second.values[at + 1 :])
            if changed.values != second.values:
                assert verifier.verify_alike(changed, now) is None
    assert verifier.verify_alike(second, now + 16 * 60) is None
    assert verifier.verify_alike(second, now - 16 * 60) is None


def test_a_secret_that_was_withdrawn_or_changed_counts_at_once_for_a_known_shape() -> None:
    secrets = {ACCESS: SECRET}
    verifier = Verifier(secrets.get)
    head = alike("/bucket/one")
    now = learn(verifier, head)
    assert verifier.verify_alike(head, now) == ACCESS
    secrets[ACCESS] = "another"
    assert verifier.verify_alike(head, now) is None
    del secrets[ACCESS]
    assert verifier.verify_alike(head, now) is None


def test_what_a_client_signs_in_its_own_way_is_not_learned() -> None:
    """Its canonical form is only found by trying (`_try_variants`), and a number of the call differs each time."""
    for headers in ({"x-amz-meta-a": "b  c"}, {"amz-sdk-invocation-id": "6558653a"}):
        verifier = Verifier({ACCESS: SECRET}.get)
        head = Alike("/bucket/key", signed("GET", "/bucket/key", "", headers, b""))
        now = learn(verifier, head)
        assert verifier.verify_alike(head, now) is None
