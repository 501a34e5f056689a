"""The listing answers: objects (v1, v2), versions, parts, uploads, and an object's attributes; and the
opaque tokens that carry a listing from page to page."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Iterable
from typing import Final

from gateway.model import ListEntry, ListPage, ObjectMeta, PartPage, UploadPage, VersionEntry, VersionPage
from gateway.s3.errors import S3Error
from gateway.s3.text import uri_encode, xml_escape
from gateway.s3.xml_write import checksum_elements, document, element, iso_time, owner

# A key of 1,024 bytes in base64, with its version byte.
TOKEN_CHARACTERS_MAX = 1400
_TOKEN_VERSION = b"1"
# Text that is the same percent-encoded.
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9/._~-]*")


def encode_token(next_after: str) -> str:
    """A continuation token: clients must not read it, but it survives restarts and works on every node,
    because it is nothing but the position."""
    return base64.urlsafe_b64encode(_TOKEN_VERSION + next_after.encode("utf-8")).decode("ascii")


def decode_token(token: str) -> str:
    """The position. Raises InvalidArgument for what `encode_token` did not make."""
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        position = raw[1:].decode("utf-8")
    except (binascii.Error, ValueError):
        raw, position = b"", ""
    if raw[:1] != _TOKEN_VERSION or len(token) > TOKEN_CHARACTERS_MAX:
        raise S3Error("InvalidArgument", "The continuation token provided is incorrect.")
    return position


class KeyText:
    """How keys, prefixes and markers are written: percent-encoded (`encoding-type=url`) or escaped.
    Raises InvalidArgument for another encoding."""

    def __init__(self, encoding_type: str | None) -> None:
        if encoding_type not in (None, "", "url"):
            raise S3Error("InvalidArgument", "Invalid Encoding Method specified in Request")
        self.url = encoding_type == "url"

    def __call__(self, text: str) -> str:
        if not self.url:
            return xml_escape(text)
        return text if _UNRESERVED.fullmatch(text) else uri_encode(text)

    def element(self, name: str, text: str | None) -> str:
        return "" if text is None else f"<{name}>{self(text)}</{name}>"

    def declaration(self) -> str:
        return "<EncodingType>url</EncodingType>" if self.url else ""

    def prefixes(self, prefixes: Iterable[str]) -> str:
        return "".join(
            [f"<CommonPrefixes><Prefix>{self(prefix)}</Prefix></CommonPrefixes>" for prefix in prefixes]
        )


def list_objects_v2(
    bucket: str,
    page: ListPage,
    *,
    prefix: str = "",
    delimiter: str = "",
    max_keys: int = 1000,
    encoding_type: str | None = None,
    token: str | None = None,
    start_after: str | None = None,
    owner_id: str | None = None,
) -> bytes:
    """ListBucketResult of ListObjectsV2. `token` and `start_after` as the client sent them; `owner_id` with
    fetch-owner=true, for entries that name no owner of their own."""
    text = KeyText(encoding_type)
    truncated = page.next_after is not None
    return document(
        "ListBucketResult",
        element("Name", bucket),
        text.element("Prefix", prefix),
        element("ContinuationToken", token),
        element(
            "NextContinuationToken", encode_token(page.next_after) if page.next_after is not None else None
        ),
        text.element("StartAfter", start_after),
        element("KeyCount", len(page.entries) + len(page.common_prefixes)),
        element("MaxKeys", max_keys),
        text.element("Delimiter", delimiter or None),
        text.declaration(),
        element("IsTruncated", truncated),
        _contents(page.entries, text, owner_id, owners=owner_id is not None),
        text.prefixes(page.common_prefixes),
    )


def list_objects_v1(
    bucket: str,
    page: ListPage,
    *,
    prefix: str = "",
    marker: str = "",
    delimiter: str = "",
    max_keys: int = 1000,
    encoding_type: str | None = None,
    owner_id: str = "",
) -> bytes:
    """ListBucketResult of ListObjects. NextMarker is given on every truncated page, which S3 does only with a
    delimiter: clients that ignore it take the last key, which is the same."""
    text = KeyText(encoding_type)
    return document(
        "ListBucketResult",
        element("Name", bucket),
        text.element("Prefix", prefix),
        text.element("Marker", marker),
        text.element("NextMarker", page.next_after),
        element("MaxKeys", max_keys),
        text.element("Delimiter", delimiter or None),
        text.declaration(),
        element("IsTruncated", page.next_after is not None),
        _contents(page.entries, text, owner_id, owners=True),
        text.prefixes(page.common_prefixes),
    )


def _contents(entries: Iterable[ListEntry], text: KeyText, owner_id: str | None, owners: bool) -> str:
    """A thousand a page: what can be said of many entries is said once."""
    parts = []
    tails: dict[tuple[str | None, str], str] = {}
    sums: dict[tuple[tuple[str, ...], str | None], str] = {}
    for key, size, etag, modified, storage_class, algorithms, kind, whose in entries:
        tail = tails.get((whose, storage_class))
        if tail is None:
            shown = owner(whose or owner_id or "") if owners else ""
            tail = f"{shown}<StorageClass>{xml_escape(storage_class)}</StorageClass></Contents>"
            tails[whose, storage_class] = tail
        extra = sums.get((algorithms, kind))
        if extra is None:
            extra = "".join([element("ChecksumAlgorithm", name) for name in algorithms])
            extra += element("ChecksumType", kind or None)
            sums[algorithms, kind] = extra
        parts.append(
            f"<Contents><Key>{text(key)}</Key><LastModified>{iso_time(modified)}</LastModified>"
            f"<ETag>{_etag(etag)}</ETag>{extra}<Size>{size}</Size>{tail}"
        )
    return "".join(parts)


def _etag(etag: str) -> str:
    inner = etag[1:-1]
    if inner.replace("-", "").isalnum() and etag[0] == '"' == etag[-1]:
        return f"&quot;{inner}&quot;"
    return xml_escape(etag)


def list_versions(
    bucket: str,
    page: VersionPage,
    *,
    prefix: str = "",
    delimiter: str = "",
    key_marker: str = "",
    version_id_marker: str = "",
    max_keys: int = 1000,
    encoding_type: str | None = None,
    owner_id: str = "",
) -> bytes:
    text = KeyText(encoding_type)
    return document(
        "ListVersionsResult",
        element("Name", bucket),
        text.element("Prefix", prefix),
        text.element("KeyMarker", key_marker),
        element("VersionIdMarker", version_id_marker),
        text.element("NextKeyMarker", page.next_key_marker),
        element("NextVersionIdMarker", page.next_version_id_marker),
        element("MaxKeys", max_keys),
        text.element("Delimiter", delimiter or None),
        text.declaration(),
        element("IsTruncated", page.next_key_marker is not None),
        "".join([_version(entry, text, owner_id) for entry in page.entries]),
        text.prefixes(page.common_prefixes),
    )


def _version(entry: VersionEntry, text: KeyText, owner_id: str) -> str:
    common = (
        f"<Key>{text(entry.key)}</Key>{element('VersionId', entry.version_id)}"
        f"{element('IsLatest', entry.is_latest)}{element('LastModified', iso_time(entry.last_modified))}"
    )
    whose = owner(entry.owner_id or owner_id)
    if entry.is_delete_marker:
        return f"<DeleteMarker>{common}{whose}</DeleteMarker>"
    return (
        f"<Version>{common}{element('ETag', entry.etag)}{element('Size', entry.size)}{whose}"
        f"{element('StorageClass', entry.storage_class)}</Version>"
    )


def list_parts(
    bucket: str,
    key: str,
    upload_id: str,
    page: PartPage,
    *,
    after: int = 0,
    max_parts: int = 1000,
    owner_id: str = "",
) -> bytes:
    """ListPartsResult. encoding-type does not exist for this call."""
    parts = "".join(
        f"<Part>{element('PartNumber', part.number)}{element('LastModified', iso_time(part.last_modified))}"
        f"{element('ETag', part.etag)}{element('Size', part.size)}{checksum_elements(part.checksums, False)}</Part>"
        for part in page.entries
    )
    return document(
        "ListPartsResult",
        element("Bucket", bucket),
        element("Key", key),
        element("UploadId", upload_id),
        owner(owner_id, "Initiator"),
        owner(owner_id),
        element("StorageClass", page.storage_class),
        element("PartNumberMarker", after),
        element("NextPartNumberMarker", page.next_number),
        element("MaxParts", max_parts),
        element("IsTruncated", page.next_number is not None),
        element("ChecksumAlgorithm", page.checksum_algorithm),
        element("ChecksumType", page.checksum_type),
        parts,
    )


def list_uploads(
    bucket: str,
    page: UploadPage,
    *,
    prefix: str = "",
    delimiter: str = "",
    key_marker: str = "",
    upload_id_marker: str = "",
    max_uploads: int = 1000,
    encoding_type: str | None = None,
    owner_id: str = "",
) -> bytes:
    text = KeyText(encoding_type)
    who = owner(owner_id, "Initiator") + owner(owner_id)
    uploads = "".join(
        f"<Upload><Key>{text(upload.key)}</Key>{element('UploadId', upload.upload_id)}{who}"
        f"{element('StorageClass', upload.storage_class)}{element('Initiated', iso_time(upload.initiated))}</Upload>"
        for upload in page.entries
    )
    return document(
        "ListMultipartUploadsResult",
        element("Bucket", bucket),
        text.element("KeyMarker", key_marker),
        element("UploadIdMarker", upload_id_marker),
        text.element("NextKeyMarker", page.next_key_marker),
        element("NextUploadIdMarker", page.next_upload_id_marker),
        text.element("Delimiter", delimiter or None),
        text.element("Prefix", prefix),
        text.declaration(),
        element("MaxUploads", max_uploads),
        element("IsTruncated", page.next_key_marker is not None),
        uploads,
        text.prefixes(page.common_prefixes),
    )


ATTRIBUTES = frozenset({"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"})


def parse_attributes(header: str | None) -> frozenset[str]:
    """The names in x-amz-object-attributes. Raises InvalidArgument for none or an unknown one."""
    names = frozenset(name.strip() for name in (header or "").split(",") if name.strip())
    if not names or not names <= ATTRIBUTES:
        raise S3Error("InvalidArgument", "Invalid attribute name specified.")
    return names


def object_attributes(
    meta: ObjectMeta, wanted: Collection[str], parts: PartPage | None = None, parts_total: int | None = None
) -> bytes:
    """GetObjectAttributesResponse with the elements named in `wanted`; what is not known is left out. The
    ETag has no quotes here, and ObjectParts exists only for multipart objects (`parts_total`)."""
    content = []
    if "ETag" in wanted:
        content.append(element("ETag", meta.etag.strip('"')))
    if "Checksum" in wanted and meta.checksums:
        content.append(f"<Checksum>{checksum_elements(meta.checksums)}</Checksum>")
    if "ObjectParts" in wanted and parts_total is not None:
        content.append(_object_parts(parts, parts_total))
    if "StorageClass" in wanted:
        content.append(element("StorageClass", meta.headers.get("x-amz-storage-class", "STANDARD")))
    if "ObjectSize" in wanted:
        content.append(element("ObjectSize", meta.size))
    return document("GetObjectAttributesResponse", *content)


def _object_parts(page: PartPage | None, total: int) -> str:
    listed = ""
    if page is not None:
        listed = element("IsTruncated", page.next_number is not None) + "".join(
            f"<Part>{element('PartNumber', part.number)}{element('Size', part.size)}"
            f"{checksum_elements(part.checksums, False)}</Part>"
            for part in page.entries
        )
    return f"<ObjectParts>{element('PartsCount', total)}{listed}</ObjectParts>"
