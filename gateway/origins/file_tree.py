"""The directory itself: opening, publishing and removing files, all blocking, all called in threads.

    <root>/<bucket>/…                    objects (paths: file_keys.py)
    <root>/.gateway/layout               written once the file system was found to keep names apart
    <root>/.gateway/tmp/                 files being written; renamed when they are whole
    <root>/.gateway/meta/<bucket>/…      sidecars (file_meta.py)
    <root>/.gateway/locks/<2 hex>        flock: one writer per key, over threads and processes
    <root>/.gateway/uploads/<bucket>/    multipart uploads (file_uploads.py)

A write: data to tmp, fsync; under the key's lock: conditions, sidecar (fsync, rename, fsync its directory),
rename of the data, fsync of its directory. Lock order: an upload's lock, then one key's lock; two keys' locks
are never held together. Directories above a key may be removed by a delete at any time before the rename,
which then starts over.

Symbolic links are followed while they stay below the root, which is checked on the open descriptor.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat as stats
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from gateway.errors import (
    ConditionFailed,
    GatewayError,
    NoSuchBucket,
    NotFound,
    OriginDenied,
    Refused,
    Unreachable,
    Unsupported,
)
from gateway.model import Conditions, Remote
from gateway.origins import file_keys, file_meta
from gateway.origins.file_meta import Record
from gateway.origins.file_place import mode, place, rename_aside

_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR)
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_DIRECTORY = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
# A name each file system that folds or trims names would confuse with its neighbour.
_PROBES = (b"a", b"A", b"b", b"b ", b"c", b"c.", "é".encode(), "e\u0301".encode(), b"d\x01", b"e:?*")
# How often a write starts over because a delete removed its directory, or a put took a directory's name.
_PLACE_TRIES = 32


@contextmanager
def os_errors(what: str) -> Iterator[None]:
    """OSError as our kinds. `what` is what was being done, shown to the client."""
    try:
        yield
    except OSError as error:
        raise _kind(error, what) from error


def _kind(error: OSError, what: str) -> GatewayError:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OriginDenied(f"The directory does not allow {what}.")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refused(507, "InsufficientStorage", f"No space left in the directory for {what}.")
    if error.errno == errno.EXDEV:
        return Unsupported("A bucket's directory must be on the file system of the origin's root.")
    if error.errno == errno.ENAMETOOLONG:
        return Unsupported("The key is too long for this directory.")
    return Unreachable(f"The directory failed at {what}: {error.strerror}.")


class Tree:
    """`prepare` first. A root that cannot be written to is read-only: reads work, writes are OriginDenied."""

    def __init__(self, root: str) -> None:
        self.root = os.fsencode(os.path.realpath(root))
        self.own = self.root + b"/.gateway"
        self._writable = False

    def prepare(self) -> None:
        """Makes the hidden tree, and refuses a file system on which two keys would be one file. Raises
        Unreachable when the root is not there: a mount that is missing is not an empty data set."""
        if not os.path.isdir(self.root):
            raise Unreachable("The origin's directory is not there.")
        try:
            for name in (b"tmp", b"meta", b"locks", b"uploads"):
                os.makedirs(self.own + b"/" + name, exist_ok=True)
            if not os.path.exists(self.own + b"/layout"):
                self._probe_names()
                _write_whole(self.own + b"/layout", b"1\n")
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
        else:
            self._writable = True

    def require_writable(self) -> None:
        if not self._writable:
            raise OriginDenied("The origin's directory is read-only.")

    def _probe_names(self) -> None:
        probe = self.own + b"/tmp/probe-" + secrets.token_hex(8).encode()
        os.mkdir(probe)
        try:
            for name in _PROBES:
                with suppress(OSError):
                    _write_whole(probe + b"/" + name, b"")
            found = set(os.listdir(probe))
            for name in found:
                os.unlink(probe + b"/" + name)
        finally:
            os.rmdir(probe)
        if found != set(_PROBES):
            raise Unsupported(
                f"{os.fsdecode(self.root)}: this file system confuses names that differ in case, trailing "
                "characters or Unicode form, so keys would overwrite each other."
            )

    # Buckets

    def bucket_dir(self, bucket: str) -> bytes:
        name = file_keys.key_bytes(bucket)
        if not name or name.startswith(b".") or b"/" in name or b"\0" in name:
            raise NoSuchBucket(f"No directory can be named {bucket!r}.")
        path = self.root + b"/" + name
        if os.path.islink(path) and not self._inside(os.path.realpath(path)):
            raise NoSuchBucket(f"The directory {bucket!r} is outside the origin's root.")
        return path

    def require_bucket(self, bucket: str) -> bytes:
        path = self.bucket_dir(bucket)
        if not os.path.isdir(path):
            raise NoSuchBucket(f"There is no directory {bucket!r}.")
        return path

    def buckets(self) -> list[tuple[str, float]]:
        """Names and times of creation as far as the file system tells, in byte order."""
        found = []
        for name in sorted(os.listdir(self.root)):
            with suppress(NoSuchBucket, UnicodeDecodeError, FileNotFoundError):
                stat = os.stat(self.require_bucket(name.decode()))
                found.append((name.decode(), stat.st_ctime))
        return found

    def _inside(self, path: bytes) -> bool:
        return path.startswith(self.root + b"/") and not (path + b"/").startswith(self.own + b"/")

    # Reading

    def open_object(self, remote: Remote) -> tuple[int, os.stat_result]:
        """An open descriptor and its stat; raises NotFound, NoSuchBucket."""
        bucket, key = self.bucket_dir(remote.bucket), file_keys.key_bytes(remote.key)
        for names in file_keys.both_paths(key):
            opened = self._open_file(b"/".join([bucket, *names]))
            if opened is not None:
                return opened
        self.require_bucket(remote.bucket)
        raise NotFound("There is no such file.")

    def _open_file(self, path: bytes) -> tuple[int, os.stat_result] | None:
        try:
            fd = os.open(path, _READ)
        except OSError as error:
            if error.errno in _MISSING or error.errno == errno.ENXIO:
                return None
            raise
        try:
            stat = os.fstat(fd)
            if stats.S_ISREG(stat.st_mode) and self._inside(os.readlink(b"/proc/self/fd/%d" % fd)):
                fd, kept = -1, fd
                return kept, stat
            return None
        finally:
            if fd >= 0:
                os.close(fd)

    def record(self, remote: Remote, stat: os.stat_result) -> Record | None:
        return next((r for r in self._records(self._sidecar(remote)) if r.matches(stat)), None)

    def _records(self, sidecar: bytes) -> list[Record]:
        try:
            with open(sidecar, "rb") as file:
                return file_meta.decode(file.read())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _sidecar(self, remote: Remote) -> bytes:
        digest = hashlib.sha256(file_keys.key_bytes(remote.key)).hexdigest().encode()
        return b"/".join((self.own, b"meta", file_keys.key_bytes(remote.bucket), digest[:2], digest))

    def sidecar_shards(self, bucket: str) -> frozenset[bytes]:
        """The directories that there are for sidecars of this bucket."""
        try:
            return frozenset(os.listdir(self.own + b"/meta/" + file_keys.key_bytes(bucket)))
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()

    def sidecar_shard(self, remote: Remote) -> bytes:
        return self._sidecar(remote).rsplit(b"/", 2)[1]

    def current(self, remote: Remote) -> tuple[os.stat_result, Record | None] | None:
        try:
            fd, stat = self.open_object(remote)
        except NotFound:
            return None
        os.close(fd)
        return stat, self.record(remote, stat)

    # Writing

    def stage(self) -> tuple[int, bytes]:
        """A new empty file in tmp and its path."""
        self.require_writable()
        path = self.own + b"/tmp/%d-%s" % (os.getpid(), secrets.token_hex(8).encode())
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), path

    @contextmanager
    def lock(self, remote: Remote) -> Iterator[None]:
        """The key's writer lock. 256 files for all keys: few enough to keep, enough not to meet often."""
        self.require_writable()
        digest = hashlib.sha256(file_keys.key_bytes(f"{remote.bucket}/{remote.key}")).hexdigest()
        with locked_file(self.own + b"/locks/" + digest[:2].encode()):
            yield

    def check(self, remote: Remote, conditions: Conditions) -> None:
        """Raises ConditionFailed, NotFound (If-Match on nothing). Decisive only under the key's lock."""
        if conditions.if_match is None and conditions.if_none_match is None:
            return
        now = self.current(remote)
        etag = file_meta.object_meta(*now).etag if now is not None else None
        if etag is None and conditions.if_match is not None:
            raise NotFound("If-Match names a version of a file that does not exist.")
        if not file_meta.write_allowed(conditions, etag):
            raise ConditionFailed("The file that is there does not meet the request's condition.")

    def publish(self, remote: Remote, fd: int, staged: bytes, record: Record, conditions: Conditions) -> int:
        """Makes the staged file the object, durably. Returns its mtime in nanoseconds. The staged file is
        gone afterwards, or is left for the caller to remove when this raises."""
        os.fsync(fd)
        stat = os.fstat(fd)
        record = replace(
            record, key=remote.key, inode=stat.st_ino, size=stat.st_size, mtime_ns=stat.st_mtime_ns
        )
        self.require_bucket(remote.bucket)
        for _ in range(_PLACE_TRIES):
            # FileNotFoundError: a delete pruned a directory on the way down.
            with suppress(FileNotFoundError), self._parents(remote) as parent, self.lock(remote):
                self.check(remote, conditions)
                self._write_sidecar(remote, record)
                if place(file_keys.key_bytes(remote.key), parent, staged):
                    return stat.st_mtime_ns
        raise Unreachable("Directories of the key came and went while it was written.")

    def _write_sidecar(self, remote: Remote, record: Record) -> None:
        path = self._sidecar(remote)
        now = self.current(remote)
        before = [now[1]] if now is not None and now[1] is not None else []
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.write_durably(path, file_meta.encode([record, *before]))

    def write_durably(self, path: bytes, data: bytes) -> None:
        """Replaces the file at `path` atomically; on disk when this returns."""
        fd, staged = self.stage()
        try:
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(staged, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(staged)
            raise
        sync_directory(os.path.dirname(path))

    @contextmanager
    def _parents(self, remote: Remote) -> Iterator[int]:
        """A descriptor of the directory that holds the key's file, made where missing. Walks descriptor by
        descriptor, so no link swapped in on the way can lead outside the root."""
        fd = os.open(self.bucket_dir(remote.bucket), _DIRECTORY)
        try:
            for name, blocker in file_keys.steps(file_keys.key_bytes(remote.key)):
                fd, above = self._step(fd, name, remote.bucket, blocker), fd
                os.close(above)
            yield fd
        finally:
            os.close(fd)

    def _step(self, above: int, name: bytes, bucket: str, blocker: bytes | None) -> int:
        for _ in range(_PLACE_TRIES):
            try:
                fd = os.open(name, _DIRECTORY, dir_fd=above)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=above)
                    os.fsync(above)
                continue
            except NotADirectoryError:
                self._move_aside(above, name, bucket, blocker)
                continue
            if self._inside(os.readlink(b"/proc/self/fd/%d" % fd)):
                return fd
            os.close(fd)
            raise OriginDenied("A link on the way to the key leaves the origin's root.")
        raise Unreachable("Directories of the key came and went while it was written.")

    def _move_aside(self, above: int, name: bytes, bucket: str, key: bytes | None) -> None:
        """The file of `key` has the name that a directory needs: it moves to where `aside_names` says.
        Readers look at the own path first and then aside, and files only ever move this way, so none misses
        it."""
        if key is None:
            raise Unreachable("A file has the name of an escaped directory.")
        with self.lock(Remote(bucket, key.decode())):
            found = mode(name, above)
            if stats.S_ISREG(found):
                rename_aside(name, key, above, above)
            elif found and not stats.S_ISDIR(found):
                raise OriginDenied("Something that is not a file is in the way of the key's directories.")

    def delete(self, remote: Remote) -> None:
        """Removes the object and the directories that it leaves empty. A missing one is fine."""
        bucket = self.require_bucket(remote.bucket)
        removed = False
        with self.lock(remote):
            for names in file_keys.both_paths(file_keys.key_bytes(remote.key)):
                path = b"/".join([bucket, *names])
                opened = self._open_file(path)
                if opened is not None:
                    os.close(opened[0])
                    os.unlink(path)
                    self._prune(bucket, names[:-1])
                    removed = True
            if removed:
                with suppress(FileNotFoundError):
                    os.unlink(self._sidecar(remote))

    def _prune(self, bucket: bytes, names: list[bytes]) -> None:
        """Makes a removal last, then removes the directories it left empty. A delete beside this one may have done
        so already: then that directory's removal from its parent is what must last."""
        for depth in range(len(names), -1, -1):
            with suppress(FileNotFoundError):
                sync_directory(b"/".join([bucket, *names[:depth]]))
                break
        with suppress(OSError):
            for depth in range(len(names), 0, -1):
                os.rmdir(b"/".join([bucket, *names[:depth]]))


@contextmanager
def locked_file(path: bytes) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def sync_directory(path: bytes) -> None:
    fd = os.open(path, _DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_whole(path: bytes, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
