"""What a scenario works with: cores, a directory, the systems it asked for, and fair measuring."""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from loadtest import peers
from loadtest.client import Generator, gets
from loadtest.procs import Cores, Server, StartError
from loadtest.results import Result, Series
from loadtest.signing import Signer

SYSTEMS = ("gateway", "nginx", "rclone", "direct")
SETTLE_S_MAX = 5.0
SETTLE_STEP_S = 0.1
SETTLE_NS = 2_000_000  # CPU within a step that still counts as rest: timers and metrics
ROUND_S_MAX = 120.0


@dataclass
class Bench:
    """One run of the harness. `quick`: fewer rounds and smaller sets, for a first look."""

    work: Path
    cores: Cores
    quick: bool
    systems: tuple[str, ...] = SYSTEMS
    seed: int = 20260101
    _places: int = field(default=0)

    @property
    def rounds(self) -> int:
        return 3 if self.quick else 7

    def scaled(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    @contextlib.contextmanager
    def place(self) -> Iterator[Path]:
        """A directory of its own for what a scenario starts, removed after."""
        self._places += 1
        path = self.work / f"{self._places:03d}"
        path.mkdir(mode=0o755)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def start(
        self, stack: ExitStack, result: Result, starters: dict[str, Callable[[], Server]]
    ) -> dict[str, Server]:
        """Starts those of the systems that this run wants; one that does not start is a note, not an end."""
        started: dict[str, Server] = {}
        for name, starter in starters.items():
            if name.split()[0] not in self.systems:
                continue
            try:
                started[name] = stack.enter_context(starter())
            except StartError as error:
                result.notes.append(f"{name}: not measured, {str(error).splitlines()[0]}")
                print(f"  {error}", flush=True)
        return started

    def shuffled(self, keys: Sequence[str], count: int, salt: int) -> list[str]:
        """`count` of the keys in random order, each as often as any other (± 1)."""
        chosen = [keys[at % len(keys)] for at in range(count)]
        random.Random(self.seed + salt).shuffle(chosen)
        return chosen


def signer_for(server: Server) -> Signer:
    return Signer(peers.KEYS, f"127.0.0.1:{server.port}")


def settle(server: Server) -> None:
    """Waits until the server rests, so that work it put off is counted where it was caused."""
    deadline = time.monotonic() + SETTLE_S_MAX
    before = server.cpu_ns()
    while time.monotonic() < deadline:
        time.sleep(SETTLE_STEP_S)
        now = server.cpu_ns()
        if now - before < SETTLE_NS:
            return
        before = now


class Meter:
    """One system under one kind of load, round after round."""

    def __init__(self, server: Server, connections: int) -> None:
        self.server = server
        self.series = Series()
        self._signer = signer_for(server)
        self._connections = connections

    def warm(self, keys: Sequence[str]) -> None:
        """Reads every key and compares every byte, twice: the second time from the cache."""
        with Generator(self.server.port, self._connections) as generator:
            for _ in range(2):
                generator.run(gets(self._signer, peers.BUCKET, keys), seconds_max=ROUND_S_MAX)
                self._signer.redate()
        settle(self.server)

    def round(self, keys: Sequence[str], check_every: int = 64) -> None:
        self._signer.redate()
        calls = gets(self._signer, peers.BUCKET, keys, check_every=check_every)
        with Generator(self.server.port, self._connections) as generator:
            settle(self.server)
            before = self.server.cpu_ns()
            outcome = generator.run(calls, seconds_max=ROUND_S_MAX)
            settle(self.server)
            cpu_ns = self.server.cpu_ns() - before
        self.series.add(cpu_ns, outcome)
