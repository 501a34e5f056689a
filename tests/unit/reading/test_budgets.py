"""What a spent budget refuses is said before the head of an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.cache.fills import Source
from gateway.errors import BudgetSpent
from gateway.model import Remote
from gateway.objects.revalidate import Wanted
from gateway.origins.budgets import Budgets
from gateway.origins.limits import Limits
from gateway.origins.mirror import Mirror, Place
from tests.unit.cache.harness import MIB
from tests.unit.origins.dict_origin import DictOrigin, etag_of
from tests.unit.reading.harness import Bench, bench, data_of

BODY = data_of(1, 3 * MIB)


class Paid(DictOrigin):
    def __init__(self, name: str, budgets: Budgets, **objects: bytes) -> None:
        super().__init__(name, {"b": objects})
        self.limits = Limits(name, 1, 60, budgets=budgets)


@dataclass
class Moving:
    """A mount on its way from one cloud to another: `moved` is at the new one, `k` still at the old."""

    bench: Bench
    budgets: Budgets
    old: Paid
    mirror: Mirror

    async def require(self, key: str, start: int = 0, stop: int = len(BODY)) -> None:
        """Raises BudgetSpent."""
        source = Source(self.mirror, Remote("b", key))  # type: ignore[arg-type]
        entry = await self.bench.entry(key, Wanted(start // MIB, (stop - 1) // MIB))
        await self.bench.settled()
        await self.bench.reads.require_affordable(entry, source, start, stop)


@asynccontextmanager
async def moving(directory: Path) -> AsyncIterator[Moving]:
    budgets = Budgets()
    new, old = Paid("new", budgets, moved=BODY), Paid("old", budgets, k=BODY)
    places: list[Any] = [Place(new, "b"), Place(old, "b")]  # type: ignore[arg-type]
    async with bench(directory) as b:
        for key in ("k", "moved"):
            b.origin.objects[key] = (BODY, etag_of(BODY))
        yield Moving(b, budgets, old, Mirror("mirror:data", places))


async def test_what_is_still_at_a_mirror_whose_budget_is_spent_is_refused(tmp_path: Path) -> None:
    async with moving(tmp_path) as m:
        await m.require("k", 0, MIB)
        await m.require("k")
        m.budgets.order({"old": "It is spent."})
        await m.require("k", 5, MIB)
        with pytest.raises(BudgetSpent):
            await m.require("k")


async def test_what_has_been_moved_is_read_though_the_mirrors_budget_is_spent(tmp_path: Path) -> None:
    async with moving(tmp_path) as m:
        m.budgets.order({"old": "It is spent."})
        await m.require("moved")


async def test_a_version_that_may_be_read_anywhere_wants_every_budget(tmp_path: Path) -> None:
    """What was read is replaced at the mount's own place meanwhile; a read that began goes on at the mirror."""
    async with moving(tmp_path) as m:
        await m.require("k", 0, MIB)
        m.mirror.own.origin.buckets_["b"]["k"] = b"another"  # type: ignore[attr-defined]
        m.budgets.order({"old": "It is spent."})
        with pytest.raises(BudgetSpent):
            await m.require("k")


async def test_what_is_all_here_asks_nobody(tmp_path: Path) -> None:
    async with moving(tmp_path) as m:
        assert await m.bench.read("k") == BODY
        m.budgets.order({"old": "It is spent.", "new": "It is spent."})
        await m.require("k")
        assert m.old.asked["head"] == 0
