"""Listing: the keys of a bucket's tree in UTF-8 byte order, walked lazily, one directory in memory per level.

In one directory a file sorts by its part of the key and a directory by its part and a slash, because that is
how all keys below it begin (`a.b` < `a/…` < `a0`). Escaped names sort by what they stand for; the `.s3~c`
directories of overlong parts are read together with the directory that holds them.

The sorted names of large directories are kept between pages: a flat directory of N files is read once for its
listing instead of N / 1000 times.
"""

from __future__ import annotations

import os
import stat as stats
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.origins import file_keys

# Kept names: 500,000 are some 100 MB, reached only by data sets of huge flat directories. Smaller directories
# are cheap to read again. A directory changed less than this before it was read may change again within the
# same mtime.
_KEPT_NAMES_MAX = 500_000
_KEPT_FROM_NAMES = 1_000
_SETTLED_NS = 2_000_000_000


class Item(NamedTuple):
    """`sort`: the part, with a slash when it is a directory. `name`: below the directory read."""

    sort: bytes
    name: bytes
    is_directory: bool


@dataclass(slots=True)
class _Level:
    prefix: bytes
    path: bytes
    items: list[Item]
    at: int
    identity: tuple[int, int]


class Names:
    """Reads directories into sorted items; remembers large ones while their mtime stands."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, tuple[int, list[Item]]] = OrderedDict()
        self._count = 0

    def of(self, path: bytes, root: bytes) -> list[Item]:
        mtime_ns = os.stat(path).st_mtime_ns
        kept = self._kept.get(path)
        if kept is not None and kept[0] == mtime_ns:
            return kept[1]
        began = time.time_ns()
        items = sorted(_read(path, b"", b"", root))
        if len(items) >= _KEPT_FROM_NAMES and began - mtime_ns > _SETTLED_NS:
            self._keep(path, mtime_ns, items)
        return items

    def _keep(self, path: bytes, mtime_ns: int, items: list[Item]) -> None:
        """Called from several threads: each step leaves the dictionary whole, and the count only bounds
        it."""
        before = self._kept.pop(path, None)
        self._kept[path] = (mtime_ns, items)
        self._count += len(items) - (len(before[1]) if before else 0)
        while self._count > _KEPT_NAMES_MAX and self._kept:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._count -= len(dropped)


def _read(path: bytes, below: bytes, chain: bytes, root: bytes) -> Iterator[Item]:
    with os.scandir(path + b"/" + below if below else path) as entries:
        for entry in entries:
            is_directory = entry.is_dir(follow_symlinks=False)
            if not is_directory and not entry.is_file(follow_symlinks=False):
                if not entry.is_symlink() or not os.path.realpath(entry.path).startswith(root + b"/"):
                    continue
                is_directory = entry.is_dir()
                if not is_directory and not entry.is_file():
                    continue
            name = below + b"/" + entry.name if below else entry.name
            if is_directory and entry.name.startswith(file_keys.CONTINUED):
                text = entry.name[len(file_keys.CONTINUED) :]
                yield from _read(path, name, chain + text, root)
                continue
            part = file_keys.part_of(chain, entry.name, is_directory)
            if part is not None:
                yield Item(part + b"/" if is_directory else part, name, is_directory)


@dataclass(slots=True)
class Walk:
    """An iterator of keys > `after` that begin with `prefix`. `skip(p)` leaves out all further keys under
    `p`. `path`: where the last key's file is, if it has the key's own name; None for an escaped one."""

    names: Names
    root: bytes
    bucket_dir: bytes
    prefix: bytes
    after: bytes
    path: bytes | None = None
    _stack: list[_Level] = field(default_factory=list)
    _skip: bytes | None = None
    _last: bytes | None = None

    def __post_init__(self) -> None:
        above = self.prefix[: self.prefix.rfind(b"/") + 1]
        path = b"/".join([self.bucket_dir, *file_keys.directories(above)])
        real = os.path.realpath(path)
        if (real + b"/").startswith(self.root + b"/"):
            self._enter(path, above)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def skip(self, prefix: bytes) -> None:
        self._skip = prefix

    def __next__(self) -> bytes:
        while self._stack:
            level = self._stack[-1]
            if level.at >= len(level.items) or self._skipped(level.prefix):
                self._stack.pop()
                continue
            item = level.items[level.at]
            level.at += 1
            full = level.prefix + item.sort
            if self._skipped(full):
                continue
            if full > self.prefix and not full.startswith(self.prefix):
                self._stack.pop()  # all that follows is past the prefix as well
                continue
            if item.is_directory:
                if self._worth(full):
                    self._enter(level.path + b"/" + item.name, full)
            elif full > self.after and full.startswith(self.prefix) and full != self._last:
                self._last = full  # a key may have an own file and, put there by others, one aside
                self.path = level.path + b"/" + item.name if item.name == item.sort else None
                return full
        raise StopIteration

    def _skipped(self, full: bytes) -> bool:
        return self._skip is not None and full.startswith(self._skip)

    def _worth(self, full: bytes) -> bool:
        """Whether keys that begin with `full` can be after `after` and under `prefix`."""
        if not full.startswith(self.prefix):
            return False
        return full > self.after or self.after.startswith(full)

    def _enter(self, path: bytes, prefix: bytes) -> None:
        try:
            stat = os.stat(path)
            if not stats.S_ISDIR(stat.st_mode):
                return
            identity = (stat.st_dev, stat.st_ino)
            if any(level.identity == identity for level in self._stack):
                return  # a link back to a directory above
            items = self.names.of(path, self.root)
        except (FileNotFoundError, NotADirectoryError):
            return
        self._stack.append(_Level(prefix, path, items, self._start(prefix, items), identity))

    def _start(self, prefix: bytes, items: list[Item]) -> int:
        """The first item that can matter, so a page deep in a flat directory does not step over all before
        it."""
        start = 0
        if self.prefix.startswith(prefix):
            start = bisect_left(items, (self.prefix[len(prefix) :],))
        if self.after.startswith(prefix):
            part = self.after[len(prefix) :].partition(b"/")[0]
            start = max(start, bisect_left(items, (part,)))
        return start


def common_prefix(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    if not delimiter:
        return None
    at = key.find(delimiter, len(prefix))
    return None if at < 0 else key[: at + len(delimiter)]
