"""Open uploads and containers: the listings that are small enough to be sorted here.

Uploads are known by their hidden markers, whose names are ids; S3 shows them by key. All of a container's are read for
each page, up to `_UPLOADS_MAX`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.errors import NoSuchBucket, Refused, Unsupported
from gateway.model import BucketEntry, UploadEntry, UploadPage
from gateway.origins import azure_meta, azure_names, s3_xml
from gateway.origins.azure_client import AzureClient
from gateway.origins.azure_list import everything
from gateway.origins.azure_multipart import upload_of
from gateway.origins.s3_client import Retry
from gateway.origins.s3_http import Call
from gateway.s3.conditions import parse_http_date
from gateway.s3.signer import encode_query

# 1 KiB of key each: what one listing may cost in memory.
_UPLOADS_MAX: Final = 20_000
_CONTAINER_PAGES_MAX: Final = 100


async def uploads(
    client: AzureClient,
    bucket: str,
    prefix: str,
    delimiter: str,
    key_marker: str,
    id_marker: str,
    count_max: int,
) -> UploadPage:
    azure_names.require_container(bucket)
    entries: list[UploadEntry] = []
    groups: list[str] = []
    for upload in await _open_uploads(client, bucket, prefix):
        if not _behind(upload, key_marker, id_marker):
            continue
        at = upload.key.find(delimiter, len(prefix)) if delimiter else -1
        group = None if at < 0 else upload.key[: at + len(delimiter)]
        if group is not None and (groups[-1:] == [group] or group <= key_marker):
            continue
        if len(entries) + len(groups) >= count_max:
            return UploadPage(tuple(entries), tuple(groups), *_markers(entries, groups))
        if group is None:
            entries.append(upload)
        else:
            groups.append(group)
    return UploadPage(tuple(entries), tuple(groups))


async def _open_uploads(client: AzureClient, bucket: str, prefix: str) -> list[UploadEntry]:
    found: list[UploadEntry] = []
    async for name, headers in everything(client, bucket, azure_names.UPLOADS):
        upload_id = name.removeprefix(azure_names.UPLOADS)
        text = headers.get(f"x-ms-meta-{azure_meta.NAME}", "")
        upload = upload_of(bucket, upload_id, text)
        if upload is None or not upload.key.startswith(prefix):
            continue
        if len(found) == _UPLOADS_MAX:
            raise Unsupported(
                f"More than {_UPLOADS_MAX} uploads are open under this prefix; name a longer one."
            )
        storage_class = upload.headers.get("x-amz-storage-class", "STANDARD")
        found.append(UploadEntry(upload.key, upload_id, int(upload_id[:16], 16) / 1e9, storage_class))
    return sorted(found, key=lambda upload: (upload.key, upload.upload_id))


def _behind(upload: UploadEntry, key_marker: str, id_marker: str) -> bool:
    if not id_marker:
        return upload.key > key_marker
    return (upload.key, upload.upload_id) > (key_marker, id_marker)


def _markers(entries: list[UploadEntry], groups: list[str]) -> tuple[str | None, str | None]:
    if groups and (not entries or groups[-1] > entries[-1].key):
        return groups[-1], None
    return (entries[-1].key, entries[-1].upload_id) if entries else (None, None)


async def require_bucket(client: AzureClient, bucket: str) -> None:
    """By a listing of one: every credential that can list may ask that, a container's SAS among them. Raises
    NoSuchBucket."""
    azure_names.require_container(bucket)
    query = encode_query([("restype", "container"), ("comp", "list"), ("maxresults", "1")])
    await client.finished(Call("head", "GET", bucket, query=query))


async def create_bucket(client: AzureClient, bucket: str) -> None:
    """Raises Refused with S3's code."""
    if not azure_names.is_container(bucket):
        raise Refused(
            400, "InvalidBucketName", "A container has 3 to 63 lower-case letters, digits and single dashes."
        )
    try:
        await client.finished(Call("put", "PUT", bucket, query="restype=container"), (201,), Retry.REFUSED)
    except Refused as error:
        if error.status == 409:
            raise Refused(409, "BucketAlreadyOwnedByYou", "The bucket exists already.") from None
        raise


async def buckets(client: AzureClient) -> Sequence[BucketEntry]:
    """Containers with names that buckets can have (not `$web` and the like). Azure does not tell when one was made:
    the time is its last change."""
    entries: list[BucketEntry] = []
    marker = ""
    for _ in range(_CONTAINER_PAGES_MAX):
        pairs = [("comp", "list"), *([("marker", marker)] if marker else [])]
        try:
            root, _ = await client.document(
                Call("list", "GET", query=encode_query(pairs)), "EnumerationResults"
            )
        except NoSuchBucket:  # an endpoint below which there is nothing
            return []
        for group in s3_xml.children(root, "Containers"):
            for node in s3_xml.children(group, "Container"):
                name = s3_xml.fields(node).get("Name", "")
                if azure_names.is_container(name):
                    changed = s3_xml.inner(node, "Properties", "Last-Modified") or ""
                    entries.append(BucketEntry(name, float(parse_http_date(changed) or 0)))
        marker = s3_xml.fields(root).get("NextMarker", "")
        if not marker:
            break
    return entries
