"""An object's bytes on their way from one origin to another: gone on with where the source breaks off, and proven
before the last of them is given out.

    source ──receive──▶ piece n+1     thread: hash piece n     destination ◀──send── piece n-1

What they are proven with is what the source has stored of them: its FULL_OBJECT checksum, else an ETag that is the
MD5 of the content. COMPOSITE checksums and the ETags of multipart uploads cannot be told without the parts' sizes;
then only the length is certain, and what TCP and TLS prove.

In memory at once: one piece that is withheld or hashed and one being received, of 64 KiB to 256 KiB, and what the
origins' clients buffer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any, Final

import structlog

from gateway.aio import Threads
from gateway.errors import Changed, Unreachable
from gateway.model import ObjectMeta, Remote
from gateway.origins.base import Origin, Reading
from gateway.s3.checksums import HEADER_PREFIX, Digests, decode

log = structlog.get_logger()

# A body that breaks off goes on where it ended, so often in a row without a byte in between.
RESUMES_MAX: Final = 3
# Hashing less than this takes about as long as the way to a thread and back.
THREAD_BYTES_MIN: Final = 64 << 10
_MD5_ETAG: Final = re.compile(r'"([0-9a-f]{32})"')
_ENCRYPTION: Final = "x-amz-server-side-encryption"
# Cheap ones first: one proof is enough.
_PREFERRED: Final = (
    "crc64nvme",
    "crc32c",
    "crc32",
    "xxhash3",
    "xxhash64",
    "xxhash128",
    "sha1",
    "sha256",
    "sha512",
)


def proofs_of(meta: ObjectMeta, *, whole: bool) -> dict[str, bytes]:
    """What the content must hash to, by the digest's name: at most one. `whole`: all of the object is read."""
    if not whole:
        return {}
    for name in _PREFERRED:
        value = known_checksum(meta, name)
        if value is not None:
            return {name: value}
    found = _MD5_ETAG.fullmatch(meta.etag)
    return {"md5": bytes.fromhex(found[1])} if found and _etag_is_md5(meta.headers) else {}


def _etag_is_md5(headers: Mapping[str, str]) -> bool:
    """Not where the cloud encrypts with a key of its key service or the customer's (S3: "Object", ETag)."""
    if headers.get(_ENCRYPTION, "").startswith("aws:kms"):
        return False
    return not any(name.startswith(_ENCRYPTION + "-customer-") for name in headers)


def known_checksum(meta: ObjectMeta, name: str) -> bytes | None:
    """The stored FULL_OBJECT checksum of that name."""
    if meta.checksums.get(HEADER_PREFIX + "type", "FULL_OBJECT") != "FULL_OBJECT":
        return None
    return decode(meta.checksums.get(HEADER_PREFIX + name, ""), name)


@asynccontextmanager
async def received(
    origin: Origin, remote: Remote, start: int, stop: int | None
) -> AsyncIterator[tuple[Reading, AsyncGenerator[bytes, None]]]:
    """What a GET of [start, stop) opens, and all its bytes, of one version. Raises Changed, and what origins raise,
    as do the bytes. One GET is open at a time: what broke off gives its place at the origin back before it is gone
    on with, since there may be no other."""
    async with AsyncExitStack() as opened:
        reading = await opened.enter_async_context(origin.get(remote, start, stop))
        async with aclosing(_resumed(origin, remote, reading, opened)) as chunks:
            yield reading, chunks


async def _resumed(
    origin: Origin, remote: Remote, reading: Reading, opened: AsyncExitStack
) -> AsyncGenerator[bytes, None]:
    """`opened` holds `reading`, later those that follow it."""
    at, failures, current = reading.start, 0, reading
    while True:
        before = at
        try:
            async for piece in current.chunks():
                at += len(piece)
                yield piece
        except Unreachable:
            failures = failures + 1 if at == before else 1
            if failures > RESUMES_MAX:
                raise
        if at >= reading.stop:
            return
        await opened.aclose()
        more = origin.get(remote, at, reading.stop, if_match=reading.meta.etag)
        current = await opened.enter_async_context(more)
        if current.meta.size != reading.meta.size or (current.start, current.stop) != (at, reading.stop):
            raise Changed("The source of the copy changed while it was read.")


async def proven(
    chunks: AsyncIterator[bytes], digests: Digests, proofs: Mapping[str, bytes], threads: Threads
) -> AsyncGenerator[bytes, None]:
    """The pieces in order; the last one only when the content is what `proofs` say. `digests` holds at least theirs.
    Raises Unreachable: read again, the bytes may well be the right ones."""
    held = b""
    hashing: asyncio.Future[Any] | None = None
    try:
        async for piece in chunks:
            if hashing is not None:
                await hashing
            if held:
                yield held
            hashing, held = _hash(piece, digests, threads), piece
        if hashing is not None:
            await hashing
    finally:
        if hashing is not None and not hashing.done():
            hashing.add_done_callback(_retrieve)  # the reader left while a thread was at it
    for name, value in proofs.items():
        if digests.digest(name) != value:
            log.error("the source of a copy is not what its checksum says", checksum=name)
            raise Unreachable(f"The bytes of the copy's source do not match its stored {name}.")
    if held:
        yield held


def _hash(piece: bytes, digests: Digests, threads: Threads) -> asyncio.Future[Any] | None:
    if not digests:
        return None
    if len(piece) >= THREAD_BYTES_MIN:
        return threads.start(digests.update, piece)
    digests.update(piece)
    return None


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
