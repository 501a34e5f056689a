"""Bytes in dollars, each at the price of its time."""

from __future__ import annotations

import pytest

from gateway.telemetry.metrics import Metrics
from gateway.telemetry.money import GIB, Money


def test_spent_and_saved_are_the_bytes_at_their_prices() -> None:
    metrics = Metrics()
    money = Money(metrics, {"aws": 0.09, "nas": 0.0})
    for origin in ("aws", "nas"):
        metrics.add("origin_bytes", 2 * GIB, origin, "in")
        metrics.add("origin_bytes", 50 * GIB, origin, "out")
        metrics.add("egress_saved_bytes", 10 * GIB, origin)
    for _ in range(3):
        money.publish()
    assert metrics.get("egress_dollars", "aws") == pytest.approx(0.18)
    assert metrics.get("egress_saved_dollars", "aws") == pytest.approx(0.9)
    assert metrics.get("egress_dollars", "nas") == metrics.get("egress_saved_dollars", "nas") == 0


def test_a_new_price_does_not_change_the_past() -> None:
    metrics = Metrics()
    money = Money(metrics, {"aws": 0.1})
    metrics.add("origin_bytes", GIB, "aws", "in")
    money.reprice({"aws": 0.02, "gcs": 1.0})
    metrics.add("origin_bytes", GIB, "aws", "in")
    metrics.add("origin_bytes", GIB, "gcs", "in")
    money.publish()
    assert metrics.get("egress_dollars", "aws") == pytest.approx(0.12)
    assert metrics.get("egress_dollars", "gcs") == pytest.approx(1.0)
