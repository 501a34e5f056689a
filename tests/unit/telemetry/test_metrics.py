"""What workers count, added up: nothing is lost, nothing goes backwards, Prometheus understands it."""

from __future__ import annotations

import ast
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

import gateway
from gateway.cache.counters import Counters
from gateway.telemetry.exposition import Exposition, NodeMetrics
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.names import SECONDS, TABLE


def scrape(node: NodeMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(Exposition(node).page().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def over_the_wire(metrics: Metrics) -> dict[str, object]:
    snapshot: dict[str, object] = json.loads(json.dumps(metrics.snapshot()))
    return snapshot


def test_values_of_workers_are_added_or_the_largest_taken() -> None:
    node = NodeMetrics()
    for slot in range(3):
        worker = Metrics()
        worker.add("read_bytes", 10, "segment")
        worker.add("read_bytes", slot, "origin")
        worker.set("connections", 2)
        worker.set("cache_bytes", 100 + slot)
        node.update(slot, over_the_wire(worker))
    seen = scrape(node)
    assert seen["gateway_read_bytes_total", (("source", "segment"),)] == 30
    assert seen["gateway_read_bytes_total", (("source", "origin"),)] == 3
    assert seen["gateway_connections", ()] == 6
    assert seen["gateway_cache_bytes", ()] == 102


def test_a_dead_worker_leaves_its_counters_and_takes_its_gauges() -> None:
    node = NodeMetrics()
    worker = Metrics()
    worker.add("fills_coalesced", 7)
    worker.set("connections", 4)
    worker.request("GetObject", 200, 0.02)
    node.update(0, over_the_wire(worker))
    before = scrape(node)
    node.ended(0)
    between = scrape(node)
    node.update(0, over_the_wire(Metrics()))
    node.ended(0)
    node.ended(0)  # twice is once
    for seen in (between, scrape(node)):
        assert seen["gateway_fills_coalesced_total", ()] == 7
        assert seen["gateway_connections", ()] == 0
        assert {k: v for k, v in seen.items() if k[0].startswith("gateway_request")} == {
            k: v for k, v in before.items() if k[0].startswith("gateway_request")
        }


def test_a_gauge_that_is_dropped_is_shown_no_more() -> None:
    node, worker = NodeMetrics(), Metrics()
    for metrics in (node.own, worker):
        metrics.set("quota_bytes", 5, "a/**")
        metrics.set("quota_limit_bytes", 9, "a/**")
    node.update(0, over_the_wire(worker))
    for metrics in (node.own, worker):
        metrics.drop("quota_bytes")
        metrics.drop("egress_budget_dollars")  # which nobody has set
    worker.set("quota_bytes", 3, "b/**")
    node.update(0, over_the_wire(worker))
    quotas = {
        series: value for series, value in scrape(node).items() if series[0].startswith("gateway_quota")
    }
    assert quotas == {
        ("gateway_quota_bytes", (("rule", "b/**"),)): 3,
        ("gateway_quota_limit_bytes", (("rule", "a/**"),)): 9,
    } | {series: 0 for series in quotas if series[0].endswith("_total")}


Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["count", "report", "die"]), st.integers(0, 2), st.integers(0, 50)), max_size=40
)


# Of these tenths of seconds the sum is one digit less in another order.
ROUNDED: list[Step] = [
    *[("count", 0, 20), ("count", 1, 22), ("report", 1, 0), ("report", 0, 41), ("die", 1, 13)],
    *[("count", 0, 19), ("count", 1, 29), ("count", 0, 28), ("count", 0, 1), ("report", 1, 0)],
    *[("report", 0, 0), ("die", 1, 0)],
]


@settings(deadline=None)
@given(STEPS)
@example(ROUNDED)
def test_counters_never_go_backwards(steps: list[Step]) -> None:
    node, workers = NodeMetrics(), [Metrics() for _ in range(3)]
    shown: Counter[object] = Counter()
    for what, slot, amount in steps:
        if what == "count":
            workers[slot].add("evicted_bytes", amount)
            workers[slot].request("PutObject", 200 + amount, amount / 10)
        elif what == "report":
            node.update(slot, over_the_wire(workers[slot]))
        else:
            node.ended(slot)
            workers[slot] = Metrics()
        now = scrape(node)
        for series, value in now.items():
            if series[0].endswith(("_total", "_bucket", "_count", "_sum")):
                assert value >= shown[series]
                shown[series] = value  # type: ignore[assignment]


@settings(deadline=None)
@given(st.lists(st.floats(0, 200), max_size=30))
def test_a_histogram_counts_each_request_in_every_bucket_above_it(seconds: list[float]) -> None:
    node, worker = NodeMetrics(), Metrics()
    for value in seconds:
        worker.request("GetObject", 200, value)
    node.update(0, over_the_wire(worker))
    seen = scrape(node)
    for bound in SECONDS if seconds else ():
        series = ("gateway_request_seconds_bucket", (("le", str(float(bound))), ("op", "GetObject")))
        assert seen[series] == sum(value <= bound for value in seconds)
    total = seen.get(("gateway_request_seconds_count", (("op", "GetObject"),)), 0)
    assert (
        total
        == len(seconds)
        == seen.get(("gateway_requests_total", (("op", "GetObject"), ("status", "200"))), 0)
    )


def test_what_has_no_labels_is_there_from_the_start() -> None:
    seen = scrape(NodeMetrics())
    for row in TABLE.values():
        if not row.labels and row.kind != "histogram":
            suffix = "_total" if row.kind == "counter" else ""
            assert seen[f"gateway_{row.name}{suffix}", ()] == 0


@pytest.mark.parametrize("labels", [("one",), ("one", "two", "three")])
def test_a_wrong_number_of_labels_harms_nobody(labels: tuple[str, ...]) -> None:
    node, worker = NodeMetrics(), Metrics()
    worker.add("origin_bytes", 1, *labels)
    worker.add("no_such_thing", 1, *labels)
    node.update(0, over_the_wire(worker))
    assert not any("origin_bytes" in name or "no_such" in name for name, _ in scrape(node))


def test_label_values_are_escaped() -> None:
    node, worker = NodeMetrics(), Metrics()
    worker.add("egress_saved_bytes", 3, 'a"b\\c\nd')
    node.update(0, over_the_wire(worker))
    assert scrape(node)["gateway_egress_saved_bytes_total", (("origin", 'a"b\\c\nd'),)] == 3


def test_the_stores_counters_all_have_a_row() -> None:
    assert set(Counters.__slots__) <= TABLE.keys()


def calls_of(method: str) -> list[tuple[Path, ast.Call]]:
    root = Path(gateway.__file__).parent
    return [
        (path.relative_to(root), node)
        for path in sorted(root.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == method
        and ast.unparse(node.func.value).rpartition(".")[2] in ("metrics", "_metrics", "own")
    ]


def test_the_table_has_exactly_what_the_code_counts_with_its_labels() -> None:
    of_requests = {"requests", "request_seconds", "cache_outcomes", "sent_bytes"}
    counted = {*of_requests, *Counters.__slots__}
    for path, call in calls_of("add") + calls_of("set"):
        if not call.args or not isinstance(call.args[0], ast.Constant):
            continue
        name = str(call.args[0].value)
        assert name in TABLE, f"{path}:{call.lineno} counts {name}"
        labels = call.args[2:]
        if not any(isinstance(label, ast.Starred) for label in labels):
            assert len(labels) == len(TABLE[name].labels), f"{path}:{call.lineno} labels of {name}"
        counted.add(name)
    assert counted == TABLE.keys(), "rows that nothing counts"
