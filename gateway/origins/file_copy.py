"""Copies inside the directory, blocking: whole objects and parts of uploads."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from gateway.errors import Changed, ConditionFailed, Refused
from gateway.model import Conditions, ObjectMeta, Remote, WriteResult
from gateway.origins import file_meta
from gateway.origins.file_meta import Record
from gateway.origins.file_spool import Spool
from gateway.origins.file_tree import Tree
from gateway.origins.file_uploads import Uploads
from gateway.s3.conditions import check, parse_copy_conditions


def copy_object(
    tree: Tree, spool: Spool, source: Remote, target: Remote, headers: Mapping[str, str]
) -> WriteResult:
    replaced = headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE"
    if source == target and not replaced and "x-amz-storage-class" not in headers:
        raise Refused(400, "InvalidRequest", "A copy onto itself must change the metadata.")
    asked = file_meta.stored_headers(headers)
    tree.require_bucket(target.bucket)
    conditions = Conditions(headers.get("if-match"), headers.get("if-none-match"))
    tree.check(target, conditions)
    with _opened(tree, source, headers) as (fd, meta):
        # A source whose ETag is not its MD5 (multipart, foreign) is read for one, as S3 does.
        hashed = "-" in meta.etag
        spool.open()
        spool.append(fd, 0, meta.size, hashed=hashed)
    _require_wanted(spool)
    # A checksum of parts does not describe an object that has none any more.
    composite = meta.checksums.get("x-amz-checksum-type") == "COMPOSITE"
    checksums = {} if composite else dict(meta.checksums)
    etag = spool.etag if hashed else meta.etag
    record = Record(target.key, etag, asked if replaced else meta.headers, checksums)
    at = tree.publish(target, spool.fd, spool.path, record, conditions)
    return WriteResult(etag, checksums, float(at // 10**9))


def copy_part(
    tree: Tree,
    uploads: Uploads,
    spool: Spool,
    source: Remote,
    target: Remote,
    upload_id: str,
    number: int,
    headers: Mapping[str, str],
) -> WriteResult:
    upload = uploads.open(target, upload_id)
    with _opened(tree, source, headers) as (fd, meta):
        start, stop = _copy_range(headers.get("x-amz-copy-source-range"), meta.size)
        spool.open()
        spool.append(fd, start, stop, hashed=True)
    _require_wanted(spool)
    at = os.fstat(spool.fd).st_mtime
    uploads.add_part(upload, number, spool, {})
    return WriteResult(spool.etag, {}, float(int(at)))


@contextmanager
def _opened(tree: Tree, source: Remote, headers: Mapping[str, str]) -> Iterator[tuple[int, ObjectMeta]]:
    """The source as it is now; raises Changed at the end when it was written to meanwhile."""
    fd, stat = tree.open_object(source)
    try:
        meta = file_meta.object_meta(stat, tree.record(source, stat))
        conditions = parse_copy_conditions(headers)
        if conditions and check(conditions, meta.etag, meta.last_modified) is not None:
            raise ConditionFailed("The source of the copy does not meet the request's condition.")
        yield fd, meta
        after = os.fstat(fd)
        if (stat.st_size, stat.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise Changed("The file was written to while it was copied.")
    finally:
        os.close(fd)


def _require_wanted(spool: Spool) -> None:
    if spool.cancelled:
        raise Refused(503, "RequestTimeout", "The request was given up.")


def _copy_range(value: str | None, size: int) -> tuple[int, int]:
    """[start, stop) of x-amz-copy-source-range; S3 does not clamp this one."""
    if value is None:
        return 0, size
    first, dash, last = value.removeprefix("bytes=").partition("-")
    if not dash or not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
        raise Refused(400, "InvalidArgument", "x-amz-copy-source-range must be bytes=first-last.")
    start, stop = int(first), int(last) + 1
    if start >= stop or stop > size:
        raise Refused(400, "InvalidArgument", f"The range is not inside the source of {size} bytes.")
    return start, stop
