"""Errors as clients see them, and an object's headers on their way to the wire and back."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import errors
from gateway.model import ObjectMeta
from gateway.s3.errors import CODES, S3Error, range_error, retry_headers, to_s3
from gateway.s3.object_headers import checksum_lines, header_lines, meta_of, wire_lines
from gateway.s3.text import percent_decode, uri_encode

KINDS = [
    (errors.NotFound("no"), 404, "NoSuchKey"),
    (errors.NoSuchBucket("no"), 404, "NoSuchBucket"),
    (errors.Changed("no"), 412, "PreconditionFailed"),
    (errors.ConditionFailed("no"), 412, "PreconditionFailed"),
    (errors.RangeNotSatisfiable("no", 5), 416, "InvalidRange"),
    (errors.RangeNotSatisfiable("no"), 416, "InvalidRange"),
    (errors.OriginDenied("no"), 403, "AccessDenied"),
    (errors.BudgetSpent("no"), 403, "AccessDenied"),
    (errors.Refused(409, "Odd", "no"), 409, "Odd"),
    (errors.Throttled("no", 2.5), 503, "SlowDown"),
    (errors.Unreachable("no"), 503, "ServiceUnavailable"),
    (errors.Superseded("no"), 503, "ServiceUnavailable"),
    (errors.UnknownPlace("no"), 503, "ServiceUnavailable"),
    (errors.Unsupported("no"), 501, "NotImplemented"),
    (errors.StoreFull("no"), 503, "SlowDown"),
    (errors.Corrupt("no"), 500, "InternalError"),
    (errors.GatewayError("no"), 500, "InternalError"),
    (ValueError("secret"), 500, "InternalError"),
    (S3Error("BadDigest"), 400, "BadDigest"),
]


@pytest.mark.parametrize(("error", "status", "code"), KINDS)
def test_each_kind_has_its_answer(error: Exception, status: int, code: str) -> None:
    found = to_s3(error)
    assert (found.status, found.code) == (status, code)
    assert "secret" not in found.message
    if isinstance(error, errors.GatewayError) and error.retry_helps:
        assert found.retry_helps


def test_no_kind_was_forgotten() -> None:
    """A new one in gateway.errors must be decided here."""
    kinds = {
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)
    }
    assert kinds <= {type(error) for error, _, _ in KINDS}


@pytest.mark.parametrize(
    ("after", "whole", "milli"),
    [(None, "1", "1000"), (0.0, "1", "50"), (2.5, "2", "2500"), (1e9, "60", "60000")],
)
def test_overload_gives_both_hints(after: float | None, whole: str, milli: str) -> None:
    assert retry_headers(after) == [("Retry-After", whole), ("x-amz-retry-after", milli)]
    assert to_s3(errors.Throttled("", after)).headers == (
        ("Retry-After", whole),
        ("x-amz-retry-after", milli),
    )


def test_a_range_error_tells_the_size_when_it_is_known() -> None:
    assert range_error(0).headers == (("Content-Range", "bytes */0"),)
    assert range_error(None).headers == ()


def test_every_code_has_a_plausible_status_and_text() -> None:
    for code, (status, text) in CODES.items():
        assert 300 <= status < 600, code
        assert text.endswith("."), code


names = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=20)
values = st.text(
    st.characters(
        min_codepoint=0x20, max_codepoint=0xFF, exclude_characters=[chr(c) for c in range(0x7F, 0xA0)]
    ),
    max_size=40,
).map(lambda value: value.strip(" "))


@given(
    st.integers(0, 1 << 50),
    st.integers(0, 4_000_000_000),
    st.dictionaries(names.map(lambda name: "x-amz-meta-" + name), values),
    st.dictionaries(st.sampled_from(["x-amz-checksum-crc32", "x-amz-checksum-type"]), values),
)
def test_headers_read_back(size: int, modified: int, headers: dict[str, str], sums: dict[str, str]) -> None:
    meta = ObjectMeta(size, '"e-1"', modified, {"content-type": "text/plain", **headers}, sums)
    assert meta_of(size, wire_lines(meta), checksum_lines(meta)) == meta


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a", "b\r\nc: d"),
        ("a", "b\nc"),
        ("a", "\0"),
        ("a b", "c"),
        ("a:", "c"),
        ("", "c"),
        ("a", "\u20ac"),
        ("a\r\n", "b"),
        ("a", "\x7f"),
    ],
)
def test_an_origin_cannot_start_another_header(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="not a header"):
        header_lines([(name, value)])
    with pytest.raises(ValueError, match="not a header"):
        wire_lines(ObjectMeta(0, '"e"', 0, {name: value}))
    with pytest.raises(ValueError, match="not a header"):
        wire_lines(ObjectMeta(0, f'"{value}\n"', 0))


@pytest.mark.parametrize(
    "name", ["Content-Length", "transfer-encoding", "connection", "set-cookie", "x-gateway-cache", "etag"]
)
def test_an_origin_cannot_set_the_connections_own_headers(name: str) -> None:
    wire = wire_lines(ObjectMeta(0, '"e"', 0, {name: "1"}))
    assert wire == wire_lines(ObjectMeta(0, '"e"', 0))


@pytest.mark.parametrize(
    "wire",
    [b"", b"x", b"ETag: a\r\n", b"ETag: a\r\nLast-Modified: x\r\nAccept-Ranges: bytes\r\n", b"a: b\r\nc\r\n"],
)
def test_what_was_not_made_here_is_refused(wire: bytes) -> None:
    with pytest.raises(ValueError, match="not"):
        meta_of(0, wire, b"")


@given(st.text(st.characters(codec="utf-8")), st.booleans())
def test_percent_encoding_reads_back(text: str, slash: bool) -> None:
    assert percent_decode(uri_encode(text, keep_slash=slash)) == text
