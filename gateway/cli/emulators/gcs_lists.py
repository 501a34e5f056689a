"""Documents that Google words in another way than S3: lists of generations, and the end of an upload."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from gateway.cli.emulators.gcs_state import Generations, Name
from gateway.model import VersionEntry
from gateway.origins import s3_list
from gateway.origins.s3_client import Client
from gateway.s3.text import uri_encode, xml_escape

_PAGE_KEYS: Final = 1000


async def generations(store: Client, known: Generations, bucket: str, query: Mapping[str, str]) -> bytes:
    """Keys in byte order, generations of one key oldest first. Everything under the prefix is asked for on every page:
    this is for small buckets."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    rows: list[tuple[tuple[bytes, int], str]] = []
    for entry in await _every(store, bucket, prefix):
        at = entry.key.find(delimiter, len(prefix)) if delimiter else -1
        if at >= 0:
            group = entry.key[: at + len(delimiter)]
            row = (
                (group.encode(), 0),
                f"<CommonPrefixes><Prefix>{uri_encode(group)}</Prefix></CommonPrefixes>",
            )
            if row not in rows:
                rows.append(row)
            continue
        version_id = None if entry.version_id == "null" else entry.version_id
        number = (await known.seen((bucket, entry.key), entry.etag, version_id)).number
        rows.append(((entry.key.encode(), number), _row(entry, number)))
    rows.sort()
    marker = (query.get("marker", "").encode(), int(query.get("generation-marker", 0)) or float("inf"))
    left = [row for row in rows if not marker[0] or row[0] > marker]
    page = left[: int(query.get("max-keys", _PAGE_KEYS))]
    following = ""
    if len(page) < len(left):
        key, number = page[-1][0]
        following = f"<NextMarker>{uri_encode(key)}</NextMarker>"
        following += f"<NextGenerationMarker>{number}</NextGenerationMarker>" if number else ""
    return (
        "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'>"
        f"<Name>{bucket}</Name><EncodingType>url</EncodingType>{following}"
        f"<IsTruncated>{str(bool(following)).lower()}</IsTruncated>{''.join(text for _, text in page)}"
        "</ListBucketResult>"
    ).encode()


async def _every(store: Client, bucket: str, prefix: str) -> list[VersionEntry]:
    """Oldest first, so that what is seen for the first time gets its generations in that order."""
    found: list[VersionEntry] = []
    key_marker = id_marker = ""
    while True:
        page = await s3_list.versions(store, bucket, prefix, "", key_marker, id_marker, _PAGE_KEYS)
        found += [entry for entry in page.entries if not entry.is_delete_marker]
        if page.next_key_marker is None:
            return found[::-1]
        key_marker, id_marker = page.next_key_marker, page.next_version_id_marker or ""


def _row(entry: VersionEntry, number: int) -> str:
    modified = datetime.fromtimestamp(entry.last_modified, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return (
        f"<Version><Key>{uri_encode(entry.key)}</Key><Generation>{number}</Generation>"
        f"<MetaGeneration>1</MetaGeneration><IsLatest>{str(entry.is_latest).lower()}</IsLatest>"
        f"<LastModified>{modified}</LastModified><ETag>{xml_escape(entry.etag)}</ETag><Size>{entry.size}</Size>"
        "</Version>"
    )


def completed(name: Name, etag: str) -> bytes:
    return (
        "<?xml version='1.0' encoding='UTF-8'?>"
        "<CompleteMultipartUploadResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
        f"<Bucket>{name[0]}</Bucket><Key>{xml_escape(name[1])}</Key><ETag>{xml_escape(etag)}</ETag>"
        "</CompleteMultipartUploadResult>"
    ).encode()
