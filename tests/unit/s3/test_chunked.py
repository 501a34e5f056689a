"""aws-chunked: any split gives the same payload, and nothing but a whole, rightly signed body ends well. Bodies are
made by an implementation of its own here and by botocore."""

from __future__ import annotations

import hashlib
import hmac
import io
import itertools
from collections.abc import Iterable

import pytest
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.s3.authentication import (
    STREAMING_SIGNED,
    STREAMING_SIGNED_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
    Authenticated,
)
from gateway.s3.chunked import ChunkedDecoder
from gateway.s3.errors import S3Error

KEY, DATE, SCOPE, SEED = b"k" * 32, "20260101T000000Z", "20260101/r/s3/aws4_request", "ab" * 32
NAME = "x-amz-checksum-crc32"


def auth(mode: str, key: bytes = KEY) -> Authenticated:
    return Authenticated("AK", mode, SEED, DATE, SCOPE, key, False)


def _signature(kind: str, previous: str, *digests: str) -> str:
    message = "\n".join([f"AWS4-HMAC-SHA256-{kind}", DATE, SCOPE, previous, *digests])
    return hmac.new(KEY, message.encode(), hashlib.sha256).hexdigest()


def framed(chunks: Iterable[bytes], trailer: str | None = None) -> bytes:
    """Signed by the book: S3 API Reference, "Transferring Payload in Multiple Chunks"."""
    out, previous = b"", SEED
    empty = hashlib.sha256(b"").hexdigest()
    for chunk in [*chunks, b""]:
        previous = _signature("PAYLOAD", previous, empty, hashlib.sha256(chunk).hexdigest())
        out += b"%x;chunk-signature=%s\r\n" % (len(chunk), previous.encode())
        out += chunk + b"\r\n" if chunk else b""
    if trailer is not None:
        line = f"{NAME}:{trailer}\n".encode()
        signature = _signature("TRAILER", previous, hashlib.sha256(line).hexdigest())
        out += line[:-1] + b"\r\n" + f"x-amz-trailer-signature:{signature}\r\n".encode()
    return out + b"\r\n"


def decode(
    body: Iterable[bytes], mode: str, length: int, names: tuple[str, ...] = ()
) -> tuple[bytes, dict[str, str]]:
    decoder = ChunkedDecoder(auth(mode), length, names)
    data = b"".join(piece for part in body for piece in decoder.feed(part))
    decoder.finish()
    return data, decoder.trailers


def code_of(body: bytes, mode: str, length: int, names: tuple[str, ...] = ()) -> str:
    try:
        decode([body], mode, length, names)
    except S3Error as error:
        return error.code
    return ""


def pieces(body: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    return [body[a:b] for a, b in itertools.pairwise(at)]


cuts = st.lists(st.integers(0, 1 << 20), max_size=12)
payloads = st.lists(st.binary(min_size=1, max_size=300), max_size=5)


@settings(deadline=None)
@given(payloads, cuts, st.booleans())
def test_any_split_of_a_signed_body_gives_its_payload(
    chunks: list[bytes], at: list[int], trailer: bool
) -> None:
    body = framed(chunks, "AAAAAA==" if trailer else None)
    mode = STREAMING_SIGNED_TRAILER if trailer else STREAMING_SIGNED
    whole = b"".join(chunks)
    data, trailers = decode(pieces(body, at), mode, len(whole), (NAME,) if trailer else ())
    assert (data, trailers) == (whole, {NAME: "AAAAAA=="} if trailer else {})


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=3000), st.integers(1, 1000), cuts)
def test_any_split_of_what_botocore_sends_gives_its_payload(payload: bytes, size: int, at: list[int]) -> None:
    wrapper = AwsChunkedWrapper(
        io.BytesIO(payload), checksum_cls=Crc32Checksum, checksum_name=NAME, chunk_size=size
    )
    body = b"".join(iter(lambda: wrapper.read(), b""))
    data, trailers = decode(pieces(body, at), STREAMING_UNSIGNED_TRAILER, len(payload), (NAME,))
    assert data == payload
    assert trailers == {NAME: Crc32Checksum().handle(io.BytesIO(payload))}


@settings(deadline=None, max_examples=200)
@given(st.booleans(), st.data())
def test_a_changed_bit_of_a_signed_body_is_refused(trailer: bool, data: st.DataObject) -> None:
    chunks = [b"first chunk", b"second", b"x" * 40]
    body = bytearray(framed(chunks, "AAAAAA==" if trailer else None))
    at = data.draw(st.integers(0, len(body) - 3))  # the empty line at the very end says nothing
    body[at] ^= 1 << data.draw(st.integers(0, 7))
    mode = STREAMING_SIGNED_TRAILER if trailer else STREAMING_SIGNED
    length = sum(map(len, chunks))
    try:
        found = decode([bytes(body)], mode, length, (NAME,) if trailer else ())
    except S3Error:
        return
    # Upper-case hex sizes, or a header name in another case: the same meaning.
    assert found == (b"".join(chunks), {NAME: "AAAAAA=="} if trailer else {})


def test_chunks_cannot_be_dropped_repeated_or_swapped() -> None:
    body = framed([b"a" * 10, b"b" * 10])
    one = body.index(b"\r\n", body.index(b"\r\n") + 2) + 2
    two = body.index(b"\r\n", body.index(b"\r\n", one) + 2) + 2
    first, second, rest = body[:one], body[one:two], body[two:]
    assert code_of(first + second + rest, STREAMING_SIGNED, 20) == ""
    for forged, length in (
        (second + rest, 10),
        (first + rest, 10),
        (second + first + rest, 20),
        (first * 2 + rest, 20),
    ):
        assert code_of(forged, STREAMING_SIGNED, length) == "SignatureDoesNotMatch"


UNSIGNED = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (UNSIGNED, ""),
        (UNSIGNED[:-2], ""),  # without the last empty line
        (UNSIGNED.replace(b"\r\n\r\n", b"\n\r\n\r\n"), ""),  # blank lines of some SDKs
        (UNSIGNED[:12], "IncompleteBody"),
        (UNSIGNED[:10], "IncompleteBody"),
        (b"", "IncompleteBody"),
        (b"6\r\nhello!\r\n0\r\n\r\n", "IncompleteBody"),
        (b"4\r\nhell\r\n0\r\n\r\n", "IncompleteBody"),
        (b"5\r\nhello0\r\n\r\n", "InvalidRequest"),
        (b"5\r\nhelloXX0\r\n\r\n", "InvalidRequest"),
        (b"-5\r\nhello\r\n0\r\n\r\n", "InvalidRequest"),
        (b"0x5\r\nhello\r\n0\r\n\r\n", "InvalidRequest"),
        (b"+5\r\nhello\r\n0\r\n\r\n", "InvalidRequest"),
        (b"5 \r\nhello\r\n0\r\n\r\n", "InvalidRequest"),
        (b"5\nhello\r\n0\r\n\r\n", "InvalidRequest"),
        (b"5;ext=" + b"a" * 200 + b"\r\nhello\r\n0\r\n\r\n", "InvalidRequest"),
        (b"5;chunk-signature=" + b"a" * 64 + b"\r\nhello\r\n0\r\n\r\n", "InvalidRequest"),
        (b"f" * 17 + b"\r\nhello", "InvalidRequest"),
        (b"f" * 16 + b"\r\nhello", "IncompleteBody"),
        (b"\r\n", "InvalidRequest"),
        (UNSIGNED.replace(b"crc32", b"crc32c"), "MalformedTrailerError"),
        (UNSIGNED.replace(b"x-amz-checksum-crc32:NhCmhg==\r\n", b""), "MalformedTrailerError"),
        (UNSIGNED[:-2] + b"x-amz-checksum-crc32:NhCmhg==\r\n\r\n", "MalformedTrailerError"),
        (UNSIGNED[:-2] + b"x-amz-meta-a:b\r\n\r\n", "MalformedTrailerError"),
        (UNSIGNED[:-2] + b"no colon\r\n\r\n", "MalformedTrailerError"),
        (UNSIGNED + b"GET / HTTP/1.1\r\n", "InvalidRequest"),
        (UNSIGNED + b"\r\n" * 5, "InvalidRequest"),
        (b"5\r\nhello\r\n0\r\n" + b"a:b\r\n" * 2000, "MalformedTrailerError"),
        (b"5\r\nhello\r\n0\r\n" + b"a" * 5000, "InvalidRequest"),
    ],
)
def test_odd_framing_is_refused_not_guessed(body: bytes, code: str) -> None:
    assert code_of(body, STREAMING_UNSIGNED_TRAILER, 5, (NAME,)) == code
    decoder = ChunkedDecoder(auth(STREAMING_UNSIGNED_TRAILER), 5, (NAME,))
    found = ""
    try:  # byte by byte says the same
        for at in range(len(body)):
            decoder.feed(body[at : at + 1])
        decoder.finish()
    except S3Error as error:
        found = error.code
    assert found == code


@settings(deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from([STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER]),
)
def test_arbitrary_bytes_never_break_the_machine(body: bytes, mode: str) -> None:
    code_of(body, mode, 10, (NAME,))


def test_megabytes_of_extensions_are_refused_at_the_first_line() -> None:
    decoder = ChunkedDecoder(auth(STREAMING_UNSIGNED_TRAILER), 5, (NAME,))
    with pytest.raises(S3Error):
        decoder.feed(b"5;" + b"a" * (20 << 20))


def test_a_missing_or_wrong_trailer_signature_is_a_forgery() -> None:
    body = framed([b"hello"], "NhCmhg==")
    at = body.index(b"x-amz-trailer-signature")
    assert code_of(body, STREAMING_SIGNED_TRAILER, 5, (NAME,)) == ""
    assert code_of(body[:at] + b"\r\n", STREAMING_SIGNED_TRAILER, 5, (NAME,)) == "SignatureDoesNotMatch"
    assert (
        code_of(body.replace(b"NhCm", b"NhCx"), STREAMING_SIGNED_TRAILER, 5, (NAME,))
        == "SignatureDoesNotMatch"
    )


def test_a_body_cannot_be_chunk_signed_without_a_sigv4_key() -> None:
    with pytest.raises(S3Error, match="SigV4"):
        ChunkedDecoder(auth(STREAMING_SIGNED, b""), 5)
    with pytest.raises(S3Error, match="not supported"):
        ChunkedDecoder(auth("UNSIGNED-PAYLOAD"), 5)
