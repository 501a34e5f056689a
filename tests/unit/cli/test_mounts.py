"""`gateway mounts`, `gateway mounts explain` and `gateway reload` say what the node says, readably, and end as told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import typer

from gateway.cli.mounts import lines, listed, parsed
from gateway.cli.reload import lines as reload_lines
from gateway.namespace.explain import explain
from tests.processes import free_port
from tests.unit.cli.cli import gateway
from tests.unit.namespace.test_explain import CONFIG

MOUNTS = [
    {"path": "data", "origin": "aws", "type": "s3", "remote": "corp/base", "read_only": False},
    {"path": "*", "origin": "nas", "type": "file", "remote": "", "read_only": True, "mirror": ["aws:old"]},
]


class Node(BaseHTTPRequestHandler):
    answer: ClassVar[tuple[int, Any]] = (200, {})
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        status, body = self.answer
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Not into the test's output."""


@pytest.fixture
def node() -> Iterator[str]:
    Node.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Node) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_mounts_are_listed(node: str) -> None:
    Node.answer = (200, {"mounts": MOUNTS})
    status, out, err = gateway("mounts", "--admin", node)
    assert (status, err, out.splitlines()) == (0, "", list(listed(MOUNTS)))
    assert out.splitlines() == [
        "MOUNT  PLACE          TYPE",
        "data   aws:corp/base  s3",
        "*      nas:*          file  read only, then aws:old",
    ]
    assert json.loads(gateway("mounts", "--admin", node, "--json").out) == {"mounts": MOUNTS}


def test_an_explanation_comes_from_the_node_that_runs(node: str) -> None:
    Node.answer = (200, explain(CONFIG, "joint", "hot/er/a b&c"))
    status, out, err = gateway("mounts", "explain", "s3://joint/hot/er/a b&c", "--admin", node)
    assert (status, err) == (0, "")
    assert Node.asked == ["GET /api/v1/mounts/explain?bucket=joint&key=hot%2Fer%2Fa+b%26c"]
    assert out.splitlines() == list(lines(Node.answer[1]))


def test_an_explanation_for_people() -> None:
    assert list(lines(explain(CONFIG, "joint", "hot/er/k"))) == [
        "s3://joint/hot/er/k",
        "",
        "mounts, as they are tried",
        "  →  joint/hot/er  the longest prefix that the key begins with: hot/er/",
        "     joint/hot     a longer prefix is tried before it",
        "     joint         a longer prefix is tried before it",
        "     *             the bucket has mounts of its own",
        "",
        "place",
        "  nas (file): faster/x/k",
        "  then aws (s3): old/y/k",
        "  then aws (s3): older/k",
        "",
        "rules, as they are tried",
        "     1  joint/hot/*.bin  does not match",
        "  →  2  joint/hot/**     the first that matches",
        "     3  joint/**         a rule before it matches",
        "     4  joint/hot/er/**  a rule before it matches",
        "     -  default          a rule before it matches",
        "",
        "what applies",
        "  consistency  immutable",
        "  cache        yes",
        "  ttl          1h",
        "  pin          yes",
        "  quota        1GiB",
        "  read_ahead   16MiB",
        "  write        through",
        "  read_only    no",
        "",
        "identities that may",
        "  read   all",
        "  write  all",
    ]


def test_offline_from_a_config(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    (tmp_path / "root").mkdir()
    config.write_text(
        f'origins = [{{name = "nas", type = "file", root = "{tmp_path}/root"}}]\n'
        'mounts = [{path = "data/in", origin = "nas", remote = "there"}]\n'
        f'node = {{data_dir = "{tmp_path}"}}\n'
    )
    status, out, _ = gateway("mounts", "explain", "data/in/k", "--config", config, "--json")
    assert status == 0
    assert json.loads(out)["place"] == {"origin": "nas", "type": "file", "bucket": "there", "key": "k"}
    status, out, _ = gateway("mounts", "explain", "s3://data/out", "--config", config)
    assert status == 1
    assert "none: the answer is NoSuchKey" in out
    config.write_text("[[")
    status, out, err = gateway("mounts", "explain", "s3://data/out", "--config", config)
    assert (status, out, len(err.splitlines())) == (2, "", 1)


def test_addresses() -> None:
    assert parsed("s3://b/a//k%20?") == ("b", "a//k%20?")
    assert parsed("b") == parsed("s3://b/") == ("b", "")
    for wrong in ("", "s3://", "https://host/b/k", "/k"):
        with pytest.raises(typer.BadParameter):
            parsed(wrong)
    assert gateway("mounts", "explain", "https://host/b").status == 2


def test_no_gateway_is_3() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for arguments in (["mounts"], ["mounts", "explain", "s3://b/k"], ["reload"]):
        assert gateway(*arguments, "--admin", url) == (
            3,
            "",
            f"no gateway answers at {url}: Connection refused\n",
        )


def test_a_reload_tells_what_changed(node: str) -> None:
    changed = {"mounts": {"added": ["a", "b"], "removed": ["c"]}, "rules": {"reordered": True}}
    Node.answer = (200, {"reloaded": True, "changed": changed})
    status, out, err = gateway("reload", "--admin", node)
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "reloaded",
        "  mounts added: a, b",
        "  mounts removed: c",
        "  rules reordered",
    ]
    assert Node.asked == ["POST /api/v1/reload"]
    assert json.loads(gateway("reload", "--admin", node, "--json").out) == Node.answer[1]
    assert list(reload_lines({})) == ["reloaded, nothing changed"]


def test_a_reload_that_is_refused_is_1_and_every_mistake_a_line(node: str) -> None:
    mistakes = [{"path": "rules[0].match", "text": "must be written"}, {"path": "x", "text": "is no key"}]
    Node.answer = (400, {"error": "the config has mistakes", "mistakes": mistakes})
    status, out, err = gateway("reload", "--admin", node)
    assert (status, out) == (1, "")
    assert err.splitlines() == [
        f"{node} answered 400: the config has mistakes",
        "rules[0].match: must be written",
        "x: is no key",
    ]
