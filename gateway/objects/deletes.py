"""DeleteObject and DeleteObjects. Each key is forgotten here as soon as its origin has deleted it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.errors import GatewayError
from gateway.namespace.mounts import Target
from gateway.objects.context import Services
from gateway.objects.writes import settle

# Deletes of one request in flight at once: enough to hide a WAN round trip (1,000 keys at 50 ms: 3 s), few
# enough that one client's batch does not take an origin's whole connection pool.
PARALLEL_DELETES_MAX = 16


@dataclass(frozen=True, slots=True)
class Doomed:
    """One key of a DeleteObjects request that was found allowed."""

    target: Target
    version_id: str | None = None


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
    """Deletes all, at most `PARALLEL_DELETES_MAX` at once; results in the order of `doomed`. One key's failure
    does not stop the others."""
    results: list[Deletion | None] = [None] * len(doomed)
    todo = iter(list(enumerate(doomed)))
    workers = min(PARALLEL_DELETES_MAX, len(doomed))
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(_work(services, todo, results), name="delete-objects")
    return _filled(results)


async def _work(
    services: Services, todo: Iterator[tuple[int, Doomed]], results: list[Deletion | None]
) -> None:
    for index, item in todo:
        try:
            headers = await delete_object(services, item.target, item.version_id)
            results[index] = Deletion(item.target.key, item.version_id, headers)
        except GatewayError as error:
            results[index] = Deletion(item.target.key, item.version_id, error=error)


def _filled(results: Iterable[Deletion | None]) -> list[Deletion]:
    return [result for result in results if result is not None]
