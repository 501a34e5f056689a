"""`/api/v1/status` adds up what workers and counters say."""

from __future__ import annotations

import json
from typing import Any

from gateway.admin.status import NodeFacts, WorkerFacts, mounts, status
from gateway.config.schema import Config, MountConfig, Node, OriginConfig
from gateway.telemetry.exposition import NodeMetrics
from gateway.telemetry.metrics import Metrics

CONFIG = Config(
    node=Node(name="gw-0", workers=2),
    origins=(
        OriginConfig(
            name="aws",
            type="s3",
            endpoint="https://key:secret@s3.example/",
            egress_price_per_gib=0.1,
            budget=5,
            budget_action="refuse",
            request_limit=100,
        ),
        OriginConfig(name="nas", type="file", root="/mnt/nas"),
    ),
    mounts=(MountConfig(path="data", origin="aws", remote="lake", read_only=True),),
)


def counted() -> NodeMetrics:
    node, metrics = NodeMetrics(), Metrics()
    metrics.request("GetObject", 200, 0.1)
    metrics.request("GetObject", 503, 0.1)
    metrics.request("PutObject", 200, 0.1)
    for outcome in ("hit", "hit", "hit", "miss"):
        metrics.add("cache_outcomes", 1, outcome)
    metrics.add("read_bytes", 60, "segment")
    metrics.add("read_bytes", 40, "origin")
    for code, count in (("206", 5), ("503", 2), ("429", 1), ("500", 3), ("error", 4)):
        metrics.add("origin_requests", count, "aws", "get", code)
    metrics.add("origin_bytes", 40, "aws", "in")
    metrics.add("origin_bytes", 7, "aws", "out")
    metrics.add("egress_dollars", 0.25, "aws")
    metrics.add("egress_saved_bytes", 60, "aws")
    metrics.add("egress_saved_dollars", 0.5, "aws")
    node.own.set("egress_month_dollars", 6.5, "aws")
    node.own.set("egress_budget_exceeded", 1, "aws")
    metrics.set("cache_bytes", 1000)
    metrics.set("cache_capacity_bytes", 4000)
    metrics.set("pinned_bytes", 70)
    metrics.set("quota_bytes", 30, "data/**")
    metrics.set("quota_limit_bytes", 50, "data/**")
    node.update(0, metrics.snapshot())
    return node


def a_status(node: NodeMetrics | None = None) -> dict[str, Any]:
    origins = {"aws": {"in_flight": 3, "concurrency": 8, "state": "ok"}}
    slow = {"aws": {"in_flight": 1, "concurrency": 2, "state": "throttled"}}
    workers = [
        WorkerFacts(0, 11, "ready", 0, 5.0, {"connections": 2, "origins": origins, "cache": {"blocks": 7}}),
        WorkerFacts(1, 12, "ready", 3, 1.0, {"connections": 1, "origins": slow}),
        WorkerFacts(2, 0, "waiting", 9, 0.0),
    ]
    facts = NodeFacts("1.2.3", "degraded", "2 of 3 workers serve", 0.0, 6.0, workers)
    made: dict[str, Any] = json.loads(json.dumps(status(CONFIG, facts, (node or counted()).merged())))
    return made


def test_requests_and_reads() -> None:
    said = a_status()
    assert said["requests"]["total"] == 3
    assert said["requests"]["server_errors"] == 1
    assert said["requests"]["by_op"] == {"GetObject": 2, "PutObject": 1}
    assert said["reads"]["hit_ratio"] == 0.75
    assert said["reads"]["byte_hit_ratio"] == 0.6
    assert said["cache"] == {
        "blocks": 7,
        "bytes": 1000,
        "capacity_bytes": 4000,
        "pinned_bytes": 70,
        "quotas": [{"rule": "data/**", "bytes": 30, "limit_bytes": 50}],
        "evicted_bytes": 0,
        "committed_bytes": 0,
        "corrupt_blocks": 0,
        "disk_full": False,
        "index_broken": False,
    }
    assert said["egress_saved"] == {"bytes": 60, "dollars": 0.5}
    assert said["egress_spent"] == {"bytes": 40, "dollars": 0.25}


def test_origins_add_up_over_workers() -> None:
    aws, nas = a_status()["origins"]
    assert aws == {
        "name": "aws",
        "type": "s3",
        "endpoint": "https://s3.example/",
        "state": "throttled",
        "requests": 15,
        "errors": 7,
        "throttled": 3,
        "in_flight": 4,
        "concurrency": 10,
        "bytes_in": 40,
        "bytes_out": 7,
        "request_limit": 100,
        "egress_dollars": 0.25,
        "egress_saved_bytes": 60,
        "egress_saved_dollars": 0.5,
        "month": {"dollars": 6.5, "budget_dollars": 5, "budget_action": "refuse", "exceeded": True},
    }
    assert (nas["month"], nas["request_limit"]) == (None, None)
    assert (nas["endpoint"], nas["state"], nas["requests"]) == ("/mnt/nas", "ok", 0)


def test_workers() -> None:
    said = a_status()
    assert [(w["pid"], w["connections"], w["restarts"]) for w in said["workers"]] == [
        (11, 2, 0),
        (12, 1, 3),
        (0, 0, 9),
    ]
    assert (said["state"], said["reason"]) == ("degraded", "2 of 3 workers serve")


def test_before_the_first_read_there_is_no_ratio() -> None:
    reads = a_status(NodeMetrics())["reads"]
    assert (reads["hit_ratio"], reads["byte_hit_ratio"]) == (None, None)


def test_mounts() -> None:
    assert mounts(CONFIG) == [
        {"path": "data", "origin": "aws", "type": "s3", "remote": "lake", "read_only": True, "mirror": []}
    ]
