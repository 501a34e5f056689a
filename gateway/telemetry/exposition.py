"""All workers as one: adding up their snapshots, and the page that Prometheus scrapes.

A worker's snapshot replaces its former one. When the worker dies its last counters go into a base that stays,
so what is shown never goes backwards while the node lives; at most the last quarter second of the dead
worker's counts of requests is lost, and the last second of others. Its gauges go with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import isclose
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gateway.telemetry.metrics import Metrics
from gateway.telemetry.names import PREFIX, SECONDS, TABLE
from gateway.telemetry.names import Metric as Row

Snapshot = Mapping[str, Any]
Labels = tuple[str, ...]


class Merged:
    """The sum of snapshots. What is not in the table is passed over."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, Labels], float] = {}
        self.histograms: dict[tuple[str, Labels], tuple[list[int], float]] = {}

    def take(self, snapshot: Snapshot, *, gauges: bool = True) -> None:
        """Adds one snapshot; without its gauges when its worker is gone."""
        for name, labels, value in snapshot.get("values", ()):
            row = TABLE.get(name)
            if row is None or row.kind == "histogram" or len(row.labels) != len(labels):
                continue
            if row.kind == "counter" or gauges:
                self._add(row, (name, tuple(labels)), value)
        for name, labels, counts, total in snapshot.get("histograms", ()):
            series = (name, tuple(labels))
            known, known_total = self.histograms.get(series, ([0] * len(counts), 0.0))
            self.histograms[series] = [a + b for a, b in zip(known, counts, strict=True)], known_total + total

    def _add(self, row: Row, series: tuple[str, Labels], value: float) -> None:
        if row.merge == "max":
            self.values[series] = max(self.values.get(series, value), value)
        else:
            self.values[series] = self.values.get(series, 0) + value

    def keep_up(self, before: Merged) -> None:
        """A sum of fractions depends in its last digit on the order of adding, which changes as workers come and go.
        To Prometheus a counter that goes back by so little began anew at 0."""
        for series, value in before.values.items():
            if TABLE[series[0]].kind == "counter" and _a_digit_less(self.values.get(series, 0), value):
                self.values[series] = value
        for series, (_, total) in before.histograms.items():
            counts, now = self.histograms.get(series, ([], 0.0))
            if _a_digit_less(now, total):
                self.histograms[series] = counts, total

    def as_snapshot(self) -> dict[str, Any]:
        return {
            "values": [[name, [*labels], value] for (name, labels), value in self.values.items()],
            "histograms": [[name, [*labels], *both] for (name, labels), both in self.histograms.items()],
        }

    def series(self, name: str) -> dict[Labels, float]:
        return {labels: value for (known, labels), value in self.values.items() if known == name}

    def total(self, name: str, *labels: str) -> float:
        """The sum over all series of `name` whose first labels are these."""
        found = self.series(name).items()
        return sum(value for known, value in found if known[: len(labels)] == labels)


def _a_digit_less(now: float, before: float) -> bool:
    return now < before and isclose(now, before, rel_tol=1e-9)


class NodeMetrics:
    """Of the whole node: live workers, dead ones, and the supervisor's `own`."""

    def __init__(self) -> None:
        self.own = Metrics()
        self._base = Merged()
        self._shown = Merged()
        self._live: dict[int, Snapshot] = {}

    def update(self, slot: int, snapshot: Snapshot) -> None:
        self._live[slot] = snapshot

    def ended(self, slot: int) -> None:
        """The worker of this slot is gone."""
        if (last := self._live.pop(slot, None)) is not None:
            self._base.take(last, gauges=False)

    def series(self, name: str) -> dict[Labels, float]:
        """Of one counter, without adding up all the others."""
        found = self._base.series(name)
        for snapshot in self._live.values():
            for known, labels, value in snapshot.get("values", ()):
                if known == name:
                    found[tuple(labels)] = found.get(tuple(labels), 0) + value
        return found

    def merged(self) -> Merged:
        now = Merged()
        for snapshot in (self._base.as_snapshot(), self.own.snapshot(), *self._live.values()):
            now.take(snapshot)
        now.keep_up(self._shown)
        self._shown = now
        return now


class _Collector(Collector):
    def __init__(self, node: NodeMetrics) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        return families(self._node.merged())


def families(merged: Merged) -> Iterator[Metric]:
    """In the table's order. A row without labels is there from the start, at 0: alerts need no `absent`."""
    for row in TABLE.values():
        if row.kind == "histogram":
            yield _histogram(row, merged)
            continue
        make = CounterMetricFamily if row.kind == "counter" else GaugeMetricFamily
        family = make(PREFIX + row.name, row.help, labels=row.labels)
        series = merged.series(row.name) or ({} if row.labels else {(): 0.0})
        for labels, value in sorted(series.items()):
            family.add_metric(labels, value)
        yield family


def _histogram(row: Row, merged: Merged) -> Metric:
    family = HistogramMetricFamily(PREFIX + row.name, row.help, labels=row.labels)
    bounds = [*map(floatToGoString, SECONDS), "+Inf"]
    for (name, labels), (counts, total) in sorted(merged.histograms.items()):
        if name == row.name:
            family.add_metric(labels, [*zip(bounds, _cumulative(counts), strict=True)], total)
    return family


def _cumulative(counts: Iterable[int]) -> Iterator[float]:
    reached = 0
    for count in counts:
        reached += count
        yield reached


class Exposition:
    """The scrape page of one node."""

    def __init__(self, node: NodeMetrics) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(node))

    def page(self) -> bytes:
        return generate_latest(self._registry)


__all__ = ["Exposition", "Merged", "NodeMetrics", "families"]
