"""CopyObject and UploadPartCopy within the account.

Copy Blob moves no data inside an account and changes the target at once, with all of the source's properties. It takes
new metadata, but no new properties; a copy that replaces those goes by way of a hidden blob, where they are set before
it is copied to its key: the target is never seen half changed.

What Copy Blob cannot do goes through this process as a read and a write: a checksum that the source has not got, and
a source whose URL is longer than Azure takes. Parts always do: their MD5 is not to be had otherwise.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Final

from gateway.errors import GatewayError, Refused, Unreachable
from gateway.model import Conditions, Remote, WriteResult
from gateway.origins import azure_meta, azure_names, azure_read
from gateway.origins.azure_client import AzureClient
from gateway.origins.azure_meta import Blob
from gateway.origins.azure_read import AzureReading
from gateway.origins.azure_write import condition_headers, delete_own, put, require_current
from gateway.origins.base import PutBody
from gateway.origins.s3_client import BULK_S, Retry
from gateway.origins.s3_http import Answer, Call
from gateway.origins.s3_multipart import check_source
from gateway.origins.s3_xml import quoted
from gateway.s3.checksums import HEADER_PREFIX, HEADERS, Digest, encode, new_digest
from gateway.s3.conditions import parse_http_date

_URL_BYTES_MAX: Final = 2 << 10
# Inside an account copies are done when they are answered; the others are looked at again, at first soon.
_POLL_S: Final = 0.1
_POLL_S_MAX: Final = 2.0


async def copy(
    client: AzureClient, source: Remote, target: Remote, headers: Mapping[str, str], version: str | None
) -> WriteResult:
    require_current(version)
    azure_names.require_writable(target)
    blob = await azure_read.head(client, source, "copy")
    replaces = headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE"
    if source == target and not replaces and "x-amz-storage-class" not in headers:
        raise Refused(400, "InvalidRequest", "A copy onto itself must change the metadata.")
    check_source(headers, blob.meta)
    stored = _stored(blob, headers, replaces)
    conditions = Conditions(headers.get("if-match"), headers.get("if-none-match"))
    algorithm = headers.get("x-amz-checksum-algorithm", "").lower()
    lacks_checksum = bool(algorithm) and HEADER_PREFIX + algorithm not in blob.meta.checksums
    if lacks_checksum or len(client.url_of(source)) > _URL_BYTES_MAX:
        return await _stream(client, source, target, blob, stored, algorithm, conditions)
    checked = await condition_headers(client, target, conditions)
    if replaces:
        return await _by_way_of_hidden(client, source, target, blob, stored, checked)
    sent = {} if blob.record is None else _metadata(blob, stored)
    return await _plain(client, source, target, blob, {**sent, **azure_meta.tier_header(stored), **checked})


def _stored(blob: Blob, headers: Mapping[str, str], replaces: bool) -> dict[str, str]:
    """The target's headers: the source's, or the request's; the storage class always is the request's."""
    asked = azure_meta.stored_headers(headers)
    if replaces:
        return asked
    kept = {name: value for name, value in blob.meta.headers.items() if name != "x-amz-storage-class"}
    if "x-amz-storage-class" in asked:
        kept["x-amz-storage-class"] = asked["x-amz-storage-class"]
    return kept


def _metadata(blob: Blob, stored: Mapping[str, str]) -> dict[str, str]:
    """The bytes stay the same, so what is known of them does."""
    return azure_meta.metadata_headers(
        stored,
        etag=blob.record.etag if blob.record else "",
        size=blob.meta.size,
        checksums=blob.meta.checksums,
        parts=blob.meta.parts,
    )


async def _plain(
    client: AzureClient, source: Remote, target: Remote, blob: Blob, headers: Mapping[str, str]
) -> WriteResult:
    answer = await copy_blob(client, source, target, {**headers, "x-ms-source-if-match": blob.etag})
    return _result(blob, answer)


def _result(blob: Blob, answer: Answer) -> WriteResult:
    etag = blob.meta.etag if blob.record is not None else quoted(answer.headers.get("etag", ""))
    modified = parse_http_date(answer.headers.get("last-modified", ""))
    return WriteResult(etag, blob.meta.checksums, modified)


async def _by_way_of_hidden(
    client: AzureClient,
    source: Remote,
    target: Remote,
    blob: Blob,
    stored: Mapping[str, str],
    checked: Mapping[str, str],
) -> WriteResult:
    # The name begins with the time: what a crash left behind can be told from what is on its way.
    hidden = Remote(target.bucket, f"{azure_names.COPIES}{int(time.time()):010x}{secrets.token_hex(8)}")
    md5 = bytes.fromhex(blob.record.etag) if blob.record and "-" not in blob.record.etag else None
    try:
        await copy_blob(client, source, hidden, {"x-ms-source-if-match": blob.etag})
        call = Call(
            "copy",
            "PUT",
            hidden.bucket,
            hidden.key,
            "comp=properties",
            azure_meta.property_headers(stored, md5),
        )
        await client.finished(call)
        headers = {**_metadata(blob, stored), **azure_meta.tier_header(stored), **checked}
        answer = await copy_blob(client, hidden, target, headers)
        return _result(blob, answer)
    finally:
        # What was copied is copied: a blob that is left here is one more that a crash could have left.
        with suppress(GatewayError):
            await delete_own(client, "copy", hidden)


async def copy_blob(
    client: AzureClient, source: Remote, target: Remote, headers: Mapping[str, str]
) -> Answer:
    """Copy Blob, to its end. Raises NotFound (no source), ConditionFailed, Unreachable."""
    sent = {**headers, "x-ms-copy-source": client.url_of(source)}
    call = Call("copy", "PUT", target.bucket, target.key, headers=sent, answer_s=BULK_S)
    conditional = any(name in headers for name in ("if-match", "if-none-match"))
    answer = await client.finished(call, (202,), Retry.REFUSED if conditional else Retry.ALWAYS)
    if answer.headers.get("x-ms-copy-status", "success") != "success":
        await _finished(client, target)
    return answer


async def _finished(client: AzureClient, target: Remote) -> None:
    """Raises Unreachable for a copy that fails, or goes on for too long."""
    pause = _POLL_S
    try:
        async with asyncio.timeout(BULK_S):
            while (status := await _copy_status(client, target)) == "pending":
                await asyncio.sleep(pause)
                pause = min(2 * pause, _POLL_S_MAX)
    except TimeoutError:
        raise Unreachable(f"The origin's copy has not ended within {BULK_S:.3g} s.") from None
    if status != "success":
        raise Unreachable(f"The origin's copy ended as {status}.")


async def _copy_status(client: AzureClient, target: Remote) -> str:
    answer = await client.finished(Call("copy", "HEAD", target.bucket, target.key))
    return answer.headers.get("x-ms-copy-status", "success")


async def _stream(
    client: AzureClient,
    source: Remote,
    target: Remote,
    blob: Blob,
    stored: Mapping[str, str],
    algorithm: str,
    conditions: Conditions,
) -> WriteResult:
    async with AzureReading(client, source, 0, None, blob.meta.etag) as reading:
        body = PutBody(blob.meta.size, reading.chunks(), stored)
        if algorithm:
            body = with_checksum(body, algorithm)
        return await put(client, target, body, conditions)


def with_checksum(body: PutBody, algorithm: str) -> PutBody:
    """`body`, with that checksum as if its sender had declared it behind."""
    header = HEADER_PREFIX + algorithm
    if header not in HEADERS:
        raise Refused(400, "InvalidRequest", f"The checksum algorithm {algorithm.upper()} does not exist.")
    digest = new_digest(algorithm)
    chunks = _digested(body.chunks, digest)
    return PutBody(body.length, chunks, body.headers, trailer=(header, lambda: encode(digest.digest())))


async def _digested(chunks: AsyncIterator[bytes], digest: Digest) -> AsyncIterator[bytes]:
    async for piece in chunks:
        digest.update(piece)
        yield piece
