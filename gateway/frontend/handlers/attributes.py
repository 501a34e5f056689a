"""GetObjectAttributes: the origin's own answer where it speaks S3, else made from what it says of the object."""

from __future__ import annotations

from gateway.errors import Unsupported
from gateway.frontend.handlers.answers import answer_xml
from gateway.frontend.handlers.forwarding import forward
from gateway.frontend.request import Request
from gateway.objects.context import Services
from gateway.s3.object_headers import http_date
from gateway.s3.xml_lists import object_attributes, parse_attributes


async def get_object_attributes(services: Services, request: Request) -> None:
    wanted = parse_attributes(request.headers.get("x-amz-object-attributes"))
    target = request.the_target
    origin = services.origin(target)
    if origin.capabilities.forward:
        await forward(services, request)
        return
    if request.address.get("versionId") not in (None, "null"):
        raise Unsupported(f"The origin {origin.name} keeps no versions.")
    meta = await origin.head(target.remote)
    headers = [("Last-Modified", http_date(meta.last_modified))]
    if (version := meta.headers.get("x-amz-version-id")) is not None:
        headers.append(("x-amz-version-id", version))
    document = object_attributes(meta, wanted, parts_total=len(meta.parts) or None)
    await answer_xml(request, document, headers)
