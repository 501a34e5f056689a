"""A mount with mirrors is one store: what the first place has, else the next; nothing that was deleted comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import (
    Changed,
    ConditionFailed,
    GatewayError,
    NoSuchBucket,
    NotFound,
    OriginDenied,
    RangeNotSatisfiable,
    Throttled,
    Unreachable,
    Unsupported,
)
from gateway.model import Conditions, Remote
from gateway.origins import mirror as mirrors
from gateway.origins.base import ForwardRequest, Mirrored, Origin
from gateway.origins.mirror import Mirror, Place
from tests.unit.origins.dict_origin import DictOrigin, body_of, etag_of, listing

Objects = dict[str, bytes]


class World:
    """Two places, three on demand; `at` is an address as the mount's own place has it."""

    def __init__(self, new: Objects, old: Objects, oldest: Objects | None = None) -> None:
        self.new = DictOrigin("new", {"n": {f"data/{k}": v for k, v in new.items()} | {"beside": b"-"}})
        self.old = DictOrigin("old", {"o": {f"deep/in/{k}": v for k, v in old.items()} | {"zz": b"-"}})
        self.oldest = DictOrigin("oldest", {"x": dict(oldest or {})})
        found: list[Any] = [
            Place(self.new, "n", "data/"),  # type: ignore[arg-type]  # as much of an origin as this needs
            Place(self.old, "o", "deep/in/"),  # type: ignore[arg-type]
            Place(self.oldest, "x"),  # type: ignore[arg-type]
        ]
        self.mirror: Origin = Mirror("mirror:m", found if oldest is not None else found[:2])

    def asked(self, name: str) -> list[int]:
        return [origin.asked[name] for origin in (self.new, self.old, self.oldest)]

    async def read(self, key: str, if_match: str | None = None) -> bytes:
        async with self.mirror.get(at(key), 0, None, if_match=if_match) as reading:
            assert (reading.start, reading.stop) == (0, reading.meta.size)
            data = b"".join([piece async for piece in reading.chunks()])
        assert reading.meta.etag == etag_of(data)
        return data


def at(key: str) -> Remote:
    return Remote("n", f"data/{key}")


async def test_the_first_place_that_has_an_object_answers() -> None:
    world = World({"a": b"new a"}, {"a": b"old a", "b": b"old b"}, {"b": b"oldest b", "c": b"oldest c"})
    assert [await world.read(key) for key in "abc"] == [b"new a", b"old b", b"oldest c"]
    assert [(await world.mirror.head(at(key))).size for key in "abc"] == [5, 5, 8]
    with pytest.raises(NotFound):
        await world.mirror.head(at("d"))
    with pytest.raises(NotFound):
        await world.read("d")


ERRORS = [Unreachable("x"), Throttled("x"), OriginDenied("x"), NoSuchBucket("x"), Unsupported("x")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("call", ["head", "get"])
async def test_what_a_place_fails_to_say_is_never_taken_from_the_next(error: GatewayError, call: str) -> None:
    world = World({"a": b"replaced"}, {"a": b"stale"})
    world.new.errors[call] = error
    with pytest.raises(type(error)):
        await (world.mirror.head(at("a")) if call == "head" else world.read("a"))
    assert world.old.asked == {}


async def test_an_object_that_is_moved_while_it_is_looked_for_is_found() -> None:
    """Copied to the new place behind our question there, deleted in the old one before our question there."""
    for look in ("head", "get", "find"):
        world = World({}, {"a": b"moving"})

        async def move(name: str, key: str, world: World = world) -> None:
            if data := world.old.buckets_["o"].pop("deep/in/a", None):
                world.new.buckets_["n"]["data/a"] = data

        world.old.before = move
        if look == "get":
            assert await world.read("a") == b"moving"
        elif look == "head":
            assert (await world.mirror.head(at("a"))).size == 6
        else:
            assert isinstance(world.mirror, Mirrored)
            assert await world.mirror.find(at("a")) == ("new", at("a"))


async def test_a_listing_does_not_miss_what_is_moved_meanwhile() -> None:
    world = World({}, {"a": b"moving"})

    async def move(name: str, key: str) -> None:
        if data := world.old.buckets_["o"].pop("deep/in/a", None):
            world.new.buckets_["n"]["data/a"] = data

    world.new.before = move  # between the two questions
    page = await world.mirror.list("n", "data/")
    assert [entry.key for entry in page.entries] == ["data/a"]


async def test_a_read_goes_on_with_the_bytes_it_began_with() -> None:
    world = World({}, {"a": b"old bytes"})
    meta = await world.mirror.head(at("a"))
    await world.mirror.put(at("a"), body_of(b"new bytes!"), Conditions())
    assert await world.read("a", meta.etag) == b"old bytes"
    assert await world.read("a") == b"new bytes!"
    await world.mirror.delete(at("a"))
    with pytest.raises(NotFound):
        await world.read("a", meta.etag)
    await world.mirror.put(at("a"), body_of(b"third"), Conditions())
    with pytest.raises(Changed):
        await world.read("a", meta.etag)


async def test_ranges_of_an_object_are_asked_for_where_it_is() -> None:
    world = World({}, {"a": b"0123456789"})
    etag = (await world.mirror.head(at("a"))).etag
    for start in range(0, 10, 2):
        async with world.mirror.get(at("a"), start, start + 2, if_match=etag) as reading:
            assert b"".join([piece async for piece in reading.chunks()]) == b"0123456789"[start : start + 2]
    assert world.asked("get") == [0, 5, 0]


async def test_what_is_remembered_of_places_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "REMEMBERED_MAX", 2)
    world = World({}, {"a": b"1", "b": b"2", "c": b"3"})
    tags = {key: (await world.mirror.head(at(key))).etag for key in "abc"}
    assert [await world.read(key, tags[key]) for key in "bca"] == [b"2", b"3", b"1"]
    assert world.asked("get") == [1, 3, 0]  # only of `a` was the place forgotten


async def test_a_range_past_the_end_is_the_object_s_not_another_place_s() -> None:
    world = World({"a": b"ab"}, {"a": b"abcdef"})
    with pytest.raises(RangeNotSatisfiable):
        async with world.mirror.get(at("a"), 4, 6):
            pass


async def test_writes_and_uploads_are_the_own_place_s() -> None:
    world = World({}, {"a": b"old"})
    result = await world.mirror.put(at("a"), body_of(b"new"), Conditions())
    assert (result.etag, result.headers) == (etag_of(b"new"), {})
    assert world.new.buckets_["n"]["data/a"] == b"new"
    assert world.old.buckets_["o"]["deep/in/a"] == b"old"
    assert (await world.mirror.list_uploads("n")).common_prefixes == ("new",)


CREATE = Conditions(if_none_match="*")


async def test_conditions_see_what_readers_see() -> None:
    world = World({"n": b"1"}, {"o": b"2"})
    put = world.mirror.put
    for key in ("n", "o"):
        with pytest.raises(ConditionFailed):
            await put(at(key), body_of(b"x"), CREATE)
        with pytest.raises(ConditionFailed):
            await put(at(key), body_of(b"x"), Conditions(if_match=etag_of(b"other")))
    with pytest.raises(NotFound):
        await put(at("none"), body_of(b"x"), Conditions(if_match="*"))
    assert await put(at("fresh"), body_of(b"x"), CREATE)
    for key, before in (("n", b"1"), ("o", b"2")):
        await put(at(key), body_of(b"y"), Conditions(if_match=etag_of(before)))
        assert await world.read(key) == b"y"


@pytest.mark.parametrize("date", [Conditions(if_unmodified_since=1), Conditions(if_modified_since=9)])
async def test_a_date_is_no_condition_of_a_write_wherever_the_object_is(date: Conditions) -> None:
    """Neither is met by an object of the seventh second; passed over, both would be written."""
    world = World({}, {"a": b"old"})
    with pytest.raises(Unsupported):
        await world.mirror.put(at("a"), body_of(b"new"), date)
    assert await world.read("a") == b"old"


async def test_what_is_nowhere_costs_two_questions_a_place_but_the_last() -> None:
    world = World({}, {}, {})
    with pytest.raises(NotFound):
        await world.mirror.head(at("a"))
    assert world.asked("head") == [2, 2, 1]


async def test_of_two_writers_over_an_old_object_one_wins() -> None:
    world = World({}, {"a": b"0"})
    both = Conditions(if_match=etag_of(b"0"))
    puts = [world.mirror.put(at("a"), body_of(data), both) for data in (b"1", b"2")]
    results = await asyncio.gather(*puts, return_exceptions=True)
    assert sorted(isinstance(one, ConditionFailed) for one in results) == [False, True]


async def test_what_is_deleted_does_not_come_back() -> None:
    world = World({"a": b"1"}, {"a": b"2", "b": b"3"}, {"a": b"4"})
    for key in ("a", "b", "never"):
        assert await world.mirror.delete(at(key)) == {}
        with pytest.raises(NotFound):
            await world.mirror.head(at(key))
    assert world.new.buckets_["n"] == {"beside": b"-"}
    assert world.old.buckets_["o"] == {"zz": b"-"}


@pytest.mark.parametrize("error", [OriginDenied("no"), Unsupported("no")])
async def test_an_object_that_would_come_back_is_not_deleted(error: GatewayError) -> None:
    world = World({"a": b"1", "b": b"2"}, {"a": b"old"})
    world.old.errors["delete"] = error
    with pytest.raises(OriginDenied, match="old:o/deep/in"):
        await world.mirror.delete(at("a"))
    assert await world.read("a") == b"1"
    await world.mirror.delete(at("b"))  # the old place has nothing to bring back
    with pytest.raises(NotFound):
        await world.read("b")


async def test_a_delete_that_fails_half_way_leaves_the_object() -> None:
    world = World({"a": b"1"}, {"a": b"old"})
    world.old.errors["delete"] = Unreachable("down")
    with pytest.raises(Unreachable):
        await world.mirror.delete(at("a"))
    assert await world.read("a") == b"1"


async def test_versions_are_neither_shown_nor_taken() -> None:
    world = World({"a": b"1"}, {})
    assert "x-amz-version-id" not in (await world.mirror.head(at("a"))).headers
    refused: list[Callable[[], Coroutine[Any, Any, object]]] = [
        lambda: world.mirror.delete(at("a"), version_id="v1"),
        lambda: world.mirror.list_versions("n"),
    ]
    for call in refused:
        with pytest.raises(Unsupported):
            await call()
    with pytest.raises(Unsupported):
        async with world.mirror.forward(ForwardRequest("GET", Remote("n", ""), "policy", {})):
            pass
    assert world.mirror.capabilities.conditional_writes
    assert not world.mirror.capabilities.versions
    assert not world.mirror.capabilities.forward


async def test_places_copy_not_the_mirror() -> None:
    world = World({"a": b"1"}, {})
    with pytest.raises(Unsupported):
        await world.mirror.copy(at("a"), at("c"), {})
    with pytest.raises(Unsupported):
        await world.mirror.copy_part(at("a"), at("c"), "id", 1, {})
    assert world.new.buckets_["n"] == {"data/a": b"1", "beside": b"-"}


async def test_closing_it_leaves_its_places_open() -> None:
    world = World({}, {})
    await world.mirror.close()
    assert not world.new.closed
    assert not world.old.closed


KEYS = st.text("ab/é", min_size=1, max_size=4)
OBJECTS = st.dictionaries(KEYS, st.binary(max_size=3), max_size=10)


@settings(max_examples=200, deadline=None)
@given(
    new=OBJECTS,
    old=OBJECTS,
    oldest=OBJECTS,
    prefix=st.sampled_from(["", "a", "a/", "b", "é"]),
    delimiter=st.sampled_from(["", "/", "a"]),
    size=st.integers(1, 5),
)
def test_a_listing_is_that_of_one_dictionary(
    new: Objects, old: Objects, oldest: Objects, prefix: str, delimiter: str, size: int
) -> None:
    async def check() -> None:
        world = World(new, old, oldest)
        entries: list[tuple[str, str]] = []
        groups: list[str] = []
        after: str | None = ""
        while after is not None:
            page = await world.mirror.list("n", f"data/{prefix}", delimiter, after, size)
            assert len(page.entries) + len(page.common_prefixes) <= size
            entries += [(entry.key, entry.etag) for entry in page.entries]
            groups += page.common_prefixes
            assert page.next_after is None or page.next_after > after
            after = page.next_after
        truth = {f"data/{key}": data for key, data in (oldest | old | new).items()}
        whole = listing(truth, f"data/{prefix}", delimiter, "", 1000)
        assert entries == [(entry.key, entry.etag) for entry in whole.entries]
        assert groups == list(whole.common_prefixes)

    asyncio.run(check())


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "create", "swap", "delete", "migrate", "forget"]), st.sampled_from("abc")
    ),
    max_size=20,
)


@settings(max_examples=200, deadline=None)
@given(new=OBJECTS, old=OBJECTS, steps=STEPS)
def test_it_reads_as_one_dictionary_whatever_happens(
    new: Objects, old: Objects, steps: list[tuple[str, str]]
) -> None:
    """`migrate`: the object is copied to the new place; `forget`: and deleted in the old one, behind our back."""

    async def check() -> None:
        world = World(new, old)
        truth = old | new
        ours, theirs = world.new.buckets_["n"], world.old.buckets_["o"]
        for number, (step, key) in enumerate(steps):
            data = f"{number}".encode()
            if step == "put":
                await world.mirror.put(at(key), body_of(data), Conditions())
                truth[key] = data
            elif step == "create":
                if await _succeeds(world.mirror.put(at(key), body_of(data), CREATE)):
                    assert key not in truth
                    truth[key] = data
                else:
                    assert key in truth
            elif step == "swap":
                match = Conditions(if_match=etag_of(truth.get(key, b"none")))
                assert await _succeeds(world.mirror.put(at(key), body_of(data), match)) == (key in truth)
                if key in truth:
                    truth[key] = data
            elif step == "delete":
                await world.mirror.delete(at(key))
                truth.pop(key, None)
            elif f"deep/in/{key}" in theirs:
                ours.setdefault(f"data/{key}", theirs[f"deep/in/{key}"])
                if step == "forget":
                    del theirs[f"deep/in/{key}"]
            for name in "abc":
                assert await _read(world, name) == truth.get(name)

    asyncio.run(check())


async def _succeeds(call: Coroutine[Any, Any, object]) -> bool:
    try:
        await call
    except (ConditionFailed, NotFound):
        return False
    return True


async def _read(world: World, key: str) -> bytes | None:
    try:
        return await world.read(key)
    except NotFound:
        return None


async def test_a_reader_that_fails_closes_what_it_read_from() -> None:
    world = World({}, {"a": b"123456"})

    async def fail() -> None:
        async with world.mirror.get(at("a"), 0, None):
            assert world.old.readings == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert world.old.readings == 0
