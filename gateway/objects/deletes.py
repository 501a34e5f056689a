"""DeleteObject and DeleteObjects. Each key is forgotten here as soon as its origin has deleted it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.errors import GatewayError, Refused, Unsupported
from gateway.model import ToDelete
from gateway.namespace.mounts import Target
from gateway.objects.context import Services
from gateway.objects.writes import settle, settle_all, without_effect
from gateway.origins.base import Capabilities, DeletesMany
from gateway.s3.text import xml_carries

# Deletes of one request in flight at once: enough to hide a WAN round trip (1,000 keys at 50 ms: 3 s), few
# enough that one client's batch does not take an origin's whole connection pool.
PARALLEL_DELETES_MAX = 16

_Outcome = Mapping[str, str] | GatewayError


@dataclass(frozen=True, slots=True)
class Doomed:
    """One key of a DeleteObjects request that was found allowed."""

    target: Target
    version_id: str | None = None
    etag: str | None = None  # only if it still has this one


@dataclass(frozen=True, slots=True)
class Deletion:
    """How one key of a DeleteObjects request ended."""

    key: str
    version_id: str | None
    headers: Mapping[str, str] = field(default_factory=dict)
    error: GatewayError | None = None


async def delete_object(
    services: Services, target: Target, version_id: str | None = None
) -> Mapping[str, str]:
    """Deletes the object, or the one version. Deleting a missing key succeeds. Returns response headers."""
    origin = services.origin(target)
    return await settle(services, target, origin.delete(target.remote, version_id=version_id))


async def delete_objects(services: Services, doomed: Sequence[Doomed]) -> list[Deletion]:
    """Deletes all: those of one bucket at an origin that takes them so in one request, the others side by side, at
    most `PARALLEL_DELETES_MAX` at once. Results in the order of `doomed`. One key's failure does not stop the
    others."""
    results: list[Deletion | None] = [None] * len(doomed)
    todo = iter(_shares(services, doomed))
    async with asyncio.TaskGroup() as group:
        for _ in range(min(PARALLEL_DELETES_MAX, len(doomed))):
            group.create_task(_work(services, doomed, todo, results), name="delete-objects")
    return [result for result in results if result is not None]


def _shares(services: Services, doomed: Sequence[Doomed]) -> list[list[int]]:
    """What is asked for in one request each, as indices."""
    shares: dict[tuple[object, ...], list[int]] = {}
    for index, one in enumerate(doomed):
        target, can = one.target, services.origin(one.target).capabilities
        together = can.batch_delete and xml_carries(target.remote.key) and _can_check(can, one)
        name = (target.origin, target.remote.bucket) if together else (index,)
        shares.setdefault(name, []).append(index)
    return list(shares.values())


def _can_check(can: Capabilities, one: Doomed) -> bool:
    return one.etag is None or can.conditional_deletes


async def _work(
    services: Services,
    doomed: Sequence[Doomed],
    todo: Iterator[list[int]],
    results: list[Deletion | None],
) -> None:
    for share in todo:
        outcomes = await _delete(services, [doomed[index] for index in share])
        for index, outcome in zip(share, outcomes, strict=True):
            one = doomed[index]
            if isinstance(outcome, GatewayError):
                results[index] = Deletion(one.target.key, one.version_id, error=outcome)
            else:
                results[index] = Deletion(one.target.key, one.version_id, outcome)


async def _delete(services: Services, share: Sequence[Doomed]) -> Sequence[_Outcome]:
    """A key that stands alone without a condition is the plain call, which stores answer more fully."""
    origin = services.origin(share[0].target)
    conditional = share[0].etag is not None and _can_check(origin.capabilities, share[0])
    if isinstance(origin, DeletesMany) and (len(share) > 1 or conditional):
        targets = [one.target for one in share]
        named = [ToDelete(one.target.remote.key, one.version_id, one.etag) for one in share]
        try:
            change = origin.delete_many(targets[0].remote.bucket, named)
            return await settle_all(services, targets, change)
        except (Unsupported, Refused) as error:
            # The store does not know the request, or not this one: nothing was deleted.
            if not without_effect(error):
                return [error] * len(share)
        except GatewayError as error:
            return [error] * len(share)
    return [await _delete_one(services, one) for one in share]


async def _delete_one(services: Services, one: Doomed) -> _Outcome:
    try:
        if one.etag is not None:
            raise Unsupported("The origin cannot check a condition on one of several keys to delete.")
        return await delete_object(services, one.target, one.version_id)
    except GatewayError as error:
        return error
