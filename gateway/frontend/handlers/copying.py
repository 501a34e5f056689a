"""CopyObject and UploadPartCopy. The door has decided that the source may be read; where it lives is looked up
here."""

from __future__ import annotations

import time
from collections.abc import Mapping

from gateway.errors import GatewayError
from gateway.frontend.handlers.answers import naming, split_checksums, write_conditions
from gateway.frontend.handlers.multipart import part_number, upload_id_of
from gateway.frontend.handlers.patience import answer_patiently
from gateway.frontend.request import Request
from gateway.objects import copies
from gateway.objects.context import Services
from gateway.objects.copies import COPY_SIZE_MAX, Source
from gateway.objects.owners import OWNER_HEADER, SOURCE_OWNER_HEADER
from gateway.s3 import xml_write
from gateway.s3.conditions import NONE, parse_copy_conditions
from gateway.s3.errors import S3Error
from gateway.s3.payload import stored_headers
from gateway.s3.ranges import parse_copy_range

# Any end of a range: the source's size is not known yet.
_ANY_SIZE = 1 << 63
# How to copy, beside what to store.
_HOW = (
    OWNER_HEADER,
    SOURCE_OWNER_HEADER,
    "x-amz-checksum-algorithm",
    "x-amz-metadata-directive",
    "x-amz-request-payer",
    "x-amz-tagging-directive",
)
_ABOUT_THE_SOURCE = "x-amz-copy-source-"
_DIRECTIVES = ("COPY", "REPLACE")


async def copy_object(services: Services, request: Request) -> None:
    target = request.the_target
    source = _source(request)
    headers = {**stored_headers(request.headers), **_copy_headers(request.headers)}
    for name in ("x-amz-metadata-directive", "x-amz-tagging-directive"):
        if headers.get(name, "COPY") not in _DIRECTIVES:
            raise S3Error("InvalidArgument", f"{name} must be COPY or REPLACE.")
    conditions = write_conditions(request.headers)

    async def work() -> tuple[bytes, list[tuple[str, str]]]:
        with naming(NONE if source.conditions else conditions):
            result = await copies.copy_object(services, source, target, headers, conditions)
        checksums, others = split_checksums(result.headers)
        modified = time.time() if result.last_modified is None else result.last_modified
        return xml_write.copy_object(result.etag, modified, checksums), others

    await answer_patiently(services, request, work())


async def upload_part_copy(services: Services, request: Request) -> None:
    target = request.the_target
    number = part_number(request.address)
    upload_id = upload_id_of(request.address)
    source = _source(request)
    headers = {**_copy_headers(request.headers), **_customer_key(request.headers)}
    asked = request.headers.get("x-amz-copy-source-range")
    byte_range = None if asked is None else parse_copy_range(asked, _ANY_SIZE)
    if byte_range is not None and byte_range[1] - byte_range[0] > COPY_SIZE_MAX:
        raise S3Error("InvalidRequest", f"A part must not be larger than {COPY_SIZE_MAX} bytes.")

    async def work() -> tuple[bytes, list[tuple[str, str]]]:
        result = await copies.copy_part(services, source, target, upload_id, number, byte_range, headers)
        checksums, others = split_checksums(result.headers)
        modified = time.time() if result.last_modified is None else result.last_modified
        return xml_write.copy_part(result.etag, modified, checksums), others

    await answer_patiently(services, request, work())


def _source(request: Request) -> Source:
    """Raises NoSuchBucket, NotFound."""
    source = request.source
    if source is None:
        raise GatewayError(f"{request.operation.name} names no source.")
    target = request.view.mounts.resolve(source.bucket, source.key)
    return Source(target, source.version_id, parse_copy_conditions(request.headers))


def _copy_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in headers.items() if name in _HOW or name.startswith(_ABOUT_THE_SOURCE)
    }


def _customer_key(headers: Mapping[str, str]) -> dict[str, str]:
    prefix = "x-amz-server-side-encryption-customer-"
    return {name: value for name, value in headers.items() if name.startswith(prefix)}
