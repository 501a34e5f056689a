"""The service and its buckets: ListBuckets, HeadBucket, GetBucketLocation, and whose a bucket is expected to be."""

from __future__ import annotations

from gateway.frontend.handlers.answers import OWNER_ID, answer_empty, answer_xml, integer
from gateway.frontend.request import Request
from gateway.model import BucketEntry
from gateway.objects.context import Services
from gateway.objects.owners import OWNER_HEADER, require_owner
from gateway.s3 import xml_lists, xml_write

# S3's own bound of one page.
_BUCKETS_MAX = 10_000
# Mounts have no time of creation, and S3's answer must have one.
_CREATED_UNKNOWN = 0.0
# Answered out of other requests than the client's (DeleteObjects: deleting.py).
_OF_A_BUCKET = frozenset(
    "HeadBucket GetBucketLocation ListObjects ListObjectsV2 ListObjectVersions ListMultipartUploads".split()
)
_OF_A_KEY = frozenset("GetObjectAttributes ListParts AbortMultipartUpload".split())


async def list_buckets(services: Services, request: Request) -> None:
    """The buckets that this identity may list, in order: exactly those that HeadBucket would admit it to."""
    address = request.address
    prefix = address.get("prefix") or ""
    count_max = integer(address, "max-buckets", _BUCKETS_MAX, _BUCKETS_MAX)
    token = address.get("continuation-token")
    after = xml_lists.decode_token(token) if token else ""
    every = [
        bucket
        for bucket in await _buckets(services, request)
        if bucket.name.startswith(prefix) and bucket.name > after and _visible(request, bucket.name)
    ]
    page = every[:count_max]
    following = xml_lists.encode_token(page[-1].name) if page and len(every) > count_max else ""
    await answer_xml(request, xml_write.list_buckets(page, OWNER_ID, prefix, following))


async def _buckets(services: Services, request: Request) -> list[BucketEntry]:
    mounts = request.view.mounts
    found = {name: BucketEntry(name, _CREATED_UNKNOWN) for name in mounts.buckets()}
    if mounts.every is not None:
        for bucket in await services.origins[mounts.every.origin].buckets():
            found.setdefault(bucket.name, bucket)
    return [found[name] for name in sorted(found)]


def _visible(request: Request, bucket: str) -> bool:
    return request.view.access.allowed(request.auth.access_key, "s3:ListBucket", bucket)


async def head_bucket(services: Services, request: Request) -> None:
    await _require_bucket(services, request)
    await answer_empty(request, 200, [("x-amz-bucket-region", services.region)])


async def get_bucket_location(services: Services, request: Request) -> None:
    await _require_bucket(services, request)
    await answer_xml(request, xml_write.location(services.region))


async def require_expected_owner(services: Services, request: Request) -> None:
    """For calls that do not carry the header to the origin themselves."""
    owner, name = request.headers[OWNER_HEADER], request.operation.name
    if name in _OF_A_BUCKET:
        mounts, bucket = request.view.mounts, request.address.bucket
        targets = [mounts.resolve(bucket, mount.prefix) for mount in mounts.of_bucket(bucket)]
        await require_owner(services, targets, owner)
    elif name in _OF_A_KEY:
        await require_owner(services, [request.the_target], owner)


async def _require_bucket(services: Services, request: Request) -> None:
    target = request.the_target
    await services.origin(target).head_bucket(target.remote.bucket)
