"""Request bodies on their way in: received, unframed, hashed and passed on in batches, with the end withheld until
every digest and signature has been proven.

    socket ──receive──▶ batch n+1     thread: unframe and hash batch n     origin ◀──send── batch n-1

A thread hop costs some 90 µs and hashing 1 MiB some 600 (SHA-256), so batches of 512 KiB keep hops below a third;
small or unhashed ones stay on the loop. In memory at once: one batch being hashed, one being gathered or sent, one
withheld piece, and what the socket has read ahead; some 1.3 MiB a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from gateway.aio import Threads
from gateway.frontend.request import Request
from gateway.origins.base import PutBody
from gateway.s3.checksums import HEADER_PREFIX
from gateway.s3.errors import S3Error
from gateway.s3.payload import Payload, PayloadPlan, plan

BATCH_BYTES = 512 << 10
# Hashing less than this takes about as long as the way to a thread and back.
THREAD_BYTES_MIN = 64 << 10
_ALGORITHM = "x-amz-sdk-checksum-algorithm"


async def upload_body(threads: Threads, request: Request) -> PutBody:
    """The body of a PUT. One that fits a batch is received and proven before the origin hears of it; a larger one
    streams. Raises S3Error for what the head says wrongly, before a byte is read."""
    announced = _plan(request, request.headers)
    payload = Payload(announced, request.auth)
    chunks: AsyncIterator[bytes] = proven(request.exchange.body(), payload, threads)
    if announced.decoded_length <= BATCH_BYTES:
        chunks = _again([piece async for piece in chunks])
    trailer = (announced.trailer, payload.trailer_value) if announced.trailer else None
    headers = {**announced.headers, **_algorithm(request.headers, announced)}
    return PutBody(announced.decoded_length, chunks, headers, announced.sha256, trailer)


def _algorithm(headers: Mapping[str, str], announced: PayloadPlan) -> dict[str, str]:
    """The algorithm's name goes on with a checksum of it: some stores keep checksums only then, and S3 refuses the
    name alone."""
    named = headers.get(_ALGORITHM, "")
    checksum = HEADER_PREFIX + named.lower()
    return {_ALGORITHM: named} if checksum in announced.headers or checksum == announced.trailer else {}


async def read_document(
    threads: Threads,
    request: Request,
    bytes_max: int,
    *,
    headers: Mapping[str, str] | None = None,
    digest_required: bool = False,
    too_long: str = "MaxMessageLengthExceeded",
) -> tuple[bytes, PayloadPlan, Payload]:
    """A body of at most `bytes_max`, whole and proven. `headers`: in place of the request's, for calls whose
    checksum headers speak of something else. Raises S3Error (`too_long` before anything is read)."""
    announced = _plan(request, request.headers if headers is None else headers)
    if announced.decoded_length > bytes_max:
        raise S3Error(too_long, f"The body must not be longer than {bytes_max} bytes.")
    # A signature covers the body as well, but S3 insists on a digest that proxies can check.
    if digest_required and not (
        announced.trailer or any(one.code == "BadDigest" for one in announced.expected)
    ):
        raise S3Error(
            "InvalidRequest", "Missing required header for this request: Content-MD5 or x-amz-checksum-*."
        )
    payload = Payload(announced, request.auth)
    pieces = [piece async for piece in proven(request.exchange.body(), payload, threads)]
    return b"".join(pieces), announced, payload


def _plan(request: Request, headers: Mapping[str, str]) -> PayloadPlan:
    length = request.head.length
    if length == 0 and "content-length" not in headers and request.head.method == "PUT":
        raise S3Error("MissingContentLength")
    return plan(headers, request.auth, length)


async def proven(
    raw: AsyncIterator[bytes], payload: Payload, threads: Threads
) -> AsyncGenerator[bytes, None]:
    """The payload's pieces in order. The last is given out only after `payload.finish()`: a body that fails any
    check raises S3Error instead of ending."""
    hashing: asyncio.Future[list[bytes]] | None = None
    held: bytes | None = None
    try:
        async with aclosing(_batches(raw)) as batches:
            async for batch in batches:
                pieces = [] if hashing is None else await hashing
                hashing = _digest(batch, payload, threads)
                for piece in pieces:
                    if held is not None:
                        yield held
                    held = piece
        for piece in [] if hashing is None else await hashing:
            if held is not None:
                yield held
            held = piece
        payload.finish()
        if held is not None:
            yield held
    finally:
        if hashing is not None:  # the reader may have left while a thread was at it
            hashing.add_done_callback(_retrieve)


def _digest(batch: list[bytes], payload: Payload, threads: Threads) -> asyncio.Future[list[bytes]]:
    if (payload.hashes or payload.heavy) and sum(map(len, batch)) >= THREAD_BYTES_MIN:
        return threads.start(_decode_and_hash, batch, payload)
    done = asyncio.get_running_loop().create_future()
    done.set_result(_decode_and_hash(batch, payload))
    return done


def _decode_and_hash(batch: list[bytes], payload: Payload) -> list[bytes]:
    pieces: list[bytes] = []
    for raw in batch:
        pieces += payload.feed(raw)
    return pieces


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


async def _batches(raw: AsyncIterator[bytes]) -> AsyncGenerator[list[bytes], None]:
    """A client that leaves is a body that ends short: the same to everybody who consumes it, and never to be
    mistaken for a connection of the origin's."""
    held: list[bytes] = []
    size = 0
    try:
        async for data in raw:
            held.append(data)
            size += len(data)
            if size >= BATCH_BYTES:
                yield held
                held, size = [], 0
    except ConnectionResetError:
        raise S3Error("IncompleteBody", "The client left before the end of the body.") from None
    if held:
        yield held


async def _again(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
