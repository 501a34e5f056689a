"""A whole node of real processes over a tiny application: what dies is replaced, nothing is left behind, and why
it could not start is one line."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway_process import Metrics, command_line, descendants, inline
from tests.processes import Child, free_port, wait_for

WORKERS = 2


class Node:
    def __init__(
        self,
        directory: Path,
        fault: str = "none",
        drain: str = "10s",
        arguments: tuple[str, ...] = (),
        **settings: dict[str, Any],
    ) -> None:
        self.directory = directory
        self.port, self.admin_port = free_port(), free_port()
        (directory / "origin").mkdir(exist_ok=True)
        everything = {"actions": ["*"], "resources": ["*"]}
        tables: dict[str, Any] = {
            "node": {"name": fault, "data_dir": str(directory / "data"), "workers": WORKERS},
            "listen": {"s3": f"127.0.0.1:{self.port}", "admin": f"127.0.0.1:{self.admin_port}"},
            "cache": {"capacity": "1GiB", "segment_size": "64MiB"},
            "log": {"format": "json", "access": str(directory / "access.log")},
            "limits": {"drain_timeout": drain},
            "origins": [{"name": "lake", "type": "file", "root": str(directory / "origin")}],
            "mounts": [{"path": "data", "origin": "lake", "remote": "lake"}],
            "identities": [
                {"name": "t", "access_key": "AKTEST", "secret_key": "s" * 20, "allow": [everything]}
            ],
        }
        for section, keys in settings.items():
            tables[section].update(keys)
        self.config = directory / "gateway.toml"
        self.tables = tables
        self.rewrite()
        argv: list[str | Path] = [sys.executable, "-m", "tests.unit.node.tiny_node", self.config, *arguments]
        self.child = Child(argv, directory / "node.log")

    def rewrite(self, **sections: Any) -> None:
        self.tables |= sections
        self.config.write_text("".join(f"{key} = {inline(value)}\n" for key, value in self.tables.items()))

    def get(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=30)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def ready(self) -> bool:
        try:
            return self.get("/health/ready")[0] == 200
        except OSError:
            return False

    def wait_ready(self) -> Node:
        self.child.wait_ready("the node", self.ready)
        return self

    def metrics(self) -> Metrics:
        return Metrics(self.get("/metrics")[1].decode())

    def workers(self) -> list[int]:
        return [pid for pid in descendants(self.child.pid) if "tiny_worker" in command_line(pid)]

    def restarted(self) -> float:
        return self.metrics().total("workers_restarted_total")

    def said(self) -> list[str]:
        """The lines for people, without the log's."""
        return [line for line in self.child.output().splitlines() if not line.startswith("{")]


Start = Callable[..., Node]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    nodes: list[Node] = []

    def make(*args: Any, **options: Any) -> Node:
        nodes.append(Node(tmp_path, *args, **options))
        return nodes[-1]

    yield make
    for node in nodes:
        node.child.kill()


def alive(pid: int) -> bool:
    return bool(command_line(pid))  # a zombie's is empty


def test_a_node_says_where_it_listens_serves_and_drains(start: Start) -> None:
    node = start().wait_ready()
    assert len(node.workers()) == WORKERS
    status = json.loads(node.get("/api/v1/status")[1])
    assert [worker["state"] for worker in status["workers"]] == ["ready"] * WORKERS
    assert sorted(worker["pid"] for worker in status["workers"]) == sorted(node.workers())
    pids = node.workers()
    assert node.child.terminate() == 0
    assert not any(map(alive, pids))
    assert f"http://127.0.0.1:{node.port}" in node.said()[0]
    assert f"http://127.0.0.1:{node.admin_port}" in node.said()[1]
    assert json.loads((node.directory / "data/cache/state.json").read_text())["clean"] is True


def test_access_lines_are_whole_after_the_drain(start: Start) -> None:
    node = start().wait_ready()
    node.child.terminate()
    lines = (node.directory / "access.log").read_text().splitlines()
    assert lines
    assert all(json.loads(line)["path"] == "/data/key" for line in lines)


def test_a_killed_worker_is_replaced_and_counters_do_not_go_backwards(start: Start) -> None:
    node = start().wait_ready()
    wait_for("something is counted", lambda: node.metrics().total("read_bytes_total") > 0)
    for times in (1, 2):
        before = node.metrics()
        os.kill(node.workers()[0], signal.SIGKILL)
        after = node.metrics()
        for series, value in before.counters().items():
            assert after.counters()[series] >= value
        wait_for("it is replaced", lambda n=times: node.restarted() == n and node.ready())  # type: ignore[misc]
        for series, value in after.counters().items():
            assert node.metrics().counters()[series] >= value
    assert len(node.workers()) == WORKERS
    assert node.metrics().total("connections") == 3  # slots 0 and 1 report 1 and 2
    assert node.child.terminate() == 0


def test_a_node_with_a_silent_worker_is_not_ready(start: Start) -> None:
    node = start().wait_ready()
    silent = node.workers()[0]
    os.kill(silent, signal.SIGSTOP)
    wait_for("it is not ready", lambda: node.get("/health/ready")[0] == 503, 15)
    assert node.get("/health/live")[0] == 200
    assert json.loads(node.get("/health/ready")[1])["reason"] == f"{WORKERS - 1} of {WORKERS} workers serve"
    os.kill(silent, signal.SIGCONT)
    wait_for("it is ready again", node.ready)


def test_workers_of_a_killed_supervisor_end(start: Start) -> None:
    node = start().wait_ready()
    pids = node.workers()
    os.kill(node.child.pid, signal.SIGKILL)
    wait_for("they end", lambda: not any(map(alive, pids)), 8)


def test_even_when_they_cannot_drain(start: Start) -> None:
    node = start("stuck").wait_ready()
    pids = node.workers()
    os.kill(node.child.pid, signal.SIGKILL)
    wait_for("they end", lambda: not any(map(alive, pids)), 12)


def test_even_when_they_were_still_starting(start: Start) -> None:
    node = start("hang")
    pids = wait_for("they start", lambda: node.workers() if len(node.workers()) == WORKERS else None)
    wait_for("the admin listener answers", lambda: node.get("/health/ready")[0] == 503)
    os.kill(node.child.pid, signal.SIGKILL)
    wait_for("they end", lambda: not any(map(alive, pids)), 12)


def test_a_node_that_is_still_starting_can_be_stopped(start: Start) -> None:
    node = start("hang")
    wait_for("they start", lambda: len(node.workers()) == WORKERS)
    assert node.child.terminate() == 0


def test_requests_that_had_to_be_cut_show_in_the_exit_status(start: Start) -> None:
    node = start("busy", "1s").wait_ready()
    assert node.child.terminate() == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_draining_node_is_not_ready_and_a_second_signal_ends_it_at_once(
    start: Start, number: signal.Signals
) -> None:
    node = start("busy", "60s").wait_ready()
    pids = node.workers()
    node.child.process.send_signal(number)
    wait_for("it is not ready", lambda: node.get("/health/ready")[0] == 503)
    assert json.loads(node.get("/health/ready")[1])["reason"] == "draining"
    node.child.process.send_signal(number)
    assert node.child.process.wait(10) == 1
    assert not any(map(alive, pids))


def test_signals_while_the_cache_is_closed_leave_it_closed(start: Start) -> None:
    node = start(arguments=("--signals-at-close",)).wait_ready()
    assert node.child.terminate() == 0
    assert json.loads((node.directory / "data/cache/state.json").read_text())["clean"] is True


def test_a_worker_that_does_not_drain_in_time_is_killed(start: Start) -> None:
    node = start("stuck", "1s").wait_ready()
    assert node.child.terminate(15) == 1


def test_a_worker_that_refuses_to_start_is_one_line(start: Start) -> None:
    node = start("refuse")
    assert node.child.process.wait(20) == 1
    assert node.said() == ["gateway: the cache directory is on fire"]


def test_a_worker_that_dies_at_once_is_one_line_and_the_node_gives_up(start: Start) -> None:
    node = start("die")
    assert node.child.process.wait(40) == 1
    (line,) = node.said()
    assert line in [
        f"gateway: worker {slot} does not start, it ended with status 7" for slot in range(WORKERS)
    ]


def test_a_bug_at_the_start_is_one_line_and_its_traceback_is_in_the_log(start: Start) -> None:
    node = start("bug")
    assert node.child.process.wait(20) == 1
    assert node.said() == ["gateway: a bug: ZeroDivisionError()"]
    assert "tiny_worker.py" in node.child.output()


@pytest.mark.parametrize("which", ["s3", "admin"])
def test_a_taken_port_is_one_line(start: Start, which: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        node = start(listen={which: f"127.0.0.1:{port}"})
        assert node.child.process.wait(20) == 1
    assert node.said() == [f"gateway: listen.{which}: 127.0.0.1:{port} is in use by another process"]


def test_an_unusable_cache_or_log_is_one_line(start: Start, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/cache").write_text("a file")
    node = start()
    assert node.child.process.wait(20) == 1
    (line,) = node.said()
    assert line.startswith(f"gateway: {tmp_path}/data/cache")
    (tmp_path / "data/cache").unlink()
    (tmp_path / "log").symlink_to(tmp_path / "not/mounted/log")
    node = start(log={"access": str(tmp_path / "log")})
    assert node.child.process.wait(20) == 1
    assert node.said()[-1] == f"gateway: {tmp_path}/log: No such file or directory"


def test_secrets_are_in_no_command_line_and_no_environment(start: Start) -> None:
    node = start().wait_ready()
    for pid in node.workers():
        assert "ssss" not in command_line(pid)
        assert b"ssss" not in Path(f"/proc/{pid}/environ").read_bytes()
