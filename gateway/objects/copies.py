"""CopyObject and UploadPartCopy: by the origin itself where source and target live at one, else streamed through.

Whether the caller may read the source was decided before anything here runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.errors import ConditionFailed, Refused, Unsupported
from gateway.model import Conditions, ObjectMeta, WriteResult
from gateway.namespace.mounts import Target
from gateway.objects.context import Services
from gateway.objects.writes import require_conditions, settle
from gateway.origins.base import Origin, PutBody, Reading
from gateway.s3.conditions import check

# S3 copies no larger object in one call; also the bound of what one request can make two origins move.
COPY_SIZE_MAX = 5 * 1024**3

# What makes a copy onto itself change something (S3 refuses one that does not).
_CHANGES_ITSELF = (
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-checksum-algorithm",
)

# Headers of a copy request that speak about the copying and are not stored.
_DIRECTIVES = ("x-amz-metadata-directive", "x-amz-tagging-directive", "x-amz-copy-source-")

# Headers of the source that describe that one stored copy, not the object: never carried to another origin.
_SOURCE_ONLY = (
    "x-amz-version-id",
    "x-amz-storage-class",
    "x-amz-server-side-encryption",
    "x-amz-replication-status",
    "x-amz-expiration",
    "x-amz-restore",
    "x-amz-object-lock",
    "x-amz-tagging-count",
    "x-amz-mp-parts-count",
    "x-amz-delete-marker",
)


@dataclass(frozen=True, slots=True)
class Source:
    """What to copy from. `conditions` are the x-amz-copy-source-if-* headers."""

    target: Target
    version_id: str | None = None
    conditions: Conditions = Conditions()  # noqa: RUF009  # frozen


async def copy_object(
    services: Services, source: Source, target: Target, headers: Mapping[str, str], conditions: Conditions
) -> WriteResult:
    """Copies `source` over `target`. `headers` are the request's x-amz-* and content headers without
    x-amz-copy-source itself. Raises NotFound (no source), ConditionFailed, Refused, Unsupported."""
    destination = services.origin(target)
    require_conditions(destination, conditions)
    _refuse_idle_copy(source, target, headers)
    if source.target.origin == target.origin:
        change = destination.copy(
            source.target.remote,
            target.remote,
            {**headers, **_condition_headers(conditions)},
            source_version=source.version_id,
        )
    else:
        change = _stream_object(
            services.origin(source.target), destination, source, target, headers, conditions
        )
    return await settle(services, target, change)


def _refuse_idle_copy(source: Source, target: Target, headers: Mapping[str, str]) -> None:
    if source.version_id is not None or source.target.cache_key != target.cache_key:
        return
    replaces = headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE"
    if not replaces and not any(name in headers for name in _CHANGES_ITSELF):
        raise Refused(
            400,
            "InvalidRequest",
            "This copy request is illegal because it copies an object to itself without changing its metadata, "
            "storage class, website redirect location or encryption.",
        )


def _condition_headers(conditions: Conditions) -> dict[str, str]:
    pairs = (("if-match", conditions.if_match), ("if-none-match", conditions.if_none_match))
    return {name: value for name, value in pairs if value is not None}


async def _stream_object(
    origin: Origin,
    destination: Origin,
    source: Source,
    target: Target,
    headers: Mapping[str, str],
    conditions: Conditions,
) -> WriteResult:
    """Between two origins: one GET feeding one PUT, in the chunks that the source gives."""
    _require_current(source)
    async with origin.get(source.target.remote, 0, None) as reading:
        meta = reading.meta
        _check_source(source, meta)
        _require_size(meta.size)
        body = PutBody(meta.size, reading.chunks(), _stored_headers(meta, headers))
        return await destination.put(target.remote, body, conditions)


def _stored_headers(meta: ObjectMeta, headers: Mapping[str, str]) -> dict[str, str]:
    """What the new object is stored with: the source's metadata, or with REPLACE the request's; then what the
    request says of the new copy itself (storage class, encryption, …) in either case."""
    asked = {name: value for name, value in headers.items() if not name.startswith(_DIRECTIVES)}
    if headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE":
        return asked
    kept = {name: value for name, value in meta.headers.items() if not name.startswith(_SOURCE_ONLY)}
    return kept | {name: value for name, value in asked.items() if _is_about_the_copy(name)}


def _is_about_the_copy(name: str) -> bool:
    return name.startswith("x-amz-") and not name.startswith("x-amz-meta-")


async def copy_part(
    services: Services,
    source: Source,
    target: Target,
    upload_id: str,
    number: int,
    byte_range: tuple[int, int] | None,
    headers: Mapping[str, str],
) -> WriteResult:
    """Copies `byte_range` ([start, stop), None for all) of the source as one part of an upload."""
    destination = services.origin(target)
    if source.target.origin == target.origin:
        return await destination.copy_part(
            source.target.remote,
            target.remote,
            upload_id,
            number,
            headers,
            source_version=source.version_id,
        )
    _require_current(source)
    start, stop = byte_range or (0, None)
    async with services.origin(source.target).get(source.target.remote, start, stop) as reading:
        _check_source(source, reading.meta)
        _require_range(byte_range, reading)
        body = PutBody(reading.stop - reading.start, reading.chunks())
        return await destination.put_part(target.remote, upload_id, number, body)


def _require_current(source: Source) -> None:
    if source.version_id is not None:
        raise Unsupported("A version of an object cannot be copied from one origin to another.")


def _check_source(source: Source, meta: ObjectMeta) -> None:
    """A copy's conditions never answer 304: S3 gives 412 for every one of them that fails."""
    if check(source.conditions, meta.etag, meta.last_modified) is not None:
        raise ConditionFailed("A condition on the copy source does not hold.")


def _require_size(size: int) -> None:
    if size > COPY_SIZE_MAX:
        raise Refused(
            400,
            "InvalidRequest",
            f"The specified copy source is larger than the maximum allowable size for a copy source: {COPY_SIZE_MAX}",
        )


def _require_range(byte_range: tuple[int, int] | None, reading: Reading) -> None:
    """Unlike a GET's, the range of a part copy is not clamped to the object."""
    _require_size(reading.stop - reading.start)
    if byte_range is not None and (reading.start, reading.stop) != byte_range:
        raise Refused(
            400, "InvalidRange", "The x-amz-copy-source-range value lies outside the source object."
        )
