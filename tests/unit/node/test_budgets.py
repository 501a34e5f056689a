"""Counters become an account of the month, once: over workers, restarts, months and clocks that jump."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.config.schema import OriginConfig
from gateway.node import budgets, ledger
from gateway.node.budgets import Bookkeeper
from gateway.telemetry.exposition import NodeMetrics
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.money import GIB, Money

PRICE = 0.5


def aws(**more: Any) -> OriginConfig:
    return OriginConfig(**{"name": "aws", "egress_price_per_gib": PRICE, "budget": 10, **more})


class Node:
    """A supervisor's books, and workers that move bytes. `start` is a new process over the same file."""

    def __init__(self, directory: Path, *origins: OriginConfig) -> None:
        self.path = directory / ledger.FILE
        self.origins = origins
        self.now = datetime(2026, 11, 20, tzinfo=UTC).timestamp()
        self.start()

    def start(self) -> None:
        self.metrics = NodeMetrics()
        self.workers: dict[int, tuple[Metrics, Money]] = {}
        self.books = Bookkeeper(self.path, self.metrics, self.origins, lambda: self.now)

    def moves(self, dollars: float, slot: int = 0, origin: str = "aws") -> None:
        """A worker that is not there yet is started, its counters at zero."""
        if slot not in self.workers:
            fresh = Metrics()
            self.workers[slot] = (
                fresh,
                Money(fresh, {one.name: one.egress_price_per_gib for one in self.origins}),
            )
        counters, money = self.workers[slot]
        counters.add("origin_bytes", dollars / PRICE * GIB, origin, "in")
        counters.add("origin_bytes", 99 * GIB, origin, "out")
        money.publish()
        self.metrics.update(slot, counters.snapshot())

    def dies(self, slot: int = 0) -> None:
        self.metrics.ended(slot)
        del self.workers[slot]

    def spent(self, origin: str = "aws") -> float:
        self.books.check()
        return self.metrics.own.get("egress_month_dollars", origin)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path, aws(budget_action="refuse"))


def test_what_workers_fetch_is_spent_once(node: Node) -> None:
    node.moves(1)
    node.moves(2, slot=1)
    assert node.spent() == pytest.approx(3)
    assert node.spent() == pytest.approx(3)
    node.moves(1)
    assert node.spent() == pytest.approx(4)
    assert node.books._ledger.account("2026-11", "aws").dollars == pytest.approx(4)


def test_a_worker_that_is_replaced_is_neither_lost_nor_counted_twice(node: Node) -> None:
    node.moves(1)
    node.moves(2, slot=1)
    node.spent()
    node.dies(1)
    assert node.spent() == pytest.approx(3)
    node.moves(0.5, slot=1)
    assert node.spent() == pytest.approx(3.5)
    node.dies(1)  # with something that no check has seen
    node.moves(1, slot=1)
    node.moves(1, slot=1)
    node.dies(1)
    assert node.spent() == pytest.approx(5.5)


def test_a_node_that_starts_again_goes_on(node: Node) -> None:
    for expected in (3, 6, 9):
        node.moves(3)
        node.books.close()
        node.start()
        assert node.spent() == pytest.approx(expected)


def test_a_new_month_begins_at_zero_and_a_clock_set_back_finds_the_old_account(node: Node) -> None:
    november, december = node.now, datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    node.moves(12)
    assert node.spent() == pytest.approx(12)
    assert list(node.books.refused) == ["aws"]
    node.now = december
    assert node.spent() == 0
    assert node.books.refused == {}
    node.moves(1)
    assert node.spent() == pytest.approx(1)
    node.now = november
    assert node.spent() == pytest.approx(12)
    assert list(node.books.refused) == ["aws"]
    node.now = december
    assert node.spent() == pytest.approx(1)


def test_the_order_says_which_origin_and_until_when(node: Node) -> None:
    node.moves(9.99)
    node.books.check()
    assert node.books.orders == {"budgets": {}}
    node.moves(0.02)
    node.books.check()
    said = node.books.orders["budgets"]["aws"]
    assert "origin aws" in said
    assert "$" not in said
    assert "until 2026-12-01 00:00 UTC" in said


def test_a_budget_that_only_alerts_refuses_nothing(tmp_path: Path) -> None:
    node = Node(tmp_path, aws())
    node.moves(20)
    node.books.check()
    assert node.books.refused == {}
    assert node.metrics.own.get("egress_budget_exceeded", "aws") == 1


def test_a_higher_budget_lifts_the_order_and_a_removed_one_takes_its_gauges(node: Node) -> None:
    node.moves(20)
    node.books.check()
    node.books.configure([aws(budget=30, budget_action="refuse")])
    assert node.books.refused == {}
    assert node.metrics.own.get("egress_budget_dollars", "aws") == 30
    assert node.metrics.own.get("egress_month_dollars", "aws") == pytest.approx(20)
    node.books.configure([aws(budget=15, budget_action="refuse")])
    assert list(node.books.refused) == ["aws"]
    node.books.configure([aws(budget=0)])
    assert node.books.refused == {}
    assert gauges(node) == {"egress_month_dollars"}
    node.books.configure([])
    assert node.books.refused == {}
    assert gauges(node) == set()


def gauges(node: Node) -> set[str]:
    """What is shown, of whatever origin."""
    merged = node.metrics.merged()
    return {name for name in budgets.GAUGES if merged.series(name)}


def told(node: Node) -> list[tuple[str, int]]:
    with capture_logs() as lines:
        node.books.check()
    return [(line["event"], line["percent"]) for line in lines]


def test_the_log_tells_80_and_100_percent_once_a_month_also_over_restarts(node: Node) -> None:
    node.moves(7.9)
    assert told(node) == []
    node.moves(0.2)
    assert told(node) == [("budget is nearly spent", 80)]
    assert told(node) == []
    node.books.close()
    with capture_logs() as lines:
        node.start()
    assert lines == []
    node.moves(2)
    assert told(node) == [("budget is spent", 100)]
    node.moves(5)
    assert told(node) == []
    node.now = datetime(2026, 12, 2, tzinfo=UTC).timestamp()
    node.moves(8.5)
    assert told(node) == [("budget is nearly spent", 80)]


def test_another_budget_is_told_of_anew(node: Node) -> None:
    node.moves(11)
    assert told(node) == [("budget is spent", 100)]
    with capture_logs() as lines:
        node.books.configure([aws(budget=13)])
    assert [line["percent"] for line in lines] == [80]


def test_an_origin_without_a_price_has_no_account_and_no_file_is_written(tmp_path: Path) -> None:
    node = Node(tmp_path, OriginConfig(name="nas"))
    node.moves(5, origin="nas")
    node.books.check()
    node.books.close()
    assert not node.path.exists()


def test_a_price_that_comes_later_does_not_charge_what_was_free(tmp_path: Path) -> None:
    node = Node(tmp_path, aws(egress_price_per_gib=0.0, budget=0))
    node.moves(5)
    node.books.check()
    node.books.configure([aws()])
    node.workers[0][1].reprice({"aws": PRICE})
    node.moves(1)
    assert node.spent() == pytest.approx(1)
    assert node.books._ledger.account("2026-11", "aws").dollars == pytest.approx(1)


def test_a_price_that_is_taken_away_takes_nothing_that_was_spent(node: Node) -> None:
    node.moves(3)  # and no check has seen it
    node.books.configure([aws(egress_price_per_gib=0.0, budget=0)])
    entered = node.books._ledger.account("2026-11", "aws")
    assert entered.dollars == pytest.approx(3)  # a kill may come at any time
    node.moves(1)  # said by a worker only after the reload
    node.books.close()
    node.start()
    assert node.spent() == pytest.approx(4)


def test_a_node_without_prices_does_not_add_up_its_counters_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(tmp_path, aws(egress_price_per_gib=0.0, budget=0))
    asked: list[str] = []
    monkeypatch.setattr(node.metrics, "series", lambda name: asked.append(name) or {})
    node.books.check()
    assert asked == []
    node.books.configure([aws()])
    node.books.check()
    assert set(asked) == {"egress_dollars"}


def test_a_disk_that_takes_no_ledger_is_told_once(node: Node) -> None:
    node.path.with_name(f"{ledger.FILE}.new").mkdir()
    with capture_logs() as lines:
        for _ in range(3):
            node.moves(1)
            node.books.close()
    assert [line["event"] for line in lines] == ["the egress ledger cannot be written"]
    node.path.with_name(f"{ledger.FILE}.new").rmdir()
    node.books.close()
    node.start()
    assert node.spent() == pytest.approx(3)


def test_a_damaged_ledger_starts_from_what_is_known(node: Node) -> None:
    node.moves(3)
    node.books.close()
    node.path.write_text(node.path.read_text()[:30])
    with capture_logs() as lines:
        node.start()
    assert [line["log_level"] for line in lines] == ["error"]
    node.moves(2)
    assert node.spent() == pytest.approx(2)
