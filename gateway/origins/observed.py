"""An origin that is not spoken to over our own HTTP client, limited and counted as if it were: each call is one
request, with the status that S3 would have given it, and has its place inside (`limits.py`) until it has ended, a read
until its body has; bodies are bytes moved."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, Final, TypeVar

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
from gateway.origins.base import (
    COUNTED_BYTES,
    ForwardRequest,
    ForwardResponse,
    MakesBuckets,
    Observer,
    Origin,
    PutBody,
    Reading,
)
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
    """`tell` before it is let go of: what came since the last time is then counted, too."""

    def __init__(self, reading: Reading, limits: Limits, moved: Callable[[int], None]) -> None:
        self.meta, self.start, self.stop = reading.meta, reading.start, reading.stop
        self._count = 0
        self._reading = reading
        self._limits = limits
        self._moved = moved

    async def chunks(self) -> AsyncIterator[bytes]:
        async for piece in self._reading.chunks():
            self._count += len(piece)
            if self._count >= COUNTED_BYTES:
                self.tell()
            if self._limits.paced:
                await self._limits.pace(len(piece))
            yield piece

    def tell(self) -> None:
        count, self._count = self._count, 0
        self._moved(count)


class Observed:
    def __init__(self, origin: Origin, observer: Observer, limits: Limits) -> None:
        self.name = origin.name
        self.capabilities = origin.capabilities
        self._origin = origin
        self._observer = observer
        self._limits = limits

    @property
    def limits(self) -> Limits:
        return self._limits

    async def _counted(self, op: str, call: Coroutine[Any, Any, T]) -> T:
        epoch = await self._enter(call)
        try:
            return await self._asked(op, call, epoch)
        finally:
            self._limits.leave()

    async def _enter(self, call: Coroutine[Any, Any, T]) -> int:
        """A call that may not begin is not counted: nothing has been asked."""
        try:
            return await self._limits.enter()
        except BaseException:
            call.close()
            raise

    async def _asked(self, op: str, call: Coroutine[Any, Any, T], epoch: int) -> T:
        limits = self._limits
        try:
            result = await call
        except BaseException as error:
            self._observer.request(self.name, op, status_of(error))
            if isinstance(error, Throttled):
                limits.throttled(epoch)
            elif isinstance(error, Unreachable):
                limits.failed()
            elif isinstance(error, GatewayError):
                limits.succeeded()
            raise
        limits.succeeded()
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
        self._limits.require_budget()
        context = self._origin.get(remote, start, stop, if_match=if_match)
        opening = context.__aenter__()
        epoch = await self._enter(opening)
        try:
            opened = await self._asked("get", opening, epoch)
            reading = ObservedReading(opened, self._limits, self._received)
            try:
                yield reading
            except BaseException as error:
                await context.__aexit__(type(error), error, error.__traceback__)
                raise
            else:
                await context.__aexit__(None, None, None)
            finally:
                reading.tell()
        finally:
            self._limits.leave()

    def _received(self, count: int) -> None:
        self._observer.moved(self.name, "in", count)

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

    async def create_bucket(self, bucket: str) -> None:
        await self._counted("put", self._makes_buckets().create_bucket(bucket))

    async def delete_bucket(self, bucket: str) -> None:
        await self._counted("delete", self._makes_buckets().delete_bucket(bucket))

    def _makes_buckets(self) -> MakesBuckets:
        if not isinstance(self._origin, MakesBuckets):
            raise Unsupported(f"The origin {self.name} makes no buckets.")
        return self._origin

    async def buckets(self) -> Sequence[BucketEntry]:
        return await self._counted("list", self._origin.buckets())

    def forward(self, request: ForwardRequest) -> AbstractAsyncContextManager[ForwardResponse]:
        return self._origin.forward(request)

    async def close(self) -> None:
        await self._origin.close()
