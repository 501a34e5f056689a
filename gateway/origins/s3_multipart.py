"""Multipart uploads: the store keeps their state, we keep none."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from gateway.errors import ConditionFailed, GatewayError, NotFound, Refused, Unreachable
from gateway.model import Conditions, ObjectMeta, Part, PartEntry, PartPage, Remote, WriteResult
from gateway.origins import s3_read, s3_xml
from gateway.origins.base import PutBody
from gateway.origins.s3_client import BULK_S, Client, Retry
from gateway.origins.s3_http import Call
from gateway.origins.s3_meta import sent_headers, write_headers, write_result
from gateway.origins.s3_read import S3Reading
from gateway.origins.s3_write import condition_headers, copy_result, copy_source, send_body
from gateway.s3.conditions import check, parse_copy_conditions
from gateway.s3.signer import encode_query
from gateway.s3.text import xml_escape

_MD5: Final = re.compile(r"[0-9a-f]{32}")
_COPY_RANGE: Final = re.compile(r"bytes=(\d{1,19})-(\d{1,19})")


async def create(client: Client, remote: Remote, headers: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    client.flavour.require_holdable(remote.key)
    sent = dict(sent_headers(headers, checksums=client.flavour.capabilities.checksums))
    query = encode_query([("uploads", "")])
    call = Call("multipart", "POST", remote.bucket, remote.key, query, sent)
    root, answer = await client.document(call, "InitiateMultipartUpload", Retry.REFUSED)
    upload_id = s3_xml.fields(root).get("UploadId", "").strip()
    if not upload_id:
        raise Unreachable("The origin's answer has no UploadId.")
    kept = ("x-amz-checksum-", "x-amz-server-side-encryption", "x-amz-abort-")
    return upload_id, {name: v for name, v in answer.headers.items() if name.startswith(kept)}


def _part_call(op: str, remote: Remote, upload_id: str, number: int) -> Call:
    query = encode_query([("partNumber", str(number)), ("uploadId", upload_id)])
    return Call(op, "PUT", remote.bucket, remote.key, query)


async def put_part(
    client: Client,
    remote: Remote,
    upload_id: str,
    number: int,
    body: PutBody,
    headers: Mapping[str, str] | None = None,
) -> WriteResult:
    """`headers`: to be sent beside the body's own."""
    client.flavour.require_holdable(remote.key)
    answer = await send_body(client, _part_call("multipart", remote, upload_id, number), body, headers)
    return write_result(answer.headers)


async def copy_part(
    client: Client,
    source: Remote,
    target: Remote,
    upload_id: str,
    number: int,
    headers: Mapping[str, str],
    source_version: str | None,
) -> WriteResult:
    client.flavour.require_held(source.key)
    client.flavour.require_holdable(target.key)
    if not client.flavour.copies_parts and source_version is None:
        return await stream_part(client, source, target, upload_id, number, headers)
    call = _part_call("copy", target, upload_id, number)
    call.headers = {**headers, "x-amz-copy-source": copy_source(source, source_version)}
    call.answer_s = BULK_S
    return copy_result(*await client.document(call, "Copy", Retry.REFUSED))


async def stream_part(
    client: Client,
    source: Remote,
    target: Remote,
    upload_id: str,
    number: int,
    headers: Mapping[str, str],
    query: str = "",
) -> WriteResult:
    """For stores without UploadPartCopy: through this process. `query` names the source's version."""

    def reading(start: int, stop: int | None) -> S3Reading:
        return S3Reading(client, source, start, stop, None, query)

    async with part_body(headers, reading) as body:
        return await put_part(client, target, upload_id, number, body)


@asynccontextmanager
async def part_body(
    headers: Mapping[str, str], reading_of: Callable[[int, int | None], S3Reading]
) -> AsyncIterator[PutBody]:
    """The source of a part: its conditions and its range checked, which is not clamped to the object as a GET's is.
    Raises ConditionFailed, Refused, and what reading raises."""
    start, stop = _copy_range(headers.get("x-amz-copy-source-range"))
    async with reading_of(start, stop) as reading:
        check_source(headers, reading.meta)
        if stop is not None and reading.stop != stop:
            text = f"The range is not inside the source of {reading.meta.size} bytes."
            raise Refused(400, "InvalidArgument", text)
        yield PutBody(reading.stop - reading.start, reading.chunks())


def check_source(headers: Mapping[str, str], meta: ObjectMeta) -> None:
    """Raises ConditionFailed by x-amz-copy-source-if-*."""
    conditions = parse_copy_conditions(headers)
    if conditions and check(conditions, meta.etag, meta.last_modified) is not None:
        raise ConditionFailed("The source of the copy does not meet the request's condition.")


def _copy_range(value: str | None) -> tuple[int, int | None]:
    if value is None:
        return 0, None
    found = _COPY_RANGE.fullmatch(value)
    if found is None or int(found[1]) > int(found[2]):
        raise Refused(400, "InvalidArgument", "x-amz-copy-source-range must be bytes=first-last.")
    return int(found[1]), int(found[2]) + 1


async def complete(
    client: Client,
    remote: Remote,
    upload_id: str,
    parts: Sequence[Part],
    headers: Mapping[str, str],
    conditions: Conditions,
) -> WriteResult:
    """A complete whose answer was lost is repeated, by us (never with a condition, which its own first try might
    now fail) or by the client. Stores then either answer alike, or know the upload no more: if the object has the
    ETag that these very parts give, the first try had succeeded."""
    client.flavour.require_holdable(remote.key)
    with_checksums = client.flavour.capabilities.checksums
    document = _document(parts, with_checksums)
    call = Call(
        "multipart",
        "POST",
        remote.bucket,
        remote.key,
        encode_query([("uploadId", upload_id)]),
        {
            **dict(sent_headers(headers, checksums=with_checksums)),
            **condition_headers(client, conditions),
        },
        hashlib.sha256(document).hexdigest(),
        document,
        BULK_S,
    )
    retry = Retry.REFUSED if conditions else Retry.ALWAYS
    try:
        root, answer = await client.document(call, "CompleteMultipartUpload", retry)
    except Refused as error:
        if error.code == "NoSuchUpload" and (done := await _completed(client, remote, parts)) is not None:
            return done
        raise
    found = s3_xml.fields(root)
    if not found.get("ETag"):
        raise Unreachable("The origin's answer has no ETag.")
    return WriteResult(
        s3_xml.quoted(found["ETag"]), {**write_headers(answer.headers), **s3_xml.checksums(found)}
    )


def _document(parts: Sequence[Part], with_checksums: bool) -> bytes:
    rows = []
    for part in parts:
        sums = part.checksums.items() if with_checksums else ()
        elements = "".join(
            f"<{s3_xml.CHECKSUM_ELEMENTS[name]}>{xml_escape(value)}</{s3_xml.CHECKSUM_ELEMENTS[name]}>"
            for name, value in sums
            if name in s3_xml.CHECKSUM_ELEMENTS
        )
        tag = xml_escape(part.etag)
        rows.append(f"<Part><PartNumber>{part.number}</PartNumber><ETag>{tag}</ETag>{elements}</Part>")
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    return f'<CompleteMultipartUpload xmlns="{space}">{"".join(rows)}</CompleteMultipartUpload>'.encode()


async def _completed(client: Client, remote: Remote, parts: Sequence[Part]) -> WriteResult | None:
    etag = multipart_etag(parts)
    if etag is None:
        return None
    try:
        meta = await s3_read.head(client, remote)
    except NotFound:
        return None
    if meta.etag != etag:
        return None
    return WriteResult(etag, {**write_headers(meta.headers), **meta.checksums})


def multipart_etag(parts: Sequence[Part]) -> str | None:
    """The ETag of an object made of these parts: the MD5 of their MD5s. None when the parts' ETags are none (as
    with KMS keys)."""
    digests = [part.etag.strip('"') for part in parts]
    if not all(_MD5.fullmatch(digest) for digest in digests):
        return None
    whole = hashlib.md5(bytes.fromhex("".join(digests)), usedforsecurity=False)
    return f'"{whole.hexdigest()}-{len(digests)}"'


async def abort(client: Client, remote: Remote, upload_id: str) -> None:
    """Raises Refused (NoSuchUpload), except when an earlier try of this very call may have aborted it."""
    client.flavour.require_holdable(remote.key)
    call = Call("multipart", "DELETE", remote.bucket, remote.key, encode_query([("uploadId", upload_id)]))
    tries = 0

    async def once() -> None:
        nonlocal tries
        tries += 1
        try:
            await client.finished(call, (200, 204), Retry.NEVER)
        except GatewayError as error:
            if tries == 1 or not isinstance(error, Refused) or error.code != "NoSuchUpload":
                raise

    await client.retried(once)


async def parts(client: Client, remote: Remote, upload_id: str, after: int, max_parts: int) -> PartPage:
    client.flavour.require_holdable(remote.key)
    query = [("uploadId", upload_id), ("max-parts", str(max_parts))]
    if after:
        query.append(("part-number-marker", str(after)))
    call = Call("list", "GET", remote.bucket, remote.key, encode_query(query))
    root, answer = await client.document(call, "ListParts")
    found = s3_xml.fields(root)
    listed = (_part_entry(s3_xml.fields(node)) for node in s3_xml.children(root, "Part"))
    entries = tuple(entry for entry in listed if entry.number > after)  # rclone gives the marker's own again
    truncated = found.get("IsTruncated", "").strip() == "true" and bool(entries)
    return PartPage(
        entries,
        entries[-1].number if truncated else None,
        {name: v for name, v in answer.headers.items() if name.startswith("x-amz-abort-")},
        found.get("StorageClass", "").strip() or "STANDARD",
        found.get("ChecksumAlgorithm", "").strip() or None,
        found.get("ChecksumType", "").strip() or None,
    )


def _part_entry(found: Mapping[str, str]) -> PartEntry:
    return PartEntry(
        s3_xml.number(found.get("PartNumber", "")),
        s3_xml.quoted(found.get("ETag", "")),
        s3_xml.number(found.get("Size", "")),
        s3_xml.timestamp(found.get("LastModified", "")),
        s3_xml.checksums(found),
    )
