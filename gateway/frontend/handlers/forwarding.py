"""Every operation that has no handler of its own: passed to the origin, answers streamed back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from gateway.errors import Unsupported
from gateway.frontend.handlers.answers import answer_empty, answer_xml
from gateway.frontend.handlers.bodies import read_document
from gateway.frontend.request import Request
from gateway.namespace.mounts import EVERY_BUCKET, Target
from gateway.objects.context import Services
from gateway.objects.forwarding import Answer, Call, forwarded, require_forwarding
from gateway.objects.mirrored import at_home, is_mirrored, located
from gateway.origins.base import MakesBuckets, Origin, PutBody
from gateway.s3.errors import S3Error
from gateway.s3.payload import Payload, PayloadPlan
from gateway.s3.xml_write import document

# The bodies of all these calls are documents: configurations of 1,000 rules, annotations of 1 MiB. They are received
# and proven whole, so a forged one never reaches the origin.
BODY_BYTES_MAX: Final = 4 << 20
_READS: Final = ("GetObject", "HeadObject")


async def forward(services: Services, request: Request) -> None:
    """Raises Unsupported, before the body is read, where the origin or the mount does not allow it."""
    name = request.operation.name
    if name in _READS:
        request.exchange.record.outcome = "bypass"
    target = request.target = await _one_place(services, request)
    origin = services.origin(target)
    if not origin.capabilities.forward and await _answered_here(services, request, origin):
        return
    require_forwarding(services, name, target)
    headers, body = dict(request.headers), None
    if request.head.length != 0:
        content, plan, payload = await read_document(services.threads, request, BODY_BYTES_MAX)
        headers |= _proven_trailer(plan, payload)
        body = PutBody(len(content), content_chunks(content), {}, plan.sha256)
    call = Call(
        name,
        request.head.method,
        target,
        request.address.query,
        headers,
        body,
        request.operation.mutates,
    )
    async with forwarded(services, call) as answer:
        await _answer(request, answer)


async def _one_place(services: Services, request: Request) -> Target:
    """Of a mount with mirrors, the place whose object the call is about. Raises NotFound, and Unsupported for a change
    that would have to be made in several places."""
    target = request.the_target
    if not target.key or not is_mirrored(services, target):
        return target
    require_shown_version(request)
    found = await located(services, target)
    if not request.operation.mutates:
        return found
    if request.operation.name == "DeleteObject":
        raise Unsupported("A mount with mirrors deletes in every place, and conditions are of one place.")
    home = at_home(services, target)
    if (found.origin, found.remote) != (home.origin, home.remote):
        raise Unsupported(
            f"The object is still at the mirror {found.origin}. A copy onto itself brings it to {home.origin}."
        )
    return found


def require_shown_version(request: Request) -> None:
    """Of a mount with mirrors: it shows each object as its one version "null", whatever its places call it, so that
    they are not asked for one. Raises NoSuchVersion for others."""
    address = request.address
    if address.get("versionId") not in (None, "null"):
        raise S3Error("NoSuchVersion")
    others = [(name, value) for name, value in address.query if name != "versionId"]
    request.address = address._replace(query=others)


async def _answered_here(services: Services, request: Request, origin: Origin) -> bool:
    """Two questions that common clients ask of every store, and whose answer follows from what the origin is; and
    buckets of a `*` mount, which come and go as the origin's do."""
    target = request.the_target
    if isinstance(origin, MakesBuckets) and target.mount.bucket == EVERY_BUCKET and not target.key:
        return await _made_or_removed(services, request, origin)
    if request.operation.name == "GetBucketVersioning" and not origin.capabilities.versions:
        await origin.head_bucket(target.remote.bucket)
        await answer_xml(request, document("VersioningConfiguration"))
        return True
    if request.operation.name == "GetObjectTagging" and request.address.get("versionId") in (None, "null"):
        await origin.head(target.remote)
        await answer_xml(request, document("Tagging", "<TagSet></TagSet>"))
        return True
    return False


async def _made_or_removed(services: Services, request: Request, origin: MakesBuckets) -> bool:
    bucket = request.the_target.remote.bucket
    if request.operation.name == "CreateBucket":
        if request.headers.get("x-amz-bucket-object-lock-enabled", "false").lower() != "false":
            raise Unsupported("The origin locks no objects.")
        if request.head.length != 0:  # a location, and a directory has none
            await read_document(services.threads, request, BODY_BYTES_MAX)
        await origin.create_bucket(bucket)
        await answer_empty(request, 200, [("Location", f"/{bucket}")])
        return True
    if request.operation.name == "DeleteBucket":
        await origin.delete_bucket(bucket)
        await answer_empty(request, 204)
        return True
    return False


def _proven_trailer(plan: PayloadPlan, payload: Payload) -> dict[str, str]:
    """A checksum that came as a trailer goes on as a header: S3 wants one with many of these calls."""
    return {plan.trailer: payload.trailer_value()} if plan.trailer else {}


async def content_chunks(content: bytes) -> AsyncIterator[bytes]:
    if content:
        yield content


async def _answer(request: Request, answer: Answer) -> None:
    exchange, headers = request.exchange, answer.headers
    if request.operation.name == "CreateBucket":
        headers = [*headers, ("Location", f"/{request.address.bucket}")]
    if request.head.method == "HEAD":
        if answer.length is not None:
            headers = [*headers, ("Content-Length", str(answer.length))]
        await exchange.respond(answer.status, headers)
        return
    if answer.status == 204 or answer.length == 0:
        await exchange.respond(answer.status, headers)
        return
    await exchange.start(answer.status, headers, answer.length)
    async for piece in answer.chunks:
        await exchange.send(piece)
    await exchange.finish()
