"""Which name a key's file has in its directory: its own, or, where a directory has that, one aside (`file_keys.py`).
Blocking, on the open descriptor of the directory; the caller holds the key's lock."""

from __future__ import annotations

import os
import stat as stats
from contextlib import suppress

from gateway.origins import file_keys


def place(key: bytes, parent: int, staged: bytes) -> bool:
    """Renames the staged file to the key's own name, or aside when a directory has it, or when the file is
    aside already (so that there is only ever one of the two). False: the parent directory was removed
    meanwhile."""
    own, aside = file_keys.own_name(key), b"/".join(file_keys.aside_names(key))
    try:
        if own is None or _leads_to_directory(own, parent) or _only_aside(own, aside, parent):
            rename_aside(staged, key, None, parent)
        else:
            os.rename(staged, own, dst_dir_fd=parent)
            os.fsync(parent)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except IsADirectoryError:  # made since we looked
        rename_aside(staged, key, None, parent)
    return True


def rename_aside(path: bytes, key: bytes, path_dir: int | None, parent: int) -> None:
    names = file_keys.aside_names(key)
    for depth in range(1, len(names)):
        with suppress(FileExistsError):
            os.mkdir(b"/".join(names[:depth]), dir_fd=parent)
    os.rename(path, b"/".join(names), src_dir_fd=path_dir, dst_dir_fd=parent)
    os.fsync(parent)


def mode(name: bytes, above: int) -> int:
    """The mode of the entry itself, 0 when there is none."""
    try:
        return os.lstat(name, dir_fd=above).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _only_aside(own: bytes, aside: bytes, above: int) -> bool:
    return not mode(own, above) and stats.S_ISREG(mode(aside, above))


def _leads_to_directory(name: bytes, above: int) -> bool:
    try:
        return stats.S_ISDIR(os.stat(name, dir_fd=above).st_mode)
    except OSError:
        return False
