"""Open segment files and their access bytes.

`<id:016x>.seg` holds records (`record.py`). `<id:016x>.acc` holds one byte per record, mapped and shared by
the workers of a node, so that a hit costs no index write:

    0x80  CHECKED   read back from the file and its CRC was right
    0x40  WRITTEN   written since the node started: right as long as it has not left the page cache
    0x03            frequency, counts up to 3 and stops

Changes race between workers without a lock: a lost count is harmless and a lost CHECKED costs one more check;
neither flag can appear on a block that did not earn it, because offsets and slots are never used twice. The
files go at every start of the node, so then every block is checked again. They are allocated in full before
they are mapped (a hole touched on a full disk would be a SIGBUS).
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from gateway.cache.residency import Resident

log = structlog.get_logger()

CHECKED, WRITTEN, FREQUENCY = 0x80, 0x40, 0x03
_BYTES_PER_SLOT: Final = 1024  # a segment is sealed early when its records are smaller than that on average
_SLOTS_MAX: Final = 1 << 16  # the index keeps slots as u16
_POPULATE_STEP: Final = 256 << 10
PAGE: Final = 4096


def taken(file: os.stat_result) -> int:
    """Bytes of disk of a segment file, which has holes (`record.py`). A page more is for the map of a file with holes,
    which some file systems make late."""
    return min(file.st_size, file.st_blocks * 512 + PAGE)


def taken_by(end: int, holes: int) -> int:
    """The same of a file of which `holes` bytes before its `end` were never written, at most: asked too early, a file
    system that is late with its maps would say less. Of the last page all is taken."""
    return min(end, end - holes + 2 * PAGE)


def slots_of(segment_bytes: int) -> int:
    return max(1024, min(_SLOTS_MAX, segment_bytes // _BYTES_PER_SLOT))


class Segment:
    """One open segment; implements `frontend.exchange.FileSlice`. The descriptor lives as long as somebody
    holds the object, so bytes can still be sent from a segment that was evicted meanwhile."""

    __slots__ = ("_disk_read", "_resident", "access", "fd", "id", "warned")

    def __init__(
        self,
        segment: int,
        fd: int,
        access: mmap.mmap | bytearray,
        resident: Resident,
        disk_read: Callable[[], None],
    ) -> None:
        self.id = segment
        self.fd = fd
        self.access = access
        self.warned = False
        self._resident = resident
        self._disk_read = disk_read

    def __del__(self) -> None:
        os.close(self.fd)

    def taken(self) -> int:
        """Bytes of disk."""
        return taken(os.fstat(self.fd))

    def resident(self, offset: int, length: int) -> bool:
        return self._resident(self.fd, offset, length)

    def populate(self, offset: int, length: int) -> None:
        buffer = [bytearray(min(length, _POPULATE_STEP))]
        end = offset + length
        while offset < end:
            self._disk_read()
            count = os.preadv(self.fd, buffer, offset)
            if count == 0:
                return
            offset += count
        self._disk_read()

    def read(self, count: int, offset: int) -> bytes:
        """May wait for the disk."""
        self._disk_read()
        data = os.pread(self.fd, count, offset)
        self._disk_read()
        return data


class Segments:
    """The files of a cache directory and the open ones, the first opened closed first beyond a bound (opening
    one again takes 20 µs). Threads may use it."""

    # One descriptor and one mapping each: far below the usual 65,530 mappings, and 256 GiB of default
    # segments stay open. The soft limit of descriptors is raised by the worker at its start.
    OPEN_MAX: Final = 1024

    def __init__(
        self, directory: Path, slots: int, resident: Resident, disk_read: Callable[[], None]
    ) -> None:
        """`disk_read` is called before and after whatever may wait for the disk."""
        self.directory = directory
        self.slots = slots
        self.acc_bytes = (slots + 4095) // 4096 * 4096  # what a segment's access bytes take on disk
        self.resident = resident
        self.disk_read = disk_read
        self._open: OrderedDict[int, Segment] = OrderedDict()
        self._lock = threading.Lock()

    def path(self, segment: int) -> Path:
        return self.directory / f"{segment:016x}.seg"

    def acc_path(self, segment: int) -> Path:
        return self.directory / f"{segment:016x}.acc"

    def get(self, segment: int) -> Segment | None:
        """None when the file is gone (evicted since the index was read) or cannot be opened."""
        found = self._open.get(segment)
        if found is not None:
            return found
        try:
            return self._load(segment, os.O_RDWR)
        except OSError as error:
            log.warning("cache segment cannot be opened", segment=segment, error=str(error))
            return None

    def create(self, segment: int) -> Segment:
        """Raises OSError."""
        found = self._load(segment, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        assert found is not None
        return found

    def _load(self, segment: int, flags: int) -> Segment | None:
        try:
            fd = os.open(self.path(segment), flags | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return None
        try:
            loaded = Segment(segment, fd, self._map_access(segment), self.resident, self.disk_read)
        except BaseException:
            os.close(fd)
            raise
        with self._lock:
            kept = self._open.setdefault(segment, loaded)
            while len(self._open) > self.OPEN_MAX:
                self._open.popitem(last=False)
        return kept

    def _map_access(self, segment: int) -> mmap.mmap | bytearray:
        """Falls back to bytes of this process alone where the file cannot be had: blocks are then checked
        once per worker instead of once per node."""
        try:
            fd = os.open(self.acc_path(segment), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return bytearray(self.slots)
        try:
            os.posix_fallocate(fd, 0, self.slots)
            return mmap.mmap(fd, self.slots)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.ENOMEM, errno.EOPNOTSUPP):
                raise
            return bytearray(self.slots)
        finally:
            os.close(fd)

    def unlink(self, segment: int) -> None:
        self.forget(segment)
        for path in (self.acc_path(segment), self.path(segment)):
            path.unlink(missing_ok=True)

    def forget(self, segment: int) -> None:
        with self._lock:
            self._open.pop(segment, None)

    def sweep(self) -> None:
        """Closes what has been unlinked, by whichever worker: an open descriptor keeps the space."""
        for segment, opened in list(self._open.items()):
            if os.fstat(opened.fd).st_nlink == 0:
                self.forget(segment)

    def close(self) -> None:
        with self._lock:
            self._open.clear()
