"""`gateway reload`: the running node reads its config file again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import typer

from gateway.cli.client import DEFAULT_URL, Admin, Json, ask
from gateway.cli.status import shown

# More than the node gives itself for reading, preparing and committing together.
TIMEOUT_S: Final = 60.0


def command(admin: Admin = DEFAULT_URL, as_json: Json = False) -> None:
    """Have a running node read its config file again: origins, mounts, rules and identities change on all workers at
    once, and no request fails over it. SIGHUP does the same.

    Exit 1 when it refuses (mistakes in the file, keys that change only with a restart): then nothing has changed.
    Exit 3 when no gateway answers."""
    answer = ask(admin, lambda client: client.post("/api/v1/reload", TIMEOUT_S))
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
        return
    for line in lines(answer["changed"]):
        typer.echo(line)


def lines(changed: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if not changed:
        yield "reloaded, nothing changed"
        return
    yield "reloaded"
    for section, difference in changed.items():
        for how, names in difference.items():
            listed = ", ".join(shown("", name) for name in names) if isinstance(names, list) else ""
            yield f"  {section} {how}" + (f": {listed}" if listed else "")
