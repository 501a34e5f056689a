"""Pages of a bucket's listing, blocking: the walk of `file_walk.py` with delimiters and what each entry
is."""

from __future__ import annotations

import os
import stat as stats

from gateway.model import ListEntry, ListPage, Remote
from gateway.origins import file_keys, file_meta
from gateway.origins.file_meta import Record
from gateway.origins.file_tree import Tree
from gateway.origins.file_walk import Names, Walk, common_prefix


def page(
    tree: Tree, names: Names, bucket: str, prefix: str, delimiter: str, start_after: str, max_keys: int
) -> ListPage:
    """Raises NoSuchBucket."""
    shards: frozenset[bytes] | None = tree.sidecar_shards(bucket)
    found = _page(tree, names, shards, bucket, prefix, delimiter, start_after, max_keys)
    if tree.sidecar_shards(bucket) != shards:  # one of the files seen may have its record where none was yet
        found = _page(tree, names, None, bucket, prefix, delimiter, start_after, max_keys)
    return found


def _page(
    tree: Tree,
    names: Names,
    shards: frozenset[bytes] | None,
    bucket: str,
    prefix: str,
    delimiter: str,
    start_after: str,
    max_keys: int,
) -> ListPage:
    """`shards`: where records can be at all, None: anywhere. In a directory that others have filled there are none, and
    looking for one costs more than all else that an entry takes."""
    directory = tree.require_bucket(bucket)
    wanted, cut = file_keys.key_bytes(prefix), file_keys.key_bytes(delimiter)
    after = file_keys.key_bytes(start_after)
    walk = Walk(names, tree.root, directory, wanted, after)
    if cut and after.endswith(cut) and after.startswith(wanted):
        passed = common_prefix(after, wanted, cut)
        if passed is not None:
            walk.skip(passed)
    entries: list[ListEntry] = []
    groups: list[str] = []
    last = ""
    if max_keys <= 0:
        return ListPage(())
    for key in walk:
        group = common_prefix(key, wanted, cut)
        if len(entries) + len(groups) >= max_keys:
            return ListPage(tuple(entries), tuple(groups), last)
        if group is not None:
            walk.skip(group)
            last = group.decode()
            groups.append(last)
            continue
        entry = _entry(tree, shards, Remote(bucket, key.decode()), walk.path)
        if entry is not None:
            last = entry.key
            entries.append(entry)
    return ListPage(tuple(entries), tuple(groups))


def _entry(
    tree: Tree, shards: frozenset[bytes] | None, remote: Remote, path: bytes | None
) -> ListEntry | None:
    """None for a file that is gone since the directory was read. `path`: the file's, if it has its own name."""
    now = _looked_at(tree, shards, remote, path) or tree.current(remote)
    if now is None:
        return None
    stat, record = now
    if record is None:
        return ListEntry(remote.key, stat.st_size, file_meta.foreign_etag(stat), int(stat.st_mtime))
    meta = file_meta.object_meta(stat, record)
    kind = meta.checksums.get("x-amz-checksum-type")
    algorithms = tuple(
        name.removeprefix("x-amz-checksum-").upper() for name in file_meta.declared_checksums(meta.checksums)
    )
    return ListEntry(
        remote.key,
        meta.size,
        meta.etag,
        meta.last_modified,
        checksum_algorithms=algorithms,
        checksum_type=kind,
    )


def _looked_at(
    tree: Tree, shards: frozenset[bytes] | None, remote: Remote, path: bytes | None
) -> tuple[os.stat_result, Record | None] | None:
    """Without opening it; None for whatever is no plain file under its own name, which takes a closer look."""
    if path is None:
        return None
    try:
        stat = os.lstat(path)
    except OSError:
        return None
    if not stats.S_ISREG(stat.st_mode):
        return None
    if shards is not None and (not shards or tree.sidecar_shard(remote) not in shards):
        return stat, None
    return stat, tree.record(remote, stat)
