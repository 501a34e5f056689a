"""A whole gateway as a subprocess: config file, supervisor, workers, real sockets."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from prometheus_client.parser import text_string_to_metric_families

from tests.processes import Child, free_port, wait_for

REGION = "us-east-1"
Settings = Mapping[str, Mapping[str, object]]


def inline(value: object) -> str:
    """A TOML value on one line; tables become inline tables."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else json.dumps(value)


def identity(name: str, allow: Iterable[object], deny: Iterable[object] = ()) -> dict[str, object]:
    """An `[[identities]]` entry; keys and secrets follow from the name, see `secret_of`."""
    return {
        "name": name,
        "access_key": f"AK{name.upper()}",
        "secret_key": secret_of(name),
        "allow": list(allow),
        "deny": list(deny),
    }


def secret_of(name: str) -> str:
    return f"{name}-secret-Zm9v/bar+0123456789"


def on(*paths: str, actions: Sequence[str] = ("s3:*",)) -> dict[str, object]:
    """A statement over whole buckets, or over `bucket/glob`."""
    return {"actions": list(actions), "resources": [path if "/" in path else f"{path}/*" for path in paths]}


EVERYTHING = {"actions": ["*"], "resources": ["*"]}


class Metrics:
    """One scrape of `/metrics`."""

    def __init__(self, text: str) -> None:
        self.samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def total(self, name: str, **labels: str) -> float:
        """The sum over all series of `gateway_<name>` that carry these labels."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == f"gateway_{name}" and labels.items() <= sample.labels.items()
        )

    def counters(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for sample in self.samples
            if sample.name.endswith(("_total", "_count", "_bucket"))
        }


class Gateway:
    """`with Gateway(tmp_path, origins=[…], mounts=[…]) as gateway:` — a serving node. Its output is in
    `output()` and is printed when the block ends by an exception. `start` after `kill` goes on with the same
    data and ports."""

    def __init__(
        self,
        directory: Path,
        *,
        origins: Sequence[Mapping[str, object]],
        mounts: Sequence[Mapping[str, object]],
        rules: Sequence[Mapping[str, object]] = (),
        identities: Sequence[Mapping[str, object]] = (),
        workers: int = 2,
        settings: Settings | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.workers = workers
        self.port, self.admin_port = free_port(), free_port()
        self.token = ""  # of the admin listener
        self.environment = environment or {}
        self.config_file = directory / "gateway.toml"
        self.access_log = directory / "access.log"
        self.child: Child | None = None
        tables: dict[str, dict[str, object]] = {
            "node": {"name": "gw-test", "data_dir": str(directory / "data"), "workers": workers},
            "listen": {"s3": f"127.0.0.1:{self.port}", "admin": f"127.0.0.1:{self.admin_port}"},
            "cache": {"capacity": "1GiB", "segment_size": "64MiB"},
            "log": {"level": "debug", "format": "json", "access": str(self.access_log)},
        }
        for section, keys in (settings or {}).items():
            tables.setdefault(section, {}).update(keys)
        self.tls = bool(tables["listen"].get("tls_cert"))
        self.tables: dict[str, object] = {
            **tables,
            "origins": list(origins),
            "mounts": list(mounts),
            "rules": list(rules),
            "identities": list(identities) or [identity("trainer", [EVERYTHING])],
        }
        self.rewrite()

    def rewrite(self, **sections: object) -> None:
        """The config file with other tables in it; what runs notices nothing."""
        self.tables |= sections
        text = "".join(f"{key} = {inline(value)}\n" for key, value in self.tables.items())
        self.config_file.write_text(text)

    # life

    def start(self) -> Gateway:
        argv = [sys.executable, "-m", "gateway.cli.main", "serve", "--config", str(self.config_file)]
        self.child = Child(
            argv, self.directory / "gateway.log", {"PYTHONUNBUFFERED": "1", **self.environment}
        )
        self.child.wait_ready("the gateway", self._ready)
        return self

    def _ready(self) -> bool:
        try:
            return self.admin("/health/ready")[0] == 200
        except OSError:
            return False

    def __enter__(self) -> Gateway:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        if kind is not None:
            print(f"--- gateway log\n{self.output()[-8000:]}")

    def stop(self) -> int:
        """SIGTERM, waits for the drain; the exit status."""
        assert self.child is not None
        return self.child.terminate(40)

    def kill(self) -> None:
        """The whole node at once, as a power cut of the machine would end it (but for the page cache)."""
        assert self.child is not None
        self.child.kill()

    def output(self) -> str:
        return self.child.output() if self.child else ""

    def worker_pids(self) -> list[int]:
        """From /proc, not from the status page: tests kill what really runs."""
        assert self.child is not None
        return [pid for pid in descendants(self.child.pid) if "gateway.node.worker" in command_line(pid)]

    def kill_worker(self, which: int = 0) -> int:
        """SIGKILL for one worker; waits until another has taken its place."""
        victim = sorted(self.worker_pids())[which]
        os.kill(victim, signal.SIGKILL)

        def replaced() -> bool:
            now = self.worker_pids()
            return victim not in now and len(now) == self.workers

        wait_for("the killed worker is replaced", replaced)
        return victim

    # talking to it

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    def admin(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=10)
        try:
            headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def status(self) -> Any:
        return json.loads(self.admin("/api/v1/status")[1])

    def metrics(self) -> Metrics:
        return Metrics(self.admin("/metrics")[1].decode())

    def settled_metrics(self, requests_total: float) -> Metrics:
        """The metrics once they tell of that many requests (workers write them every quarter second)."""

        def seen() -> Metrics | None:
            now = self.metrics()
            return now if now.total("requests_total") >= requests_total else None

        return wait_for(f"{requests_total:.0f} requests are counted", seen)

    def client(self, name: str = "trainer", **options: Any) -> Any:
        """A boto3 client; `config` takes botocore Config arguments."""
        config = Config(**{"s3": {"addressing_style": "path"}, **options.pop("config", {})})
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=f"AK{name.upper()}",
            aws_secret_access_key=secret_of(name),
            region_name=REGION,
            config=config,
            **options,
        )


def descendants(pid: int) -> list[int]:
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:  # it ended while we looked
        return []
    return children + [grandchild for child in children for grandchild in descendants(child)]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
