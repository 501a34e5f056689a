"""The store by itself, as programs of their own: restart with a million blocks, space beyond the data.

They print sentences; a figure is read from them, and is not measured unless all that it needs are there. The
restart's time begins when the store is opened: the interpreter's start and imports are not in it.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from loadtest.bench import Bench
from loadtest.results import Figure, Result

SECONDS_MAX = 600
SHOWN_MAX = 300  # characters of a failed program's words


def numbers(output: str, wanted: Mapping[str, str]) -> dict[str, float]:
    """The first number that each pattern's group finds; empty unless all of them found one."""
    found = {label: re.search(pattern, output, re.DOTALL) for label, pattern in wanted.items()}
    values = {label: float(match.group(1)) for label, match in found.items() if match}
    return values if len(values) == len(wanted) else {}


def store(
    name: str, module: str, title: str, wanted: Mapping[str, str], figure: Figure, bench: Bench
) -> Result:
    """Runs `python -m module`; the figure is the largest of the numbers wanted."""
    result = Result(name, title)
    measured = None
    if importlib.util.find_spec(module) is None:
        result.notes.append(f"{module} is not there")
    else:
        done = subprocess.run(
            [sys.executable, "-m", module], capture_output=True, text=True, timeout=SECONDS_MAX, check=False
        )
        result.rows["store"] = numbers(done.stdout, wanted)
        measured = max(result.rows["store"].values(), default=None)
        if measured is None:
            result.notes.append(f"FAILED: {module}: {(done.stderr + done.stdout)[-SHOWN_MAX:]}")
    result.figures.append(replace(figure, measured=measured))
    return result


SCENARIOS: dict[str, Callable[[Bench], Result]] = {
    "restart": partial(
        store,
        "restart",
        "loadtest.store_restart",
        "Store opened with 1,000,000 blocks indexed: first hit",
        {
            "after a stop, s": r"after a clean stop:\s+first hit after ([\d.]+) s[^\n]* 1,000,000 blocks",
            "after kill -9, s": r"after kill -9:\s+first hit after ([\d.]+) s[^\n]* 1,000,000 blocks",
        },
        Figure("restart with 1,000,000 blocks: the store's first hit", None, 2.0, "s"),
    ),
    "space": partial(
        store,
        "space",
        "loadtest.store_space",
        "100,000 objects of 40 KiB: space beyond the data",
        {"beyond, %": r"100,000 objects of 40 KiB:[^\n]* = ([-\d.]+)%"},
        Figure("100,000 objects of 40 KiB: space beyond the data", None, 5.0, "%"),
    ),
}
