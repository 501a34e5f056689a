"""Pages of a bucket's listing, blocking: the walk of `file_walk.py` with delimiters and what each entry
is."""

from __future__ import annotations

from gateway.model import ListEntry, ListPage, Remote
from gateway.origins import file_keys, file_meta
from gateway.origins.file_tree import Tree
from gateway.origins.file_walk import Names, Walk, common_prefix


def page(
    tree: Tree, names: Names, bucket: str, prefix: str, delimiter: str, start_after: str, max_keys: int
) -> ListPage:
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
        entry = _entry(tree, Remote(bucket, key.decode()))
        if entry is not None:
            last = entry.key
            entries.append(entry)
    return ListPage(tuple(entries), tuple(groups))


def _entry(tree: Tree, remote: Remote) -> ListEntry | None:
    """None for a file that is gone since the directory was read."""
    now = tree.current(remote)
    if now is None:
        return None
    meta = file_meta.object_meta(*now)
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
