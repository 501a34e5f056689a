"""The supervisor's eye on money: adds what workers counted to the ledger, says when a budget is used up, and gives the
order to refuse. The workers' side is `origins/budgets.py`.

    workers' counters ─ every 250 ms ─▶ sum ─ every CHECK_S ─▶ ledger ─▶ gauges, log lines at 80 % and 100 %
                                                                 └─ over budget, `refuse` ─▶ order to all workers

The order is given when it changes, and no message of that kind is dropped; a worker that starts gets the one that holds
with its config. It ends with the month, or when the config says so.

By how much a budget can be overrun: by what arrives within the second between a worker's counting and the order, by
the reads that are open then (ranged GETs of a run, 8 MiB, of which a worker has `FETCHES_MAX`, 32, and as many that go
straight through to readers; and bodies of objects that no rule lets be cached, forwarded or copied, to their ends), and
after kill -9 by what the ledger lost. What is received counts, also lists and other documents; headers do not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from gateway.aio import Threads
from gateway.config.schema import OriginConfig
from gateway.node import ledger
from gateway.telemetry.exposition import NodeMetrics

log = structlog.get_logger()

CHECK_S: Final = 0.5
# What a killed node may forget. The file is a few hundred bytes, but each writing is an fsync.
SAVE_S: Final = 2.0
PERCENT_TOLD: Final = (100, 80)
GAUGES: Final = ("egress_month_dollars", "egress_budget_dollars", "egress_budget_exceeded")


class Bookkeeper:
    """Of one node. `refused`: origin → a sentence for its clients."""

    def __init__(
        self,
        path: Path,
        metrics: NodeMetrics,
        origins: Iterable[OriginConfig],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.refused: Mapping[str, str] = {}
        self._path = path
        self._metrics = metrics
        self._clock = clock
        self._origins: tuple[OriginConfig, ...] = ()
        self._ledger = ledger.load(path)
        self._seen: dict[str, float] = {}  # origin → the sum of dollars that is in the ledger
        self._saved = self._text()
        self._save_failed = False
        self.configure(origins)

    def configure(self, origins: Iterable[OriginConfig]) -> None:
        """At the start and after a reload. What was spent until now is entered even if nothing has a price any more."""
        self._enter()
        for gauge in GAUGES:
            self._metrics.own.drop(gauge)
        self._origins = tuple(origin for origin in origins if origin.egress_price_per_gib)
        self.check()

    @property
    def orders(self) -> dict[str, Any]:
        """The message to workers."""
        return {"budgets": dict(self.refused)}

    def check(self) -> None:
        """Brings ledger, gauges and `refused` up to now."""
        if self._origins:
            self._enter()
        now = self._clock()
        month = ledger.month_of(now)
        refused = {}
        for origin in self._origins:
            account = self._ledger.account(month, origin.name)
            over = bool(origin.budget) and account.dollars >= origin.budget
            self._show(origin, account, over)
            self._tell(origin, account, month)
            if over and origin.budget_action == "refuse":
                refused[origin.name] = sentence(origin, now)
        self.refused = refused

    def _enter(self) -> None:
        """How much the sums have grown goes to the ledger. Those of origins without a price do not grow."""
        month = ledger.month_of(self._clock())
        for (name,), total in self._metrics.series("egress_dollars").items():
            grown = total - self._seen.get(name, 0.0)
            self._seen[name] = total
            if grown > 0:
                self._ledger.account(month, name).dollars += grown

    def _show(self, origin: OriginConfig, account: ledger.Account, over: bool) -> None:
        own = self._metrics.own
        own.set("egress_month_dollars", account.dollars, origin.name)
        if origin.budget:
            own.set("egress_budget_dollars", origin.budget, origin.name)
            own.set("egress_budget_exceeded", int(over), origin.name)

    def _tell(self, origin: OriginConfig, account: ledger.Account, month: str) -> None:
        """Once a month for each percentage of each budget, also over restarts."""
        if not origin.budget:
            return
        if account.told_of != origin.budget:
            account.told, account.told_of = 0.0, origin.budget
        reached = next((p for p in PERCENT_TOLD if account.dollars * 100 >= origin.budget * p), 0)
        if reached > account.told:
            account.told = reached
            log.warning(
                "budget is spent" if reached >= 100 else "budget is nearly spent",
                origin=origin.name,
                percent=reached,
                month=month,
                spent_dollars=round(account.dollars, 2),
                budget_dollars=origin.budget,
                action=origin.budget_action,
            )

    async def keep(self, tell: Callable[[dict[str, Any]], None]) -> None:
        """Until cancelled. `tell` brings a message to every worker, also to those that start later; it is given the
        one that holds again and again."""
        threads = Threads("ledger", 1)
        due = time.monotonic() + SAVE_S
        try:
            while True:
                await asyncio.sleep(CHECK_S)
                self.check()
                tell(self.orders)
                if time.monotonic() >= due:
                    due = time.monotonic() + SAVE_S
                    await threads.run(self._save, self._text())
        finally:
            threads.close()

    def close(self) -> None:
        """With the last that workers said."""
        self._enter()
        self.check()
        self._save(self._text())

    def _text(self) -> str:
        return self._ledger.as_json(ledger.month_of(self._clock()))

    def _save(self, text: str) -> None:
        if text == self._saved:
            return
        try:
            ledger.save(self._path, text)
        except OSError as error:
            if not self._save_failed:
                log.error("the egress ledger cannot be written", file=str(self._path), reason=error.strerror)
            self._save_failed = True
        else:
            self._saved, self._save_failed = text, False


def sentence(origin: OriginConfig, now: float) -> str:
    """For clients: how much money it is, is the operator's business."""
    until = ledger.end_of_month(now).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"The budget of origin {origin.name} for this month is spent: only data that is in the cache is served until "
        f"{until}."
    )


__all__ = ["Bookkeeper", "sentence"]
