"""`gateway` as a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Ended(NamedTuple):
    status: int
    out: str
    err: str


def gateway(*arguments: object, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Ended:
    """Runs to its end, in this environment without what it has for gateways."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    command = [sys.executable, "-m", "gateway.cli.main", *map(str, arguments)]
    done = subprocess.run(
        command, env={**kept, **(env or {})}, cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr)
