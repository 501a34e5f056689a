"""Multipart uploads: create, parts, complete, abort, and their listings. Copied parts are in copying.py."""

from __future__ import annotations

import re

from gateway.frontend.handlers.answers import (
    OWNER_ID,
    answer_empty,
    answer_xml,
    integer,
    naming,
    split_checksums,
    write_conditions,
)
from gateway.frontend.handlers.bodies import THREAD_BYTES_MIN, read_document, upload_body
from gateway.frontend.handlers.patience import answer_patiently
from gateway.frontend.request import Request
from gateway.objects import uploads
from gateway.objects.context import Services
from gateway.objects.owners import OWNER_HEADER
from gateway.s3 import xml_lists, xml_write
from gateway.s3.address import Address
from gateway.s3.checksums import HEADER_PREFIX
from gateway.s3.errors import S3Error
from gateway.s3.payload import stored_headers
from gateway.s3.text import uri_encode
from gateway.s3.xml_lists import KeyText
from gateway.s3.xml_read import COMPLETE_BYTES_MAX, PARTS_MAX, parse_complete

_PAGE_MAX = 1000
_PART_NUMBER = re.compile(r"[0-9]{1,9}")
# Of a create: how the parts will be checked. Of a complete: what the whole must be.
_CREATE_HEADERS = ("x-amz-checksum-algorithm", "x-amz-checksum-type")
_COMPLETE_HEADERS = ("x-amz-mp-object-size", "x-amz-request-payer", OWNER_HEADER)
_CUSTOMER_KEY = "x-amz-server-side-encryption-customer-"


def part_number(address: Address) -> int:
    """1 to 10,000. Raises InvalidArgument."""
    text = address.get("partNumber") or ""
    if not _PART_NUMBER.fullmatch(text) or not 1 <= int(text) <= PARTS_MAX:
        raise S3Error(
            "InvalidArgument", f"Part number must be an integer between 1 and {PARTS_MAX}, inclusive."
        )
    return int(text)


def upload_id_of(address: Address) -> str:
    upload_id = address.get("uploadId")
    if not upload_id:
        raise S3Error("NoSuchUpload")
    return upload_id


async def create_upload(services: Services, request: Request) -> None:
    target = request.the_target
    headers = stored_headers(request.headers)
    headers |= {name: request.headers[name] for name in _CREATE_HEADERS if name in request.headers}
    upload_id, answered = await uploads.create_upload(services, target, headers)
    await answer_xml(
        request, xml_write.initiate_upload(target.bucket, target.key, upload_id), answered.items()
    )


async def upload_part(services: Services, request: Request) -> None:
    number = part_number(request.address)
    upload_id = upload_id_of(request.address)
    body = await upload_body(services.threads, request)
    result = await uploads.put_part(services, request.the_target, upload_id, number, body)
    await answer_empty(request, 200, [("ETag", result.etag), *result.headers.items()])


async def complete_upload(services: Services, request: Request) -> None:
    """The checksum headers of this call are the finished object's, not its body's."""
    target = request.the_target
    upload_id = upload_id_of(request.address)
    about_the_body = {n: v for n, v in request.headers.items() if not n.startswith(HEADER_PREFIX)}
    body, _, _ = await read_document(
        services.threads, request, COMPLETE_BYTES_MAX, headers=about_the_body, too_long="MalformedXML"
    )
    if len(body) < THREAD_BYTES_MIN:
        parts = parse_complete(body)
    else:
        parts = await services.threads.run(parse_complete, body)
    headers = {
        name: value
        for name, value in request.headers.items()
        if name.startswith((HEADER_PREFIX, _CUSTOMER_KEY)) or name in _COMPLETE_HEADERS
    }
    conditions = write_conditions(request.headers)

    async def work() -> tuple[bytes, list[tuple[str, str]]]:
        with naming(conditions):
            result = await uploads.complete_upload(services, target, upload_id, parts, headers, conditions)
        checksums, others = split_checksums(result.headers)
        document = xml_write.complete_upload(
            _location(request), target.bucket, target.key, result.etag, checksums
        )
        return document, others

    await answer_patiently(services, request, work())


def _location(request: Request) -> str:
    scheme = "https" if request.exchange.secure else "http"
    path = uri_encode(f"/{request.address.bucket}/{request.address.key}")
    return f"{scheme}://{request.headers.get('host', '')}{path}"


async def abort_upload(services: Services, request: Request) -> None:
    await uploads.abort_upload(services, request.the_target, upload_id_of(request.address))
    await answer_empty(request, 204)


async def list_parts(services: Services, request: Request) -> None:
    address, target = request.address, request.the_target
    upload_id = upload_id_of(address)
    after = integer(address, "part-number-marker", 0, PARTS_MAX)
    count_max = integer(address, "max-parts", _PAGE_MAX, _PAGE_MAX)
    page = await uploads.list_parts(services, target, upload_id, after, count_max)
    document = xml_lists.list_parts(
        target.bucket, target.key, upload_id, page, after=after, max_parts=count_max, owner_id=OWNER_ID
    )
    await answer_xml(request, document, page.headers.items())


async def list_uploads(services: Services, request: Request) -> None:
    address = request.address
    prefix, delimiter = address.get("prefix") or "", address.get("delimiter") or ""
    key_marker = address.get("key-marker") or ""
    # S3 reads an id without a key as no marker at all.
    id_marker = (address.get("upload-id-marker") or "") if key_marker else ""
    count_max = integer(address, "max-uploads", _PAGE_MAX, _PAGE_MAX)
    encoding = address.get("encoding-type")
    KeyText(encoding)
    page = await uploads.list_uploads(
        services, request.view, address.bucket, prefix, delimiter, key_marker, id_marker, count_max
    )
    document = xml_lists.list_uploads(
        address.bucket,
        page,
        prefix=prefix,
        delimiter=delimiter,
        key_marker=key_marker,
        upload_id_marker=id_marker,
        max_uploads=count_max,
        encoding_type=encoding,
        owner_id=OWNER_ID,
    )
    await answer_xml(request, document)
