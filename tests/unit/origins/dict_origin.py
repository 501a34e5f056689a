"""An Origin that keeps its objects in a dictionary, for tests of what is put together of several."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import Changed, ConditionFailed, GatewayError, NoSuchBucket, NotFound, RangeNotSatisfiable
from gateway.model import Conditions, ListEntry, ListPage, ObjectMeta, Remote, UploadPage, WriteResult
from gateway.origins.base import Capabilities, PutBody
from gateway.s3.conditions import matches


def etag_of(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def body_of(data: bytes) -> PutBody:
    async def chunks() -> AsyncIterator[bytes]:
        if data:
            yield data

    return PutBody(len(data), chunks())


class DictReading:
    def __init__(self, meta: ObjectMeta, data: bytes, start: int, stop: int) -> None:
        self.meta, self.start, self.stop = meta, start, stop
        self._data = data[start:stop]

    async def chunks(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self._data), 3):
            yield self._data[at : at + 3]


@dataclass
class DictOrigin:
    """`errors`: raised by the calls of these names. `asked`: how often each call came. `before`: awaited in front of
    each call, told its name and key. `readings`: that are open."""

    name: str
    buckets_: dict[str, dict[str, bytes]] = field(default_factory=dict)
    capabilities: Capabilities = Capabilities(conditional_writes=True)  # noqa: RUF009  # frozen
    errors: dict[str, GatewayError] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    before: Callable[[str, str], Awaitable[None]] | None = None
    readings: int = 0
    closed: bool = False

    async def _called(self, name: str, bucket: str, key: str) -> dict[str, bytes]:
        self.asked[name] += 1
        if self.before is not None:
            await self.before(name, key)
        if name in self.errors:
            raise self.errors[name]
        if bucket not in self.buckets_:
            raise NoSuchBucket("none")
        return self.buckets_[bucket]

    def _meta(self, data: bytes) -> ObjectMeta:
        return ObjectMeta(len(data), etag_of(data), 7, {"x-amz-version-id": "v1", "x-amz-meta-at": self.name})

    async def head(self, remote: Remote) -> ObjectMeta:
        bucket = await self._called("head", *remote)
        if remote.key not in bucket:
            raise NotFound("none")
        return self._meta(bucket[remote.key])

    @asynccontextmanager
    async def get(
        self, remote: Remote, start: int, stop: int | None, *, if_match: str | None = None
    ) -> AsyncIterator[DictReading]:
        bucket = await self._called("get", *remote)
        if remote.key not in bucket:
            raise NotFound("none")
        data = bucket[remote.key]
        meta = self._meta(data)
        if if_match is not None and not matches(if_match, meta.etag, weak=False):
            raise Changed("another")
        if start >= len(data) and (start or stop is not None):
            raise RangeNotSatisfiable("past", len(data))
        self.readings += 1
        try:
            yield DictReading(meta, data, start, len(data) if stop is None else min(stop, len(data)))
        finally:
            self.readings -= 1

    async def put(self, remote: Remote, body: PutBody, conditions: Conditions) -> WriteResult:
        bucket = await self._called("put", *remote)
        data = b"".join([piece async for piece in body.chunks])
        now = bucket.get(remote.key)
        if conditions.if_match is not None:
            if now is None:
                raise NotFound("none")
            if not matches(conditions.if_match, etag_of(now), weak=False):
                raise ConditionFailed("another")
        if conditions.if_none_match is not None and now is not None:
            raise ConditionFailed("there")
        bucket[remote.key] = data
        return WriteResult(etag_of(data), {"x-amz-version-id": "v2"})

    async def delete(self, remote: Remote, *, version_id: str | None = None) -> Mapping[str, str]:
        (await self._called("delete", *remote)).pop(remote.key, None)
        return {"x-amz-delete-marker": "true"}

    async def copy(
        self, source: Remote, target: Remote, headers: Mapping[str, str], *, source_version: str | None = None
    ) -> WriteResult:
        bucket = await self._called("copy", *source)
        if source.key not in bucket:
            raise NotFound("none")
        data = self.buckets_[target.bucket][target.key] = bucket[source.key]
        return WriteResult(etag_of(data))

    async def list(
        self, bucket: str, prefix: str = "", delimiter: str = "", start_after: str = "", max_keys: int = 1000
    ) -> ListPage:
        return listing(
            await self._called("list", bucket, start_after), prefix, delimiter, start_after, max_keys
        )

    async def list_uploads(self, *asked: Any) -> UploadPage:
        self.asked["list_uploads"] += 1
        return UploadPage((), (self.name,))

    async def close(self) -> None:
        self.closed = True


def listing(
    objects: Mapping[str, bytes], prefix: str, delimiter: str, start_after: str, max_keys: int
) -> ListPage:
    """The obligation of `Origin.list`, in the plainest way."""
    shown: dict[str, ListEntry | None] = {}
    for key, data in objects.items():
        if not key.startswith(prefix) or key.encode() <= start_after.encode():
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        if cut < 0:
            shown[key] = ListEntry(key, len(data), etag_of(data), 7.0)
            continue
        group = key[: cut + len(delimiter)]
        if not (start_after.endswith(delimiter) and start_after.startswith(group)):
            shown[group] = None
    names = sorted(shown, key=str.encode)
    page, more = names[:max_keys], len(names) > max_keys
    return ListPage(
        tuple(entry for name in page if (entry := shown[name]) is not None),
        tuple(name for name in page if shown[name] is None),
        page[-1] if more and page else None,
    )
