"""What a run leaves behind: tables on the terminal, `results.json`, `results.png`."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtest import netns
from loadtest.peers import find
from loadtest.results import Figure, Result

VERDICTS = {True: "[green]reached[/]", False: "[red]missed[/]", None: "–"}


def shown(value: float | None) -> str:
    """Three significant digits, thousands whole."""
    if value is None:
        return "not measured"
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def machine() -> dict[str, Any]:
    """Where the figures are from; a figure without it says nothing."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": f"{platform.python_version()} in {sys.base_prefix}",
        "congestion_control": netns.congestion_control(),
        "load_average": os.getloadavg(),
        "nginx": _first_line("nginx", "-v"),
        "rclone": _first_line("rclone", "version"),
        "commit": _first_line("git", "rev-parse", "--short", "HEAD"),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _first_line(program: str, *arguments: str) -> str:
    path = find(program)
    if path is None:
        return "none"
    said = subprocess.run([str(path), *arguments], capture_output=True, text=True, timeout=10, check=False)
    return (said.stdout or said.stderr).strip().partition("\n")[0]


def print_result(console: Console, result: Result) -> None:
    columns = list(dict.fromkeys(column for row in result.rows.values() for column in row))
    table = Table(title=f"{result.title}  [{result.scenario}, {result.seconds:.0f} s]", title_justify="left")
    table.add_column("system")
    for column in columns:
        table.add_column(column, justify="right")
    for name, row in result.rows.items():
        table.add_row(name, *(shown(row[column]) if column in row else "" for column in columns))
    if result.rows:
        console.print(table)
    for figure in result.figures:
        unit = figure.unit if figure.measured is not None else ""
        console.print(f"  {figure.what}: [bold]{shown(figure.measured)}[/] {unit}", highlight=False)
    for note in result.notes:
        console.print(f"  note: {note}", highlight=False, markup=False)


def print_figures(console: Console, figures: Sequence[Figure]) -> None:
    table = Table(title="Figures", title_justify="left")
    for column in ("what", "measured", "reach", ""):
        table.add_column(column, justify="left" if column in ("what", "") else "right")
    for figure in figures:
        if figure.reach is not None:
            sign = "≥" if figure.at_least else "≤"
            measured = shown(figure.measured) + (f" {figure.unit}" if figure.measured is not None else "")
            table.add_row(
                figure.what, measured, f"{sign} {shown(figure.reach)} {figure.unit}", VERDICTS[figure.ok]
            )
    console.print(table)


def write_json(path: Path, results: Sequence[Result], about: dict[str, Any]) -> None:
    listed = []
    for result in results:
        said = asdict(result)
        said["figures"] = [{**asdict(figure), "ok": figure.ok} for figure in result.figures]
        listed.append(said)
    path.write_text(json.dumps({"machine": about, "results": listed}, indent=1))


def read_json(path: Path) -> tuple[list[Result], dict[str, Any]]:
    """The inverse of `write_json`, to draw a plot again."""
    said = json.loads(path.read_text())
    results = []
    for item in said["results"]:
        figures = [
            Figure(**{name: value for name, value in figure.items() if name != "ok"})
            for figure in item["figures"]
        ]
        results.append(Result(**{**item, "figures": figures}))
    return results, said["machine"]
