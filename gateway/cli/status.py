"""`gateway status`: what a running node says of itself, whatever keys this version of it has."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import typer

from gateway.cli.client import DEFAULT_URL, Admin, Json, ask

COLUMNS_MAX: Final = 8


def command(admin: Admin = DEFAULT_URL, as_json: Json = False) -> None:
    """What a running node does: exit 3 when none answers.

    GATEWAY_ADMIN_TOKEN is the token of a node whose admin address is not on loopback."""
    status = ask(admin, lambda client: client.get("/api/v1/status"))
    if as_json:
        typer.echo(json.dumps(status, indent=2))
    elif sys.stdout.isatty():
        _print_tables(status)
    else:
        for path, value in flattened(status):
            typer.echo(f"{path}: {value}")


def flattened(value: Any, path: str = "", key: str = "") -> Iterator[tuple[str, str]]:
    """Every single value with its path, such as `workers[0].pid`."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from flattened(item, f"{path}.{name}" if path else str(name), str(name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from flattened(item, f"{path}[{number}]", key)
    else:
        yield path, shown(key, value)


def shown(key: str, value: Any) -> str:
    """With the unit that the key's name tells."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        if key == "bytes" or key.endswith("_bytes") or key.startswith("bytes_"):
            return human_bytes(value)
        if key.endswith(("_seconds", "_s")):
            return human_seconds(value)
        if key == "dollars" or key.endswith("_dollars"):
            return f"${value:,.2f}"
        return str(value) if key.endswith("pid") else f"{round(value, 4):,}"
    return "".join(char if char.isprintable() else "?" for char in str(value))  # one line, no escape codes


def human_bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} PiB"


def human_seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _print_tables(status: Mapping[str, Any]) -> None:
    """One table of single values, then one for each list of tables."""
    from rich.console import Console
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text  # plain cells: what looks like markup in them is none

    console = Console(highlight=False)
    lists = {name: value for name, value in status.items() if _is_rows(value)}
    summary = Table(show_header=False, box=None, pad_edge=False)
    summary.add_column(style="bold")
    summary.add_column(overflow="fold")
    for path, value in flattened({name: value for name, value in status.items() if name not in lists}):
        summary.add_row(_words(path), Text(value))
    console.print(summary)
    for name, rows in lists.items():
        columns = list(dict.fromkeys(path for row in rows for path, _ in flattened(row)))
        # What is null in one row and a table in another has its columns by the latter.
        columns = [path for path in columns if not any(other.startswith(f"{path}.") for other in columns)]
        lines = [[dict(flattened(row)).get(column, "") for column in columns] for row in rows]
        header = [_words(column) for column in columns]
        if len(columns) > COLUMNS_MAX:  # too wide for a terminal: entries side by side instead
            header, *lines = [list(line) for line in zip(header, *lines, strict=True)]
        table = Table(title=_words(name), title_justify="left", title_style="bold", box=None, pad_edge=False)
        for text in header:
            table.add_column(Text(text), overflow="fold")
        for line in lines:
            table.add_row(*map(Text, line))
        console.print()
        console.print(table)
    for name, spent, budget in budgets(status):
        console.print()
        console.print(Text(f"{name}: {shown('dollars', spent)} of {shown('dollars', budget)} this month"))
        console.print(
            ProgressBar(budget, min(spent, budget), 60, complete_style="green", finished_style="red")
        )


def budgets(status: Mapping[str, Any]) -> Iterator[tuple[str, float, float]]:
    """(origin, spent, budget) in dollars, of the origins that have one."""
    for origin in status.get("origins", ()):
        month = origin.get("month") or {}
        if month.get("budget_dollars"):
            yield shown("name", origin.get("name")), month["dollars"], month["budget_dollars"]


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _words(path: str) -> str:
    return path.replace("_", " ").replace(".", " ")
