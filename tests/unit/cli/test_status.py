"""`gateway status` says what a node says, tells when none answers, and sends the token to it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from gateway.cli.status import flattened, human_bytes, human_seconds
from tests.processes import free_port
from tests.unit.cli.cli import gateway

STATUS = {
    "node": "gw-0",
    "uptime_seconds": 3723.4,
    "ready": True,
    "cache": {"used_bytes": 3 * 2**30, "capacity_bytes": 2**40, "blocks": 12345},
    "workers": [{"slot": 0, "pid": 12345, "requests": 1000}, {"slot": 1, "pid": 12346, "requests": 0}],
    "origins": [
        {"name": "lake", "bytes_in": 2**20, **{f"figure_{n}": n for n in range(9)}, "ratio": 0.123456},
        {"name": "aws", "month": {"dollars": 1234.5, "budget_dollars": 2000.0, "exceeded": False}},
        {"name": "gcs", "month": {"dollars": 3.0, "budget_dollars": None, "exceeded": False}},
        {"name": "nas", "month": None},
    ],
    "nothing": None,
    "odd": "[red]\x1b[2Jx",
}


class Node(BaseHTTPRequestHandler):
    answer: ClassVar[tuple[int, bytes]] = (200, b"")
    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization")))
        status, body = self.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not into the test's output."""


@pytest.fixture
def node() -> Iterator[str]:
    Node.answer, Node.asked = (200, json.dumps(STATUS).encode()), []
    with ThreadingHTTPServer(("127.0.0.1", 0), Node) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_plain_lines_when_nobody_looks(node: str) -> None:
    status, out, err = gateway("status", "--admin", node)
    assert (status, err) == (0, "")
    assert out.splitlines()[:6] == [
        "node: gw-0",
        "uptime_seconds: 1 h 2 min",
        "ready: yes",
        "cache.used_bytes: 3.0 GiB",
        "cache.capacity_bytes: 1.0 TiB",
        "cache.blocks: 12,345",
    ]
    assert "workers[1].pid: 12346" in out.splitlines()
    assert "origins[1].month.dollars: $1,234.50" in out.splitlines()
    assert "origins[3].month: -" in out.splitlines()
    assert "\x1b" not in out


def test_json_is_the_nodes_own(node: str) -> None:
    status, out, _ = gateway("status", "--json", env={"GATEWAY_ADMIN_URL": node})
    assert status == 0
    assert json.loads(out) == STATUS


def test_tables_on_a_terminal(node: str) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "gateway.cli.main", "status", "--admin", node]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1"}
    out = b""
    with subprocess.Popen(command, stdout=theirs, env=env) as process:
        os.close(theirs)
        with contextlib.suppress(OSError):  # Linux says EIO at the end of a terminal
            while piece := os.read(ours, 65536):
                out += piece
        assert process.wait(60) == 0
    os.close(ours)
    text = out.decode()
    assert "3.0 GiB" in text
    assert "12,345" in text
    assert "12346" in text
    assert any(line.split() == ["bytes", "in", "1.0", "MiB"] for line in text.splitlines())
    assert any(line.split() == ["ratio", "0.1235"] for line in text.splitlines())
    assert text.count(" this month") == 1
    assert not any(line.split() == ["month", "-"] for line in text.splitlines())
    assert "aws: $1,234.50 of $2,000.00 this month" in text
    assert "[red]?[2Jx" in text  # neither markup nor escape codes of the answer reach the terminal


def test_the_token_goes_to_the_node(node: str) -> None:
    gateway("status", "--admin", node, env={"GATEWAY_ADMIN_TOKEN": "t0ken"})
    assert Node.asked == [("/api/v1/status", "Bearer t0ken")]


def test_no_gateway_is_3_and_one_line() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert gateway("status", "--admin", url) == (3, "", f"no gateway answers at {url}: Connection refused\n")


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ((401, b"{}"), 1, "{} wants another token: set GATEWAY_ADMIN_TOKEN\n"),
        ((500, b'{"error": "it broke"}'), 1, "{} answered 500: it broke\n"),
        ((200, b"<html>"), 3, "what answers at {} is not a gateway (status 200)\n"),
        ((404, b"not found"), 3, "what answers at {} is not a gateway (status 404)\n"),
    ],
)
def test_other_answers_are_one_line(node: str, answer: tuple[int, bytes], status: int, said: str) -> None:
    Node.answer = answer
    assert gateway("status", "--admin", node) == (status, "", said.format(node))


def test_units_for_people() -> None:
    assert [human_bytes(size) for size in (0, 1023, 1536, 2**60)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "1,024.0 PiB",
    ]
    assert [human_seconds(s) for s in (0.25, 119, 150, 7260, 200000)] == [
        "0.25 s",
        "119 s",
        "2 min 30 s",
        "2 h 1 min",
        "2 d 7 h",
    ]
    assert list(flattened({"a": [], "b": [{"x_bytes": 1}], "c": None})) == [
        ("b[0].x_bytes", "1 B"),
        ("c", "-"),
    ]
