"""The XML answers, built by joining text: at 1,000 keys some ten times cheaper than a tree.

Keys and prefixes: with `encoding-type=url` (what every SDK asks for) they are percent-encoded, so any key
passes. Without it they are escaped, and a control character that XML 1.0 cannot hold becomes a character
reference, as S3 sends it. Times are seconds since the epoch. Element order is S3's. Source: Amazon S3 API
Reference.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from gateway.model import BucketEntry
from gateway.s3.checksums import HEADER_PREFIX
from gateway.s3.text import xml_bytes, xml_escape

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_MINUTES: Final = [f"{minute // 60:02d}:{minute % 60:02d}" for minute in range(24 * 60)]
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


def document(name: str, *content: str) -> bytes:
    """One root element of S3's namespace around content that is already XML."""
    return xml_bytes(f'{_HEAD}<{name} xmlns="{NAMESPACE}">{"".join(content)}</{name}>')


def element(name: str, value: str | int | bool | None) -> str:
    """`<name>value</name>`; "" for None, so that optional elements need no ifs."""
    if value is None:
        return ""
    if isinstance(value, bool):
        value = "true" if value else "false"
    return f"<{name}>{xml_escape(str(value))}</{name}>"


def iso_time(seconds: float) -> str:
    """`2026-01-01T00:00:00.000Z`, the only form S3 uses in XML."""
    whole, milli = divmod(round(seconds * 1000), 1000)
    day, second = divmod(whole, 86_400)
    minute, second = divmod(second, 60)
    return f"{_day(day)}T{_MINUTES[minute]}:{second:02d}.{milli:03d}Z"


@lru_cache(1024)  # the objects of a page were written on a few days
def _day(number: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(number * 86_400))


def checksum_elements(checksums: Mapping[str, str], with_type: bool = True) -> str:
    """`<ChecksumCRC32>…` for each x-amz-checksum-* header; `x-amz-checksum-type` as ChecksumType."""
    found = []
    for name, value in checksums.items():
        algorithm = name.removeprefix(HEADER_PREFIX).upper()
        if algorithm == "TYPE":
            if with_type:
                found.append(element("ChecksumType", value))
        elif name.startswith(HEADER_PREFIX) and algorithm not in ("ALGORITHM", "MODE"):
            found.append(element("Checksum" + algorithm, value))
    return "".join(found)


def owner(identity: str, name: str = "Owner") -> str:
    return (
        f"<{name}><ID>{xml_escape(identity)}</ID><DisplayName>{xml_escape(identity)}</DisplayName></{name}>"
    )


def list_buckets(buckets: Iterable[BucketEntry], owner_id: str, prefix: str = "", token: str = "") -> bytes:
    """ListAllMyBucketsResult. `token` is the next page's continuation token, "" on the last."""
    entries = "".join(
        f"<Bucket><Name>{xml_escape(b.name)}</Name><CreationDate>{iso_time(b.created)}</CreationDate></Bucket>"
        for b in buckets
    )
    return document(
        "ListAllMyBucketsResult",
        owner(owner_id),
        f"<Buckets>{entries}</Buckets>",
        element("Prefix", prefix or None),
        element("ContinuationToken", token or None),
    )


def location(region: str) -> bytes:
    """LocationConstraint, which is empty for us-east-1."""
    return document("LocationConstraint", xml_escape("" if region == "us-east-1" else region))


def copy_object(etag: str, last_modified: float, checksums: Mapping[str, str] | None = None) -> bytes:
    return document("CopyObjectResult", *_copied(etag, last_modified, checksums or {}))


def copy_part(etag: str, last_modified: float, checksums: Mapping[str, str] | None = None) -> bytes:
    return document("CopyPartResult", *_copied(etag, last_modified, checksums or {}))


def _copied(etag: str, last_modified: float, checksums: Mapping[str, str]) -> tuple[str, ...]:
    return (
        element("LastModified", iso_time(last_modified)),
        element("ETag", etag),
        checksum_elements(checksums),
    )


def delete_result(deleted: Sequence[Mapping[str, str]], errors: Sequence[Mapping[str, str]]) -> bytes:
    """DeleteResult. Each mapping is one entry's elements in order: Key, VersionId, DeleteMarker,
    DeleteMarkerVersionId of a deleted one (none of them with Quiet); Key, VersionId, Code, Message of a
    failed one."""
    return document(
        "DeleteResult",
        *(f"<Deleted>{_elements(entry)}</Deleted>" for entry in deleted),
        *(f"<Error>{_elements(entry)}</Error>" for entry in errors),
    )


def _elements(entry: Mapping[str, str]) -> str:
    return "".join([element(name, value) for name, value in entry.items()])


def initiate_upload(bucket: str, key: str, upload_id: str) -> bytes:
    return document(
        "InitiateMultipartUploadResult",
        element("Bucket", bucket),
        element("Key", key),
        element("UploadId", upload_id),
    )


def complete_upload(
    location: str, bucket: str, key: str, etag: str, checksums: Mapping[str, str] | None = None
) -> bytes:
    return document(
        "CompleteMultipartUploadResult",
        element("Location", location),
        element("Bucket", bucket),
        element("Key", key),
        element("ETag", etag),
        checksum_elements(checksums or {}),
    )
