"""Running stock clients that live in environments of their own, as programs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.stores import venv_program
from tests.targets import Target
from tests.whole import lacking

SCRIPTS = Path(__file__).parent / "scripts"


def program(venv: str, name: str) -> Path:
    path = venv_program(venv, name)
    if not path.exists():
        lacking(f"no {name} in .venvs/{venv}: `make test` installs it")
    return path


def run(target: Target, *argv: str | Path, environment: dict[str, str] | None = None) -> str:
    """The program's standard output; a failure of the test when it does not exit with 0."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    done = subprocess.run(
        [str(part) for part in argv],
        env={**inherited, **target.environment(), **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def run_script(target: Target, venv: str, script: str, *arguments: str) -> str:
    return run(target, program(venv, "python"), SCRIPTS / script, *arguments)
