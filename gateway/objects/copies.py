"""CopyObject and UploadPartCopy: by the origin itself where source and target live at one, else streamed through.

A streamed copy is of one version of the source and is proven with what the source has stored of it (`streamed.py`). It
has the source's tags where the destination keeps tags at all; storage class, encryption, locks and rights are the
destination's own, as in S3. With mirrors, the place that has the source copies, or is read from; the target's own place
is written to. A copy of an object onto itself brings it from a mirror to that place.

Whether the caller may read the source was decided before anything here runs.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace

from gateway.errors import ConditionFailed, NotFound, Refused, Unsupported
from gateway.model import Conditions, ObjectMeta, WriteResult
from gateway.namespace.mounts import Target
from gateway.objects.context import Services
from gateway.objects.copy_tags import tags_of
from gateway.objects.mirrored import at_home, is_mirrored, judged, located
from gateway.objects.owners import OWNER_HEADER, SOURCE_OWNER_HEADER, require_owner
from gateway.objects.streamed import known_checksum, proofs_of, proven, received
from gateway.objects.writes import require_conditions, settle
from gateway.origins.base import Origin, PutBody, Reading
from gateway.s3.checksums import HEADER_PREFIX, SIZES, Digests, encode
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

# Said of this one call and of the source's owner; S3 takes no such header with a PUT.
_ABOUT_THE_CALL = frozenset(
    [
        "x-amz-checksum-algorithm",
        "x-amz-request-payer",
        SOURCE_OWNER_HEADER,
    ]
)

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
    "x-amz-website-redirect-location",
    "x-amz-archive-status",
    "x-amz-missing-meta",
)

# Of a mirrored source that is moved while it is copied: found again.
_FINDS_MAX = 2
_ALGORITHM = "x-amz-checksum-algorithm"
# Some stores keep a checksum only if its name comes along.
_SDK_ALGORITHM = "x-amz-sdk-checksum-algorithm"


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
    require_conditions(services.origin(target), conditions)
    source = _as_shown(services, source)
    for _ in range(_FINDS_MAX - 1):
        try:
            return await _copy_object(services, source, target, headers, conditions)
        except NotFound:
            if not is_mirrored(services, source.target):
                raise
    return await _copy_object(services, source, target, headers, conditions)


async def _copy_object(
    services: Services, source: Source, target: Target, headers: Mapping[str, str], conditions: Conditions
) -> WriteResult:
    found, home = await located(services, source.target), at_home(services, target)
    _refuse_idle_copy(source, found, home, headers)
    left = await judged(services, target, conditions)
    if found.origin == home.origin:
        change = services.origin(home).copy(
            found.remote,
            home.remote,
            {**headers, **_condition_headers(left)},
            source_version=source.version_id,
        )
    else:
        await _require_owners(services, found, home, headers)
        change = _stream_object(services, source, found, home, headers, left)
    return _shown(services, source, target, await settle(services, target, change))


def _as_shown(services: Services, source: Source) -> Source:
    """A mount with mirrors shows each object as its one version "null", whatever its places call it."""
    if source.version_id is None or not is_mirrored(services, source.target):
        return source
    if source.version_id != "null":
        raise Unsupported("Versions of a mount with mirrors cannot be copied: each place has its own.")
    return replace(source, version_id=None)


def _shown(services: Services, source: Source, target: Target, result: WriteResult) -> WriteResult:
    """Versions are the places' own (`origins/mirror.py`)."""
    if not (is_mirrored(services, source.target) or is_mirrored(services, target)):
        return result
    return replace(result, headers={n: v for n, v in result.headers.items() if "version-id" not in n})


def _refuse_idle_copy(source: Source, found: Target, home: Target, headers: Mapping[str, str]) -> None:
    """`found` and `home` differ when the copy brings an object from a mirror to the mount's own place."""
    if source.version_id is not None or (found.origin, found.remote) != (home.origin, home.remote):
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
    services: Services,
    source: Source,
    found: Target,
    home: Target,
    headers: Mapping[str, str],
    conditions: Conditions,
) -> WriteResult:
    """Between two origins: one version of the source, proven (`streamed.py`), feeding one PUT."""
    origin, destination = services.origin(found), services.origin(home)
    _require_current(source, origin)
    wanted = _wanted_checksum(headers)
    async with received(origin, found.remote, 0, None) as (reading, chunks):
        meta = reading.meta
        _check_source(source, meta)
        _require_size(meta.size)
        stored = _stored_headers(meta, headers)
        if headers.get("x-amz-tagging-directive", "COPY").upper() != "REPLACE":
            stored.pop("x-amz-tagging", None)
            if tags := await tags_of(services, found, destination, meta):
                stored["x-amz-tagging"] = tags
        body = _proven_body(services, reading, chunks, stored, wanted, whole=True)
        return await destination.put(home.remote, body, conditions)


def _wanted_checksum(headers: Mapping[str, str]) -> str:
    """The algorithm in lower case; empty when none is asked for."""
    name = headers.get(_ALGORITHM, "").lower()
    if name and name not in SIZES:
        raise Refused(400, "InvalidRequest", "Checksum algorithm provided is unsupported.")
    return name


def _proven_body(
    services: Services,
    reading: Reading,
    chunks: AsyncGenerator[bytes, None],
    stored: Mapping[str, str],
    wanted: str,
    *,
    whole: bool,
) -> PutBody:
    """What the source's bytes are proven with goes on, so that the destination proves them once more and keeps it."""
    meta = reading.meta
    proofs = proofs_of(meta, whole=whole)
    headers, trailer = dict(stored), None
    if "md5" in proofs:
        headers["content-md5"] = encode(proofs["md5"])
    name = wanted or next((name for name in proofs if name != "md5"), "")
    digests = Digests([*proofs, name] if name else proofs)
    if name:
        headers[_SDK_ALGORITHM] = name.upper()
        value = known_checksum(meta, name) if whole else None
        if value is not None:
            headers[HEADER_PREFIX + name] = encode(value)
        else:
            trailer = (HEADER_PREFIX + name, lambda: encode(digests.digest(name)))
    length = reading.stop - reading.start
    return PutBody(length, proven(chunks, digests, proofs, services.threads), headers, trailer=trailer)


def _stored_headers(meta: ObjectMeta, headers: Mapping[str, str]) -> dict[str, str]:
    """What the new object is stored with: the source's metadata, or with REPLACE the request's; then what the
    request says of the new copy itself (storage class, encryption, …) in either case."""
    asked = {
        name: value
        for name, value in headers.items()
        if not name.startswith(_DIRECTIVES) and name not in _ABOUT_THE_CALL
    }
    if headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE":
        return asked
    kept = {name: value for name, value in meta.headers.items() if not name.startswith(_SOURCE_ONLY)}
    return kept | {name: value for name, value in asked.items() if _is_about_the_copy(name)}


def _is_about_the_copy(name: str) -> bool:
    return name.startswith("x-amz-") and not name.startswith("x-amz-meta-")


async def _require_owners(
    services: Services, found: Target, home: Target, headers: Mapping[str, str]
) -> None:
    """Of a copy that no origin is told of as one."""
    for name, place in ((SOURCE_OWNER_HEADER, found), (OWNER_HEADER, home)):
        if (owner := headers.get(name)) is not None:
            await require_owner(services, [place], owner)


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
    source = _as_shown(services, source)
    found, home = await located(services, source.target), at_home(services, target)
    destination = services.origin(home)
    if found.origin == home.origin:
        return await destination.copy_part(
            found.remote,
            home.remote,
            upload_id,
            number,
            headers,
            source_version=source.version_id,
        )
    origin = services.origin(found)
    _require_current(source, origin)
    await _require_owners(services, found, home, headers)
    wanted = await _checksum_of_upload(destination, home, upload_id)
    async with received(origin, found.remote, *(byte_range or (0, None))) as (reading, chunks):
        _check_source(source, reading.meta)
        _require_range(byte_range, reading)
        whole = (reading.start, reading.stop) == (0, reading.meta.size)
        body = _proven_body(services, reading, chunks, {}, wanted, whole=whole)
        return await destination.put_part(home.remote, upload_id, number, body)


async def _checksum_of_upload(destination: Origin, home: Target, upload_id: str) -> str:
    """The algorithm that every part has to have a checksum of."""
    if not destination.capabilities.checksums:
        return ""
    page = await destination.list_parts(home.remote, upload_id, 0, 1)
    name = (page.checksum_algorithm or "").lower()
    return name if name in SIZES else ""


def _require_current(source: Source, origin: Origin) -> None:
    """Where there are versions, the one that is called null need not be the current one."""
    if source.version_id is not None and (source.version_id != "null" or origin.capabilities.versions):
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
