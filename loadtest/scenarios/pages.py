"""Whether a read of cold pages delays everybody else: 4 KiB hits beside a client that streams data from the
disk.

The page cache is emptied of the system's files by posix_fadvise (per file, so the rest of the machine keeps
its pages); the small objects are then read once, which brings their pages back, and the stream reads each
large object once, so all it reads is cold. Rounds: idle, beside a stream of warm pages, beside a stream of
cold ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median

from loadtest import peers
from loadtest.bench import Bench, Meter, signer_for
from loadtest.client import Generator, gets
from loadtest.pattern import key_for
from loadtest.procs import Server, disturbed_ns, threads_ns, tree_of
from loadtest.results import Figure, Result

KIB, MIB = 1 << 10, 1 << 20
SMALL, SMALL_COUNT = 4 * KIB, 1_000
LARGE = 64 * MIB
CONNECTIONS = 4
BATCH = 250  # hits between two looks at whether the stream has ended
STREAM_S = 4.0
IDLE_BATCHES = 16
WAITED_SHARE_MAX = {  # of a round's time
    "idle": 0.005,  # half of the 1 % that a p99 is about; 0.001 to 0.005 on a quiet machine
    "warm stream": 0.05,  # 0.01 to 0.045 on a quiet one, where the streaming client is what it waits for
    "cold stream": 0.05,
}
TRIES = 4  # of a round
CONDITIONS = ("idle", "warm stream", "cold stream")


def drop_pages(root: Path) -> None:
    """Writes out and forgets the cached pages of every file under `root`; pages that a process has mapped
    stay.
    """
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY)
                os.fdatasync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)


def disk_reads(server: Server) -> int:
    """Bytes that the server's processes made the disk read (/proc/PID/io), read-ahead included."""
    total = 0
    for pid in tree_of(server.process.pid):
        with suppress(OSError, ValueError):
            line = next(
                s for s in Path(f"/proc/{pid}/io").read_text().splitlines() if s.startswith("read_bytes")
            )
            total += int(line.split()[1])
    return total


class Quiet:
    """Whether each of some groups of processes had a core whenever its busiest thread wanted one, from now on."""

    def __init__(self, *groups: Sequence[int]) -> None:
        self._groups = groups
        self._before = [threads_ns(pids) for pids in groups]
        self._began = time.monotonic_ns()

    def share(self) -> float:
        waited = sum(
            disturbed_ns(before, threads_ns(pids))
            for before, pids in zip(self._before, self._groups, strict=True)
        )
        return waited / (time.monotonic_ns() - self._began)


class Beside:
    """The 4 KiB client of one system: percentiles in microseconds, of the quiet rounds, by condition."""

    def __init__(self, server: Server, larges: int) -> None:
        self.server = server
        self._larges = larges
        self._signer = signer_for(server)
        self._keys = [key_for("small", SMALL, number) for number in range(SMALL_COUNT)]
        self.p50: dict[str, list[float]] = {condition: [] for condition in CONDITIONS}
        self.p99: dict[str, list[float]] = {condition: [] for condition in CONDITIONS}
        self.stream_mib_s: dict[str, list[float]] = {"warm stream": [], "cold stream": []}
        self.disk_share: list[float] = []
        self.disturbed = dict.fromkeys(CONDITIONS, 0)

    def warm(self) -> None:
        meter = Meter(self.server, CONNECTIONS)
        meter.warm([key_for("large", LARGE, number) for number in range(self._larges)])
        meter.warm(self._keys)

    def round(self, condition: str) -> None:
        """One quiet round, or none after TRIES disturbed ones."""
        for _ in range(TRIES):
            if condition == "cold stream":
                assert self.server.data is not None
                drop_pages(self.server.data)
            if self._idle() if condition == "idle" else self._beside(condition):
                return
            self.disturbed[condition] += 1

    def _idle(self) -> bool:
        with Generator(self.server.port, CONNECTIONS) as generator:
            self._batch(generator)
            quiet = Quiet([os.getpid()], tree_of(self.server.process.pid))
            latencies: array[float] = array("d")
            for _ in range(IDLE_BATCHES):
                latencies += self._batch(generator)
            return self._note("idle", latencies, quiet.share())

    def _beside(self, condition: str) -> bool:
        """Hits for as long as the stream runs."""
        arguments = [str(self.server.port), "large", str(LARGE), str(self._larges), str(STREAM_S)]
        with Generator(self.server.port, CONNECTIONS) as generator:
            generator.run(gets(self._signer, peers.BUCKET, self._keys))
            read = disk_reads(self.server)
            stream = subprocess.Popen(
                [sys.executable, "-m", "loadtest.stream", *arguments], stdout=subprocess.PIPE, text=True
            )
            assert stream.stdout is not None
            stream.stdout.readline()  # its interpreter has started
            quiet = Quiet([os.getpid()])
            latencies: array[float] = array("d")
            while stream.poll() is None:
                latencies += self._batch(generator)
            waited = quiet.share()
            said = json.loads(stream.communicate()[0])
        kept = self._note(condition, latencies, waited)
        if kept:
            self.stream_mib_s[condition].append(said["bytes"] / MIB / said["seconds"])
            if condition == "cold stream":
                self.disk_share.append((disk_reads(self.server) - read) / said["bytes"])
        return kept

    def _batch(self, generator: Generator) -> array[float]:
        self._signer.redate()
        return generator.run(gets(self._signer, peers.BUCKET, self._keys[:BATCH])).latencies

    def _note(self, condition: str, latencies: array[float], waited: float) -> bool:
        if waited > WAITED_SHARE_MAX[condition] or not latencies:
            return False
        ordered = sorted(latencies)
        self.p99[condition].append(ordered[int(len(ordered) * 0.99)] * 1e6)
        self.p50[condition].append(ordered[len(ordered) // 2] * 1e6)
        return True

    def rows(self) -> dict[str, dict[str, float]]:
        rows = {}
        for condition in CONDITIONS:
            row = {
                "quiet rounds": float(len(self.p99[condition])),
                "disturbed": float(self.disturbed[condition]),
            }
            if self.p99[condition]:
                row |= {"p50 µs": median(self.p50[condition]), "p99 µs": median(self.p99[condition])}
                if condition in self.stream_mib_s:
                    row["stream MiB/s"] = median(self.stream_mib_s[condition])
                if condition == "cold stream":
                    row["share read from disk"] = median(self.disk_share)
            rows[condition] = row
        return rows

    def cold_over_idle(self, rounds: int) -> float | None:
        """None when fewer than half of the rounds of either were quiet."""
        cold, idle = self.p99["cold stream"], self.p99["idle"]
        enough = min(len(cold), len(idle)) > rounds // 2
        return median(cold) / median(idle) if enough else None


def page_cold(bench: Bench) -> Result:
    result = Result("page_cold", "p99 of 4 KiB hits while another client streams page-cold data")
    larges = bench.scaled(48, 12)
    with bench.place() as place, ExitStack() as stack:
        origin = stack.enter_context(peers.start_origin(bench.cores.load, place))
        cores = bench.cores.server
        started = bench.start(
            stack,
            result,
            {
                "gateway": lambda: peers.start_gateway(origin.port, cores, place),
                "nginx": lambda: peers.start_nginx(origin.port, cores, place),
            },
        )
        clients = {name: Beside(server, larges) for name, server in started.items()}
        for client in clients.values():
            client.warm()
        rounds = bench.scaled(7, 3)
        for _ in range(rounds):
            for client in clients.values():
                for condition in CONDITIONS:
                    client.round(condition)
    _conclude(result, clients, rounds)
    return result


def _conclude(result: Result, clients: dict[str, Beside], rounds: int) -> None:
    for name, client in clients.items():
        result.rows |= {f"{name}, {condition}": row for condition, row in client.rows().items()}
    for name, reach in (("gateway", 3.0), ("nginx", None)):
        measured = clients[name].cold_over_idle(rounds) if name in clients else None
        if measured is None and name in clients:
            result.notes.append(
                f"{name}: the machine was too busy with other work for a tail to mean anything"
            )
        result.figures.append(
            Figure(f"page-cold stream beside: p99 of 4 KiB hits / idle, {name}", measured, reach)
        )


SCENARIOS: dict[str, Callable[[Bench], Result]] = {"page_cold": page_cold}
