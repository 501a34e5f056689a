"""Which origins give out no more object data this month, because their budget is spent. The supervisor keeps the
accounts (`node/ledger.py`) and orders; every worker obeys here, where its requests leave.

Refused is what fetches object data: GET of an object, forwarded GETs of a version or a part, and SelectObjectContent.
Not refused: HEAD, LIST, tags and other documents (a few KB), writes, and copies that the origin makes by itself. A read
that has been begun goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.errors import BudgetSpent

# Of a GET on a key: these ask for the object itself, any other name for a document about it.
_OF_THE_OBJECT: Final = frozenset({"generation", "partnumber", "versionid", "x-id"})


class Budgets:
    """The orders that hold now, of one worker: origin → a sentence for the client. Outlives reloads."""

    def __init__(self) -> None:
        self._refused: Mapping[str, str] = {}

    def order(self, refused: Mapping[str, str]) -> None:
        """Replaces what held before."""
        self._refused = dict(refused)

    def refuses(self, origin: str) -> bool:
        return origin in self._refused

    def require(self, origin: str) -> None:
        """Raises BudgetSpent."""
        if self._refused and (sentence := self._refused.get(origin)) is not None:
            raise BudgetSpent(sentence)


def fetches_data(method: str, key: str, query: str) -> bool:
    """Whether an S3 call, as it is forwarded, brings object data. `query`: in canonical form."""
    if not key:
        return False
    names = [part.partition("=")[0].lower() for part in query.split("&") if part]
    if method == "POST":
        return "select" in names
    plain = all(name in _OF_THE_OBJECT or name.startswith("response-") for name in names)
    return method == "GET" and plain


__all__ = ["Budgets", "fetches_data"]
