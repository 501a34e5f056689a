"""A cache key names the data, not only what it is called: what stands behind a name may change."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.schema import Config, MountConfig, OriginConfig
from gateway.origins.places import place_of, places_of

S3: dict[str, Any] = {"name": "lake", "type": "s3", "endpoint": "https://one.example", "access_key": "A"}
FILE: dict[str, Any] = {"name": "lake", "type": "file", "root": "/srv/one"}
AZURE: dict[str, Any] = {"name": "lake", "type": "azure", "access_key": "account"}


def place(entry: dict[str, Any], **changed: Any) -> str:
    return place_of(OriginConfig(**{**entry, **changed}))


@pytest.mark.parametrize(
    ("entry", "changed"),
    [
        (S3, {"endpoint": "https://two.example"}),
        (S3, {"name": "sea"}),
        (S3, {"type": "gcs"}),
        ({**S3, "endpoint": ""}, {"region": "cn-north-1"}),
        (FILE, {"root": "/srv/two"}),
        (AZURE, {"access_key": "another"}),
    ],
)
def test_other_data_is_another_place(entry: dict[str, Any], changed: dict[str, Any]) -> None:
    assert place(entry) != place(entry, **changed)


@pytest.mark.parametrize(
    ("entry", "changed"),
    [
        (S3, {"access_key": "B", "secret_key": "x", "session_token": "y"}),
        (S3, {"region": "eu-west-1", "flavour": "ceph", "endpoint": "https://One.example/"}),
        (S3, {"connections_max": 3, "deadline": "5s", "egress_price_per_gib": 1.0, "budget": 3.0}),
        (FILE, {"root": "/srv/../srv/one/"}),
        (AZURE, {"secret_key": "rotated"}),
    ],
)
def test_how_it_is_reached_is_not_what_it_is(entry: dict[str, Any], changed: dict[str, Any]) -> None:
    assert place(entry) == place(entry, **changed)


def test_a_place_has_nothing_that_ends_it_in_a_key_and_no_secret() -> None:
    assert "\0" not in place(AZURE)
    assert "account" not in place(AZURE)
    assert place(S3).startswith("lake~")


def mirrored(*mirror: str, **roots: str) -> dict[str, str]:
    names = {"one": "/srv/one", "two": "/srv/two", "three": "/srv/three", **roots}
    origins = tuple(OriginConfig(name=name, type="file", root=root) for name, root in names.items())
    mount = MountConfig(path="data", origin="one", remote="bucket", mirror=mirror)
    return places_of(Config(origins=origins, mounts=(mount,)))


def test_a_mirror_is_all_that_it_reads_from_in_that_order() -> None:
    first = mirrored("two:bucket", "three:bucket")["mirror:data"]
    assert mirrored("two:bucket", "three:bucket")["mirror:data"] == first
    others = [
        mirrored("three:bucket", "two:bucket"),
        mirrored("two:bucket"),
        mirrored("two:bucket/prefix", "three:bucket"),
        mirrored("two:bucket", "three:bucket", three="/srv/elsewhere"),
        mirrored("two:bucket", "three:bucket", one="/srv/elsewhere"),
    ]
    assert len({first, *(other["mirror:data"] for other in others)}) == 1 + len(others)
    assert "mirror:data" not in mirrored()
