"""Processes under test: started on given cores, measured as a whole tree, stopped for sure.

CPU time is read from each process's own clock (clock_getcpuclockid(3): nanoseconds, all threads, also ended
ones), so short rounds are exact, where /proc/PID/stat counts ticks. A process that ends within a round is
missing from it: the servers' workers live longer than a round.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

HOST = "127.0.0.1"
READY_S_MAX = 30.0
STOP_S_MAX = 15.0
POLL_S = 0.05
_PR_SET_PDEATHSIG = 1


class StartError(Exception):
    """A server did not come up; carries the end of what it printed."""


@dataclass(frozen=True)
class Cores:
    """Which cores the server under test runs on, and which everything else."""

    server: frozenset[int]
    load: frozenset[int]

    @classmethod
    def split(cls) -> Cores:
        mine = sorted(os.sched_getaffinity(0))
        return cls(frozenset(mine[:1]), frozenset(mine[1:] or mine))


@dataclass(frozen=True)
class Memory:
    """Bytes, the largest process of the tree and the sum."""

    anonymous_max: int = 0
    anonymous_sum: int = 0
    resident_sum: int = 0

    def larger(self, other: Memory) -> Memory:
        return Memory(
            max(self.anonymous_max, other.anonymous_max),
            max(self.anonymous_sum, other.anonymous_sum),
            max(self.resident_sum, other.resident_sum),
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def tree_of(root: int) -> list[int]:
    """The process and all that descend from it, now."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                after_name = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(after_name[1]), []).append(int(entry))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def cpu_ns_of(pid: int) -> int:
    """CPU time of a process, all threads; 0 when it is gone."""
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return 0


def threads_ns(pids: Iterable[int]) -> dict[str, tuple[int, int]]:
    """Of each thread of these processes how long it ran, and how long it was ready to run and had no core, so far
    (/proc/PID/task/TID/schedstat)."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    ran, waited, *_ = (thread / "schedstat").read_text().split()
                    found[thread.name] = int(ran), int(waited)
    return found


def disturbed_ns(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> int:
    """For how long the busiest of these threads waited for a core because of others than the rest of them: its wait
    less all that its siblings ran, which may have kept it waiting on the same core."""
    spans = [
        (ran - before.get(name, (0, 0))[0], waited - before.get(name, (0, 0))[1])
        for name, (ran, waited) in after.items()
    ]
    if not spans:
        return 0
    ran, waited = max(spans)
    return max(0, waited - (sum(span[0] for span in spans) - ran))


def memory_of(pids: Sequence[int]) -> Memory:
    anonymous, resident = [0], 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    anonymous.append(int(line.split()[1]) << 10)
                elif line.startswith("VmRSS:"):
                    resident += int(line.split()[1]) << 10
    return Memory(max(anonymous), sum(anonymous), resident)


@dataclass
class Server:
    """A started system. `port` takes S3 requests; `data` is where it keeps its cache, if it has one."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    log: Path
    data: Path | None = None
    ports: Mapping[str, int] = field(default_factory=dict)

    def cpu_ns(self) -> int:
        return sum(cpu_ns_of(pid) for pid in tree_of(self.process.pid))

    def memory(self) -> Memory:
        return memory_of(tree_of(self.process.pid))

    def tail(self) -> str:
        with contextlib.suppress(OSError):
            return self.log.read_text(errors="replace")[-2000:]
        return ""

    def stop(self) -> None:
        """SIGTERM, then SIGKILL to what is left of the tree."""
        pids = tree_of(self.process.pid)
        if self.process.stdin:
            self.process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in pids[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.stop()


def spawn(
    name: str,
    command: Sequence[str | Path],
    *,
    cores: frozenset[int],
    log: Path,
    port: int = 0,
    data: Path | None = None,
    environ: Mapping[str, str] | None = None,
    talks: bool = False,
) -> Server:
    """Starts a command pinned to `cores`; it dies with this process. `talks`: its stdin and stdout are
    pipes.
    """
    libc = ctypes.CDLL(None)

    def in_child() -> None:
        os.sched_setaffinity(0, cores)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    with log.open("ab") as sink:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talks else sink,
            stderr=sink,
            env={**os.environ, **(environ or {})},
            preexec_fn=in_child,
        )
    return Server(name, process, port, log, data)


def wait_until(ready: Callable[[], bool], server: Server, seconds: float = READY_S_MAX) -> None:
    """Polls `ready`; raises StartError when the process ended or time is up, and stops it."""
    deadline = time.monotonic() + seconds
    while not ready():
        code = server.process.poll()
        if code is not None or time.monotonic() > deadline:
            server.stop()
            ended = f"ended with {code}" if code is not None else f"was not ready in {seconds:.0f} s"
            raise StartError(f"{server.name} {ended}\n{server.tail()}")
        time.sleep(POLL_S)


def accepts(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


class Watch:
    """Samples the memory of some processes while a block runs; `peak` is what was largest."""

    def __init__(self, server: Server, every_s: float = 0.1) -> None:
        self._server = server
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory-watch", daemon=True)
        self.before = server.memory()
        self.peak = self.before

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            self.peak = self.peak.larger(self._server.memory())

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.peak = self.peak.larger(self._server.memory())


def pin_workers(server: Server, called: str, cores: Sequence[int]) -> None:
    """The processes below a server whose command line has `called` in it, one core each."""
    found = []
    for pid in tree_of(server.process.pid)[1:]:
        with contextlib.suppress(OSError):
            if called in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "):
                found.append(pid)
    if len(found) != len(cores):
        raise StartError(f"{server.name} has {len(found)} workers, not {len(cores)}")
    for pid, core in zip(sorted(found), cores, strict=True):
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), {core})


@contextlib.contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """This process on `cores` for the length of a block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
