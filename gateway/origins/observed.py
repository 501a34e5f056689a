"""An origin that is not spoken to over HTTP, counted and paced as one: each call as one request with the status that
S3 would have given it, bodies as bytes moved."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Final, TypeVar

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
    Unsupported,
)
from gateway.model import (
    BucketEntry,
    Conditions,
    ListPage,
    ObjectMeta,
    Part,
    PartPage,
    Remote,
    UploadPage,
    VersionPage,
    WriteResult,
)
from gateway.origins.base import ForwardRequest, ForwardResponse, Observer, Origin, PutBody, Reading
from gateway.origins.limits import Limits

T = TypeVar("T")

_STATUS: Final[tuple[tuple[type[GatewayError], str], ...]] = (
    (NotFound, "404"),
    (NoSuchBucket, "404"),
    (Changed, "412"),
    (ConditionFailed, "412"),
    (RangeNotSatisfiable, "416"),
    (OriginDenied, "403"),
    (Throttled, "503"),
    (Unsupported, "501"),
)


def status_of(error: BaseException) -> str:
    if isinstance(error, Refused):
        return str(error.status)
    return next((status for kind, status in _STATUS if isinstance(error, kind)), "error")


class ObservedReading:
    """`count`: the bytes that were given out."""

    def __init__(self, reading: Reading, limits: Limits) -> None:
        self.meta, self.start, self.stop = reading.meta, reading.start, reading.stop
        self.count = 0
        self._reading = reading
        self._limits = limits

    async def chunks(self) -> AsyncIterator[bytes]:
        async for piece in self._reading.chunks():
            self.count += len(piece)
            if self._limits.paced:
                await self._limits.pace(len(piece))
            yield piece


class Observed:
    def __init__(self, origin: Origin, observer: Observer, limits: Limits) -> None:
        self.name = origin.name
        self.capabilities = origin.capabilities
        self._origin = origin
        self._observer = observer
        self._limits = limits

    async def _counted(self, op: str, call: Awaitable[T]) -> T:
        try:
            result = await call
        except BaseException as error:
            self._observer.request(self.name, op, status_of(error))
            raise
        self._observer.request(self.name, op, "200")
        return result

    async def _sent(self, body: PutBody) -> AsyncIterator[bytes]:
        count = 0
        try:
            async for piece in body.chunks:
                await self._limits.pace(len(piece))
                count += len(piece)
                yield piece
        finally:
            self._observer.moved(self.name, "out", count)

    async def head(self, remote: Remote) -> ObjectMeta:
        return await self._counted("head", self._origin.head(remote))

    def get(
        self, remote: Remote, start: int, stop: int | None, *, if_match: str | None = None
    ) -> AbstractAsyncContextManager[Reading]:
        return self._get(remote, start, stop, if_match)

    @asynccontextmanager
    async def _get(
        self, remote: Remote, start: int, stop: int | None, if_match: str | None
    ) -> AsyncIterator[Reading]:
        context = self._origin.get(remote, start, stop, if_match=if_match)
        reading = ObservedReading(await self._counted("get", context.__aenter__()), self._limits)
        try:
            yield reading
        except BaseException as error:
            await context.__aexit__(type(error), error, error.__traceback__)
            raise
        else:
            await context.__aexit__(None, None, None)
        finally:
            self._observer.moved(self.name, "in", reading.count)

    async def put(self, remote: Remote, body: PutBody, conditions: Conditions) -> WriteResult:
        sent = replace(body, chunks=self._sent(body))
        return await self._counted("put", self._origin.put(remote, sent, conditions))

    async def delete(self, remote: Remote, *, version_id: str | None = None) -> Mapping[str, str]:
        return await self._counted("delete", self._origin.delete(remote, version_id=version_id))

    async def copy(
        self, source: Remote, target: Remote, headers: Mapping[str, str], *, source_version: str | None = None
    ) -> WriteResult:
        call = self._origin.copy(source, target, headers, source_version=source_version)
        return await self._counted("copy", call)

    async def list(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        start_after: str = "",
        max_keys: int = 1000,
    ) -> ListPage:
        call = self._origin.list(bucket, prefix, delimiter, start_after, max_keys)
        return await self._counted("list", call)

    async def list_versions(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        version_id_marker: str = "",
        max_keys: int = 1000,
    ) -> VersionPage:
        markers = (key_marker, version_id_marker)
        call = self._origin.list_versions(bucket, prefix, delimiter, *markers, max_keys)
        return await self._counted("list", call)

    async def create_upload(
        self, remote: Remote, headers: Mapping[str, str]
    ) -> tuple[str, Mapping[str, str]]:
        return await self._counted("multipart", self._origin.create_upload(remote, headers))

    async def put_part(self, remote: Remote, upload_id: str, number: int, body: PutBody) -> WriteResult:
        sent = replace(body, chunks=self._sent(body))
        return await self._counted("multipart", self._origin.put_part(remote, upload_id, number, sent))

    async def copy_part(
        self,
        source: Remote,
        target: Remote,
        upload_id: str,
        number: int,
        headers: Mapping[str, str],
        *,
        source_version: str | None = None,
    ) -> WriteResult:
        call = self._origin.copy_part(
            source, target, upload_id, number, headers, source_version=source_version
        )
        return await self._counted("copy", call)

    async def complete_upload(
        self,
        remote: Remote,
        upload_id: str,
        parts: Sequence[Part],
        headers: Mapping[str, str],
        conditions: Conditions,
    ) -> WriteResult:
        call = self._origin.complete_upload(remote, upload_id, parts, headers, conditions)
        return await self._counted("multipart", call)

    async def abort_upload(self, remote: Remote, upload_id: str) -> None:
        await self._counted("multipart", self._origin.abort_upload(remote, upload_id))

    async def list_parts(
        self, remote: Remote, upload_id: str, after: int = 0, max_parts: int = 1000
    ) -> PartPage:
        return await self._counted("list", self._origin.list_parts(remote, upload_id, after, max_parts))

    async def list_uploads(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        upload_id_marker: str = "",
        max_uploads: int = 1000,
    ) -> UploadPage:
        markers = (key_marker, upload_id_marker)
        call = self._origin.list_uploads(bucket, prefix, delimiter, *markers, max_uploads)
        return await self._counted("list", call)

    async def head_bucket(self, bucket: str) -> Mapping[str, str]:
        return await self._counted("head", self._origin.head_bucket(bucket))

    async def buckets(self) -> Sequence[BucketEntry]:
        return await self._counted("list", self._origin.buckets())

    def forward(self, request: ForwardRequest) -> AbstractAsyncContextManager[ForwardResponse]:
        return self._origin.forward(request)

    async def close(self) -> None:
        await self._origin.close()
