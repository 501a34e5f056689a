"""PutObject, DeleteObject, CopyObject, and how any body goes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.errors import NotFound, Unreachable, Unsupported
from gateway.model import Conditions, Remote, WriteResult
from gateway.origins import s3_xml
from gateway.origins.base import PutBody, refuse_dates
from gateway.origins.s3_body import Upload
from gateway.origins.s3_client import BULK_S, Client, Retry
from gateway.origins.s3_http import Answer, Call
from gateway.origins.s3_meta import sent_headers, write_headers, write_result
from gateway.s3.signer import STREAMING_UNSIGNED_TRAILER, UNSIGNED
from gateway.s3.text import uri_encode

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


async def put(client: Client, remote: Remote, body: PutBody, conditions: Conditions) -> WriteResult:
    client.flavour.require_holdable(remote.key)
    call = Call("put", "PUT", remote.bucket, remote.key)
    answer = await send_body(client, call, body, condition_headers(client, conditions))
    return write_result(answer.headers)


def condition_headers(client: Client, conditions: Conditions) -> dict[str, str]:
    """If-Match and If-None-Match of a write. Raises Unsupported where they would not be honoured."""
    if conditions and not client.flavour.capabilities.conditional_writes:
        raise Unsupported(f"The origin {client.name} cannot check If-Match or If-None-Match on writes.")
    refuse_dates(conditions)
    pairs = (("if-match", conditions.if_match), ("if-none-match", conditions.if_none_match))
    return {name: value for name, value in pairs if value is not None}


async def send_body(
    client: Client,
    call: Call,
    body: PutBody,
    headers: Mapping[str, str] | None = None,
    statuses: tuple[int, ...] = (200,),
) -> Answer:
    """Streams `body` as the call's, once. The answer is read and closed. Raises what the body's iterator raises."""
    upload, call = with_body(client, call, body, headers or {})
    try:
        await upload.prepare()
        try:
            answer = await client.finished(call, statuses, Retry.NEVER)
        except Unreachable:
            if upload.started:
                raise
            # A connection that the origin had closed before any byte left: nothing can have been stored.
            answer = await client.finished(call, statuses, Retry.NEVER)
    finally:
        await upload.finish()
    if not upload.complete:
        raise Unreachable("The origin answered before it had the whole body.")
    return answer


def with_body(client: Client, call: Call, body: PutBody, more: Mapping[str, str]) -> tuple[Upload, Call]:
    """The body as it goes out, and the call with the headers that belong to it."""
    capabilities = client.flavour.capabilities
    headers = {**call.headers, **dict(sent_headers(body.headers, checksums=capabilities.checksums)), **more}
    framed = body.trailer is not None and capabilities.trailers
    if body.trailer is not None and framed:
        coding = headers.get("content-encoding")
        headers["content-encoding"] = f"aws-chunked,{coding}" if coding else "aws-chunked"
        headers["x-amz-decoded-content-length"] = str(body.length)
        headers["x-amz-trailer"] = body.trailer[0]
    upload = Upload(body, framed, client.wire.stall_s, client.limits.pace)
    return upload, replace(
        call,
        headers=headers,
        payload_hash=STREAMING_UNSIGNED_TRAILER if framed else body.sha256 or UNSIGNED,
        body=upload,
        answer_s=client.limits.deadline_s,
    )


async def delete(client: Client, remote: Remote, query: str) -> Mapping[str, str]:
    """S3 answers alike whether there was anything to delete; stores that say 404 mean the same. `query` names the
    version, if it is to be one."""
    if not client.flavour.holds(remote.key):
        return {}
    call = Call("delete", "DELETE", remote.bucket, remote.key, query)
    try:
        answer = await client.finished(call, (200, 202, 204))
    except NotFound:
        return {}
    return write_headers(answer.headers)


async def copy(
    client: Client, source: Remote, target: Remote, headers: Mapping[str, str], source_version: str | None
) -> WriteResult:
    client.flavour.require_held(source.key)
    client.flavour.require_holdable(target.key)
    call = Call(
        "copy",
        "PUT",
        target.bucket,
        target.key,
        headers={**_copy_headers(client, headers), "x-amz-copy-source": copy_source(source, source_version)},
        answer_s=BULK_S,
    )
    return copy_result(*await client.document(call, "CopyObject", Retry.REFUSED))


def _copy_headers(client: Client, headers: Mapping[str, str]) -> Mapping[str, str]:
    """Conditions on the target as the store calls them. Raises Unsupported where it has none."""
    conditions = [name for name in ("if-match", "if-none-match") if name in headers]
    prefix = client.flavour.copy_if
    if not conditions or prefix == "":
        return headers
    if prefix is None:
        raise Unsupported(f"The origin {client.name} cannot check If-Match or If-None-Match on copies.")
    return {prefix + name if name in conditions else name: value for name, value in headers.items()}


def copy_source(source: Remote, version: str | None) -> str:
    path = uri_encode(f"/{source.bucket}/{source.key}")
    return path if version is None else f"{path}?versionId={uri_encode(version, keep_slash=False)}"


def copy_result(root: Element, answer: Answer) -> WriteResult:
    """Of CopyObject and UploadPartCopy. Raises Unreachable without an ETag."""
    found = s3_xml.fields(root)
    if not found.get("ETag"):
        raise Unreachable("The origin's answer has no ETag.")
    headers = {**write_headers(answer.headers), **s3_xml.checksums(found)}
    modified = s3_xml.timestamp(found.get("LastModified", ""))
    return WriteResult(s3_xml.quoted(found["ETag"]), headers, modified or None)
