"""Values that scenarios return, and the figures that they are judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loadtest.client import Outcome


@dataclass(frozen=True)
class Figure:
    """One promise: `measured` (None: it could not be) against `reach` (None: nothing was promised)."""

    what: str
    measured: float | None
    reach: float | None = None
    unit: str = "×"
    at_least: bool = False

    @property
    def ok(self) -> bool | None:
        if self.measured is None or self.reach is None:
            return None
        return self.measured >= self.reach if self.at_least else self.measured <= self.reach


@dataclass
class Result:
    """What one scenario found. `rows`: system → column → value, columns with their unit in their name."""

    scenario: str
    title: str
    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Series:
    """A system's rounds: CPU microseconds per request, and what the client saw."""

    cpu_us: list[float] = field(default_factory=list)
    p50_us: list[float] = field(default_factory=list)
    p99_us: list[float] = field(default_factory=list)
    requests_s: list[float] = field(default_factory=list)
    mib_s: list[float] = field(default_factory=list)
    generator_busy: list[float] = field(default_factory=list)

    def add(self, cpu_ns: int, outcome: Outcome) -> None:
        self.cpu_us.append(cpu_ns / 1000 / outcome.requests)
        self.p50_us.append(outcome.percentile(0.5) * 1e6)
        self.p99_us.append(outcome.percentile(0.99) * 1e6)
        self.requests_s.append(outcome.requests / outcome.seconds)
        self.mib_s.append(outcome.body_bytes / outcome.seconds / (1 << 20))
        self.generator_busy.append(outcome.generator_cpu_s / outcome.seconds)

    def row(self) -> dict[str, float]:
        low, high = min(self.cpu_us), max(self.cpu_us)
        return {
            "CPU µs/req": median(self.cpu_us),
            "min": low,
            "max": high,
            "p50 µs": median(self.p50_us),
            "p99 µs": median(self.p99_us),
            "req/s": median(self.requests_s),
            "MiB/s": median(self.mib_s),
            "generator busy": median(self.generator_busy),
        }


def ratio(over: Sequence[float], under: Sequence[float]) -> float | None:
    """The median of the rounds' own ratios: both sides of a round saw the same neighbours on the machine."""
    pairs = [a / b for a, b in zip(over, under, strict=False) if b]
    return median(pairs) if pairs else None
