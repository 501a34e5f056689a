"""PutObject and DeleteObject, how any body goes out, and what a write's conditions are in Azure's own ETags.

A small body is one Put Blob, its MD5 known beforehand. A larger one streams into blocks, which nobody sees before the
Put Block List that names them; it carries the MD5, the metadata and the conditions, so the object changes at once or
not at all. Blocks have random names, so two uploads of one key never mix: the one that ends first wins, and the other
one, whose blocks are gone with it, is told to come again. Blocks that are never named Azure drops after a week.

Conditions: the object's ETag is looked up, compared, and becomes If-Match with Azure's ETag of that very state (or
If-None-Match: *), which Azure checks as it writes.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from gateway.errors import ConditionFailed, NotFound, Refused, Throttled, Unsupported
from gateway.model import Conditions, Remote, WriteResult
from gateway.origins import azure_meta, azure_names
from gateway.origins.azure_client import AzureClient
from gateway.origins.azure_read import head_own
from gateway.origins.base import PutBody, refuse_dates
from gateway.origins.s3_client import Retry
from gateway.origins.s3_http import Answer, Call
from gateway.origins.s3_write import send_body
from gateway.s3.conditions import check
from gateway.s3.signer import encode_query

# 5 GiB, S3's largest body, are 80 of them; a lost connection costs no more than one.
BLOCK_BYTES: Final = 64 << 20
# Smaller pieces are hashed where they are: a hop to a thread costs as much as this many bytes.
_HASHED_HERE_BYTES_MAX: Final = 32 << 10


async def put(client: AzureClient, remote: Remote, body: PutBody, conditions: Conditions) -> WriteResult:
    azure_names.require_writable(remote)
    stored = azure_meta.stored_headers(body.headers)
    checked = await condition_headers(client, remote, conditions)
    source = Source(client, body)
    if not client.take_small(body.length):
        return await _put_blocks(client, remote, body, stored, checked, source)
    try:
        return await _put_whole(client, remote, body, stored, checked, source)
    finally:
        client.give_small(body.length)


async def _put_whole(
    client: AzureClient,
    remote: Remote,
    body: PutBody,
    stored: Mapping[str, str],
    checked: Mapping[str, str],
    source: Source,
) -> WriteResult:
    data = b"".join([piece async for piece in source.take(body.length)])
    await source.end()
    checksums = checksums_of(body)
    md5 = source.md5.digest()
    headers = {
        "x-ms-blob-type": "BlockBlob",
        "content-md5": base64.b64encode(md5).decode(),
        **azure_meta.property_headers(stored, md5),
        **azure_meta.tier_header(stored),
        **azure_meta.metadata_headers(stored, etag=md5.hex(), size=body.length, checksums=checksums),
        **checked,
    }
    call = Call("put", "PUT", remote.bucket, remote.key, headers=headers)
    await send(client, call, len(data), _once(data))
    return WriteResult(f'"{md5.hex()}"', checksums)


async def _put_blocks(
    client: AzureClient,
    remote: Remote,
    body: PutBody,
    stored: Mapping[str, str],
    checked: Mapping[str, str],
    source: Source,
) -> WriteResult:
    nonce = secrets.token_bytes(46)
    names: list[str] = []
    for at in range(0, body.length, BLOCK_BYTES):
        name = base64.b64encode(nonce + len(names).to_bytes(2, "big")).decode()
        length = min(BLOCK_BYTES, body.length - at)
        await put_block(client, "put", remote, name, length, source.take(length))
        names.append(name)
    await source.end()
    checksums = checksums_of(body)
    md5 = source.md5.digest()
    headers = {
        **azure_meta.property_headers(stored, md5),
        **azure_meta.tier_header(stored),
        **azure_meta.metadata_headers(stored, etag=md5.hex(), size=body.length, checksums=checksums),
        **checked,
    }
    try:
        await put_block_list(client, "put", remote, names, headers)
    except Refused as error:
        if error.code != "InvalidBlockList":
            raise
        raise Throttled("Another write of this key ended first.") from None
    return WriteResult(f'"{md5.hex()}"', checksums)


def checksums_of(body: PutBody) -> dict[str, str]:
    """What a finished body is stored with."""
    checksums = azure_meta.declared_checksums(body.headers)
    if body.trailer is not None:
        name, value = body.trailer
        checksums[name] = value()
    if checksums:
        checksums["x-amz-checksum-type"] = "FULL_OBJECT"
    return checksums


class Source:
    """A body's pieces, cut to length and hashed on the way. A piece is hashed in a thread while it is sent."""

    def __init__(self, client: AzureClient, body: PutBody) -> None:
        self.md5 = hashlib.md5(usedforsecurity=False)
        self._threads = client.threads
        self._length = body.length
        self._pieces = body.chunks
        self._rest = b""
        self._taken = 0
        self._hashing: asyncio.Future[Any] | None = None

    async def take(self, length: int) -> AsyncIterator[bytes]:
        """The next `length` bytes. Raises Refused when the body ends before, and what it raises."""
        left = length
        while left:
            piece = self._rest or await self._next()
            if piece is None:
                raise self._incomplete()
            piece, self._rest = bytes(piece[:left]), piece[left:]
            left -= len(piece)
            self._taken += len(piece)
            await self._hash(piece)
            yield piece

    async def end(self) -> None:
        """Waits for the body's verdict on itself. Raises what it raises, and Refused when there is more of it."""
        more = self._rest or await self._next()
        while more == b"":
            more = await self._next()
        if more is not None:
            raise Refused(400, "IncompleteBody", f"The body is longer than its {self._length} bytes.")
        await self._hashed()

    async def _next(self) -> bytes | None:
        async for piece in self._pieces:
            return piece
        return None

    async def _hash(self, piece: bytes) -> None:
        await self._hashed()
        if len(piece) <= _HASHED_HERE_BYTES_MAX:
            self.md5.update(piece)
        else:
            self._hashing = self._threads.start(self.md5.update, piece)

    async def _hashed(self) -> None:
        hashing, self._hashing = self._hashing, None
        if hashing is not None:
            await hashing

    def _incomplete(self) -> Refused:
        return Refused(400, "IncompleteBody", f"The body has {self._taken} of {self._length} bytes.")


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


# Requests with a body


async def send(client: AzureClient, call: Call, length: int, chunks: AsyncIterator[bytes]) -> Answer:
    """One request with a streamed body, once. Raises what the body's iterator raises."""
    return await send_body(client, call, PutBody(length, chunks), statuses=(201,))


async def _send_again(client: AzureClient, call: Call, data: bytes) -> None:
    """A request whose body can be sent anew: the origin may ask to slow down, and what was uploaded before it is not
    lost."""
    await client.retried(lambda: send(client, call, len(data), _once(data)), Retry.REFUSED)


async def put_block(
    client: AzureClient, op: str, remote: Remote, name: str, length: int, chunks: AsyncIterator[bytes]
) -> None:
    await send(client, _block_call(op, remote, name), length, chunks)


async def put_small_block(client: AzureClient, op: str, remote: Remote, name: str, data: bytes) -> None:
    await _send_again(client, _block_call(op, remote, name), data)


def _block_call(op: str, remote: Remote, name: str) -> Call:
    return Call(op, "PUT", remote.bucket, remote.key, encode_query([("comp", "block"), ("blockid", name)]))


async def put_block_list(
    client: AzureClient, op: str, remote: Remote, names: Sequence[str], headers: Mapping[str, str]
) -> None:
    """Raises Refused with InvalidBlockList when a block is not there any more."""
    rows = "".join([f"<Latest>{name}</Latest>" for name in names])
    document = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{rows}</BlockList>'.encode()
    call = Call(op, "PUT", remote.bucket, remote.key, encode_query([("comp", "blocklist")]), headers)
    await _send_again(client, call, document)


async def put_empty(client: AzureClient, op: str, remote: Remote, headers: Mapping[str, str]) -> None:
    """A blob of no bytes; whatever blocks were waiting for its name are gone."""
    call = Call(op, "PUT", remote.bucket, remote.key, headers={"x-ms-blob-type": "BlockBlob", **headers})
    await _send_again(client, call, b"")


# Conditions and deletes


async def condition_headers(client: AzureClient, remote: Remote, conditions: Conditions) -> dict[str, str]:
    """What makes the write that they go with depend on the object's present state. Raises ConditionFailed when it is
    not met already, NotFound for If-Match on a missing key."""
    if not conditions:
        return {}
    refuse_dates(conditions)
    try:
        now = await head_own(client, remote, "head")
    except NotFound:
        if conditions.if_match is not None:
            raise
        return {"if-none-match": "*"}
    if check(conditions, now.meta.etag, now.meta.last_modified) is not None:
        raise ConditionFailed("At least one of the preconditions does not hold.")
    return {"if-match": now.etag}


def require_current(version_id: str | None) -> None:
    if version_id not in (None, "null"):
        raise Unsupported("This gateway knows no versions of Azure's blobs.")


async def delete(client: AzureClient, remote: Remote, version_id: str | None) -> Mapping[str, str]:
    require_current(version_id)
    azure_names.require_container(remote.bucket)
    if azure_names.holds(remote.key):
        await delete_own(client, "delete", remote)
    return {}


async def delete_own(client: AzureClient, op: str, remote: Remote) -> None:
    """With its snapshots, without which Azure deletes no blob that has some. A missing one is as good."""
    call = Call(op, "DELETE", remote.bucket, remote.key, headers={"x-ms-delete-snapshots": "include"})
    with suppress(NotFound):
        await client.finished(call, (202,))
