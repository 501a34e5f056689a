"""type = "file": a directory or NAS mount. Its sub-directories are the remote buckets.

Where keys live is in `file_keys.py`, metadata and ETags in `file_meta.py`, the writes and their order in
`file_tree.py`, listing in `file_walk.py` and `file_list.py`, multipart in `file_uploads.py`. Here is only the
asynchronous side: every file operation runs in a thread, bodies stream through in pieces.

An object is read through one open descriptor, so a replaced file is read to its end as it was. A file that is
written to in place while it is read is noticed before the last piece is given out (`Changed`).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

from gateway.aio import Threads
from gateway.errors import Changed, RangeNotSatisfiable, Unreachable, Unsupported
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
from gateway.origins import file_buckets, file_copy, file_list, file_meta
from gateway.origins.base import (
    Capabilities,
    ForwardRequest,
    ForwardResponse,
    PutBody,
    Reading,
    null_versions,
)
from gateway.origins.file_meta import Record
from gateway.origins.file_spool import Spool, Steps
from gateway.origins.file_tree import Tree
from gateway.origins.file_uploads import PART_BYTES_MIN, Upload, Uploads
from gateway.origins.file_walk import Names
from gateway.s3.conditions import matches

T = TypeVar("T")
PIECE_BYTES = 256 << 10
# Copies and completes may run for minutes; two of them at once saturate a disk and leave the other threads
# free.
_BULK_THREADS = 2


class FileReading(Steps):
    def __init__(self, tree: Tree, threads: Threads) -> None:
        super().__init__(threads)
        self._tree = tree
        self._fd = -1
        self._stamp = (0, 0)
        self.meta = ObjectMeta(0, "", 0)
        self.start = 0
        self.stop = 0

    def open(self, remote: Remote) -> None:
        """In a thread."""
        self._fd, stat = self._tree.open_object(remote)
        self._stamp = (stat.st_size, stat.st_mtime_ns)
        self.meta = file_meta.object_meta(stat, self._tree.record(remote, stat))

    def choose(self, start: int, stop: int | None, if_match: str | None) -> None:
        if if_match is not None and not matches(if_match, self.meta.etag, weak=False):
            raise Changed("The file is no longer the version that was asked for.")
        size = self.meta.size
        if start >= size and (start or stop is not None):
            raise RangeNotSatisfiable("The range starts at or past the end of the file.", size)
        self.start, self.stop = start, size if stop is None else min(stop, size)

    async def chunks(self) -> AsyncIterator[bytes]:
        for at in range(self.start, self.stop, PIECE_BYTES):
            yield await self.step("reading", self._read, at, min(PIECE_BYTES, self.stop - at))

    def _read(self, at: int, count: int) -> bytes:
        data = os.pread(self._fd, count, at)
        if at + count >= self.stop:
            stat = os.fstat(self._fd)
            if self._stamp != (stat.st_size, stat.st_mtime_ns):
                raise Changed("The file was written to while it was read.")
        if len(data) != count:
            raise Unreachable("The file is shorter than it was.")
        return data

    def close(self) -> None:
        self.finish(self._close)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class FileOrigin:
    capabilities = Capabilities(conditional_writes=True, checksums=True)

    def __init__(self, name: str, root: str, *, part_bytes_min: int = PART_BYTES_MIN) -> None:
        self.name = name
        self._tree = Tree(root)
        self._names = Names()
        self._uploads = Uploads(self._tree, part_bytes_min)
        self._threads = Threads(f"origin-{name}")
        self._bulk = Threads(f"origin-{name}-bulk", _BULK_THREADS)
        self._prepared = False

    async def _run(self, what: str, call: Callable[..., T], *args: object) -> T:
        return await (await self._steps()).step(what, call, *args)

    async def _steps(self) -> Steps:
        """Prepares the tree first, once; again and again while the directory is not there."""
        steps = Steps(self._threads)
        if not self._prepared:
            await steps.step("looking at it", self._tree.prepare)
            self._prepared = True
        return steps

    # Reading

    async def head(self, remote: Remote) -> ObjectMeta:
        async with self._reading(remote) as reading:
            return reading.meta

    def get(
        self, remote: Remote, start: int, stop: int | None, *, if_match: str | None = None
    ) -> AbstractAsyncContextManager[Reading]:
        return self._get(remote, start, stop, if_match)

    @asynccontextmanager
    async def _get(
        self, remote: Remote, start: int, stop: int | None, if_match: str | None
    ) -> AsyncIterator[Reading]:
        async with self._reading(remote) as reading:
            reading.choose(start, stop, if_match)
            yield reading

    @asynccontextmanager
    async def _reading(self, remote: Remote) -> AsyncIterator[FileReading]:
        await self._steps()
        reading = FileReading(self._tree, self._threads)
        try:
            await reading.step("opening", reading.open, remote)
            yield reading
        finally:
            reading.close()

    # Writing

    @asynccontextmanager
    async def _spool(self, threads: Threads | None = None) -> AsyncIterator[Spool]:
        await self._steps()
        spool = Spool(self._tree, threads or self._threads)
        try:
            yield spool
        finally:
            spool.discard()

    async def put(self, remote: Remote, body: PutBody, conditions: Conditions) -> WriteResult:
        headers = file_meta.stored_headers(body.headers)
        async with self._spool() as spool:
            await spool.step("writing", self._begin, spool, remote, conditions)
            await spool.fill(body)
            checksums = _checksums_of(body)
            if checksums:
                checksums["x-amz-checksum-type"] = "FULL_OBJECT"
            record = Record(remote.key, spool.etag, headers, checksums)
            await spool.step("writing", self._tree.publish, remote, spool.fd, spool.path, record, conditions)
            return WriteResult(record.etag, checksums)

    def _begin(self, spool: Spool, remote: Remote, conditions: Conditions) -> None:
        """Refuses early what can be refused before the body is read."""
        self._tree.require_bucket(remote.bucket)
        self._tree.check(remote, conditions)
        spool.open()

    async def delete(self, remote: Remote, *, version_id: str | None = None) -> Mapping[str, str]:
        if version_id not in (None, "null"):
            raise Unsupported("A directory keeps no versions.")
        await self._run("deleting", self._tree.delete, remote)
        return {}

    async def copy(
        self, source: Remote, target: Remote, headers: Mapping[str, str], *, source_version: str | None = None
    ) -> WriteResult:
        _require_no_version(source_version)
        async with self._spool(self._bulk) as spool:
            return await spool.step(
                "copying", file_copy.copy_object, self._tree, spool, source, target, headers
            )

    # Listing

    async def list(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        start_after: str = "",
        max_keys: int = 1000,
    ) -> ListPage:
        return await self._run(
            "listing",
            file_list.page,
            self._tree,
            self._names,
            bucket,
            prefix,
            delimiter,
            start_after,
            max_keys,
        )

    async def list_versions(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        version_id_marker: str = "",
        max_keys: int = 1000,
    ) -> VersionPage:
        return null_versions(await self.list(bucket, prefix, delimiter, key_marker, max_keys))

    # Multipart

    async def create_upload(
        self, remote: Remote, headers: Mapping[str, str]
    ) -> tuple[str, Mapping[str, str]]:
        return await self._run("writing", self._uploads.create, remote, headers)

    async def put_part(self, remote: Remote, upload_id: str, number: int, body: PutBody) -> WriteResult:
        async with self._spool() as spool:
            upload = await spool.step("writing", self._begin_part, spool, remote, upload_id)
            await spool.fill(body)
            checksums = _checksums_of(body)
            await spool.step("writing", self._uploads.add_part, upload, number, spool, checksums)
            return WriteResult(spool.etag, checksums)

    def _begin_part(self, spool: Spool, remote: Remote, upload_id: str) -> Upload:
        upload = self._uploads.open(remote, upload_id)
        spool.open()
        return upload

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
        _require_no_version(source_version)
        call = (self._tree, self._uploads)
        async with self._spool(self._bulk) as spool:
            return await spool.step(
                "copying", file_copy.copy_part, *call, spool, source, target, upload_id, number, headers
            )

    async def complete_upload(
        self,
        remote: Remote,
        upload_id: str,
        parts: Sequence[Part],
        headers: Mapping[str, str],
        conditions: Conditions,
    ) -> WriteResult:
        async with self._spool(self._bulk) as spool:
            return await spool.step(
                "writing", self._uploads.complete, remote, upload_id, parts, headers, conditions, spool
            )

    async def abort_upload(self, remote: Remote, upload_id: str) -> None:
        await self._run("deleting", self._uploads.abort, remote, upload_id)

    async def list_parts(
        self, remote: Remote, upload_id: str, after: int = 0, max_parts: int = 1000
    ) -> PartPage:
        return await self._run("listing", self._uploads.parts, remote, upload_id, after, max_parts)

    async def list_uploads(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        upload_id_marker: str = "",
        max_uploads: int = 1000,
    ) -> UploadPage:
        return await self._run(
            "listing",
            self._uploads.page,
            bucket,
            prefix,
            delimiter,
            key_marker,
            upload_id_marker,
            max_uploads,
        )

    # Buckets

    async def head_bucket(self, bucket: str) -> Mapping[str, str]:
        await self._run("looking at it", self._tree.require_bucket, bucket)
        return {}

    async def create_bucket(self, bucket: str) -> None:
        await self._run("making it", file_buckets.create, self._tree, bucket)

    async def delete_bucket(self, bucket: str) -> None:
        await self._run("removing it", file_buckets.remove, self._tree, bucket)

    async def buckets(self) -> Sequence[BucketEntry]:
        found = await self._run("listing", self._tree.buckets)
        return [BucketEntry(name, created) for name, created in found]

    def forward(self, request: ForwardRequest) -> AbstractAsyncContextManager[ForwardResponse]:
        raise Unsupported("A directory cannot do this S3 call.")

    async def close(self) -> None:
        """Waits for steps under way: they hold locks and descriptors."""
        self._bulk.close()
        self._threads.close()


def _checksums_of(body: PutBody) -> dict[str, str]:
    checksums = file_meta.declared_checksums(body.headers)
    if body.trailer is not None:
        name, value = body.trailer
        checksums[name] = value()
    return checksums


def _require_no_version(version: str | None) -> None:
    if version not in (None, "null"):
        raise Unsupported("A directory keeps no versions.")
