"""Where the cache's files are, how large a segment is, and what a directory must be like.

<directory>/node.lock          held by the supervisor: one node per directory
<directory>/workers.lock       shared by every worker: a node does not start over another's workers
<directory>/slot-<n>.lock      held by worker n
<directory>/evict.lock         held by the worker that evicts
<directory>/sweep.lock         held by the worker that sweeps (`sweeper.py`)
<directory>/state.json         what the last start or the last clean stop left (`startup.py`)
<directory>/shared             `shared.py`
<directory>/segments/          `<id:016x>.seg`, `<id:016x>.acc`
<directory>/index/             LMDB
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from gateway.errors import GatewayError

# LMDB's locks and shared maps do not work over a network, and a cache there would be pointless.
_NETWORK: Final = ("nfs", "cifs", "smb", "9p", "ceph", "lustre", "glusterfs", "fuse.", "afs", "beegfs")
SEGMENTS_MIN: Final = 16  # eviction takes whole segments: each is at most a sixteenth of the cache
_BLOCK_SLACK: Final = 128 << 10  # header, key and headers of one record, and rounding

# What the cache leaves free on its file system: the index may still grow and logs be written, and most file
# systems slow down badly in their last per cent.
FREE_BYTES_MIN: Final = 256 << 20


class CacheUnusable(GatewayError):
    """The cache directory cannot be used; the text says why. Fatal at start."""


def segments_dir(directory: Path) -> Path:
    return directory / "segments"


def index_dir(directory: Path) -> Path:
    return directory / "index"


def effective_segment_bytes(capacity: int, segment_size: int, block_size: int, workers: int) -> int:
    """The configured size, smaller where the capacity would hold too few: every worker has one active, and
    only the others can be evicted. Raises CacheUnusable when not even blocks fit."""
    count = max(SEGMENTS_MIN, 4 * workers)
    size = min(segment_size, capacity // count, 0xFFFFFFFF) // 4096 * 4096
    least = block_size + _BLOCK_SLACK
    if size < least:
        size = least
        if capacity < size * (2 * workers + 2) + (1 << 20):
            raise CacheUnusable(
                f"cache capacity {capacity} is too small for {workers} workers and blocks of {block_size}"
            )
    return size


def boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""  # unknown: never equal to a known one, so the index is used only after a clean stop


def file_system_type(path: Path) -> str:
    """Of the longest mount point above `path`, from /proc/self/mountinfo; empty where that does not exist."""
    best, kind = "", ""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    target = os.fspath(path.resolve())
    for line in lines:
        left, _, right = line.partition(" - ")
        point = left.split()[4].encode().decode("unicode_escape")
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind


def refuse_network(path: Path) -> None:
    kind = file_system_type(path)
    if kind.startswith(_NETWORK):
        raise CacheUnusable(
            f"the cache directory is on a network file system ({kind}); it needs a local disk"
        )


class FileLock:
    """An flock that lives as long as the object; the kernel drops it with the process."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def acquire(self, *, shared: bool = False) -> bool:
        """Without waiting."""
        try:
            fcntl.flock(self._fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._fd)
