"""Under which further cache keys an object may be known, so that a write through one mount is seen through all."""

from __future__ import annotations

import pytest

from gateway.namespace.mirrors import Echoes, MirrorPlace, mirror_name
from gateway.namespace.mounts import Mount, Mounts

NEW, OLD = "new\0lake/", "old\0attic/in/"
MOUNTS = Mounts(
    [
        Mount("data", mirror_name("data"), "lake", mirror=(NEW, OLD)),
        Mount("again", mirror_name("again/x"), "attic", "x/", "in/", mirror=(OLD, "far\0b/")),
        Mount("plain", "new", "lake"),
    ]
)
ECHOES = Echoes(MOUNTS.all())
THROUGH_DATA, THROUGH_AGAIN = b"mirror:data\0lake/k", b"mirror:again/x\0attic/in/k"
HERE, THERE, FAR = b"new\0lake/k", b"old\0attic/in/k", b"far\0b/k"


@pytest.mark.parametrize(
    ("key", "others"),
    [
        (MOUNTS.resolve("data", "k").cache_key, {HERE, THERE, THROUGH_AGAIN}),
        (MOUNTS.resolve("again", "x/k").cache_key, {THERE, FAR, THROUGH_DATA}),
        (MOUNTS.resolve("plain", "k").cache_key, {THROUGH_DATA}),
        (THERE, {THROUGH_DATA, THROUGH_AGAIN}),
        (FAR, {THROUGH_AGAIN}),
        (b"old\0attic/elsewhere/k", set()),
        (b"old\0attic2/in/k", set()),
        (b"newer\0lake/k", set()),
    ],
)
def test_every_name_of_an_object_is_found(key: bytes, others: set[bytes]) -> None:
    assert ECHOES.of(key) == others


def test_without_mirrors_a_key_is_its_only_name() -> None:
    assert Echoes([Mount("plain", "new", "lake")]).of(HERE) == set()


def test_places_as_they_are_written() -> None:
    assert MirrorPlace.parse("old:attic/deep/in/") == ("old", "attic", "deep/in/")
    assert MirrorPlace.parse("old:attic") == ("old", "attic", "")
    assert MirrorPlace.parse("old:attic/in").key_start("old~1") == "old~1\0attic/in/"
    with pytest.raises(ValueError, match="ORIGIN:BUCKET"):
        MirrorPlace.parse("attic/deep")
