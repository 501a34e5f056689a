"""`x-amz-expected-bucket-owner`: the account that a client believes a bucket to belong to.

Calls that are one request to an origin carry it along. For those that are none, or several, or another, the buckets
behind them are asked first, by a HEAD that says it. Origins without accounts cannot be asked: there it says nothing, as
for every other call.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gateway.errors import NoSuchBucket, OriginDenied, Throttled, Unreachable
from gateway.model import Remote
from gateway.namespace.mounts import Target
from gateway.objects.context import Services
from gateway.objects.mirrored import at_home
from gateway.origins.base import ForwardRequest

OWNER_HEADER: Final = "x-amz-expected-bucket-owner"
SOURCE_OWNER_HEADER: Final = "x-amz-source-expected-bucket-owner"


async def require_owner(services: Services, targets: Iterable[Target], owner: str) -> None:
    """Raises OriginDenied where a bucket of `targets` belongs to somebody else, and what origins raise."""
    homes = (at_home(services, target) for target in targets)
    for name, bucket in sorted({(home.origin, home.remote.bucket) for home in homes}):
        origin = services.origins[name]
        if not origin.capabilities.forward:
            continue
        async with origin.forward(
            ForwardRequest("HEAD", Remote(bucket, ""), "", {OWNER_HEADER: owner})
        ) as said:
            _judge(said.status)


def _judge(status: int) -> None:
    if status < 300:
        return
    if status in (401, 403):
        raise OriginDenied("The bucket is not the expected owner's, or not this gateway's to ask about.")
    if status == 404:
        raise NoSuchBucket("The specified bucket does not exist")
    if status in (429, 503):
        raise Throttled("The origin asked to slow down.")
    raise Unreachable(f"The origin answered {status}.")
