"""Targets on mounts with mirrors, for what has to be asked of one place: where the object is, where it is written."""

from __future__ import annotations

from gateway.model import Conditions
from gateway.namespace.mounts import Target
from gateway.objects.context import Services
from gateway.origins.base import Mirrored


def is_mirrored(services: Services, target: Target) -> bool:
    return isinstance(services.origin(target), Mirrored)


async def located(services: Services, target: Target) -> Target:
    """At the place that has the object now; a mount without mirrors has one place. It keeps its cache key: that is
    how this mount knows the object. Raises NotFound, and what origins raise."""
    origin = services.origin(target)
    if not isinstance(origin, Mirrored):
        return target
    name, remote = await origin.find(target.remote)
    return target._replace(origin=name, remote=remote)


def at_home(services: Services, target: Target) -> Target:
    """At the place where it is written."""
    origin = services.origin(target)
    if not isinstance(origin, Mirrored):
        return target
    name, remote = origin.home(target.remote)
    return target._replace(origin=name, remote=remote)


async def judged(services: Services, target: Target, conditions: Conditions) -> Conditions:
    """What `at_home` has to check of a write's conditions. Raises ConditionFailed, NotFound."""
    origin = services.origin(target)
    return await origin.judge(target.remote, conditions) if isinstance(origin, Mirrored) else conditions
