"""The store by itself, as programs of their own: restart with a million blocks, space beyond the data.

Each prints a JSON object as its last line; the figure is read from it.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from loadtest.bench import Bench
from loadtest.results import Figure, Result

SECONDS_MAX = 600


def last_json(output: str) -> dict[str, Any]:
    """The last line that is a JSON object; empty when there is none."""
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if isinstance(said, dict):
                return said
    return {}


def store(module: str, title: str, keys: tuple[str, ...], figure: Figure, bench: Bench) -> Result:
    """Runs `python -m module`; the measured value is under the first of `keys` that its answer has."""
    result = Result(module.rpartition("_")[2], title)
    measured = None
    if importlib.util.find_spec(module) is None:
        result.notes.append(f"{module} is not there")
    else:
        done = subprocess.run(
            [sys.executable, "-m", module], capture_output=True, text=True, timeout=SECONDS_MAX, check=False
        )
        said = last_json(done.stdout)
        measured = next((float(said[key]) for key in keys if key in said), None)
        numbers = {key: float(value) for key, value in said.items() if isinstance(value, int | float)}
        result.rows["store"] = numbers
        if measured is None:
            result.notes.append(f"{module}: nothing measured: {(done.stderr or done.stdout)[-300:]}")
    result.figures.append(Figure(figure.what, measured, figure.reach, figure.unit))
    return result


SCENARIOS: dict[str, Callable[[Bench], Result]] = {
    "restart": partial(
        store,
        "loadtest.store_restart",
        "Restart with 1,000,000 blocks indexed",
        ("ready_s",),
        Figure("restart with 1,000,000 blocks: ready", None, 2.0, "s"),
    ),
    "space": partial(
        store,
        "loadtest.store_space",
        "100,000 objects of 40 KiB: space beyond the data",
        ("overhead_percent",),
        Figure("100,000 objects of 40 KiB: space beyond the data", None, 5.0, "%"),
    ),
}
