"""DeleteObjects: what goes out in one request, what by itself, and what is forgotten when."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from gateway.errors import ConditionFailed, GatewayError, OriginDenied, Refused, Unreachable, Unsupported
from gateway.model import ToDelete
from gateway.namespace.mounts import Mount
from gateway.objects.deletes import Doomed, delete_objects
from gateway.origins.base import Capabilities
from tests.unit.objects.harness import DictOrigin, running

MOUNTS = (Mount("b", "m", "r"), Mount("c", "m", "s"), Mount("d", "plain", "r"))


@dataclass
class Many(DictOrigin):
    """Takes many keys at once. `failing`: by key."""

    batches: list[tuple[str, list[ToDelete]]] = field(default_factory=list)
    failing: dict[str, GatewayError] = field(default_factory=dict)
    refuses: GatewayError | None = None

    async def delete_many(
        self, bucket: str, doomed: Sequence[ToDelete]
    ) -> list[Mapping[str, str] | GatewayError]:
        self.batches.append((bucket, list(doomed)))
        if self.refuses is not None:
            raise self.refuses
        for one in doomed:
            if one.key not in self.failing:
                self.buckets_[bucket].pop(one.key, None)
        self.committed.set()
        await self.gate.wait()
        return [self.failing.get(one.key, {"x-amz-version-id": one.version_id or "m"}) for one in doomed]


def many(*, conditions: bool = False) -> Many:
    keys = {"k": b"", "l": b"", "x\ny": b""}
    return Many(
        "m",
        {"r": dict(keys), "s": dict(keys)},
        Capabilities(batch_delete=True, conditional_deletes=conditions),
    )


async def test_keys_of_one_bucket_go_in_one_request_and_come_back_in_order() -> None:
    one, plain = many(), DictOrigin("plain", {"r": {"k": b""}})
    async with running(one, plain, mounts=MOUNTS) as (services, view, store):
        asked = [("b", "k"), ("c", "k"), ("d", "k"), ("b", "l"), ("b", "x\ny"), ("c", "l")]
        results = await delete_objects(services, [Doomed(view.mounts.resolve(*at)) for at in asked])
        assert [result.key for result in results] == [key for _, key in asked]
        assert all(result.error is None for result in results)
        assert {bucket: [d.key for d in keys] for bucket, keys in one.batches} == {
            "r": ["k", "l"],
            "s": ["k", "l"],
        }
        assert one.buckets_ == {"r": {}, "s": {"x\ny": b""}}
        assert plain.buckets_ == {"r": {}}
        assert sorted(store.keys) == sorted(view.mounts.resolve(*at).cache_key for at in asked)


async def test_each_key_has_its_own_outcome_and_whatever_may_be_gone_is_forgotten() -> None:
    one = many()
    one.failing = {"l": OriginDenied("no"), "v": Unreachable("who knows")}
    async with running(one, mounts=MOUNTS) as (services, view, store):
        doomed = [
            Doomed(view.mounts.resolve("b", key), version)
            for key, version in (("k", "7"), ("l", None), ("v", None))
        ]
        results = await delete_objects(services, doomed)
        assert [type(result.error) for result in results] == [type(None), OriginDenied, Unreachable]
        assert results[0].headers == {"x-amz-version-id": "7"}
        assert {one_.target.cache_key for one_ in doomed} == set(store.keys)


@pytest.mark.parametrize("refusal", [Unsupported("what is that?"), Refused(405, "MethodNotAllowed", "no")])
async def test_a_store_that_does_not_know_the_request_is_asked_key_by_key(refusal: GatewayError) -> None:
    one = many()
    one.refuses = refusal
    async with running(one, mounts=MOUNTS) as (services, view, store):
        results = await delete_objects(
            services, [Doomed(view.mounts.resolve("b", key)) for key in ("k", "l")]
        )
        assert [result.error for result in results] == [None, None]
        assert set(one.buckets_["r"]) == {"x\ny"}
        assert len(store.keys) == 2


async def test_a_request_that_fails_as_a_whole_may_have_deleted_everything() -> None:
    one = many()
    one.refuses = Unreachable("cut off")
    async with running(one, mounts=MOUNTS) as (services, view, store):
        results = await delete_objects(
            services, [Doomed(view.mounts.resolve("b", key)) for key in ("k", "l")]
        )
        assert [type(result.error) for result in results] == [Unreachable, Unreachable]
        assert len(store.keys) == 2


async def test_a_client_that_leaves_does_not_stop_the_forgetting() -> None:
    one = many()
    one.gate.clear()
    async with running(one, mounts=MOUNTS) as (services, view, store):
        doomed = [Doomed(view.mounts.resolve("b", key)) for key in ("k", "l")]
        leaving = asyncio.ensure_future(delete_objects(services, doomed))
        await one.committed.wait()
        leaving.cancel()
        await asyncio.wait([leaving])
        one.gate.set()
        await asyncio.wait(services.tasks.live())
        assert {one_.target.cache_key for one_ in doomed} == set(store.keys)


async def test_conditions_go_along_where_the_store_checks_them_and_nowhere_else() -> None:
    checking, blind = many(conditions=True), many()
    checking.failing = {"l": ConditionFailed("changed")}
    for one, errors in ((checking, [type(None), ConditionFailed]), (blind, [Unsupported, Unsupported])):
        async with running(one, mounts=MOUNTS) as (services, view, _):
            doomed = [Doomed(view.mounts.resolve("b", key), None, '"e"') for key in ("k", "l")]
            assert [type(result.error) for result in await delete_objects(services, doomed)] == errors
            alone = await delete_objects(services, [Doomed(view.mounts.resolve("c", "k"), None, "*")])
            assert type(alone[0].error) is errors[0]
    assert [[d.etag for d in keys] for _, keys in checking.batches] == [['"e"', '"e"'], ["*"]]
    assert blind.batches == []
    assert set(blind.buckets_["r"]) == {"k", "l", "x\ny"}
