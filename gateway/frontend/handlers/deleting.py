"""DeleteObject and DeleteObjects."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.errors import GatewayError, Unsupported
from gateway.frontend.handlers.answers import answer_empty, answer_xml
from gateway.frontend.handlers.bodies import THREAD_BYTES_MIN, read_document
from gateway.frontend.handlers.forwarding import forward
from gateway.frontend.request import Request, read_only
from gateway.objects import deletes
from gateway.objects.context import Services
from gateway.objects.deletes import Deletion, Doomed
from gateway.objects.owners import OWNER_HEADER, require_owner
from gateway.s3.errors import S3Error, to_s3
from gateway.s3.xml_read import DELETE_BYTES_MAX, Delete, DeleteEntry, parse_delete
from gateway.s3.xml_write import delete_result

# What an origin's plain delete cannot carry: conditions and the rights to break a lock. Passing over one of them
# would delete what should have stayed.
_ONLY_THE_ORIGIN = ("if-match", "x-amz-bypass-governance-retention", "x-amz-mfa")
# Conditions that S3 knows for directory buckets alone.
_UNCHECKED = ("x-amz-if-match-last-modified-time", "x-amz-if-match-size")
# Said of an account, which only a store that has accounts can check.
_ABOUT_ACCOUNTS = (OWNER_HEADER, "x-amz-request-payer")


async def delete_object(services: Services, request: Request) -> None:
    origin = services.origin(request.the_target)
    can = origin.capabilities
    if any(name in request.headers for name in _UNCHECKED):
        raise Unsupported("Only If-Match is supported as a condition of a delete.")
    if "if-match" in request.headers and can.forward and not can.conditional_deletes:
        raise Unsupported(f"The origin {origin.name} does not check conditions on deletes.")
    asked = (*_ONLY_THE_ORIGIN, *_ABOUT_ACCOUNTS) if can.forward else _ONLY_THE_ORIGIN
    if any(name in request.headers for name in asked):
        await forward(services, request)
        return
    if (owner := request.headers.get(OWNER_HEADER)) is not None:  # no mount with mirrors passes it on
        await require_owner(services, [request.the_target], owner)
    version_id = request.address.get("versionId")
    headers = await deletes.delete_object(services, request.the_target, version_id)
    await answer_empty(request, 204, headers.items())


async def delete_objects(services: Services, request: Request) -> None:
    """Each key is authorized, resolved and deleted by itself; one that is refused does not stop the others."""
    body, _, _ = await read_document(
        services.threads, request, DELETE_BYTES_MAX, digest_required=True, too_long="MalformedXML"
    )
    if len(body) < THREAD_BYTES_MIN:
        wanted = parse_delete(body)
    else:
        wanted = await services.threads.run(parse_delete, body)
    judged = [_judge(request, entry) for entry in wanted.entries]
    doomed = [one for one in judged if isinstance(one, Doomed)]
    if (owner := request.headers.get(OWNER_HEADER)) is not None:
        await require_owner(services, [one.target for one in doomed], owner)
    done = iter(await deletes.delete_objects(services, doomed))
    results = [next(done) if isinstance(one, Doomed) else one for one in judged]
    await answer_xml(request, _result(wanted, results))


def _judge(request: Request, entry: DeleteEntry) -> Doomed | Deletion:
    """Whether this key may be deleted, by its name alone until the identity's rights are known. NoSuchBucket ends
    the whole request: it can only be seen by who may delete there."""
    view, bucket = request.view, request.address.bucket
    action = "s3:DeleteObject" if entry.version_id is None else "s3:DeleteObjectVersion"
    try:
        if not view.access.allowed(request.auth.access_key, action, bucket, entry.key):
            raise S3Error("AccessDenied")
        if entry.unchecked:
            raise Unsupported("Only an ETag is supported as a condition of a delete.")
        target = view.mounts.resolve(bucket, entry.key)
        if target.mount.read_only:
            raise read_only(target)
        return Doomed(target, entry.version_id, entry.etag)
    except GatewayError as error:
        if to_s3(error).code == "NoSuchBucket":
            raise
        return Deletion(entry.key, entry.version_id, error=error)


def _result(wanted: Delete, results: Sequence[Deletion]) -> bytes:
    deleted = [_deleted(one) for one in results if one.error is None]
    errors = [_failed(one, one.error) for one in results if one.error is not None]
    return delete_result([] if wanted.quiet else deleted, errors)


def _named(one: Deletion) -> dict[str, str]:
    return {"Key": one.key} | ({} if one.version_id is None else {"VersionId": one.version_id})


def _deleted(one: Deletion) -> dict[str, str]:
    entry = _named(one)
    if one.headers.get("x-amz-delete-marker") == "true":
        entry["DeleteMarker"] = "true"
        if (version := one.headers.get("x-amz-version-id")) is not None:
            entry["DeleteMarkerVersionId"] = version
    return entry


def _failed(one: Deletion, error: GatewayError) -> dict[str, str]:
    shown = to_s3(error)
    return _named(one) | {"Code": shown.code, "Message": shown.message}
