"""Bytes that left an origin, or did not have to, in dollars at the price of their time: each growth of a counter of
bytes is counted once more at the price that holds then, so a price that is changed does not rewrite the past."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.telemetry.metrics import Metrics

GIB: Final = 2**30


class Money:
    """Of one worker."""

    def __init__(self, metrics: Metrics, prices: Mapping[str, float]) -> None:
        """`prices`: dollars per GiB by origin."""
        self._metrics = metrics
        self._prices = dict(prices)
        self._counted: dict[tuple[str, tuple[str, ...]], float] = {}

    def reprice(self, prices: Mapping[str, float]) -> None:
        """What was moved until now is still counted at the old prices."""
        self.publish()
        self._prices = dict(prices)
        self.publish()

    def publish(self) -> None:
        """Before each report."""
        for origin, price in self._prices.items():
            self._metrics.add("egress_dollars", self._grown("origin_bytes", origin, "in") * price, origin)
            self._metrics.add(
                "egress_saved_dollars", self._grown("egress_saved_bytes", origin) * price, origin
            )

    def _grown(self, name: str, *labels: str) -> float:
        """By how many GiB a counter has grown since it was asked for last."""
        total = self._metrics.get(name, *labels)
        before = self._counted.get((name, labels), 0.0)
        self._counted[name, labels] = total
        return (total - before) / GIB


__all__ = ["GIB", "Money"]
