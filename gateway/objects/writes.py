"""PutObject, and the rule that every change of an object follows (`settle`).

Write-through: the origin has the bytes first, then the cache forgets the key, then the client hears of it. So a
read that begins after the answer never finds the previous version here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gateway.errors import (
    Changed,
    ConditionFailed,
    GatewayError,
    NoSuchBucket,
    NotFound,
    OriginDenied,
    RangeNotSatisfiable,
    Refused,
    Throttled,
    Unreachable,
    Unsupported,
)
from gateway.model import Conditions, WriteResult
from gateway.namespace.mounts import Target
from gateway.objects.context import Services
from gateway.origins.base import Origin, PutBody

T = TypeVar("T")

# An origin that answered with one of these has changed nothing. Everything else may have been carried out.
_WITHOUT_EFFECT = (
    Changed,
    ConditionFailed,
    NoSuchBucket,
    NotFound,
    OriginDenied,
    RangeNotSatisfiable,
    Unsupported,
)


@dataclass(frozen=True, slots=True)
class _Outcome(Generic[T]):
    """What `_carry_out` hands over its task's edge: failures as values, since a task's own exception is logged."""

    result: T | None = None
    error: BaseException | None = None


async def put_object(
    services: Services, target: Target, body: PutBody, conditions: Conditions
) -> WriteResult:
    """Streams `body` to the origin. Raises ConditionFailed, NotFound (If-Match on a missing key), Unsupported
    (a condition on an origin that cannot check it atomically), and whatever the body's iterator raises."""
    origin = services.origin(target)
    require_conditions(origin, conditions)
    return await settle(services, target, origin.put(target.remote, body, conditions))


async def settle(services: Services, target: Target, change: Coroutine[Any, Any, T]) -> T:
    return await settle_all(services, [target], change)


async def settle_all(services: Services, targets: Iterable[Target], change: Coroutine[Any, Any, T]) -> T:
    """Carries `change` out at the origin and forgets `targets` before the result is known to anybody.

    The change runs in a task of its own: a client that leaves once its last byte has been sent on must not stop
    us between the origin's commit and the forgetting, which would leave the old version served until it expires.
    A client that leaves earlier ends the change through its body's iterator, which raises."""
    keys = [one.cache_key for one in targets]
    task = services.tasks.spawn(_carry_out(services, keys, change), "settle")
    outcome = await asyncio.shield(task)
    if outcome.error is not None:
        raise outcome.error
    return outcome.result  # type: ignore[return-value]  # T itself may be None


async def _carry_out(
    services: Services, keys: Sequence[bytes], change: Coroutine[Any, Any, T]
) -> _Outcome[T]:
    try:
        result = await change
    except asyncio.CancelledError:  # shutdown: the origin may have committed
        await _forget(services, keys)
        raise
    except Exception as error:
        if not without_effect(error):
            await _forget(services, keys)
        return _Outcome(error=error)
    try:
        await _forget(services, keys)
    except Exception as error:
        return _Outcome(error=error)
    return _Outcome(result)


async def _forget(services: Services, keys: Sequence[bytes]) -> None:
    """Also by what other mounts call it."""
    names = set[bytes]().union(*map(services.names_of, keys))
    await asyncio.gather(*(services.store.forget(name) for name in names))


def without_effect(error: Exception) -> bool:
    """True if the origin certainly did not change anything, so what is cached stays right."""
    if isinstance(error, Refused):
        return error.status < 500
    if isinstance(error, _WITHOUT_EFFECT):
        return True
    # The client's own body failed (S3Error): its last piece was withheld, so nothing was committed.
    return isinstance(error, GatewayError) and not isinstance(error, Unreachable | Throttled)


def require_conditions(origin: Origin, conditions: Conditions) -> None:
    """A condition that the origin would ignore is refused: two writers would both believe that they won."""
    if conditions and not origin.capabilities.conditional_writes:
        raise Unsupported(f"The origin {origin.name} cannot check If-Match or If-None-Match on writes.")
