"""Bodies: what any check refuses leaves nothing behind, whatever its size, splits and framing."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import random
import time
import zlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from gateway.aio import Threads
from gateway.frontend.handlers.bodies import BATCH_BYTES, proven
from gateway.s3.authentication import (
    EMPTY_SHA256,
    STREAMING_SIGNED,
    STREAMING_SIGNED_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
    UNSIGNED,
    Authenticated,
    signing_key,
)
from gateway.s3.errors import S3Error
from gateway.s3.payload import Payload, plan
from tests.unit.frontend.harness import REGION, SECRET, MemoryExchange, Node, signed

# One that is received whole, one that streams.
SIZES = [1000, 3 * BATCH_BYTES + 17]


def bytes_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def split(body: bytes, size: int = 100_000) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def crc32(data: bytes) -> str:
    return b64(zlib.crc32(data).to_bytes(4, "big"))


def framed(body: bytes, trailer: bytes = b"", *, size: int = 65_536, last: bool = True) -> bytes:
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in split(body, size)]
    return b"".join(chunks) + (b"0\r\n" + trailer + b"\r\n" if last else b"")


def streaming(path: str, body: bytes, wire: bytes, **headers: str) -> MemoryExchange:
    """An unsigned-trailer upload; the trailer is a CRC32 unless the headers say otherwise."""
    sent = {
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": str(len(body)),
        "x-amz-trailer": "x-amz-checksum-crc32",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return signed("PUT", path, headers=sent, body=split(wire), payload=STREAMING_UNSIGNED_TRAILER)


def chunk_signed(
    path: str, body: bytes, *, forge: int = -1, drop_last: bool = False, trailer: str = ""
) -> MemoryExchange:
    """A chunk-signed upload as SDKs without TLS made them; chunk number `forge` carries a wrong signature."""
    word = STREAMING_SIGNED_TRAILER if trailer else STREAMING_SIGNED
    headers = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": str(len(body))}
    if trailer:
        headers["x-amz-trailer"] = "x-amz-checksum-crc32"
    exchange = signed("PUT", path, headers=headers, payload=word, length=None)
    sent = exchange.head.headers
    date = sent["x-amz-date"]
    key = signing_key(SECRET.format("root"), date[:8], REGION).key
    stamp = f"{date}\n{date[:8]}/{REGION}/s3/aws4_request"
    previous = sent["authorization"].rpartition("Signature=")[2]
    wire = b""
    pieces = [*split(body, 65_536), b""]
    for number, piece in enumerate(pieces[:-1] if drop_last else pieces):
        digests = f"{EMPTY_SHA256}\n{hashlib.sha256(piece).hexdigest()}"
        message = f"AWS4-HMAC-SHA256-PAYLOAD\n{stamp}\n{previous}\n{digests}"
        previous = hmac.digest(key, message.encode(), "sha256").hex()
        shown = "0" * 64 if number == forge else previous
        wire += b"%x;chunk-signature=%b\r\n" % (len(piece), shown.encode())
        if piece:
            wire += piece + b"\r\n"
    if trailer:
        line = f"x-amz-checksum-crc32:{trailer}\n"
        message = (
            f"AWS4-HMAC-SHA256-TRAILER\n{stamp}\n{previous}\n{hashlib.sha256(line.encode()).hexdigest()}"
        )
        signature = hmac.digest(key, message.encode(), "sha256").hex()
        wire += line.encode() + b"x-amz-trailer-signature:" + signature.encode() + b"\r\n"
    exchange.pieces[:] = split(wire if drop_last else wire + b"\r\n")
    return exchange


async def refused(node: Node, exchange: MemoryExchange, code: str, status: int = 400) -> None:
    """It is, and neither the object that was there nor the store nor the disk has noticed."""
    path = exchange.head.raw_path
    await node.put(path, b"before")
    forgotten = len(node.store.forgotten)
    got = await node.handle(exchange)
    assert (got.status, got.code) == (status, code), got.sent
    assert await node.get(path) == b"before"
    assert len(node.store.forgotten) == forgotten
    await node.tidied()


@pytest.mark.parametrize("size", [0, *SIZES])
async def test_every_form_of_body_arrives_as_it_was(node: Node, size: int) -> None:
    body = bytes_of(size)
    trailer = b"x-amz-checksum-crc32:" + crc32(body).encode() + b"\r\n"
    forms = [
        signed("PUT", "/data/k", body=split(body)),
        signed("PUT", "/data/k", body=split(body), payload=UNSIGNED),
        signed("PUT", "/data/k", body=split(body), headers={"content-md5": b64(hashlib.md5(body).digest())}),
        signed("PUT", "/data/k", body=split(body), headers={"x-amz-checksum-crc32": crc32(body)}),
        streaming("/data/k", body, framed(body, trailer)),
        streaming("/data/k", body, framed(body, trailer, size=8192)),
        chunk_signed("/data/k", body),
        chunk_signed("/data/k", body, trailer=crc32(body)),
    ]
    for form in forms:
        put = await node.handle(form)
        assert put.status == 200, put.sent
        assert put.headers["etag"] == f'"{hashlib.md5(body).hexdigest()}"'
        assert await node.get("/data/k") == body
        await node.call("DELETE", "/data/k")


@pytest.mark.parametrize("size", SIZES)
async def test_a_body_that_is_not_what_was_signed_is_refused(node: Node, size: int) -> None:
    body = bytes_of(size)
    other = body[:-1] + bytes([body[-1] ^ 1])
    wrong = hashlib.sha256(other).hexdigest()
    await refused(
        node, signed("PUT", "/data/k", body=split(body), payload=wrong), "XAmzContentSHA256Mismatch"
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["content-md5", "x-amz-checksum-crc32", "x-amz-checksum-sha256"])
async def test_a_wrong_digest_is_refused(node: Node, size: int, name: str) -> None:
    body = bytes_of(size)
    value = {"content-md5": 16, "x-amz-checksum-crc32": 4, "x-amz-checksum-sha256": 32}[name]
    exchange = signed("PUT", "/data/k", body=split(body), headers={name: b64(b"\1" * value)})
    await refused(node, exchange, "BadDigest")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content-md5": "!!"}, "InvalidDigest"),
        ({"x-amz-checksum-crc32": "!!"}, "InvalidRequest"),
        ({"content-length": str((5 << 30) + 1)}, "EntityTooLarge"),
        ({"x-amz-meta-a": "v" * 3000}, "MetadataTooLarge"),
    ],
)
async def test_a_head_that_promises_nonsense_is_refused_before_the_body(
    node: Node, headers: dict[str, str], code: str
) -> None:
    length = int(headers.get("content-length", "1"))
    exchange = signed("PUT", "/data/k", body=b"x", headers=headers, length=length, payload=UNSIGNED)
    await refused(node, exchange, code)
    assert exchange.body_read == 0


@pytest.mark.parametrize("size", SIZES)
async def test_a_body_that_ends_short_or_long_is_refused(node: Node, size: int) -> None:
    body = bytes_of(size)
    for length in (size + 1, size - 1):
        exchange = signed("PUT", "/data/k", body=split(body), length=length, payload=UNSIGNED)
        await refused(node, exchange, "IncompleteBody")


@pytest.mark.parametrize("size", SIZES)
async def test_a_client_that_leaves_in_its_body_leaves_nothing(node: Node, size: int) -> None:
    body = split(bytes_of(size), max(1, size // 4))
    pieces: Sequence[bytes | Exception] = [*body[:3], ConnectionResetError()]
    await refused(
        node, signed("PUT", "/data/k", body=pieces, length=size, payload=UNSIGNED), "IncompleteBody"
    )


@pytest.mark.parametrize("size", SIZES)
async def test_wrong_trailers_are_refused(node: Node, size: int) -> None:
    body = bytes_of(size)
    good = b"x-amz-checksum-crc32:" + crc32(body).encode() + b"\r\n"
    wrong = b"x-amz-checksum-crc32:" + crc32(b"other").encode() + b"\r\n"
    undeclared = good + b"x-amz-meta-admin:yes\r\n"
    await refused(node, streaming("/data/k", body, framed(body, wrong)), "BadDigest")
    await refused(node, streaming("/data/k", body, framed(body, undeclared)), "MalformedTrailerError")
    await refused(node, streaming("/data/k", body, framed(body)), "MalformedTrailerError")


@pytest.mark.parametrize("size", SIZES)
async def test_frames_that_are_cut_or_count_wrongly_are_refused(node: Node, size: int) -> None:
    body = bytes_of(size)
    trailer = b"x-amz-checksum-crc32:" + crc32(body).encode() + b"\r\n"
    whole = framed(body, trailer)
    await refused(node, streaming("/data/k", body, framed(body, last=False)), "IncompleteBody")
    await refused(node, streaming("/data/k", body, whole[: len(whole) // 2]), "IncompleteBody")
    for length in (size - 1, size + 1):
        exchange = streaming("/data/k", body, whole, x_amz_decoded_content_length=str(length))
        await refused(node, exchange, "IncompleteBody")
    await refused(node, streaming("/data/k", body, b"5;" + b"x" * 4_000_000), "InvalidRequest")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("forge", [0, 1])
async def test_a_forged_chunk_is_refused(node: Node, size: int, forge: int) -> None:
    body = bytes_of(size)
    await refused(node, chunk_signed("/data/k", body, forge=forge), "SignatureDoesNotMatch", 403)


@pytest.mark.parametrize("size", SIZES)
async def test_a_missing_last_chunk_is_refused(node: Node, size: int) -> None:
    await refused(node, chunk_signed("/data/k", bytes_of(size), drop_last=True), "IncompleteBody")


@pytest.mark.parametrize("size", SIZES)
async def test_an_unsigned_trailer_with_a_bad_head_is_refused(node: Node, size: int) -> None:
    body = bytes_of(size)
    trailer = b"x-amz-checksum-crc32:" + crc32(body).encode() + b"\r\n"
    exchange = streaming("/data/k", body, framed(body, trailer))
    exchange.head.headers["authorization"] = exchange.head.headers["authorization"][:-4] + "0000"
    await refused(node, exchange, "SignatureDoesNotMatch", 403)


async def test_an_encoded_body_is_stored_raw_and_without_its_framing(node: Node) -> None:
    body = b"not gzip at all"
    trailer = b"x-amz-checksum-crc32:" + crc32(body).encode() + b"\r\n"
    coded = streaming("/data/k", body, framed(body, trailer), content_encoding="gzip, aws-chunked")
    assert (await node.handle(coded)).status == 200
    got = await node.call("GET", "/data/k")
    assert (got.sent, got.headers["content-encoding"]) == (body, "gzip")


async def test_a_put_without_a_length_is_refused(node: Node) -> None:
    exchange = signed("PUT", "/data/k")
    del exchange.head.headers["content-length"]
    got = await node.handle(exchange)  # its length was not signed
    assert got.status in (403, 411)


async def test_parts_out_of_bounds_are_refused_before_their_body(node: Node) -> None:
    for number in ("0", "10001", "x", "-1", ""):
        query = f"partNumber={number}&uploadId=u"
        exchange = signed("PUT", "/data/k", query=query, body=b"part")
        got = await node.handle(exchange)
        assert (got.status, got.code, got.body_read) == (400, "InvalidArgument", 0)


class Slow:
    """A body that counts how far its reader lets it run ahead."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size, self.given = count, size, 0

    async def pieces(self) -> AsyncIterator[bytes]:
        for _ in range(self.count):
            await asyncio.sleep(0)
            self.given += self.size
            yield bytes(self.size)


async def test_a_body_never_holds_more_than_a_few_batches(tmp_path: Path) -> None:
    size = 64 * BATCH_BYTES
    slow = Slow(size // 65_536, 65_536)
    auth = Authenticated("AK", hashlib.sha256(bytes(size)).hexdigest(), "", "", "", b"", False)
    threads = Threads("test", 1)
    taken = ahead = 0
    async for piece in proven(slow.pieces(), Payload(plan({}, auth, size), auth), threads):
        taken += len(piece)
        ahead = max(ahead, slow.given - taken)
    threads.close()
    assert taken == size
    assert ahead <= 2 * BATCH_BYTES + 2 * 65_536


async def test_a_reader_that_leaves_does_not_disturb_the_thread_at_work() -> None:
    size = 8 * BATCH_BYTES
    auth = Authenticated("AK", "0" * 64, "", "", "", b"", False)
    threads = Threads("test", 1)
    pieces = proven(Slow(size // 65_536, 65_536).pieces(), Payload(plan({}, auth, size), auth), threads)
    assert await anext(pieces)
    await pieces.aclose()
    threads.close()


async def test_the_last_piece_waits_for_the_proof() -> None:
    body = bytes_of(2 * BATCH_BYTES)
    auth = Authenticated("AK", "0" * 64, "", "", "", b"", False)
    threads = Threads("test", 1)
    got: list[bytes] = []

    async def raw() -> AsyncIterator[bytes]:
        for piece in split(body, 65_536):
            yield piece

    async def take() -> None:
        async for piece in proven(raw(), Payload(plan({}, auth, len(body)), auth), threads):
            got.append(piece)  # noqa: PERF401  # what came before the refusal counts

    with pytest.raises(S3Error, match="x-amz-content-sha256"):
        await take()
    threads.close()
    assert b"".join(got) == body[:-65_536]


async def test_hostile_documents_are_refused_at_once(node: Node) -> None:
    bomb = b"<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>" + b"".join(
        b"<!ENTITY %c '%b'>" % (97 + n, b"&%c;" % (96 + n) * 10) for n in range(1, 10)
    )
    documents = [
        bomb + b"]><Delete><Object><Key>&j;</Key></Object></Delete>",
        b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><Delete><Object><Key>&f;</Key></Object></Delete>',
        b"<Delete>" * 100_000,
        b"<Delete><Object></Delete>",
        b"",
        b"\xff\xfe\x00",
        b'<?xml version="1.0" encoding="utf-7"?><Delete/>',
    ]
    for body in documents:
        headers = {"content-md5": b64(hashlib.md5(body).digest())}
        began = time.process_time()
        got = await node.call("POST", "/data", query="delete=", headers=headers, body=body)
        assert (got.status, got.code) == (400, "MalformedXML"), body[:80]
        assert time.process_time() - began < 0.25
        done = await node.call("POST", "/data/k", query="uploadId=x", body=body)
        assert done.code in ("MalformedXML", "InvalidRequest")


async def test_a_document_that_is_too_long_is_refused_unread(node: Node) -> None:
    exchange = signed(
        "POST", "/data", query="delete=", headers={"content-md5": b64(bytes(16))}, length=3 << 20
    )
    got = await node.handle(exchange)
    assert (got.code, got.body_read) == ("MalformedXML", 0)
