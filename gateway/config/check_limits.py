"""Mistakes in how much of an origin may be used: its rate of requests, its budget."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.config.mistakes import Mistake
from gateway.config.schema import Config, OriginConfig


def limit_mistakes(config: Config) -> Iterator[Mistake]:
    for number, origin in enumerate(config.origins):
        for name, text in (*_of_rate(origin, config.workers), *_of_budget(origin)):
            yield Mistake(f"origins[{number}].{name}", text)


def _of_rate(origin: OriginConfig, workers: int) -> Iterator[tuple[str, str]]:
    """A worker takes its share of the rate. One that has to wait longer than the deadline for its next request could
    only ever carry out the first."""
    if not origin.request_limit or origin.deadline <= 0:
        return
    between_s = workers / origin.request_limit
    if between_s >= origin.deadline:
        rate = f"lets each of {workers} workers begin one request every {between_s:.3g} s"
        yield (
            "request_limit",
            f"{rate}, and none may wait longer than the deadline of {origin.deadline:.3g} s",
        )


def _of_budget(origin: OriginConfig) -> Iterator[tuple[str, str]]:
    if origin.budget and not origin.egress_price_per_gib:
        yield "budget", "needs egress_price_per_gib: without a price nothing is ever spent"
    if origin.budget_action != "alert" and not origin.budget:
        yield "budget_action", "is of no use without budget"


__all__ = ["limit_mistakes"]
