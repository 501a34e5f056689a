"""What every use case gets: the services of this worker and the view that a request began with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from gateway.access.policy import Access
from gateway.aio import Tasks, Threads
from gateway.errors import GatewayError
from gateway.namespace.keeping import Keeping
from gateway.namespace.mirrors import Echoes
from gateway.namespace.mounts import Mounts, Target
from gateway.namespace.rules import Rules
from gateway.objects.reading import Reads
from gateway.origins.base import Origin
from gateway.s3.sigv4 import Verifier


@dataclass(frozen=True)
class View:
    """One immutable snapshot of what config decides about requests. A reload makes other `Services` with another
    view; a request keeps those it began with, so it is never judged by half of each. `domain` as in `Services`:
    SigV2 signs the bucket that a virtual host names."""

    mounts: Mounts
    rules: Rules
    access: Access
    domain: str = ""

    @cached_property
    def keeping(self) -> Keeping:
        """What mounts and rules mean for what is cached: `Store.apply`."""
        return Keeping(self.mounts, self.rules)

    @cached_property
    def verifier(self) -> Verifier:
        """Belongs to the view: a secret that was taken away must not live on in a cache of signing keys."""
        return Verifier(self.access.secret_of, self.domain)

    @cached_property
    def echoes(self) -> Echoes:
        return Echoes(self.mounts.all())


class Forgets(Protocol):
    """What writes need of the store: after `forget` returns, no worker of this node serves what it held."""

    async def forget(self, key: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Services:
    """The engines of one worker, and what one config adds to them: `view`, and `origins` by name. `domain`:
    virtual-host addressing below it, empty for path style only. `region`: what GetBucketLocation and HeadBucket say;
    clients may sign for any."""

    view: View
    origins: Mapping[str, Origin]
    store: Forgets
    threads: Threads
    tasks: Tasks
    domain: str
    reads: Reads
    region: str = "us-east-1"
    views: Callable[[], Sequence[View]] | None = (
        None  # all that any request of the node may have; None: `view`
    )

    def names_of(self, key: bytes) -> set[bytes]:
        """Every cache key that stands for the same object as `key`, with and without the mirrors of a reload that is
        under way: twice over the views, because what one calls it may be what another knows it by."""
        names = {key}
        for view in 2 * list(self.views() if self.views is not None else (self.view,)):
            names = names.union(*map(view.echoes.of, names))
        return names

    def origin(self, target: Target) -> Origin:
        try:
            return self.origins[target.origin]
        except KeyError:
            raise GatewayError(f"Mount of {target.bucket} names an unknown origin.") from None
