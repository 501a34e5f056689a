"""Use cases over origins that live in dictionaries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway.access.policy import Access
from gateway.aio import Tasks, Threads
from gateway.errors import NoSuchBucket
from gateway.model import Conditions, ListEntry, ListPage, Remote, UploadPage, VersionPage, WriteResult
from gateway.namespace.mounts import Mount, Mounts
from gateway.namespace.rules import Rules
from gateway.objects.context import Services, View
from gateway.origins.base import Capabilities, PutBody


def order(key: str) -> bytes:
    return key.encode()


def listing(keys: Any, prefix: str, delimiter: str, start_after: str, max_keys: int) -> ListPage:
    """The obligation of `Origin.list`, in the plainest way."""
    shown: dict[str, ListEntry | None] = {}
    for key in keys:
        if not key.startswith(prefix) or order(key) <= order(start_after):
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        if cut < 0:
            shown[key] = ListEntry(key, len(key), '"e"', 0.0)
            continue
        group = key[: cut + len(delimiter)]
        if not (start_after.endswith(delimiter) and start_after.startswith(group)):
            shown[group] = None
    names = sorted(shown, key=order)
    page, more = names[:max_keys], len(names) > max_keys
    return ListPage(
        tuple(entry for name in page if (entry := shown[name]) is not None),
        tuple(name for name in page if shown[name] is None),
        page[-1] if more and page else None,
    )


@dataclass
class DictOrigin:
    """`before`: awaited inside every change, after it has been carried out."""

    name: str
    buckets_: dict[str, dict[str, bytes]] = field(default_factory=dict)
    capabilities: Capabilities = Capabilities(conditional_writes=True)  # noqa: RUF009  # frozen
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    committed: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None
    under_way: int = 0
    under_way_max: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    async def list(
        self, bucket: str, prefix: str = "", delimiter: str = "", start_after: str = "", max_keys: int = 1000
    ) -> ListPage:
        if bucket not in self.buckets_:
            raise NoSuchBucket("none")
        return listing(self.buckets_[bucket], prefix, delimiter, start_after, max_keys)

    async def put(self, remote: Remote, body: PutBody, conditions: Conditions) -> WriteResult:
        data = b"".join([piece async for piece in body.chunks])
        return await self._change(remote, lambda bucket: bucket.__setitem__(remote.key, data))

    async def delete(self, remote: Remote, *, version_id: str | None = None) -> Mapping[str, str]:
        result = await self._change(remote, lambda bucket: bucket.pop(remote.key, None))
        return result.headers

    async def _change(self, remote: Remote, change: Callable[[dict[str, bytes]], Any]) -> WriteResult:
        self.under_way += 1
        self.under_way_max = max(self.under_way_max, self.under_way)
        try:
            change(self.buckets_[remote.bucket])
            self.committed.set()
            await self.gate.wait()
            await asyncio.sleep(0)
            if self.error is not None:
                raise self.error
            return WriteResult('"e"', {"x-amz-version-id": "1"})
        finally:
            self.under_way -= 1

    async def list_versions(self, *args: Any) -> VersionPage:
        self.calls.append(args)
        return VersionPage((), (f"{args[1]}p/",), f"{args[1]}k", "v")

    async def list_uploads(self, *args: Any) -> UploadPage:
        self.calls.append(args)
        return UploadPage((), (f"{args[1]}p/",), f"{args[1]}k", "u")


class Forgotten:
    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.error: Exception | None = None
        self.seen = asyncio.Event()

    async def forget(self, key: bytes) -> None:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.keys.append(key)
        self.seen.set()


def body_of(*pieces: bytes, error: Exception | None = None) -> PutBody:
    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
        if error is not None:
            raise error

    return PutBody(sum(map(len, pieces)), chunks())


@asynccontextmanager
async def running(
    *origins: Any, mounts: tuple[Mount, ...] = ()
) -> AsyncIterator[tuple[Services, View, Forgotten]]:
    store, tasks, threads = Forgotten(), Tasks(), Threads("test", 1)
    view = View(Mounts(mounts), Rules(()), Access.of(()))
    reads: Any = None
    services = Services(view, {one.name: one for one in origins}, store, threads, tasks, "", reads)
    try:
        yield services, view, store
    finally:
        await tasks.close()
        threads.close()


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """For property tests, whose examples each need a loop of their own."""
    return asyncio.run(coroutine)
