"""The demo's processes: a far store, the network before it and the gateway; their configs, start and end.

    training loop ── near gateway, cache ── relay (50 ms, 40 MB/s a connection) ── far store (`demo_stores.py`)

Gateways are `gateway serve` with a config file in the demo's directory. The one that is a far store caches nothing: it
is there to be an S3 server.
"""

from __future__ import annotations

import ctypes
import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from gateway.cli.demo_data import Shard
from gateway.cli.demo_training import DemoError

if TYPE_CHECKING:
    from gateway.cli.demo_stores import FarStore

HOST = "127.0.0.1"
REGION = "us-east-1"
BUCKET = "lake"
START_S_MAX = 30.0
STOP_S_MAX = 8.0
REPORT_S = 0.25  # how often a worker tells what it counted
RTT_MS, RATE_MB = 50, 40
_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl  # looked up before the fork

_CONFIG = """\
[node]
name = "{name}"
data_dir = "{home}/data"
workers = {workers}

[listen]
s3 = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin}"

[cache]
capacity = "{capacity}"
segment_size = "64MiB"

[log]
access = "{home}/access.log"

[[origins]]
name = "store"
{origin}

[[mounts]]
path = "lake"
origin = "store"
remote = "lake"

[[rules]]
match = "lake/**"
cache = {cache}

[[identities]]
name = "demo"
access_key = "{keys.access}"
secret_key = "{keys.secret}"
[[identities.allow]]
actions = ["s3:*"]
resources = ["lake", "lake/*"]
"""


@dataclass(frozen=True)
class Keys:
    access: str
    secret: str

    @classmethod
    def fresh(cls, name: str) -> Keys:
        return cls(f"DEMO{name.upper()}", secrets.token_urlsafe(30))


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def own_environment() -> dict[str, str]:
    """This environment without what would lead a child elsewhere: settings of AWS clients, of gateways, proxies."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GATEWAY_"))
    }
    return inherited | {"NO_PROXY": HOST, "no_proxy": HOST, "PYTHONUNBUFFERED": "1"}


def python(module: str, *arguments: str) -> list[str]:
    """The command line of one of our own modules."""
    return [sys.executable, "-m", module, *arguments]


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def _end_with_parent() -> None:
    """In the child: SIGTERM once the demo is gone, however it ended."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


class Process:
    """A child in a session of its own, so that Ctrl-C reaches only the demo, which ends it in order."""

    def __init__(self, name: str, argv: Sequence[str], log: Path, **pipes: Any) -> None:
        self.name, self.log = name, log
        with log.open("ab") as out:
            self.child = subprocess.Popen(
                argv,
                stdin=pipes.get("stdin", subprocess.DEVNULL),
                stdout=pipes.get("stdout", out),
                stderr=out,
                env=own_environment(),
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def check(self) -> None:
        """DemoError if it has ended, with the last thing it said."""
        if (status := self.child.poll()) is not None:
            said = self.log.read_text(errors="replace").strip().splitlines()
            raise DemoError(f"{self.name} ended with {status}: {said[-1] if said else 'it said nothing'}")

    def stop(self) -> None:
        """SIGTERM, time for the drain, then SIGKILL for whatever of its session is left."""
        if self.child.poll() is None:
            self.child.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.child.wait(STOP_S_MAX)
        with suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                pipe.close()


def config_text(
    home: Path, keys: Keys, origin: str, ports: tuple[int, int], *, workers: int, cache: bool
) -> str:
    """A node's config; `origin` is the lines of its `[[origins]]` entry."""
    return _CONFIG.format(
        name=home.name, home=home, workers=workers, port=ports[0], admin=ports[1], keys=keys,
        capacity="1GiB" if cache else "256MiB", cache=str(cache).lower(), origin=origin,
    )  # fmt: skip


class Node(Process):
    """A `gateway serve`; `wait` waits until it is ready."""

    def __init__(self, home: Path, keys: Keys, origin: str, *, workers: int, cache: bool) -> None:
        self.keys = keys
        self.port, self.admin = free_ports(2)
        home.mkdir()
        config = home / "gateway.toml"
        config.touch(mode=0o600)
        config.write_text(
            config_text(home, keys, origin, (self.port, self.admin), workers=workers, cache=cache)
        )
        super().__init__(
            f"the {home.name} gateway",
            python("gateway.cli.main", "serve", "--config", str(config)),
            home / "gateway.log",
        )

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.port}"

    def wait(self) -> None:
        until(self.ready, START_S_MAX, f"{self.name} was not ready within {START_S_MAX:.0f} s")

    def ready(self) -> bool:
        self.check()
        try:
            return self._ask("/health/ready")[0] == 200
        except OSError:
            return False

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels; the name without `gateway_` and `_total`."""
        text = self._ask("/metrics")[1].decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name in (f"gateway_{name}", f"gateway_{name}_total")
            and labels.items() <= sample.labels.items()
        )

    def _ask(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, self.admin, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def until(true: Callable[[], bool], seconds_max: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds_max
    while not true():
        if time.monotonic() > deadline:
            raise DemoError(otherwise)
        time.sleep(0.05)


class Stage:
    """All of them, started in the order in which they need each other; leaving the block ends them. The far store has
    its data before anybody asks for it."""

    def __init__(self, directory: Path, far: FarStore) -> None:
        self.directory = directory
        self.far = far
        self.shards: list[Shard] = []
        self._ends = ExitStack()

    def __enter__(self) -> Stage:
        try:
            self._start()
        except BaseException:
            self._ends.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    @property
    def processes(self) -> list[Process]:
        return [*self.far.processes, self.near]

    def _start(self) -> None:
        self.far.start(self.directory, lambda process: self._ends.callback(process.stop))
        self.shards = self.far.fill(self.directory)
        self.relay_port = self._relay(self.far.port)
        origin = "\n".join(f'{name} = "{value}"' for name, value in self.far.origin(self.relay_port).items())
        workers = min(2, len(os.sched_getaffinity(0)))
        self.near = self._node("near", Keys.fresh("near"), origin, workers, cache=True)
        self.near.wait()

    def _node(self, name: str, keys: Keys, origin: str, workers: int, *, cache: bool) -> Node:
        node = Node(self.directory / name, keys, origin, workers=workers, cache=cache)
        self._ends.callback(node.stop)
        return node

    def _relay(self, to_port: int) -> int:
        process = Process(
            "the far network", python("gateway.cli.demo_wan", str(to_port), str(RTT_MS), str(RATE_MB)),
            self.directory / "relay.log", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._ends.callback(process.stop)
        assert process.child.stdout is not None
        line = process.child.stdout.readline()
        if not line:
            process.child.wait()
            process.check()
        return int(line)


def origin_gets(near: Node, gets_so_far: int) -> int:
    """GETs that the gateway has sent to the far store, once its workers have told of all the loop's own. Each of
    them tells every quarter of a second, and who serves a read is not always who fetches it."""
    until(
        lambda: near.total("requests", op="GetObject") >= gets_so_far,
        10,
        "the gateway's metrics do not count the loop's reads",
    )
    time.sleep(2 * REPORT_S)
    return int(near.total("origin_requests", op="get"))
