"""A page of memory that the workers of a node share, for the few facts that every read looks at.

    0   u64  distrust_ns: entries whose answer was asked for at or before this instant must be validated
    again.
             Raised when an invalidation could not be written to the index (disk full, index damaged), so that
             a write is never acknowledged while another worker could still serve what it replaced.
    8   u64  evictions: changes whenever a segment's file went, so that workers close theirs
    16  u64  changes of worker 0, of worker 1, …: counts what that worker has committed to the index. None ever
             falls, so their sum (`stamp`) is another one after every change, and what was read from the index under
             one stamp is still true under the same.
    4088  u64  disk_read_ns: when a worker last read from the disk, or learned that it has to (monotonic), about

Aligned 8-byte stores through a memoryview are single stores on every machine this runs on. The file is fully
allocated before it is mapped: a hole touched on a full disk would be a SIGBUS.
"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path
from typing import Final

_CHANGES: Final = 2  # the first of the workers' words; the page has room for 509, the config allows 256
_DISK: Final = 511


class SharedPage:
    def __init__(self, path: Path, workers: int = 1) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, mmap.PAGESIZE)
            self._map = mmap.mmap(fd, mmap.PAGESIZE)
        finally:
            os.close(fd)
        self.words = memoryview(self._map).cast("Q")
        self._stamped = self.words[: _CHANGES + workers]

    def stamp(self) -> int:
        return sum(self._stamped)

    def changed(self, slot: int) -> None:
        """Called by worker `slot` alone, after a commit and before anybody hears of it."""
        self.words[_CHANGES + slot] = self.words[_CHANGES + slot] + 1

    @property
    def distrust_ns(self) -> int:
        return self.words[0]

    def distrust(self, ns: int) -> None:
        self.words[0] = max(ns, self.words[0])

    @property
    def disk_read_ns(self) -> int:
        return self.words[_DISK]

    def disk_read(self) -> None:
        self.words[_DISK] = time.monotonic_ns()

    @property
    def evictions(self) -> int:
        return self.words[1]

    def evicted(self) -> None:
        self.words[1] = self.words[1] + 1

    def close(self) -> None:
        self._stamped.release()
        self.words.release()
        self._map.close()
