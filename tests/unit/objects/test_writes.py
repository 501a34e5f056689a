"""Origin first, then the cache forgets, then the client hears of it: whatever happens in between."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import (
    ConditionFailed,
    GatewayError,
    NotFound,
    OriginDenied,
    Refused,
    Throttled,
    Unreachable,
    Unsupported,
)
from gateway.model import Conditions
from gateway.namespace.mounts import Mount
from gateway.objects.deletes import PARALLEL_DELETES_MAX, Doomed, delete_objects
from gateway.objects.writes import put_object, without_effect
from gateway.origins.base import Capabilities
from gateway.s3.errors import S3Error
from tests.unit.objects.harness import DictOrigin, body_of, running

MOUNTS = (Mount("b", "o", "r"),)
KEY = b"o\0r/k"


def origin() -> DictOrigin:
    return DictOrigin("o", {"r": {}})


async def test_a_write_is_answered_after_the_key_was_forgotten() -> None:
    one = origin()
    async with running(one, mounts=MOUNTS) as (services, view, store):
        result = await put_object(services, view.mounts.resolve("b", "k"), body_of(b"a", b"b"), Conditions())
        assert (result.etag, one.buckets_["r"]["k"], store.keys) == ('"e"', b"ab", [KEY])


async def test_a_client_that_leaves_after_the_commit_does_not_leave_the_old_version_behind() -> None:
    one = origin()
    one.gate.clear()
    async with running(one, mounts=MOUNTS) as (services, view, store):
        put = put_object(services, view.mounts.resolve("b", "k"), body_of(b"new"), Conditions())
        task = services.tasks.spawn(put, "request")
        await one.committed.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert store.keys == []
        one.gate.set()
        await store.seen.wait()
        assert store.keys == [KEY]


async def test_a_shutdown_after_the_commit_forgets_all_the_same() -> None:
    one = origin()
    one.gate.clear()
    async with running(one, mounts=MOUNTS) as (services, view, store):
        put = put_object(services, view.mounts.resolve("b", "k"), body_of(b"new"), Conditions())
        services.tasks.spawn(put, "request")
        await one.committed.wait()
        await services.tasks.close()
        assert store.keys == [KEY]


@pytest.mark.parametrize(
    ("error", "forgets"),
    [
        (Unreachable("the answer was lost"), True),
        (Throttled("slow"), True),
        (Refused(500, "InternalError", ""), True),
        (RuntimeError("a bug"), True),
        (ConditionFailed("no"), False),
        (NotFound("no"), False),
        (OriginDenied("no"), False),
        (Unsupported("no"), False),
        (Refused(400, "InvalidPart", ""), False),
        (S3Error("BadDigest"), False),
    ],
)
async def test_what_may_have_been_carried_out_is_forgotten(error: Exception, forgets: bool) -> None:
    one = origin()
    one.error = error
    async with running(one, mounts=MOUNTS) as (services, view, store):
        with pytest.raises(type(error)):
            await put_object(services, view.mounts.resolve("b", "k"), body_of(b"x"), Conditions())
        assert store.keys == ([KEY] if forgets else [])
    assert without_effect(error) is not forgets


async def test_a_body_that_fails_its_proof_changes_nothing() -> None:
    one = origin()
    async with running(one, mounts=MOUNTS) as (services, view, store):
        body = body_of(b"x", error=S3Error("BadDigest"))
        with pytest.raises(S3Error):
            await put_object(services, view.mounts.resolve("b", "k"), body, Conditions())
        assert (one.buckets_["r"], store.keys) == ({}, [])


async def test_a_write_that_cannot_be_forgotten_is_no_success() -> None:
    async with running(origin(), mounts=MOUNTS) as (services, view, store):
        store.error = OSError("index")
        with pytest.raises(OSError, match="index"):
            await put_object(services, view.mounts.resolve("b", "k"), body_of(b"x"), Conditions())


async def test_a_condition_that_the_origin_would_ignore_is_refused() -> None:
    one = origin()
    one.capabilities = Capabilities()
    async with running(one, mounts=MOUNTS) as (services, view, _):
        target = view.mounts.resolve("b", "k")
        with pytest.raises(Unsupported):
            await put_object(services, target, body_of(b"x"), Conditions(if_none_match="*"))
        assert one.buckets_["r"] == {}
        await put_object(services, target, body_of(b"x"), Conditions())


async def test_a_mount_of_an_unknown_origin_says_so() -> None:
    async with running(mounts=MOUNTS) as (services, view, _):
        with pytest.raises(GatewayError, match="unknown origin"):
            await put_object(services, view.mounts.resolve("b", "k"), body_of(b"x"), Conditions())


async def test_many_deletes_run_side_by_side_but_not_all_at_once() -> None:
    one = origin()
    one.buckets_["r"] = {f"k{n}": b"" for n in range(100)}
    async with running(one, mounts=MOUNTS) as (services, view, store):
        doomed = [Doomed(view.mounts.resolve("b", f"k{n}")) for n in range(100)]
        results = await delete_objects(services, doomed)
        assert [one.key for one in results] == [f"k{n}" for n in range(100)]
        assert {result.headers["x-amz-version-id"] for result in results} == {"1"}
        assert one.buckets_["r"] == {}
        assert len(store.keys) == 100
        assert 1 < one.under_way_max <= PARALLEL_DELETES_MAX


async def test_one_failed_delete_does_not_stop_the_others() -> None:
    good, bad = origin(), DictOrigin("x", {"r": {}})
    bad.error = Unreachable("down")
    mounts = (*MOUNTS, Mount("c", "x", "r"))
    async with running(good, bad, mounts=mounts) as (services, view, store):
        doomed = [Doomed(view.mounts.resolve(bucket, "k")) for bucket in ("b", "c", "b")]
        results = await delete_objects(services, doomed)
        assert [type(one.error) for one in results] == [type(None), Unreachable, type(None)]
        assert sorted(store.keys) == [KEY, KEY, b"x\0r/k"]
        assert await delete_objects(services, []) == []
