"""No two keys share a path, every path names its key again, and none leaves the bucket's directory."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Unsupported
from gateway.origins import file_keys as keys

# What tempts a mapping: dots, marks, escapes, empty and long parts.
parts = st.one_of(
    st.sampled_from(
        [
            "",
            ".",
            "..",
            "...",
            "a",
            "A",
            ".s3~",
            ".s3~d",
            ".s3~fa",
            ".s3~ca",
            "%25",
            "%00",
            "%",
            "%2",
            "\0",
            "a\0b",
            " ",
            "é",
            "e\u0301",
        ]
    ),
    st.text(st.characters(codec="utf-8"), max_size=6),
    st.integers(240, 300).map(lambda count: "é" * (count // 2) + "%" * (count % 7)),
    st.integers(245, 1000).map(lambda count: "%\0" * (count // 2)),
)
every_key = (
    st.lists(parts, min_size=1, max_size=5)
    .map("/".join)
    .map(str.encode)
    .filter(lambda key: 0 < len(key) <= 1024)
)


def key_of(path: list[bytes]) -> bytes | None:
    """A path read back, name by name, as the walk does it."""
    out, chain = b"", b""
    for depth, name in enumerate(path):
        is_directory = depth < len(path) - 1
        if is_directory and name.startswith(keys.CONTINUED):
            chain += name[len(keys.CONTINUED) :]
            continue
        part = keys.part_of(chain, name, is_directory)
        if part is None:
            return None
        out += part + (b"/" if is_directory else b"")
        chain = b""
    return out


@given(every_key)
def test_a_key_is_read_back_from_each_of_its_paths(key: bytes) -> None:
    for path in keys.both_paths(key):
        assert key_of(path) == key


@given(every_key, every_key)
def test_two_keys_share_no_path(one: bytes, other: bytes) -> None:
    if one == other:
        return
    ours = {b"/".join(path) for path in keys.both_paths(one)}
    assert ours.isdisjoint(b"/".join(path) for path in keys.both_paths(other))


@given(every_key)
def test_no_path_leaves_the_directory_or_breaks_a_name(key: bytes) -> None:
    for path in keys.both_paths(key):
        for name in path:
            assert 0 < len(name) <= keys.NAME_BYTES_MAX
            assert name not in (b".", b"..")
            assert b"/" not in name
            assert b"\0" not in name
            name.decode()  # splits no character
        assert os.path.normpath(b"/root/" + b"/".join(path)).startswith(b"/root/")


@given(every_key)
def test_the_file_that_is_aside_is_no_directory_of_another_key(key: bytes) -> None:
    """What is a directory for one key must not be a file for another, or neither could be written."""
    for path in keys.both_paths(key)[1:]:
        assert path[-1].startswith(keys.FILE)


@given(every_key)
def test_the_steps_are_the_directories(key: bytes) -> None:
    above = key[: key.rfind(b"/") + 1]
    steps = keys.steps(key)
    assert [name for name, _ in steps] == keys.directories(above)
    for name, rival in steps:
        if rival is not None:
            assert key.startswith(rival + b"/")
            assert keys.both_paths(rival)[0][-1] == name


@given(
    st.binary(min_size=1, max_size=300).filter(lambda name: b"/" not in name and b"\0" not in name),
    st.booleans(),
)
def test_a_foreign_name_is_no_key_or_a_key_that_is_found_there(name: bytes, is_directory: bool) -> None:
    part = keys.part_of(b"", name, is_directory)
    if part is None or len(name) > keys.NAME_BYTES_MAX or name in (b".", b".."):
        return
    if is_directory:
        assert keys.directories(part + b"/") == [name]
    else:
        assert [name] in keys.both_paths(part)


@pytest.mark.parametrize(
    "name",
    [
        b".s3~x",
        b".s3~",
        b".s3~fa%",
        b".s3~fa%41",
        b"\xff",
        b".s3~f\xff",
        b".s3~dplain",
        b".s3~d%25",
        b".s3~ca",
    ],
)
def test_a_name_that_nobody_writes_is_no_key(name: bytes) -> None:
    assert keys.part_of(b"", name, True) is None


def test_what_is_already_there_keeps_its_name() -> None:
    assert keys.both_paths(b"train/a b/x.jpg")[0] == [b"train", b"a b", b"x.jpg"]
    assert keys.own_name(b"a/b") == b"b"
    assert keys.own_name(b"a/") is None


def test_a_key_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(Unsupported):
        keys.key_bytes("\ud800")
