"""One virtual bucket out of several mounts lists as one dictionary would."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import NoSuchBucket, Unsupported
from gateway.model import ListPage
from gateway.namespace.mounts import Mount
from gateway.objects.listing import ListQuery, VersionQuery, list_objects, list_versions
from gateway.objects.uploads import list_uploads
from gateway.origins.base import Capabilities
from tests.unit.objects.harness import DictOrigin, listing, run, running

# A bucket of three mounts, one inside another, at two origins; each remote holds what its mount's does not show too.
MOUNTS = (
    Mount("mix", "one", "base"),
    Mount("mix", "two", "store", prefix="a/", remote_prefix="deep/"),
    Mount("mix", "one", "inner", prefix="a/b/"),
)
ALPHABET = "ab/-é"
KEYS = st.text(ALPHABET, min_size=1, max_size=5)
KEY_SETS = st.sets(KEYS, max_size=12)
# What is behind a mount's path; nothing is what consoles create as a "folder".
REST_SETS = st.sets(st.text(ALPHABET, max_size=5), max_size=12)


def visible_keys(base: set[str], store: set[str], inner: set[str]) -> set[str]:
    """The dictionary that the bucket stands for."""
    return (
        {key for key in base if not key.startswith("a/")}
        | {f"a/{key}" for key in store if not key.startswith("b/")}
        | {f"a/b/{key}" for key in inner}
    )


def origins_of(base: set[str], store: set[str], inner: set[str]) -> tuple[DictOrigin, DictOrigin]:
    one = DictOrigin("one", {"base": dict.fromkeys(base, b""), "inner": {f"a/b/{k}"[4:]: b"" for k in inner}})
    two = DictOrigin("two", {"store": {f"deep/{key}": b"" for key in store} | {"elsewhere": b""}})
    return one, two


async def pages(services: Any, view: Any, query: ListQuery) -> list[ListPage]:
    found = []
    for _ in range(200):
        page = await list_objects(services, view, query)
        found.append(page)
        if page.next_after is None:
            return found
        if len(found) > 1:
            assert page.next_after.encode() > query.start_after.encode(), "the listing does not advance"
        query = ListQuery(query.bucket, query.prefix, query.delimiter, page.next_after, query.max_keys)
    raise AssertionError("the listing does not end")


def names_of(page: ListPage) -> list[str]:
    return sorted([*(entry.key for entry in page.entries), *page.common_prefixes], key=str.encode)


@example(base=set(), store={"b/"}, inner=set(), prefix="", delimiter="/", after="", size=1)
@example(base=set(), store={"b/a", "b/b", "é"}, inner=set(), prefix="", delimiter="/", after="", size=1)
@settings(max_examples=200, deadline=None)
@given(
    base=KEY_SETS,
    store=REST_SETS,
    inner=KEY_SETS,
    prefix=st.sampled_from(["", "a", "a/", "a/b", "a/b/", "b", "a/-", "é"]),
    delimiter=st.sampled_from(["", "/", "-", "b", "-é"]),
    after=st.one_of(st.just(""), KEYS),
    size=st.integers(1, 7),
)
def test_several_mounts_list_as_their_union(
    base: set[str], store: set[str], inner: set[str], prefix: str, delimiter: str, after: str, size: int
) -> None:
    async def check() -> None:
        async with running(*origins_of(base, store, inner), mounts=MOUNTS) as (services, view, _):
            query = ListQuery("mix", prefix, delimiter, after, size)
            found = await pages(services, view, query)
        whole = listing(visible_keys(base, store, inner), prefix, delimiter, after, 10_000)
        assert [entry.key for page in found for entry in page.entries] == [one.key for one in whole.entries]
        assert [name for page in found for name in page.common_prefixes] == list(whole.common_prefixes)
        together = [name for page in found for name in names_of(page)]
        assert together == sorted(together, key=str.encode)
        assert all(len(page.entries) + len(page.common_prefixes) <= size for page in found)

    run(check())


@settings(max_examples=100, deadline=None)
@given(
    store=REST_SETS,
    prefix=st.text(ALPHABET, max_size=2),
    after=st.text(ALPHABET, max_size=3),
    size=st.integers(1, 4),
)
def test_a_prefix_mount_lists_as_a_bucket_of_its_own(
    store: set[str], prefix: str, after: str, size: int
) -> None:
    """But for the object that is called like the mount's path: it has no name here."""

    async def check() -> None:
        two = DictOrigin("two", {"store": {f"deep/{key}": b"" for key in store} | {"dee": b"", "deep0": b""}})
        mount = Mount("shelf", "two", "store", remote_prefix="deep/")
        async with running(two, mounts=(mount,)) as (services, view, _):
            found = await pages(services, view, ListQuery("shelf", prefix, "/", after, size))
        whole = listing(store - {""}, prefix, "/", after, 10_000)
        assert [name for page in found for name in names_of(page)] == names_of(whole)

    run(check())


async def test_no_keys_asked_for_is_an_empty_last_page() -> None:
    async with running(*origins_of({"k"}, set(), set()), mounts=MOUNTS) as (services, view, _):
        assert await list_objects(services, view, ListQuery("mix", max_keys=0)) == ListPage(())


async def test_a_bucket_without_a_mount_is_none() -> None:
    async with running(mounts=MOUNTS) as (services, view, _):
        with pytest.raises(NoSuchBucket):
            await list_objects(services, view, ListQuery("other"))


async def test_versions_and_uploads_are_listed_below_a_prefix_inside_one_mount() -> None:
    one, two = origins_of(set(), set(), set())
    one.capabilities = two.capabilities = Capabilities(versions=True)
    async with running(one, two, mounts=MOUNTS) as (services, view, _):
        for prefix in ("", "a", "a/"):
            with pytest.raises(Unsupported):
                await list_versions(services, view, VersionQuery("mix", prefix))
            with pytest.raises(Unsupported):
                await list_uploads(services, view, "mix", prefix, "", "", "", 10)
        versions = await list_versions(services, view, VersionQuery("mix", "a/c", "/", "a/c1", "v1", 9))
        assert two.calls[-1] == ("store", "deep/c", "/", "deep/c1", "v1", 9)
        assert (versions.common_prefixes, versions.next_key_marker) == (("a/cp/",), "a/ck")
        uploads = await list_uploads(services, view, "mix", "a/c", "/", "a/c1", "u1", 9)
        assert two.calls[-1] == ("store", "deep/c", "/", "deep/c1", "u1", 9)
        assert (uploads.common_prefixes, uploads.next_key_marker) == (("a/cp/",), "a/ck")
        assert (await list_uploads(services, view, "mix", "a/c", "/", "", "", 0)).entries == ()


async def test_versions_and_uploads_of_what_is_called_like_the_mounts_path_are_passed_over() -> None:
    two = DictOrigin("two", {"store": {}})
    two.capabilities = Capabilities(versions=True)
    mount = Mount("shelf", "two", "store", remote_prefix="deep/")
    async with running(two, mounts=(mount,)) as (services, view, _):
        await list_versions(services, view, VersionQuery("shelf", max_keys=9))
        assert two.calls[-1] == ("store", "deep/", "", "deep/", "", 9)
        await list_uploads(services, view, "shelf", "", "", "", "", 9)
        assert two.calls[-1] == ("store", "deep/", "", "deep/", "", 9)


async def test_a_position_behind_a_mount_lists_none_of_its_versions() -> None:
    one, two = origins_of(set(), set(), set())
    two.capabilities = Capabilities(versions=True)
    async with running(one, two, mounts=MOUNTS) as (services, view, _):
        page = await list_versions(services, view, VersionQuery("mix", "a/c", key_marker="b"))
        assert (page.entries, page.next_key_marker, two.calls) == ((), None, [])
        uploads = await list_uploads(services, view, "mix", "a/c", "", "b", "", 9)
        assert (uploads.entries, uploads.next_key_marker, two.calls) == ((), None, [])


async def test_a_delimiter_across_the_edge_of_a_mount_is_refused_rather_than_missed() -> None:
    async with running(*origins_of({"k"}, {"b-"}, {"a"}), mounts=MOUNTS) as (services, view, _):
        with pytest.raises(Unsupported):
            await list_objects(services, view, ListQuery("mix", "", "/b"))
        inside = await list_objects(services, view, ListQuery("mix", "a/b/", "/b"))
        assert [entry.key for entry in inside.entries] == ["a/b/a"]


async def test_the_midst_of_a_listing_asks_only_the_mount_that_it_is_in() -> None:
    """Three mounts of 30 keys: none is asked for more than what a page has room for."""
    mounts = tuple(Mount("mix", "one", name, prefix=f"{name}/") for name in ("aaa", "bbb", "ccc"))
    one = DictOrigin("one", {m.remote_bucket: {f"{n:02}": b"" for n in range(30)} for m in mounts})
    asked: list[tuple[str, int]] = []
    real = one.list

    async def counted(bucket: str, prefix: str, delimiter: str, after: str, max_keys: int) -> ListPage:
        asked.append((bucket, max_keys))
        return await real(bucket, prefix, delimiter, after, max_keys)

    one.list = counted  # type: ignore[method-assign, assignment]
    async with running(one, mounts=mounts) as (services, view, _):
        found = await pages(services, view, ListQuery("mix", max_keys=12))
        assert [len(page.entries) for page in found] == [12] * 7 + [6]
        assert asked == [
            *(("aaa", 12), ("bbb", 12), ("ccc", 12)),  # at the beginning any may be small
            ("aaa", 12),
            *(("aaa", 12), ("bbb", 6), ("ccc", 6)),  # two at once: the next may be small again
            *(("bbb", 12), ("bbb", 12), ("ccc", 1)),  # which tells that there is more
            *(("bbb", 12), ("ccc", 12), ("ccc", 12), ("ccc", 12)),
        ]
        asked.clear()
        await list_objects(services, view, ListQuery("mix", "bbb/", max_keys=100))
        assert asked == [("bbb", 100)]
