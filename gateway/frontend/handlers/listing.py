"""ListObjects, ListObjectsV2, ListObjectVersions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gateway.frontend.handlers.answers import OWNER_ID, answer_xml, integer
from gateway.frontend.request import Request
from gateway.model import ListPage
from gateway.objects import listing
from gateway.objects.context import Services
from gateway.objects.listing import ListQuery, VersionQuery
from gateway.s3 import xml_lists
from gateway.s3.xml_lists import KeyText

KEYS_MAX = 1000
# Fewer are written in less time than the way to a thread and back takes other requests.
_THREAD_KEYS_MIN = 100


async def list_objects_v2(services: Services, request: Request) -> None:
    address = request.address
    encoding = _encoding(request)
    token = address.get("continuation-token")
    start_after = address.get("start-after")
    position = xml_lists.decode_token(token) if token else start_after or ""
    query = _query(request, position)
    page = await listing.list_objects(services, request.view, query)
    write = partial(
        xml_lists.list_objects_v2,
        query.bucket,
        page,
        prefix=query.prefix,
        delimiter=query.delimiter,
        max_keys=query.max_keys,
        encoding_type=encoding,
        token=token,
        start_after=start_after,
        owner_id=OWNER_ID if address.get("fetch-owner") == "true" else None,
    )
    await answer_xml(request, await _written(services, page, write))


async def list_objects(services: Services, request: Request) -> None:
    encoding = _encoding(request)
    marker = request.address.get("marker") or ""
    query = _query(request, marker)
    page = await listing.list_objects(services, request.view, query)
    write = partial(
        xml_lists.list_objects_v1,
        query.bucket,
        page,
        prefix=query.prefix,
        marker=marker,
        delimiter=query.delimiter,
        max_keys=query.max_keys,
        encoding_type=encoding,
        owner_id=OWNER_ID,
    )
    await answer_xml(request, await _written(services, page, write))


async def _written(services: Services, page: ListPage, write: Callable[[], bytes]) -> bytes:
    """A thousand keys take some milliseconds, for which other requests need not wait."""
    if len(page.entries) < _THREAD_KEYS_MIN:
        return write()
    return await services.threads.run(write)


def _query(request: Request, position: str) -> ListQuery:
    address = request.address
    return ListQuery(
        address.bucket,
        address.get("prefix") or "",
        address.get("delimiter") or "",
        position,
        integer(address, "max-keys", KEYS_MAX, KEYS_MAX),
    )


async def list_object_versions(services: Services, request: Request) -> None:
    address = request.address
    encoding = _encoding(request)
    query = VersionQuery(
        address.bucket,
        address.get("prefix") or "",
        address.get("delimiter") or "",
        address.get("key-marker") or "",
        address.get("version-id-marker") or "",
        integer(address, "max-keys", KEYS_MAX, KEYS_MAX),
    )
    page = await listing.list_versions(services, request.view, query)
    await answer_xml(
        request,
        xml_lists.list_versions(
            query.bucket,
            page,
            prefix=query.prefix,
            delimiter=query.delimiter,
            key_marker=query.key_marker,
            version_id_marker=query.version_id_marker,
            max_keys=query.max_keys,
            encoding_type=encoding,
            owner_id=OWNER_ID,
        ),
    )


def _encoding(request: Request) -> str | None:
    """Refused before an origin is asked."""
    encoding = request.address.get("encoding-type")
    KeyText(encoding)
    return encoding
