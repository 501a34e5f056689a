"""`gateway config check` prints what is in effect, or every mistake, one a line, and exits 2."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.unit.cli.cli import gateway
from tests.unit.config.sample import SECRET, tables, write


def test_a_good_config_is_printed_with_secrets_masked(tmp_path: Path) -> None:
    status, out, err = gateway(
        "config", "check", write(tmp_path, tables()), env={"GATEWAY_NODE__WORKERS": "3"}
    )
    assert (status, err) == (0, "")
    assert SECRET not in out
    effective = tomllib.loads(out)
    assert effective["node"]["workers"] == 3
    assert effective["cache"] == {
        "capacity": "1GiB",
        "block_size": "1MiB",
        "stripe_blocks": 16,
        "segment_size": "256MiB",
    }
    assert effective["identities"][0]["secret_key"] == "********"


def test_mistakes_are_lines_on_stderr(tmp_path: Path) -> None:
    raw = tables()
    raw["node"]["workers"] = "many"
    raw["origins"][0]["endpoint"] = "localhost"
    raw["origins"][0]["secret"] = SECRET
    status, out, err = gateway("config", "check", write(tmp_path, raw))
    assert (status, out) == (2, "")
    assert [line.partition(": ")[0] for line in err.splitlines()] == [
        "node.workers",
        "origins[0].endpoint",
        "origins[0].secret",
    ]
    assert SECRET not in err


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"[node]\nname = \n", ":2: invalid value (column 8)"),
        (b"\xff", ":1: is not UTF-8 text"),
    ],
)
def test_a_file_that_is_not_toml(tmp_path: Path, content: bytes, line: str) -> None:
    file = tmp_path / "gateway.toml"
    file.write_bytes(content)
    assert gateway("config", "check", file) == (2, "", f"{file}{line}\n")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "none.toml"
    assert gateway("config", "check", file) == (2, "", f"{file}: cannot be read: No such file or directory\n")


def test_what_looks_forgotten_is_a_note_not_a_mistake(tmp_path: Path) -> None:
    status, out, err = gateway("config", "check", write(tmp_path, {}))
    assert status == 0
    assert tomllib.loads(out)["node"]["workers"] == 0
    assert [line.split(":")[0] for line in err.splitlines()] == ["note", "note"]


def test_serve_refuses_the_same_mistakes(tmp_path: Path) -> None:
    raw = tables()
    raw["rules"][0]["write"] = "back"
    status, out, err = gateway("serve", "--config", write(tmp_path, raw))
    assert (status, out) == (2, "")
    assert err.startswith('rules[0].write: "back" cannot be had')
    assert err.count("\n") == 1
