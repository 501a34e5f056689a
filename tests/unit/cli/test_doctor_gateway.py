"""The doctor finds nothing wrong with this gateway, asked as users ask it: by the command and the environment."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.targets import Target


def test_a_gateway_over_a_directory_passes_every_check(over_file: Target) -> None:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GATEWAY_"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli.main", "doctor", "--bucket", "data"],
        env=inherited | over_file.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = [line.split(maxsplit=1)[0] for line in done.stdout.splitlines()[:-1]]
    assert set(outcomes) <= {"ok", "skipped"}
    assert outcomes.count("ok") > 50
    assert ", 0 failed, " in done.stdout
