"""Is a range of a file in the page cache, so that reading it cannot wait for the disk? In a hit's path, so
cheap.

Measured for 1 MiB (µs): cachestat(2) 1.0, mincore on a mapping 18, preadv2(RWF_NOWAIT) of one byte 0.6.
cachestat counts pages that are still being read, which would make a sendfile wait for them; a NOWAIT read of
the last and the middle byte tells those (a page that is not up to date answers EAGAIN). 2.3 µs together. While nobody
on the node has read from the disk for a while there are no such pages, and cachestat is enough (`calm`).

Some places have no cachestat (kernels before 6.5, seccomp profiles) or a file system where it sees the wrong
mapping (overlays): `choose` tries each way on a real file of the cache directory. mincore(2) counts up to date
pages only, and says so of files that this process may write. NOWAIT reads alone would not do: recent kernels
start reading what they were asked for, and on a fast disk a few probed bytes are there while the rest is not.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.cache.shared import SharedPage

Resident = Callable[[int, int, int], bool]  # (fd, offset, length)

# A read of one piece takes a disk some milliseconds, and a cloud volume that is throttled seconds.
CALM_NS: Final = 20_000_000_000

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_CACHESTAT: Final = 451  # the same number on every architecture
# PyDLL: the call takes a microsecond, giving up the GIL for it would cost more. Its arguments are objects that exist
# already, and of no declared types: to convert them on each call took as long as the call itself.
_libc = ctypes.PyDLL(None)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_mmap, _munmap, _mincore = _libc.mmap, _libc.munmap, _libc.mincore
_mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
]
_mmap.restype = ctypes.c_void_p
_munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
_MAP_FAILED: Final = ctypes.c_void_p(-1).value


# Question and answer of the system call, allocated once and used under the GIL from start to end: offset and length,
# then the pages in the cache and four more counts.
_memory = (ctypes.c_uint64 * 7)()
_words = memoryview(_memory).cast("B").cast("Q")
_number, _flags = ctypes.c_long(_CACHESTAT), ctypes.c_long(0)
_range_at, _answer_at = (ctypes.c_long(ctypes.addressof(_memory) + at) for at in (0, 16))
_byte = [bytearray(1)]


def _up_to_date(fd: int, offset: int) -> bool:
    try:
        return os.preadv(fd, _byte, offset, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
            return True  # this file system cannot say; what else was asked decides
        raise


def _cached(fd: int, offset: int, length: int) -> bool:
    _words[0], _words[1] = offset, length
    if _syscall(_number, fd, _range_at, _answer_at, _flags):
        return False
    return _words[2] >= (offset + length - 1) // _PAGE - offset // _PAGE + 1


def by_cachestat(fd: int, offset: int, length: int) -> bool:
    if length <= 0:
        return True
    return (
        _cached(fd, offset, length)
        and _up_to_date(fd, offset + length - 1)
        and (length < 3 * _PAGE or _up_to_date(fd, offset + length // 2))
    )


def calm(resident: Resident, page: SharedPage) -> Resident:
    """`resident` without its reads while none on the disk can be under way. All who read from segments without
    knowing that they need no disk say so to `page`, and whoever is told here that he would have to wait will."""
    if resident is not by_cachestat:
        return resident

    def ask(fd: int, offset: int, length: int) -> bool:
        if time.monotonic_ns() - page.disk_read_ns > CALM_NS:
            if length <= 0 or _cached(fd, offset, length):
                return True
        elif by_cachestat(fd, offset, length):
            return True
        page.disk_read()
        return False

    return ask


def by_mincore(fd: int, offset: int, length: int) -> bool:
    if length <= 0:
        return True
    start = offset - offset % _PAGE
    span = offset + length - start
    at = _mmap(None, span, mmap.PROT_READ, mmap.MAP_SHARED, fd, start)
    if at == _MAP_FAILED:
        return False
    pages = (span + _PAGE - 1) // _PAGE
    told = ctypes.create_string_buffer(pages)
    try:
        return _mincore(at, span, told) == 0 and told.raw.count(1) == pages
    finally:
        _munmap(at, span)


def always(fd: int, offset: int, length: int) -> bool:
    """Where nobody can say: a read may wait for the disk."""
    return True


def choose(directory: Path) -> Resident:
    """The cheapest way that tells the truth about a file in `directory`."""
    path = directory / f".residency-{os.getpid()}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.suppress(OSError):
            os.pwrite(fd, b"x" * (4 * _PAGE), 0)
            if by_cachestat(fd, 0, 4 * _PAGE) and not by_cachestat(fd, 0, 8 * _PAGE):
                return by_cachestat
            if by_mincore(fd, 0, 4 * _PAGE) and not by_mincore(fd, 0, 8 * _PAGE):
                return by_mincore
        return always
    finally:
        os.close(fd)
        os.unlink(path)
