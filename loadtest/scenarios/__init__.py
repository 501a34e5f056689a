"""One question each. A scenario is a function `(Bench) -> Result`; `ALL` names them in the order they run."""

from __future__ import annotations

from collections.abc import Callable

from loadtest.bench import Bench
from loadtest.results import Result
from loadtest.scenarios import far, local, memory, pages, store, workers

ALL: dict[str, Callable[[Bench], Result]] = {
    **local.SCENARIOS,
    **workers.SCENARIOS,
    **far.SCENARIOS,
    **pages.SCENARIOS,
    **memory.SCENARIOS,
    **store.SCENARIOS,
}
