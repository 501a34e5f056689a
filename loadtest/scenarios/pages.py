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
from array import array
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median

from loadtest import peers
from loadtest.bench import Bench, Meter, signer_for
from loadtest.client import Generator, gets
from loadtest.pattern import key_for
from loadtest.procs import Server, tree_of
from loadtest.results import Figure, Result, ratio

KIB, MIB = 1 << 10, 1 << 20
SMALL, SMALL_COUNT = 4 * KIB, 1_000
LARGE = 64 * MIB
CONNECTIONS = 4
BATCH = 250  # hits between two looks at whether the stream has ended
STREAM_S = 4.0


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


class Beside:
    """The 4 KiB client of one system: `p99` under each condition, in microseconds."""

    def __init__(self, server: Server, larges: int) -> None:
        self.server = server
        self._larges = larges
        self._signer = signer_for(server)
        self._keys = [key_for("small", SMALL, number) for number in range(SMALL_COUNT)]
        self.p99: dict[str, list[float]] = {"idle": [], "warm stream": [], "cold stream": []}
        self.p50: dict[str, list[float]] = {"idle": [], "warm stream": [], "cold stream": []}
        self.stream_mib_s: dict[str, list[float]] = {"warm stream": [], "cold stream": []}
        self.disk_share: list[float] = []

    def warm(self) -> None:
        meter = Meter(self.server, CONNECTIONS)
        meter.warm([key_for("large", LARGE, number) for number in range(self._larges)])
        meter.warm(self._keys)

    def idle(self) -> None:
        with Generator(self.server.port, CONNECTIONS) as generator:
            latencies: array[float] = array("d")
            for _ in range(16):
                latencies += self._batch(generator)
        self._note("idle", latencies)

    def beside(self, condition: str) -> None:
        """Hits for as long as the stream runs."""
        arguments = [str(self.server.port), "large", str(LARGE), str(self._larges), str(STREAM_S)]
        with Generator(self.server.port, CONNECTIONS) as generator:
            generator.run(gets(self._signer, peers.BUCKET, self._keys))
            before = disk_reads(self.server)
            stream = subprocess.Popen(
                [sys.executable, "-m", "loadtest.stream", *arguments], stdout=subprocess.PIPE, text=True
            )
            self._batch(generator)  # while the stream's interpreter starts
            latencies: array[float] = array("d")
            while stream.poll() is None:
                latencies += self._batch(generator)
            said = json.loads(stream.communicate()[0])
        self._note(condition, latencies)
        self.stream_mib_s[condition].append(said["bytes"] / MIB / said["seconds"])
        if condition == "cold stream":
            self.disk_share.append((disk_reads(self.server) - before) / said["bytes"])

    def _batch(self, generator: Generator) -> array[float]:
        self._signer.redate()
        return generator.run(gets(self._signer, peers.BUCKET, self._keys[:BATCH])).latencies

    def _note(self, condition: str, latencies: array[float]) -> None:
        ordered = sorted(latencies)
        self.p99[condition].append(ordered[int(len(ordered) * 0.99)] * 1e6)
        self.p50[condition].append(ordered[len(ordered) // 2] * 1e6)

    def rows(self) -> dict[str, dict[str, float]]:
        rows = {
            condition: {"p50 µs": median(self.p50[condition]), "p99 µs": median(values)}
            for condition, values in self.p99.items()
        }
        for condition, rates in self.stream_mib_s.items():
            rows[condition]["stream MiB/s"] = median(rates)
        rows["cold stream"]["share read from disk"] = median(self.disk_share)
        return rows


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
        for _ in range(bench.scaled(5, 3)):
            for client in clients.values():
                client.idle()
                client.beside("warm stream")
                assert client.server.data is not None
                drop_pages(client.server.data)
                client.beside("cold stream")
    _conclude(result, clients)
    return result


def _conclude(result: Result, clients: dict[str, Beside]) -> None:
    for name, client in clients.items():
        result.rows |= {f"{name}, {condition}": row for condition, row in client.rows().items()}
    for name, reach in (("gateway", 3.0), ("nginx", None)):
        found = clients.get(name)
        measured = ratio(found.p99["cold stream"], found.p99["idle"]) if found else None
        result.figures.append(
            Figure(f"page-cold stream beside: p99 of 4 KiB hits / idle, {name}", measured, reach)
        )


SCENARIOS: dict[str, Callable[[Bench], Result]] = {"page_cold": page_cold}
