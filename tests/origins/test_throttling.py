"""Origins that throttle, over real sockets: they are left alone, their recovery is used, and nobody waits beyond his
deadline. Every kind of origin, since every kind must pass `Limits.enter`."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.config.schema import OriginConfig
from gateway.errors import BudgetSpent, Throttled, Unreachable
from gateway.model import ObjectMeta, Remote
from gateway.origins.base import ForwardRequest, Origin, Unobserved
from gateway.origins.budgets import Budgets, fetches_data
from gateway.origins.factory import make_origin
from gateway.origins.limits import Limited, Limits, pressure
from gateway.origins.observed import Observed
from tests.origins.bodies import read
from tests.origins.conftest import Cloud, Counts
from tests.origins.throttling import BODY, Store, throttling

KINDS = ("s3", "gcs", "azure")
HERE = Remote("bucket", "key")
SETTINGS: dict[str, dict[str, Any]] = {
    "s3": {"access_key": "key", "secret_key": "secret"},
    "gcs": {"session_token": "token"},
    "azure": {"access_key": "account", "secret_key": base64.b64encode(b"secret").decode()},
}


@asynccontextmanager
async def origin_of(
    kind: str, store: Store, budgets: Budgets | None = None, **settings: Any
) -> AsyncIterator[Origin]:
    endpoint = f"http://127.0.0.1:{store.port}"
    more = {**SETTINGS[kind], "deadline": 1.0, **settings}
    origin = make_origin(OriginConfig(name="lake", type=kind, endpoint=endpoint, **more), budgets=budgets)
    try:
        yield origin
    finally:
        await origin.close()


def limits_of(origin: object) -> Limits:
    assert isinstance(origin, Limited)
    return origin.limits


async def outcomes(*calls: Any) -> list[object]:
    """Of each call: what it gave, or the kind of its error."""
    done = await asyncio.gather(*calls, return_exceptions=True)
    return [type(one) if isinstance(one, BaseException) else one for one in done]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("status", [503, 429])
async def test_a_store_that_only_throttles_meets_no_storm(kind: str, status: int) -> None:
    """200 readers with ten tries each would be 2,000 requests. What is asked is what was under way at each halving,
    and then one request at a time, at growing distances."""
    async with (
        throttling(at_once_max=0, status=status) as store,
        origin_of(kind, store, connections_max=64, deadline=2.0) as origin,
    ):
        done = await outcomes(*(origin.head(HERE) for _ in range(200)))
        # A try that begins as the deadline comes may be cut off before its answer; both are 503 for a client.
        assert Throttled in done
        assert set(done) <= {Throttled, Unreachable}
        assert store.served == 0
        assert store.refused <= 2 * 64 + 16
        limits = limits_of(origin)
        assert limits.gate.aimd.limit <= 32
        assert pressure(origin) == {
            "in_flight": 0,
            "concurrency": limits.gate.aimd.limit,
            "state": "throttled",
        }


async def test_what_the_store_bears_is_found_and_used(kind: str) -> None:
    """It takes four requests at once. All 300 reads succeed, with few refusals."""
    async with (
        throttling(at_once_max=4, latency_s=0.002) as store,
        origin_of(kind, store, connections_max=64, deadline=60.0) as origin,
    ):
        got = await outcomes(*(read(origin, HERE, 10, 20) for _ in range(300)))
        assert [one[1] for one in got if isinstance(one, tuple)] == [BODY[10:20]] * 300
        assert store.served == 300
        assert store.refused < 300


async def test_a_store_that_has_recovered_is_asked_as_much_as_before(kind: str) -> None:
    async with (
        throttling(at_once_max=0) as store,
        origin_of(kind, store, connections_max=8, deadline=30.0) as origin,
    ):
        limits = limits_of(origin)
        waiting = [asyncio.ensure_future(origin.head(HERE)) for _ in range(40)]
        while limits.gate.aimd.limit > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        store.at_once_max = 1000
        assert {(await one).size for one in waiting} == {len(BODY)}
        for _ in range(40):
            await origin.head(HERE)
        assert (limits.gate.aimd.limit, limits.gate.aimd.pause_s) == (8, 0.0)


async def test_the_deadline_is_kept_in_the_line_and_the_client_is_told_to_slow_down(kind: str) -> None:
    """One place, and it is taken: the others leave the line when their time is over, not one behind the other."""
    async with throttling() as store, origin_of(kind, store, connections_max=1, deadline=0.3) as origin:
        limits = limits_of(origin)
        await limits.enter()
        began = time.monotonic()
        assert await outcomes(*(origin.head(HERE) for _ in range(20))) == [Throttled] * 20
        assert time.monotonic() - began < 20 * 0.3
        assert (store.requests, limits.gate.inside) == (0, 1)
        limits.leave()
        assert (await origin.head(HERE)).size == len(BODY)


async def test_requests_begin_no_faster_than_they_may(kind: str) -> None:
    async with throttling() as store, origin_of(kind, store, request_limit=40, deadline=30.0) as origin:
        began = time.monotonic()
        await asyncio.gather(*(origin.head(HERE) for _ in range(30)))
        assert time.monotonic() - began >= 20 / 40 * 0.95  # ten had been saved up
        assert store.served == 30


async def test_who_cannot_have_his_turn_in_time_is_told_at_once(kind: str) -> None:
    async with throttling() as store, origin_of(kind, store, request_limit=2, deadline=1.2) as origin:
        done = await asyncio.gather(*(origin.head(HERE) for _ in range(50)), return_exceptions=True)
        refused = [one for one in done if isinstance(one, Throttled)]
        assert len(refused) == 50 - store.served
        assert 2 <= store.served <= 4
        assert all(one.retry_after_s is not None and one.retry_after_s > 1 for one in refused)
        assert pressure(origin)["state"] == "ok"  # the origin did nothing wrong


# --- origins that are no HTTP of ours


class Throttling:
    """What `Observed` wraps: bears two calls at once."""

    name = "lake"
    capabilities = None

    def __init__(self) -> None:
        self.calls = self.inside = self.most = 0
        self.limit = 2

    async def head(self, remote: Remote) -> ObjectMeta:
        self.calls += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            refused = self.inside > self.limit
            await asyncio.sleep(0.001)
        finally:
            self.inside -= 1
        if refused:
            raise Throttled("slow down")
        return ObjectMeta(3, '"e"', 0, {})


async def test_a_wrapped_origin_is_pressed_no_harder_than_it_bears() -> None:
    inner, limits = Throttling(), Limits("lake", 32, 30.0)
    origin = Observed(inner, Unobserved(), limits)  # type: ignore[arg-type]
    first = await outcomes(*(origin.head(HERE) for _ in range(32)))
    assert first.count(Throttled) == 30
    assert (inner.most, limits.gate.aimd.limit, limits.state) == (32, 16, "throttled")
    while limits.gate.aimd.limit > inner.limit:
        await outcomes(*(origin.head(HERE) for _ in range(8)))
    inner.most = 0
    await outcomes(*(origin.head(HERE) for _ in range(8)))
    assert inner.most <= inner.limit + 1
    assert limits.gate.inside == 0


async def test_a_wrapped_origin_is_asked_no_faster_than_it_may() -> None:
    inner, counts = Throttling(), Counts()
    inner.limit = 100
    origin = Observed(inner, counts, Limits("lake", 32, 0.5, request_rate=4))  # type: ignore[arg-type]
    done = await outcomes(*(origin.head(HERE) for _ in range(20)))
    assert 2 <= inner.calls <= 4
    assert done.count(Throttled) == 20 - inner.calls
    assert counts.requests == [("head", "200")] * inner.calls  # what was not asked is not counted


# --- budgets


async def test_what_comes_is_counted_while_it_comes(cloud: Cloud) -> None:
    """Whole, in part, and forwarded: it is what the origin will charge for."""
    data, counts = bytes(5 << 20), cloud.counts.bytes
    await cloud.put(data)
    before = counts["in"]
    async with cloud.origin.get(cloud.at(), 0, None) as reading:
        pieces = reading.chunks()
        while counts["in"] == before:  # long before the end
            assert await anext(pieces)
        async for _ in pieces:
            pass
    assert counts["in"] - before == len(data)
    before = counts["in"]
    async with cloud.origin.get(cloud.at(), 100, 2 << 20) as reading:
        pieces = reading.chunks()
        piece = await anext(pieces)
        await pieces.aclose()  # type: ignore[attr-defined]
    assert len(piece) <= counts["in"] - before < len(data)
    if cloud.origin.capabilities.forward:
        before = counts["in"]
        async with cloud.origin.forward(ForwardRequest("GET", cloud.at(), "", {})) as response:
            sizes = [len(piece) async for piece in response.chunks()]
        assert sum(sizes) == counts["in"] - before == len(data)


async def test_a_spent_budget_refuses_data_and_nothing_else(cloud: Cloud) -> None:
    """Over every origin of the contract."""
    await cloud.put(b"0123456789")
    budgets = limits_of(cloud.origin)._budgets = Budgets()
    budgets.order({"lake": "It is spent.", "other": "no matter"})
    asked = len(cloud.counts.requests)
    for start, stop in ((0, None), (2, 5)):
        with pytest.raises(BudgetSpent, match=r"^It is spent\.$"):
            await read(cloud.origin, cloud.at(), start, stop)
    if cloud.origin.capabilities.forward:
        with pytest.raises(BudgetSpent):
            async with cloud.origin.forward(ForwardRequest("GET", cloud.at(), "versionId=null", {})):
                pass
    assert cloud.counts.requests[asked:] == []
    assert (await cloud.head()).size == 10
    assert [entry.key for entry in (await cloud.origin.list(cloud.at().bucket, cloud.key)).entries] == [
        cloud.key
    ]
    await cloud.put(b"more")
    assert pressure(cloud.origin)["state"] == "budget"
    budgets.order({"other": "no matter"})
    assert await cloud.get() == b"more"
    assert pressure(cloud.origin)["state"] == "ok"


@pytest.mark.parametrize(
    ("method", "key", "query", "data"),
    [
        ("GET", "k", "", True),
        ("GET", "k", "partNumber=2&versionId=abc", True),
        ("GET", "k", "response-content-type=text%2Fplain", True),
        ("POST", "k", "select=&select-type=2", True),
        ("GET", "k", "tagging=", False),
        ("GET", "k", "tagging=&versionId=abc", False),
        ("GET", "", "versions=", False),
        ("HEAD", "k", "versionId=abc", False),
        ("PUT", "k", "", False),
        ("POST", "k", "uploads=", False),
        ("DELETE", "k", "", False),
    ],
)
def test_what_fetches_data(method: str, key: str, query: str, data: bool) -> None:
    assert fetches_data(method, key, query) is data
