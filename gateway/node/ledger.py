"""What each origin's egress has cost, month by month (calendar months, UTC). Pure but for `load` and `save`.

    <data_dir>/egress.json    {"version": 1, "months": {"2026-11": {"aws": {"dollars": …, "told": …, "told_of": …}}}}

Workers' counters begin at zero with each process; the supervisor's sum of them (`telemetry/exposition.py`) only grows
while it lives. So what is added is how much that sum has grown, and a node that starts anew goes on with what the file
says. Lost are at most: of a worker that is killed, its last quarter second; of a node that is killed, what came since
the file was written last, a few seconds.

Months are accounts of their own, and what is spent goes to the month that the clock says: a clock that is set back
goes on with the account that was there, one that was ahead for a while has opened one that nobody asks for.

The file is replaced whole, after an fsync of the new one. One that cannot be read is put aside as `egress.json.damaged`
and said so in one log line; the month then begins with what is known, nothing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any, Final

import structlog

log = structlog.get_logger()

FILE: Final = "egress.json"
# A year to look back on, and the current month.
MONTHS_MAX: Final = 13
_MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


class Damaged(ValueError):
    """The file is not what `Ledger.as_json` writes."""


@dataclass(slots=True)
class Account:
    """Of one origin in one month. `told`: the highest percentage of a budget of `told_of` dollars whose reaching the
    log has told."""

    dollars: float = 0.0
    told: float = 0.0
    told_of: float = 0.0


class Ledger:
    def __init__(self) -> None:
        self._months: dict[str, dict[str, Account]] = {}

    def account(self, month: str, origin: str) -> Account:
        """To be changed in place."""
        return self._months.setdefault(month, {}).setdefault(origin, Account())

    def as_json(self, month: str) -> str:
        """With the latest months; `month`, the current one, among them whatever the clock has said before."""
        kept = {*sorted(self._months, reverse=True)[: MONTHS_MAX - 1], month}
        months = {
            name: {origin: asdict(account) for origin, account in sorted(accounts.items())}
            for name, accounts in sorted(self._months.items())
            if name in kept
        }
        return json.dumps({"version": 1, "months": months}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Ledger:
        """Raises Damaged."""
        made = cls()
        try:
            raw = json.loads(text)
            if raw["version"] != 1:
                raise Damaged("of another version")
            for month, accounts in raw["months"].items():
                if not _MONTH.fullmatch(month):
                    raise Damaged("a month that is none")
                made._months[month] = {origin: _account(fields) for origin, fields in accounts.items()}
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
            raise Damaged(str(error)) from None
        return made


def _account(fields: Mapping[str, Any]) -> Account:
    # `bytes` was kept once and read by nobody.
    account = Account(**{name: value for name, value in fields.items() if name != "bytes"})
    for value in asdict(account).values():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value) or value < 0:
            raise Damaged("an amount that is none")
    return account


def month_of(now: float) -> str:
    """`now`: seconds since the epoch."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m")


def end_of_month(now: float) -> datetime:
    """The first moment of the next one."""
    day = datetime.fromtimestamp(now, UTC)
    year, month = divmod(12 * day.year + day.month, 12)
    return datetime(year, month + 1, 1, tzinfo=UTC)


def load(path: Path) -> Ledger:
    """Never raises: a node without its books serves all the same."""
    try:
        return Ledger.from_json(path.read_text())
    except FileNotFoundError:
        return Ledger()
    except (OSError, UnicodeDecodeError, Damaged) as error:
        aside = path.with_name(f"{path.name}.damaged")
        try:
            os.replace(path, aside)
        except OSError:
            aside = path
        log.error("the egress ledger is damaged, it begins anew", file=str(aside), reason=str(error))
        return Ledger()


def save(path: Path, text: str) -> None:
    """Raises OSError; the old file is then still there."""
    fresh = path.with_name(f"{path.name}.new")
    with open(fresh, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


__all__ = ["FILE", "Account", "Damaged", "Ledger", "end_of_month", "load", "month_of", "save"]
