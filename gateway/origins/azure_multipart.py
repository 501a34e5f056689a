"""Multipart uploads over block blobs.

    marker   .s3-training-gateway/uploads/<id>   an empty blob: the upload exists while it does; key and headers
    parts    .s3-training-gateway/parts/<id>     uncommitted blocks (`azure_blocks.py`), apart from the key's own blob:
                                                 a write of the key would drop them there, and so would another upload

Complete commits the chosen blocks at the hidden blob, with the object's metadata, copies it to the key with the
client's conditions (inside an account: at once and without moving data), then deletes both. A crash in between leaves
an upload that can be completed again with the same parts, or aborted. The object names the upload that it came from, so
a complete that is repeated after the marker is gone is answered as the first was.

Azure forgets the blocks of an upload to which nothing was added for a week: it then ends in InvalidPart.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from gateway.errors import NotFound, Refused
from gateway.model import Conditions, Part, PartEntry, PartPage, Remote, WriteResult
from gateway.origins import azure_meta, azure_names, azure_read, file_checksums, s3_xml
from gateway.origins.azure_blocks import DATA_BLOCK_BYTES, StoredPart, data_name, parts_of, receipt_name
from gateway.origins.azure_client import AzureClient
from gateway.origins.azure_copy import copy_blob, with_checksum
from gateway.origins.azure_meta import Record
from gateway.origins.azure_read import AzureReading
from gateway.origins.azure_write import (
    Source,
    condition_headers,
    delete_own,
    put_block,
    put_block_list,
    put_empty,
    put_small_block,
    require_current,
)
from gateway.origins.base import PutBody
from gateway.origins.s3_http import Call
from gateway.origins.s3_multipart import multipart_etag, part_body
from gateway.s3.checksums import HEADER_PREFIX

PART_BYTES_MIN: Final = 5 << 20
PART_NUMBER_MAX: Final = 10_000
_ID_LENGTH: Final = 48
_BLOCKS_GONE: Final = ("InvalidPart", "InvalidBlockList")
_HEX: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Upload:
    bucket: str
    id: str
    key: str
    headers: Mapping[str, str]
    algorithm: str | None
    kind: str | None

    @property
    def parts(self) -> Remote:
        return Remote(self.bucket, azure_names.PARTS + self.id)

    @property
    def marker(self) -> Remote:
        return Remote(self.bucket, azure_names.UPLOADS + self.id)


async def create(
    client: AzureClient, remote: Remote, headers: Mapping[str, str]
) -> tuple[str, Mapping[str, str]]:
    azure_names.require_writable(remote)
    algorithm = (headers.get("x-amz-checksum-algorithm") or "").upper() or None
    kind = file_checksums.type_of(algorithm, headers.get("x-amz-checksum-type")) if algorithm else None
    upload_id = f"{time.time_ns():016x}{secrets.token_hex(16)}"
    stored = azure_meta.stored_headers(headers)
    upload = Upload(remote.bucket, upload_id, remote.key, stored, algorithm, kind)
    _metadata(upload, (), file_size=0, etag="0" * 32)  # what would not fit later is refused now
    raw = {"key": upload.key, "headers": stored, "algorithm": algorithm, "kind": kind}
    metadata = {f"x-ms-meta-{azure_meta.NAME}": azure_meta.pack(raw)}
    await put_empty(client, "multipart", upload.marker, metadata)
    answer = {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": kind}
    return upload_id, {name: value for name, value in answer.items() if value}


async def find(client: AzureClient, remote: Remote, upload_id: str) -> Upload:
    """Raises Refused(NoSuchUpload): unknown, of another key, aborted or completed."""
    azure_names.require_container(remote.bucket)
    if len(upload_id) != _ID_LENGTH or not _HEX.issuperset(upload_id):
        raise no_such_upload()
    marker = Remote(remote.bucket, azure_names.UPLOADS + upload_id)
    try:
        answer = await client.finished(Call("multipart", "HEAD", marker.bucket, marker.key))
    except NotFound:
        raise no_such_upload() from None
    upload = upload_of(remote.bucket, upload_id, answer.headers.get(f"x-ms-meta-{azure_meta.NAME}", ""))
    if upload is None or upload.key != remote.key:
        raise no_such_upload()
    return upload


def upload_of(bucket: str, upload_id: str, text: str) -> Upload | None:
    """From a marker's metadata; None for what is none."""
    try:
        raw: dict[str, Any] = azure_meta.unpack(text)
        return Upload(bucket, upload_id, raw["key"], dict(raw["headers"]), raw["algorithm"], raw["kind"])
    except (ValueError, KeyError, TypeError):
        return None


async def put_part(
    client: AzureClient, remote: Remote, upload_id: str, number: int, body: PutBody
) -> WriteResult:
    upload = await find(client, remote, upload_id)
    return await _add_part(client, upload, number, body)


async def _add_part(client: AzureClient, upload: Upload, number: int, body: PutBody) -> WriteResult:
    if not 1 <= number <= PART_NUMBER_MAX:
        raise Refused(400, "InvalidArgument", f"Part numbers are 1 to {PART_NUMBER_MAX}.")
    source = Source(client, body)
    attempt = secrets.randbits(32)
    starts = range(0, body.length, DATA_BLOCK_BYTES)
    for index, at in enumerate(starts):
        length = min(DATA_BLOCK_BYTES, body.length - at)
        name = data_name(number, attempt, index)
        await put_block(client, "multipart", upload.parts, name, length, source.take(length))
    await source.end()
    checksums = azure_meta.declared_checksums(body.headers)
    if body.trailer is not None:
        checksums[body.trailer[0]] = body.trailer[1]()
    kept = sorted(checksums.items(), key=lambda item: item[0] != _header(upload))  # the upload's own first
    receipt = receipt_name(number, attempt, time.time(), source.md5.digest(), len(starts), dict(kept))
    await put_small_block(client, "multipart", upload.parts, receipt, b".")  # Azure takes no empty block
    return WriteResult(f'"{source.md5.hexdigest()}"', checksums)


def _header(upload: Upload) -> str:
    return HEADER_PREFIX + (upload.algorithm or "").lower()


async def copy_part(
    client: AzureClient,
    source: Remote,
    target: Remote,
    upload_id: str,
    number: int,
    headers: Mapping[str, str],
    version: str | None,
) -> WriteResult:
    upload = await find(client, target, upload_id)
    require_current(version)

    def reading(start: int, stop: int | None) -> AzureReading:
        return AzureReading(client, source, start, stop, None)

    async with part_body(headers, reading) as body:
        if upload.algorithm is not None:
            body = with_checksum(body, upload.algorithm.lower())
        result = await _add_part(client, upload, number, body)
    return WriteResult(result.etag, result.headers, float(int(time.time())))


# Complete and abort


async def complete(
    client: AzureClient,
    remote: Remote,
    upload_id: str,
    parts: Sequence[Part],
    headers: Mapping[str, str],
    conditions: Conditions,
    part_bytes_min: int,
) -> WriteResult:
    try:
        upload = await find(client, remote, upload_id)
        _require_order(parts)
        checked = await condition_headers(client, remote, conditions)
        record = await _committed(client, upload, parts)
        if record is None:
            record = await _commit_or_find(client, upload, parts, headers, part_bytes_min)
        metadata = {
            **azure_meta.metadata_headers(
                upload.headers,
                etag=record.etag,
                size=record.size,
                checksums=record.checksums,
                parts=record.parts,
                upload=upload.id,
            ),
            **azure_meta.tier_header(upload.headers),
        }
        await copy_blob(client, upload.parts, remote, {**metadata, **checked})
    except (Refused, NotFound) as error:
        # Another complete of this upload may have come to its end: an earlier one, or one that runs beside this one.
        gone = isinstance(error, NotFound) or error.code in ("NoSuchUpload", *_BLOCKS_GONE)
        if gone and (done := await _completed(client, remote, upload_id)) is not None:
            return done
        raise _as_seen(error, conditions) from None
    await delete_own(client, "multipart", upload.parts)
    await delete_own(client, "multipart", upload.marker)
    return WriteResult(f'"{record.etag}"', record.checksums)


def _as_seen(error: Refused | NotFound, conditions: Conditions) -> Exception:
    if isinstance(error, NotFound):
        return error if conditions.if_match is not None else no_such_upload()
    return no_such_upload() if error.code == "InvalidBlockList" else error


async def _completed(client: AzureClient, remote: Remote, upload_id: str) -> WriteResult | None:
    try:
        blob = await azure_read.head(client, remote, "multipart")
    except NotFound:
        return None
    if blob.record is None or blob.record.upload != upload_id:
        return None
    return WriteResult(blob.meta.etag, blob.record.checksums)


async def _committed(client: AzureClient, upload: Upload, parts: Sequence[Part]) -> Record | None:
    """What an earlier complete has committed at the hidden blob without getting further. Raises Refused(InvalidPart)
    when those were other parts."""
    try:
        answer = await client.finished(Call("multipart", "HEAD", *upload.parts))
    except NotFound:
        return None
    record = azure_meta.decode(answer.headers.get(f"x-ms-meta-{azure_meta.NAME}", ""))
    if record is None or f'"{record.etag}"' != multipart_etag(parts):
        raise Refused(400, "InvalidPart", "The upload was completed with other parts.")
    return record


async def _commit_or_find(
    client: AzureClient,
    upload: Upload,
    parts: Sequence[Part],
    headers: Mapping[str, str],
    part_bytes_min: int,
) -> Record:
    """A complete that runs beside this one may have taken the blocks: they are then committed, and as good."""
    try:
        return await _commit(client, upload, parts, headers, part_bytes_min)
    except Refused as error:
        if error.code not in _BLOCKS_GONE:
            raise
        record = await _committed(client, upload, parts)
        if record is None:
            raise
        return record


async def _commit(
    client: AzureClient,
    upload: Upload,
    parts: Sequence[Part],
    headers: Mapping[str, str],
    part_bytes_min: int,
) -> Record:
    there = await stored_parts(client, upload)
    chosen = [_chosen(there, part) for part in parts]
    if any(part.size < part_bytes_min for part in chosen[:-1]):
        raise Refused(400, "EntityTooSmall", "A part that is not the last is smaller than the minimum.")
    size = sum(part.size for part in chosen)
    declared_size = headers.get("x-amz-mp-object-size", "")
    if declared_size and declared_size != str(size):
        raise Refused(400, "InvalidRequest", f"The parts have {size} bytes, not {declared_size}.")
    etag = multipart_etag(parts)
    if etag is None:
        raise Refused(400, "InvalidPart", "The ETag of a part is an MD5.")
    checksums = _object_checksums(upload, chosen, azure_meta.declared_checksums(headers))
    sizes = tuple(part.size for part in chosen)
    names = [name for part in chosen for name in part.blocks]
    sent = {
        **azure_meta.property_headers(upload.headers, None),
        **_metadata(upload, sizes, file_size=size, etag=etag.strip('"'), checksums=checksums),
    }
    await put_block_list(client, "multipart", upload.parts, names, sent)
    return Record(etag.strip('"'), size, 0, {}, {}, checksums, sizes, upload.id)


def _metadata(
    upload: Upload,
    sizes: tuple[int, ...],
    *,
    file_size: int,
    etag: str,
    checksums: Mapping[str, str] | None = None,
) -> dict[str, str]:
    return azure_meta.metadata_headers(
        upload.headers, etag=etag, size=file_size, checksums=checksums or {}, parts=sizes, upload=upload.id
    )


def _require_order(parts: Sequence[Part]) -> None:
    if not parts:
        raise Refused(400, "MalformedXML", "A completed upload needs at least one part.")
    if any(later.number <= earlier.number for earlier, later in pairwise(parts)):
        raise Refused(400, "InvalidPartOrder", "The parts are not in ascending order.")


def _chosen(there: Mapping[int, StoredPart], named: Part) -> StoredPart:
    part = there.get(named.number)
    if (
        part is None
        or named.etag.strip('"') != part.etag.strip('"')
        or any(part.checksums.get(name, value) != value for name, value in named.checksums.items())
    ):
        raise Refused(400, "InvalidPart", f"Part {named.number} was not uploaded with this ETag.")
    return part


def _object_checksums(
    upload: Upload, parts: Sequence[StoredPart], declared: Mapping[str, str]
) -> dict[str, str]:
    if upload.algorithm is None or upload.kind is None:
        return {}
    name = _header(upload)
    pairs = [(part.checksums.get(name), part.size) for part in parts]
    value = file_checksums.of_parts(upload.algorithm, upload.kind, pairs)
    if value is None:
        return {}
    if declared.get(name, value) not in (value, value.partition("-")[0]):
        text = f"The parts make the {upload.algorithm} {value}, not {declared[name]}."
        raise Refused(400, "BadDigest", text)
    return {name: value, "x-amz-checksum-type": upload.kind}


async def abort(client: AzureClient, remote: Remote, upload_id: str) -> None:
    """Raises Refused(NoSuchUpload). The blocks go with an empty blob of their name, and that goes, too."""
    upload = await find(client, remote, upload_id)
    await delete_own(client, "multipart", upload.marker)
    await put_empty(client, "multipart", upload.parts, {})
    await delete_own(client, "multipart", upload.parts)


# Listing


async def stored_parts(client: AzureClient, upload: Upload) -> dict[int, StoredPart]:
    call = Call("list", "GET", *upload.parts, query="blocklisttype=uncommitted&comp=blocklist")
    try:
        root, _ = await client.document(call, "BlockList")
    except NotFound:  # no part has come yet
        return {}
    blocks = []
    for group in s3_xml.children(root, "UncommittedBlocks"):
        for node in s3_xml.children(group, "Block"):
            found = s3_xml.fields(node)
            blocks.append((found.get("Name", ""), s3_xml.number(found.get("Size", ""))))
    return parts_of(blocks)


async def parts_page(
    client: AzureClient, remote: Remote, upload_id: str, after: int, count_max: int
) -> PartPage:
    upload = await find(client, remote, upload_id)
    there = await stored_parts(client, upload)
    numbers = sorted(number for number in there if number > after)
    shown = [there[number] for number in numbers[:count_max]]
    return PartPage(
        tuple(PartEntry(part.number, part.etag, part.size, part.at, part.checksums) for part in shown),
        shown[-1].number if shown and len(numbers) > count_max else None,
        storage_class=upload.headers.get("x-amz-storage-class", "STANDARD"),
        checksum_algorithm=upload.algorithm,
        checksum_type=upload.kind,
    )


def no_such_upload() -> Refused:
    return Refused(
        404, "NoSuchUpload", "The upload does not exist: it was completed, aborted or never begun."
    )
