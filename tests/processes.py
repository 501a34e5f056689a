"""Child processes of the tests: free ports, captured output, waiting for something that can be observed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def free_port() -> int:
    """A port that was free a moment ago; whoever binds it must do so at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, probe: Callable[[], T | None], timeout_s: float = 20.0) -> T:
    """Polls until `probe` gives something true; an AssertionError with `what` after `timeout_s`. What takes long is
    asked for less often: probes take time from what they wait for."""
    began = time.monotonic()
    deadline = began + timeout_s
    while True:
        if result := probe():
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(min(0.1, max(0.02, (time.monotonic() - began) / 10)))


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Child:
    """One subprocess in its own session, so that killing it takes its children along. It writes into a
    file."""

    def __init__(self, argv: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [str(part) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_ready(self, what: str, probe: Callable[[], object], timeout_s: float = 90.0) -> None:
        def ready() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"{what} ended with {self.process.returncode}:\n{self.output()[-4000:]}")
            return bool(probe())

        try:
            wait_for(f"{what} is ready", ready, timeout_s)
        except AssertionError:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL for the whole session, then reaps the child."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()

    def terminate(self, timeout_s: float = 15.0) -> int:
        """SIGTERM for the child alone; its exit status. SIGKILL for all of it when it takes too long."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
