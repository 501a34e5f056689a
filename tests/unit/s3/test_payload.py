"""What a head promises of its body, and that a body which breaks a promise never ends well."""

from __future__ import annotations

import base64
import hashlib
import itertools
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.s3.authentication import (
    EMPTY_SHA256,
    STREAMING_SIGNED,
    STREAMING_UNSIGNED_TRAILER,
    UNSIGNED,
    Authenticated,
)
from gateway.s3.errors import S3Error
from gateway.s3.payload import BODY_BYTES_MAX, METADATA_BYTES_MAX, Payload, plan, stored_headers

BODY = b"hello"
MD5 = base64.b64encode(hashlib.md5(BODY).digest()).decode()
CRC = base64.b64encode(zlib.crc32(BODY).to_bytes(4, "big")).decode()
SHA = hashlib.sha256(BODY).hexdigest()
TRAILED = {"x-amz-decoded-content-length": "5", "x-amz-trailer": "x-amz-checksum-crc32"}


def auth(payload: str = UNSIGNED) -> Authenticated:
    return Authenticated(
        "AK", payload, "00" * 32, "20260101T000000Z", "20260101/r/s3/aws4_request", b"k", False
    )


def run(headers: dict[str, str], payload: str, length: int | None, *wire: bytes) -> str:
    """The code that it ends with, "" for a body that keeps all promises."""
    try:
        planned = plan(headers, auth(payload), length)
        body = Payload(planned, auth(payload))
        data = b"".join(piece for part in wire for piece in body.feed(part))
        body.finish()
    except S3Error as error:
        return error.code
    assert len(data) == planned.decoded_length
    return ""


@pytest.mark.parametrize(
    ("headers", "payload", "length", "code"),
    [
        ({}, UNSIGNED, 5, ""),
        ({}, SHA, 5, ""),
        ({}, SHA.upper(), 5, ""),
        ({}, EMPTY_SHA256, 5, "XAmzContentSHA256Mismatch"),
        ({}, "0" * 64, 5, "XAmzContentSHA256Mismatch"),
        ({}, UNSIGNED, None, "MissingContentLength"),
        ({}, UNSIGNED, BODY_BYTES_MAX + 1, "EntityTooLarge"),
        ({}, UNSIGNED, 6, "IncompleteBody"),
        ({}, UNSIGNED, 4, "IncompleteBody"),
        ({"content-md5": MD5}, UNSIGNED, 5, ""),
        ({"content-md5": MD5[:-2]}, UNSIGNED, 5, "InvalidDigest"),
        ({"content-md5": ""}, UNSIGNED, 5, "InvalidDigest"),
        ({"content-md5": base64.b64encode(bytes(16)).decode()}, UNSIGNED, 5, "BadDigest"),
        ({"x-amz-checksum-crc32": CRC}, SHA, 5, ""),
        ({"x-amz-checksum-crc32": "AAAAAA=="}, SHA, 5, "BadDigest"),
        ({"x-amz-checksum-crc32": "AAAA"}, SHA, 5, "InvalidRequest"),
        ({"x-amz-checksum-new9": "AAAA"}, SHA, 5, "InvalidRequest"),
        ({"x-amz-checksum-crc32": CRC, "x-amz-checksum-sha256": SHA}, SHA, 5, "InvalidRequest"),
        ({"x-amz-checksum-crc32": CRC, "x-amz-checksum-type": "FULL_OBJECT"}, SHA, 5, ""),
        ({"content-encoding": "aws-chunked"}, UNSIGNED, 5, "InvalidRequest"),
        ({"x-amz-meta-a": "v" * METADATA_BYTES_MAX}, UNSIGNED, 5, "MetadataTooLarge"),
    ],
)
def test_plain_bodies(headers: dict[str, str], payload: str, length: int | None, code: str) -> None:
    assert run(headers, payload, length, BODY[:2], BODY[2:]) == code


def chunked(trailer: str = CRC) -> bytes:
    return f"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:{trailer}\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("headers", "wire", "length", "code"),
    [
        (TRAILED, chunked(), None, ""),
        (TRAILED, chunked(), 60, ""),
        (TRAILED, chunked("AAAAAA=="), None, "BadDigest"),
        (TRAILED, chunked("nonsense"), None, "InvalidRequest"),
        (TRAILED, chunked()[:-30], None, "MalformedTrailerError"),
        (TRAILED, chunked()[:9], None, "IncompleteBody"),
        (TRAILED, chunked(), 4, "IncompleteBody"),
        (TRAILED | {"x-amz-decoded-content-length": "6"}, chunked(), None, "IncompleteBody"),
        (TRAILED | {"x-amz-decoded-content-length": "4"}, chunked(), None, "IncompleteBody"),
        (TRAILED | {"x-amz-decoded-content-length": "+5"}, chunked(), None, "InvalidArgument"),
        (TRAILED | {"x-amz-decoded-content-length": "٥"}, chunked(), None, "InvalidArgument"),
        (TRAILED | {"x-amz-decoded-content-length": str(BODY_BYTES_MAX + 1)}, b"", None, "EntityTooLarge"),
        ({"x-amz-trailer": "x-amz-checksum-crc32"}, chunked(), 60, "MissingContentLength"),
        (TRAILED | {"x-amz-trailer": "x-amz-meta-a"}, chunked(), None, "InvalidRequest"),
        (
            TRAILED | {"x-amz-trailer": "x-amz-checksum-crc32,x-amz-checksum-sha1"},
            chunked(),
            None,
            "InvalidRequest",
        ),
        (TRAILED | {"x-amz-checksum-crc32": CRC}, chunked(), None, "InvalidRequest"),
        (TRAILED | {"content-md5": MD5}, chunked(), None, ""),
    ],
)
def test_bodies_with_a_trailer(headers: dict[str, str], wire: bytes, length: int | None, code: str) -> None:
    assert run(headers, STREAMING_UNSIGNED_TRAILER, length, wire) == code


def test_a_trailer_needs_a_trailer_word() -> None:
    assert run(TRAILED, STREAMING_SIGNED, None, chunked()) == "InvalidRequest"


def test_the_trailers_value_is_only_told_when_it_was_verified() -> None:
    planned = plan(TRAILED, auth(STREAMING_UNSIGNED_TRAILER), None)
    body = Payload(planned, auth(STREAMING_UNSIGNED_TRAILER))
    body.feed(chunked())
    with pytest.raises(RuntimeError):
        body.trailer_value()
    body.finish()
    assert body.trailer_value() == CRC


@given(st.binary(max_size=500), st.lists(st.integers(0, 500), max_size=5))
def test_any_split_keeps_the_promises(data: bytes, cuts: list[int]) -> None:
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    parts = [data[a:b] for a, b in itertools.pairwise(at)]
    headers = {"content-md5": base64.b64encode(hashlib.md5(data).digest()).decode()}
    assert run(headers, hashlib.sha256(data).hexdigest(), len(data), *parts) == ""


@pytest.mark.parametrize(
    ("given_coding", "kept"),
    [
        ("aws-chunked", None),
        ("gzip, aws-chunked", "gzip"),
        ("AWS-Chunked,gzip", "gzip"),
        ("gzip", "gzip"),
        ("br,GZip", "br,GZip"),
    ],
)
def test_framing_is_never_stored(given_coding: str, kept: str | None) -> None:
    assert stored_headers({"content-encoding": given_coding}).get("content-encoding") == kept


def test_what_is_stored_and_what_is_not() -> None:
    stored: dict[str, Any] = {
        "content-type": "t/x", "cache-control": "c", "x-amz-meta-a": "b", "x-amz-storage-class": "STANDARD_IA",
        "x-amz-tagging": "a=b", "x-amz-server-side-encryption": "AES256", "x-amz-object-lock-mode": "GOVERNANCE",
    }  # fmt: skip
    dropped = {"authorization": "x", "host": "h", "x-amz-date": "d", "x-amz-content-sha256": "s", "user-agent": "u",
               "content-length": "5", "x-amz-copy-source": "b/k", "x-amz-trailer": "t"}  # fmt: skip
    assert stored_headers(stored | dropped) == stored
