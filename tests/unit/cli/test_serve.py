"""`gateway serve` without a config: it prints what a client needs, the client works with just that, and the keys and
data are still there the next time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.processes import Child, free_port, wait_for
from tests.unit.cli.cli import gateway


@contextmanager
def served(directory: Path, s3: int, admin: int) -> Iterator[dict[str, str]]:
    """The printed exports of a node that is ready; it must end with 0."""
    env = {
        "GATEWAY_LISTEN__S3": f"127.0.0.1:{s3}",
        "GATEWAY_LISTEN__ADMIN": f"127.0.0.1:{admin}",
        "GATEWAY_NODE__WORKERS": "1",
        "GATEWAY_CACHE__CAPACITY": "256MiB",
    }
    child = Child([sys.executable, "-m", "gateway.cli.main", "serve"], directory / "log", env)
    try:
        wait_for("the node is ready", lambda: '"state": "ready"' in status(admin), 30)
        lines = [line for line in child.output().splitlines() if line.startswith("export ")]
        yield dict(line.removeprefix("export ").split("=", 1) for line in lines[-4:])
    finally:
        ended = child.terminate(40)
    assert ended == 0, child.output()


def status(admin: int) -> str:
    return gateway("status", "--json", "--admin", f"http://127.0.0.1:{admin}").out


def client(exports: dict[str, str]) -> closing[Any]:
    return closing(
        boto3.client(
            "s3",
            endpoint_url=exports["AWS_ENDPOINT_URL"],
            aws_access_key_id=exports["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=exports["AWS_SECRET_ACCESS_KEY"],
            region_name=exports["AWS_REGION"],
        )
    )


def test_a_node_without_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    s3, admin = free_port(), free_port()
    (tmp_path / "gateway-data/origin/runs").mkdir(parents=True)
    with served(tmp_path, s3, admin) as first, client(first) as boto:
        boto.put_object(Bucket="runs", Key="a/b", Body=b"kept")
    assert (tmp_path / "gateway-data/origin/runs/a/b").read_bytes() == b"kept"
    with served(tmp_path, s3, admin) as second, client(second) as boto:
        answer = boto.get_object(Bucket="runs", Key="a/b")
        with closing(answer["Body"]) as body:
            assert body.read() == b"kept"
    assert first == second


def test_a_port_that_is_taken_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    s3, admin = free_port(), free_port()
    with served(tmp_path, s3, admin):
        other = tmp_path / "other"
        other.mkdir()
        env = {"GATEWAY_LISTEN__S3": f"127.0.0.1:{s3}", "GATEWAY_LISTEN__ADMIN": f"127.0.0.1:{free_port()}"}
        ended = gateway("serve", env=env, cwd=other)
    assert ended.status in (1, 2)
    assert ended.err.count("\n") == 1
    assert f"127.0.0.1:{s3}" in ended.err
