"""Which remote bucket and key a virtual one stands for, and that nothing is ever found under two names in the cache."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import NoSuchBucket, NotFound
from gateway.namespace.mounts import Mount, Mounts, cache_key_of


def mounts(*entries: tuple[str, str, str]) -> Mounts:
    return Mounts(Mount.parse(path, origin, remote) for path, origin, remote in entries)


MIXED = mounts(
    ("data", "aws", "corp"),
    ("team", "aws", "corp/teams/a"),
    ("joint", "aws", "corp/base"),
    ("joint/hot", "nas", "fast"),
    ("joint/hot/er", "nas", "faster/x/"),
    ("split/left", "aws", "left"),
    ("split/right", "nas", "right/sub"),
    ("*", "nas", ""),
)


@pytest.mark.parametrize(
    ("bucket", "key", "origin", "remote"),
    [
        ("data", "a/b", "aws", "corp/a/b"),
        ("data", "", "aws", "corp/"),
        ("data", "../x", "aws", "corp/../x"),
        ("team", "k", "aws", "corp/teams/a/k"),
        ("team", "", "aws", "corp/"),
        ("joint", "k", "aws", "corp/base/k"),
        ("joint", "hot/k", "nas", "fast/k"),
        ("joint", "hot", "aws", "corp/base/hot"),
        ("joint", "hotter", "aws", "corp/base/hotter"),
        ("joint", "hot/er/k", "nas", "faster/x/k"),
        ("split", "left/k", "aws", "left/k"),
        ("split", "right/k", "nas", "right/sub/k"),
        ("other", "k", "nas", "other/k"),
        ("corp", "k", "nas", "corp/k"),
    ],
)
def test_the_longest_prefix_wins(bucket: str, key: str, origin: str, remote: str) -> None:
    for _ in range(2):  # the second answer comes from memory
        target = MIXED.resolve(bucket, key)
        assert (target.origin, f"{target.remote.bucket}/{target.remote.key}") == (origin, remote)
        assert (target.bucket, target.key) == (bucket, key)
        assert target.cache_key == cache_key_of(target.origin, target.remote)


def test_a_key_under_no_mount_of_its_bucket_is_not_found() -> None:
    with pytest.raises(NotFound):
        MIXED.resolve("split", "middle/k")
    assert MIXED.resolve("split", "").remote.key == ""


def test_without_a_mount_of_every_bucket_others_do_not_exist() -> None:
    only = mounts(("data", "aws", "corp"))
    for bucket in ("other", "", "corp"):
        with pytest.raises(NoSuchBucket):
            only.resolve(bucket, "k")
    assert only.every is None
    assert only.of_bucket("other") == ()


def test_equal_bucket_names_at_two_origins_share_nothing_and_two_mounts_of_one_share_all() -> None:
    both = mounts(
        ("one", "aws", "corp"), ("two", "nas", "corp"), ("three", "aws", "corp"), ("four", "aws", "corp/a")
    )
    key = {name: both.resolve(name, "a/k").cache_key for name in ("one", "two", "three")}
    assert key["one"] == key["three"] != key["two"]
    assert both.resolve("four", "k").cache_key == key["one"]


def test_bucket_names_that_clients_make_up_are_remembered_within_a_bound() -> None:
    every = mounts(("data", "aws", "corp"), ("*", "nas", ""))
    for number in range(Mounts.REMEMBERED_MAX + 10):
        every.resolve(f"b{number}", "k")
    assert len(every._plain) <= Mounts.REMEMBERED_MAX + 2
    assert every.resolve("data", "k").origin == "aws"
    assert every.resolve("b1", "k").origin == "nas"


def test_listings_learn_the_buckets_and_their_mounts() -> None:
    assert MIXED.buckets() == ["data", "joint", "split", "team"]
    assert [mount.prefix for mount in MIXED.of_bucket("joint")] == ["hot/er/", "hot/", ""]
    assert MIXED.of_bucket("other") == (MIXED.every,)
    assert len(MIXED.all()) == 8
    assert [mount.path for mount in MIXED.of_bucket("split")] == ["split/right", "split/left"]


prefixes = st.sampled_from(["", "p", "p/q", "a"])


@given(prefixes, prefixes, st.text("apq/", max_size=6))
def test_keys_translate_there_and_back(prefix: str, remote_prefix: str, rest: str) -> None:
    mount = Mount.parse(f"data/{prefix}", "aws", f"corp/{remote_prefix}")
    key = mount.prefix + rest
    assert mount.to_remote(key) == mount.remote_prefix + rest
    assert mount.to_virtual(mount.to_remote(key)) == key
