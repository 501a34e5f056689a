"""The rule keys that say how objects are kept, each at work in a whole node: two workers, stock boto3, and the node's
own figures for what came from the origin."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import targets
from tests.gateway_process import Gateway
from tests.processes import wait_for

KIB, MIB = 1 << 10, 1 << 20
BLOCK = 64 * KIB
TTL_S = 3.0
RULES = [
    {"match": "alias/**", "pin": True, "consistency": "immutable"},  # shows what data/pin holds
    {"match": "data/bounded/**", "quota": "4MiB", "consistency": "immutable"},
    {"match": "data/brief/**", "ttl": f"{TTL_S:.0f}s", "consistency": "immutable"},
    {"match": "data/steps/**", "read_ahead": "0"},
    {"match": "data/**", "consistency": "immutable"},
]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Gateway]:
    root = tmp_path / "origin"
    gateway = targets.gateway_over(
        tmp_path,
        targets.file_origin(root),
        mounts=[
            {"path": "data", "origin": "lake", "remote": "lake-data"},
            {"path": "alias", "origin": "lake", "remote": "lake-data/pin"},
        ],
        rules=RULES,
        identities=[],
        settings={"cache": {"capacity": "64MiB", "block_size": "64KiB"}},
    )
    with gateway:
        yield gateway


class Lake:
    """What lies at the origin."""

    def __init__(self, node: Gateway) -> None:
        self.root = node.directory / "origin" / "lake-data"
        self.bodies: dict[str, bytes] = {}
        self._rng = random.Random(11)

    def put(self, prefix: str, count: int, size: int) -> list[str]:
        keys = [f"{prefix}/{number}" for number in range(count)]
        for key in keys:
            self.bodies[key] = self._rng.randbytes(size)
            path = self.root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            half = path.with_suffix(".half")
            half.write_bytes(self.bodies[key])
            half.replace(path)
        return keys


def read_all(node: Gateway, lake: Lake, keys: list[str], workers: int = 4) -> None:
    def some(part: list[str]) -> None:
        client = node.client()
        for key in part:
            assert client.get_object(Bucket="data", Key=key)["Body"].read() == lake.bodies[key], key
        client.close()

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(some, [keys[number::workers] for number in range(workers)]))


def outcomes(node: Gateway, outcome: str, requests: int) -> float:
    """How many reads ended so, once so many requests are counted: whoever counts a request counts its outcome."""
    return node.settled_metrics(requests).total("cache_outcomes_total", outcome=outcome)


def gauge(node: Gateway, name: str) -> float:
    return node.metrics().total(name)


def held(node: Gateway, rule: str) -> float:
    return node.metrics().total("quota_bytes", rule=rule)


def test_pinned_objects_survive_a_flood_and_a_kill(node: Gateway) -> None:
    lake = Lake(node)
    pinned, flood = lake.put("pin", 40, 256 * KIB), lake.put("flood", 600, 256 * KIB)
    read_all(node, lake, pinned)
    wait_for("all of it is pinned", lambda: gauge(node, "pinned_bytes") == 40 * 256 * KIB)
    read_all(node, lake, flood)
    assert gauge(node, "evicted_segments_total") > 10
    before = outcomes(node, "hit", 640)
    read_all(node, lake, pinned)
    assert outcomes(node, "hit", 680) == before + 40
    node.kill()
    node.start()
    read_all(node, lake, pinned)
    assert outcomes(node, "hit", 40) == 40
    wait_for("it is still pinned", lambda: gauge(node, "pinned_bytes") == 40 * 256 * KIB)


def test_new_rules_hold_for_what_was_cached_before(node: Gateway) -> None:
    lake = Lake(node)
    quiet, busy = lake.put("quiet", 20, 256 * KIB), lake.put("busy", 40, 256 * KIB)
    read_all(node, lake, [*quiet, *busy])
    node.rewrite(
        rules=[{"match": "data/quiet/**", "pin": True}, {"match": "data/busy/**", "quota": "4MiB"}, *RULES]
    )
    assert node.admin("/api/v1/reload", "POST")[0] == 200
    wait_for("what was there is pinned", lambda: gauge(node, "pinned_bytes") == 20 * 256 * KIB)
    wait_for("what was there is counted", lambda: 3 * MIB < held(node, "data/busy/**") <= 4 * MIB)
    read_all(node, lake, lake.put("flood", 400, 256 * KIB))
    before = outcomes(node, "hit", 460)
    read_all(node, lake, quiet)
    assert outcomes(node, "hit", 480) == before + 20


def test_a_quota_that_a_reload_takes_away_is_listed_no_more(node: Gateway) -> None:
    def listed() -> list[str]:
        return [quota["rule"] for quota in node.status()["cache"]["quotas"]]

    wait_for("it is listed", lambda: listed() == ["data/bounded/**"])
    node.rewrite(rules=[rule for rule in RULES if "quota" not in rule])
    assert node.admin("/api/v1/reload", "POST")[0] == 200
    wait_for("it is listed no more", lambda: listed() == [])
    assert "gateway_quota_limit_bytes{" not in node.admin("/metrics")[1].decode()


def test_a_quota_bounds_one_prefix_and_spares_the_others(node: Gateway) -> None:
    lake = Lake(node)
    others, bounded = lake.put("other", 40, 256 * KIB), lake.put("bounded", 400, 256 * KIB)
    read_all(node, lake, others)
    for start in range(0, len(bounded), 40):
        read_all(node, lake, bounded[start : start + 40])
        assert held(node, "data/bounded/**") <= 4 * MIB
    assert held(node, "data/bounded/**") > 2 * MIB
    assert node.metrics().total("quota_limit_bytes", rule="data/bounded/**") == 4 * MIB
    before = outcomes(node, "hit", 440)
    read_all(node, lake, others)
    assert outcomes(node, "hit", 480) == before + 40


def test_an_object_leaves_the_cache_when_its_time_is_over(node: Gateway) -> None:
    lake = Lake(node)
    (key,) = lake.put("brief", 1, 300 * KIB)
    client = node.client()

    def read() -> bytes:
        return bytes(client.get_object(Bucket="data", Key=key)["Body"].read())

    old = lake.bodies[key]
    assert read() == old
    lake.put("brief", 1, 200 * KIB)
    new = wait_for("the new one is read", lambda: (got := read()) != old and got)
    assert new == lake.bodies[key]
    wait_for("the old one is dropped", lambda: gauge(node, "expired_bytes_total") >= 300 * KIB)
    client.close()


def read_in_steps(node: Gateway, lake: Lake, key: str) -> None:
    """The first 16 blocks, one request each."""
    client = node.client()
    for start in range(0, 16 * BLOCK, BLOCK):
        got = client.get_object(Bucket="data", Key=key, Range=f"bytes={start}-{start + BLOCK - 1}")
        assert got["Body"].read() == lake.bodies[key][start : start + BLOCK]
    client.close()


def test_read_ahead_0_fetches_nothing_ahead(node: Gateway) -> None:
    lake = Lake(node)
    (key,) = lake.put("steps", 1, 4 * MIB)
    read_in_steps(node, lake, key)
    assert outcomes(node, "miss", 16) == 16
    read_in_steps(node, lake, key)
    assert outcomes(node, "hit", 32) == 16


def test_without_a_rule_a_sequential_reader_is_read_ahead_of(node: Gateway) -> None:
    lake = Lake(node)
    (key,) = lake.put("plain", 1, 4 * MIB)
    read_in_steps(node, lake, key)
    wait_for("more has come than was asked for", lambda: gauge(node, "origin_bytes_total") > 16 * BLOCK)
