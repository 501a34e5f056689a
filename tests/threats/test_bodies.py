"""Bodies that are not what their head promises: refused, and what was there before stays as it was."""

from __future__ import annotations

import base64
import hashlib
import select
import zlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.threats.conftest import Front
from tests.threats.signing import CHUNKED_UNSIGNED, UNSIGNED, Call, with_body
from tests.threats.wire import Answer

# Small bodies are held, large ones written as they come: each form of a lie is told in both sizes.
SIZES = [40, 3_000_000]
CRC32 = "x-amz-checksum-crc32"


@pytest.fixture(params=SIZES)
def body(request: pytest.FixtureRequest) -> bytes:
    return bytes(range(256)) * (int(request.param) // 256) + b"end of the body. " * 3


def crc32(body: bytes) -> str:
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


def refused(front: Front, target: str, call: Call) -> tuple[int, str]:
    """The answer. Nothing of the body is visible: neither over the key that was there, nor under a new one, nor as a
    file that somebody could find."""
    answer = front.ask(call)
    assert front.stored(target) == b"before"
    assert front.ask(front.anna.call("GET", target)).body == b"before"
    return answer.said


def test_body_differs_from_its_sha256(front: Front, target: str, body: bytes) -> None:
    call = front.anna.call("PUT", target, body)
    lies = [body[:-1] + b"!", b"!" + body[1:]]
    for lie in lies:
        assert refused(front, target, replace(call, body=lie)) == (400, "XAmzContentSHA256Mismatch")
    url = front.anna.call("PUT", target + "-new", body)
    assert front.ask(replace(url, body=lies[0])).said == (400, "XAmzContentSHA256Mismatch")
    assert front.ask(front.anna.call("GET", target + "-new")).said == (404, "NoSuchKey")
    assert front.stored(target + "-new") is None


def test_a_forged_part_is_no_part(front: Front, target: str, body: bytes) -> None:
    upload = create(front, target)
    call = front.anna.call("PUT", f"{target}?partNumber=1&uploadId={upload}", body)
    assert front.ask(replace(call, body=body[:-1] + b"!")).said == (400, "XAmzContentSHA256Mismatch")
    listed = front.ask(front.anna.call("GET", f"{target}?uploadId={upload}"))
    assert listed.status == 200
    assert b"<Part>" not in listed.body


def create(front: Front, target: str) -> str:
    answer = front.ask(front.anna.call("POST", f"{target}?uploads"))
    return answer.body.partition(b"<UploadId>")[2].partition(b"<")[0].decode()


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("what", ["signature", "data", "no signature"])
def test_bad_signature_in_a_chunk(front: Front, target: str, body: bytes, which: int, what: str) -> None:
    half = len(body) // 2
    call, chunks = front.anna.chunked(target, [body[:half], body[half:]])
    chunk = chunks[which]
    at = chunk.index(b"=") + 1
    if what == "signature":
        chunks[which] = chunk[:at] + (b"1" if chunk[at : at + 1] == b"0" else b"0") + chunk[at + 1 :]
    elif what == "no signature":
        size, _, rest = chunk.partition(b"\r\n")
        chunks[which] = size.partition(b";")[0] + b"\r\n" + rest
    elif which < 2:
        chunks[which] = chunk[:-3] + b"!\r\n"
    else:  # the empty chunk has no data: it comes first instead
        chunks = [chunk, *chunks[:2]]
    said = refused(front, target, with_body(call, b"".join(chunks)))
    if what == "no signature":
        assert said[0] == 400
    elif what == "data" and which == 2:
        assert said == (400, "IncompleteBody")
    else:
        assert said == (403, "SignatureDoesNotMatch")


def test_chunks_swapped_or_of_another_request(front: Front, target: str) -> None:
    one, two = b"1" * 70_000, b"2" * 70_000
    call, chunks = front.anna.chunked(target, [one, two])
    swapped = with_body(call, chunks[1] + chunks[0] + chunks[2])
    assert refused(front, target, swapped) == (403, "SignatureDoesNotMatch")
    other, _ = front.anna.chunked(target + "-other", [one, two])
    replayed = with_body(other, b"".join(chunks))
    assert front.ask(replayed).said == (403, "SignatureDoesNotMatch")
    assert front.stored(target + "-other") is None


def trailing(front: Front, target: str, body: bytes, trailer: str | None = None) -> Call:
    wire = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n"
    line = f"{CRC32}:{crc32(body)}\r\n" if trailer is None else trailer
    return front.anna.trailing(target, len(body), wire + line.encode() + b"\r\n")


def test_unsigned_trailer_with_a_bad_or_missing_header_signature(
    front: Front, target: str, body: bytes
) -> None:
    call = trailing(front, target, body)
    start = call.headers["authorization"].rpartition("=")[0]
    assert refused(front, target, call.but(authorization=None)) == (403, "AccessDenied")
    bad = call.but(authorization=f"{start}={'0' * 64}")
    assert refused(front, target, bad) == (403, "SignatureDoesNotMatch")
    # A presigned URL does not sign the header that says how the body is framed.
    url = front.anna.presigned("PUT", target)
    framed = replace(call, target=url.target).but(authorization=None, x_amz_date=None)
    assert refused(front, target, framed) == (403, "AccessDenied")
    # A plain signature does not become one for any body by another word in the header.
    plain = with_body(front.anna.call("PUT", target, body), call.body)
    assert refused(front, target, plain.but(x_amz_content_sha256=CHUNKED_UNSIGNED)) == (
        403,
        "SignatureDoesNotMatch",
    )
    unsigned = front.anna.call("PUT", target, body).but(x_amz_content_sha256=UNSIGNED)
    assert refused(front, target, unsigned) == (403, "SignatureDoesNotMatch")


def test_missing_last_chunk(front: Front, target: str, body: bytes) -> None:
    call, chunks = front.anna.chunked(target, [body])
    assert refused(front, target, with_body(call, chunks[0])) == (400, "IncompleteBody")
    whole = trailing(front, target, body)
    cut = with_body(whole, whole.body.rpartition(b"0\r\n" + CRC32.encode())[0])
    assert refused(front, target, cut) == (400, "IncompleteBody")


@pytest.mark.parametrize("off", [-1, 1])
def test_wrong_decoded_length(front: Front, target: str, body: bytes, off: int) -> None:
    wire = f"{len(body):x}\r\n".encode() + body + f"\r\n0\r\n{CRC32}:{crc32(body)}\r\n\r\n".encode()
    call = front.anna.trailing(target, len(body) + off, wire)
    assert refused(front, target, call) == (400, "IncompleteBody")


def test_body_shorter_than_its_length(front: Front, target: str, body: bytes) -> None:
    call = front.anna.call("PUT", target, body)
    with front.line() as line:
        line.send(call.wire()[:-1])
        line.done_sending()
        assert line.answer().said == (400, "IncompleteBody")
        assert line.ended()
    assert front.stored(target) == b"before"


def test_wrong_trailer_checksum(front: Front, target: str, body: bytes) -> None:
    wrong = trailing(front, target, body, f"{CRC32}:{crc32(b'another')}\r\n")
    assert refused(front, target, wrong) == (400, "BadDigest")


def test_undeclared_trailer(front: Front, target: str, body: bytes) -> None:
    line = f"{CRC32}:{crc32(body)}\r\n"
    for trailer in (
        line + "x-amz-meta-injected:1\r\n",
        line.replace("crc32", "crc32c"),
        line + line,
        "",
        line + "x-amz-trailer-signature:" + "0" * 64 + "\r\n",
    ):
        assert refused(front, target, trailing(front, target, body, trailer))[0] == 400


def in_pieces(head: bytes, piece: bytes, count: int) -> Iterator[bytes]:
    yield head
    for _ in range(count):
        yield piece


def flood(front: Front, pieces: Iterator[bytes]) -> Answer:
    """The answer to what is sent piece by piece. It comes long before the end, and the connection is then closed."""
    with front.line() as line:
        sent = 0
        for piece in pieces:
            if select.select([line.sock], [], [], 0)[0]:
                break
            line.send(piece)
            sent += len(piece)
        answer = line.answer()
        assert sent < 10 << 20
        line.done_sending()
        assert line.ended()
        return answer


def test_twenty_megabytes_of_chunk_extensions(front: Front, target: str) -> None:
    coded = front.anna.call("PUT", target, headers={"transfer-encoding": "chunked"}, payload=UNSIGNED)
    coded = coded.but(x_amz_decoded_content_length=None)
    framed = front.anna.trailing(target, 300, b"")
    framed = framed.but(content_length=str(30 << 20))
    for call in (coded, framed):
        one_line = in_pieces(call.head() + b"1;", b"x" * (1 << 20), 20)
        assert flood(front, one_line).status in (400, 411)
    # Over HTTP's own chunks, of which each one is small.
    sized = front.anna.call(
        "PUT",
        target,
        headers={
            "transfer-encoding": "chunked",
            "x-amz-decoded-content-length": "300",
            "x-amz-trailer": CRC32,
        },
        payload=CHUNKED_UNSIGNED,
    )
    small = (b"1;" + b"x" * 8000 + b"\r\n1\r\n") * 128
    for piece in (small, b"x" * (1 << 20)):
        answer = flood(front, in_pieces(sized.head() + b"1;", piece, 20))
        assert answer.status == 400
    assert front.stored(target) == b"before"


def test_content_encoding_gzip_is_stored_raw(front: Front, target: str) -> None:
    """Neither inflated on the way in nor on the way out: not what is gzip, and not what only says so."""
    bomb = zlib.compress(bytes(50 << 20), 9, wbits=31)
    for body in (bomb, b"not gzip at all"):
        call = front.anna.call("PUT", target, body, {"content-encoding": "gzip"})
        assert front.ask(call).status == 200
        assert front.stored(target) == body
        for _ in range(2):
            answer = front.ask(front.anna.call("GET", target))
            assert (answer.body, answer.headers["content-encoding"]) == (body, "gzip")


def test_content_md5_malformed(front: Front, target: str, body: bytes) -> None:
    for value in ("", "garbage", hashlib.md5(body).hexdigest(), base64.b64encode(b"short").decode(), "é"):
        wire = value.encode().decode("latin-1")
        call = front.anna.call("PUT", target, body, {"content-md5": wire})
        assert refused(front, target, call) == (400, "InvalidDigest")


def test_content_md5_wrong(front: Front, target: str, body: bytes) -> None:
    wrong = base64.b64encode(hashlib.md5(b"another").digest()).decode()
    call = front.anna.call("PUT", target, body, {"content-md5": wrong})
    assert refused(front, target, call) == (400, "BadDigest")


def test_expect_continue_with_a_bad_signature(front: Front, target: str) -> None:
    good = front.anna.call("PUT", target, b"x" * 1000).but(expect="100-continue")
    start = good.headers["authorization"].rpartition("=")[0]
    refusals = [
        (good.but(authorization=f"{start}={'0' * 64}"), "SignatureDoesNotMatch"),
        (good.but(authorization=None), "AccessDenied"),
        (front.bert.call("PUT", target, b"x" * 1000).but(expect="100-continue"), "AccessDenied"),
    ]
    for call, code in refusals:
        with front.line() as line:
            line.send(call.head())
            answer = line.answer()
            assert (answer.said, answer.continued) == ((403, code), False)
            line.done_sending()
            assert line.ended()
    with front.line() as line:
        line.send(good.head())
        assert line.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        line.send(good.body)
        assert line.answer().status == 200


@pytest.mark.parametrize("number", ["0", "10001", "-1", "+1", "1.0", "", "99999999999999999999"])
def test_part_0_or_10001_before_the_body(front: Front, target: str, number: str) -> None:
    upload = create(front, target)
    call = front.anna.call("PUT", f"{target}?partNumber={number}&uploadId={upload}", payload=UNSIGNED)
    assert unread(front, call.but(content_length=str(1 << 30))).said == (400, "InvalidArgument")


def test_more_than_5_gib_before_the_body(front: Front, target: str) -> None:
    upload = create(front, target)
    for where in (target, f"{target}?partNumber=1&uploadId={upload}"):
        call = front.anna.call("PUT", where, payload=UNSIGNED)
        answer = unread(front, call.but(content_length=str((5 << 30) + 1)))
        assert answer.said == (400, "EntityTooLarge")
    big = front.anna.trailing(target, (5 << 30) + 1, b"").but(content_length=str(6 << 30))
    assert unread(front, big).said == (400, "EntityTooLarge")


def unread(front: Front, call: Call) -> Answer:
    """The answer to a head whose client waits for 100 Continue: the body was not read if it did not come."""
    with front.line() as line:
        line.send(call.but(expect="100-continue").head())
        answer = line.answer()
        assert not answer.continued
        return answer
