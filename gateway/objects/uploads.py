"""Multipart uploads, written through: parts go to the origin as they come, and the finished object is forgotten
here before the client hears of it. The origin keeps the state of an upload; the gateway has none to lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.errors import Unsupported
from gateway.model import Conditions, Part, PartPage, UploadPage, WriteResult
from gateway.namespace.mounts import Target
from gateway.objects.context import Services, View
from gateway.objects.listing import sole_span
from gateway.objects.writes import require_conditions, settle
from gateway.origins.base import PutBody


async def create_upload(
    services: Services, target: Target, headers: Mapping[str, str]
) -> tuple[str, Mapping[str, str]]:
    """Upload id and response headers."""
    return await services.origin(target).create_upload(target.remote, headers)


async def put_part(
    services: Services, target: Target, upload_id: str, number: int, body: PutBody
) -> WriteResult:
    """Nothing to forget: a part is not visible before the upload is completed."""
    return await services.origin(target).put_part(target.remote, upload_id, number, body)


async def complete_upload(
    services: Services,
    target: Target,
    upload_id: str,
    parts: Sequence[Part],
    headers: Mapping[str, str],
    conditions: Conditions,
) -> WriteResult:
    """Raises Refused with the origin's code: InvalidPart, InvalidPartOrder, EntityTooSmall, NoSuchUpload."""
    origin = services.origin(target)
    require_conditions(origin, conditions)
    change = origin.complete_upload(target.remote, upload_id, parts, headers, conditions)
    return await settle(services, target, change)


async def abort_upload(services: Services, target: Target, upload_id: str) -> None:
    await services.origin(target).abort_upload(target.remote, upload_id)


async def list_parts(
    services: Services, target: Target, upload_id: str, after: int, max_parts: int
) -> PartPage:
    return await services.origin(target).list_parts(target.remote, upload_id, after, max_parts)


async def list_uploads(
    services: Services,
    view: View,
    bucket: str,
    prefix: str,
    delimiter: str,
    key_marker: str,
    upload_id_marker: str,
    max_uploads: int,
) -> UploadPage:
    """One page of unfinished uploads, keys as the client names them. A bucket made of several mounts is listed
    only below a prefix that lies in one of them: markers of two origins have no common order."""
    span = sole_span(view, bucket, prefix)
    if span is None:
        raise Unsupported("Uploads of a bucket made of several mounts are listed under a prefix inside one.")
    position = span.resume(key_marker)
    if position is None or max_uploads == 0:
        return UploadPage(())
    page = await services.origins[span.origin].list_uploads(
        span.remote_bucket,
        span.to_remote(prefix),
        delimiter,
        position,
        upload_id_marker,
        max_uploads,
    )
    marker = page.next_key_marker
    return replace(
        page,
        entries=tuple(replace(entry, key=span.to_virtual(entry.key)) for entry in page.entries),
        common_prefixes=tuple(span.to_virtual(p) for p in page.common_prefixes),
        next_key_marker=None if marker is None else span.to_virtual(marker),
    )
