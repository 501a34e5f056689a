"""A directory lists as a sorted dictionary would, for any prefix, delimiter, start and page size."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model import ListPage
from gateway.origins import file_keys, file_list
from gateway.origins.file_tree import Tree
from gateway.origins.file_walk import Names, common_prefix

# Names whose order as files differs from their order as keys, beside odd ones.
words = st.sampled_from(
    [
        "a",
        "a.b",
        "a0",
        "a-",
        "a/b",
        "a/",
        "/",
        "//a",
        "./x",
        "../x",
        "b",
        "é",
        ".s3~x",
        "%",
        "x" * 300,
        "a/" + "y" * 260 + "/z",
    ]
)
every_key = st.lists(words, min_size=1, max_size=3).map("".join)
prefixes = st.sampled_from(["", "a", "a/", "/", "a.", "x", "é", "..", "none", "a/" + "y" * 100, "x" * 300])
delimiters = st.sampled_from(["", "/", "a", "/a", "é"])


def model(
    keys: Sequence[bytes], prefix: bytes, delimiter: bytes, after: bytes, count: int
) -> tuple[list[str], list[str], str | None]:
    """One page from all keys, straight from the words of the S3 reference."""
    entries: list[str] = []
    groups: list[str] = []
    last = ""
    for key in sorted(keys):
        if not key.startswith(prefix) or key <= after:
            continue
        group = common_prefix(key, prefix, delimiter)
        # A page that ended with a common prefix goes on behind all of it (see `Origin.list`).
        if (
            group is not None
            and after.endswith(delimiter)
            and group == common_prefix(after, prefix, delimiter)
        ):
            continue
        if group is not None and groups and groups[-1] == group.decode():
            continue
        if len(entries) + len(groups) >= count:
            return entries, groups, last
        last = (key if group is None else group).decode()
        (entries if group is None else groups).append(last)
    return entries, groups, None


def write(bucket: bytes, key: str) -> None:
    """As a gateway would lay it out, the second path where the first is taken by a directory."""
    for path in file_keys.both_paths(key.encode()):
        whole = bucket + b"/" + b"/".join(path)
        try:
            os.makedirs(os.path.dirname(whole), exist_ok=True)
            Path(os.fsdecode(whole)).write_bytes(b"")
        except (IsADirectoryError, FileExistsError, NotADirectoryError):
            continue
        return


def put_all(root: str, keys: set[str]) -> None:
    bucket = os.fsencode(root) + b"/bucket"
    os.makedirs(bucket)
    for key in sorted(keys, key=lambda name: -name.count("/")):  # directories first: files then move aside
        write(bucket, key)


def shown(page: ListPage) -> tuple[list[str], list[str], str | None]:
    return [entry.key for entry in page.entries], list(page.common_prefixes), page.next_after


@settings(max_examples=200, deadline=None)
@given(
    st.sets(every_key, max_size=12),
    prefixes,
    delimiters,
    st.one_of(st.just(""), every_key),
    st.integers(1, 5),
)
def test_pages_are_those_of_a_sorted_dictionary(
    keys: set[str], prefix: str, delimiter: str, start: str, count: int
) -> None:
    with tempfile.TemporaryDirectory() as root:
        put_all(root, keys)
        tree, names = Tree(root), Names()
        tree.prepare()
        encoded = [key.encode() for key in keys]
        after: str | None = start
        for _ in range(20):
            assert after is not None
            page = file_list.page(tree, names, "bucket", prefix, delimiter, after, count)
            assert shown(page) == model(encoded, prefix.encode(), delimiter.encode(), after.encode(), count)
            after = page.next_after
            if after is None:
                return
        raise AssertionError("a listing that does not end")


def test_a_page_of_no_keys_is_empty_and_the_last(tmp_path: Path) -> None:
    put_all(str(tmp_path), {"a"})
    tree = Tree(str(tmp_path))
    tree.prepare()
    assert file_list.page(tree, Names(), "bucket", "", "", "", 0) == ListPage(())


def test_links_out_of_the_root_and_in_circles_are_not_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"x")
    put_all(str(root), {"d/inside"})
    (root / "bucket" / "out").symlink_to(outside)
    (root / "bucket" / "file").symlink_to(outside / "secret")
    (root / "bucket" / "d" / "circle").symlink_to(root / "bucket")
    (root / "bucket" / "ok").symlink_to(root / "bucket" / "d" / "inside")
    tree = Tree(str(root))
    tree.prepare()
    found = [entry.key for entry in file_list.page(tree, Names(), "bucket", "", "", "", 1000).entries]
    assert found == ["d/inside", "ok"]
    assert file_list.page(tree, Names(), "bucket", "out/", "", "", 1000).entries == ()


def test_a_large_flat_directory_is_read_once_and_again_when_it_changed(tmp_path: Path) -> None:
    put_all(str(tmp_path), {f"{number:05}" for number in range(1500)})
    bucket = tmp_path / "bucket"
    os.utime(bucket, (1, 1))  # settled long ago
    tree, names = Tree(str(tmp_path)), Names()
    tree.prepare()
    first = names.of(os.fsencode(bucket), tree.root)
    assert names.of(os.fsencode(bucket), tree.root) is first
    (bucket / "new").write_bytes(b"")
    page = file_list.page(tree, names, "bucket", "n", "", "", 10)
    assert [entry.key for entry in page.entries] == ["new"]
