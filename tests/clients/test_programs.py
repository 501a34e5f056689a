"""Clients that are programs, or that need an environment of their own: boto3 before 1.36, the AWS CLI,
rclone, s5cmd, DuckDB's httpfs, polars, object_store, the CRT. They start slowly, so each runs against one
target."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import duckdb
import pytest
import s3fs

from tests.clients.programs import program, run, run_script
from tests.stores import rclone
from tests.targets import Target

LARGE = random.Random(5).randbytes(18 * 2**20 + 1)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small directory with a file that goes up in parts. An hour old: stores tell whole seconds, so `aws s3 sync`
    takes a file for newer than its own upload in the same second."""
    root, hour_ago = tmp_path / "tree", time.time() - 3600
    (root / "sub dir").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"a")
    (root / "sub dir" / "b+ü.txt").write_bytes(b"b" * 10_000)
    (root / "empty").write_bytes(b"")
    (root / "large.bin").write_bytes(LARGE)
    for path in root.rglob("*"):
        os.utime(path, (hour_ago, hour_ago))
    return root


def same(left: Path, right: Path) -> bool:
    def files(root: Path) -> dict[str, bytes]:
        return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}

    return files(left) == files(right)


def test_boto3_before_the_checksum_default(one_target: Target, key: str) -> None:
    run_script(one_target, "boto3-old", "old_boto3.py", key)


def test_aws_cli_copies_syncs_lists_and_presigns(
    one_target: Target, key: str, tree: Path, tmp_path: Path
) -> None:
    aws = program("awscli", "aws")
    home = f"s3://data/{key}"
    run(one_target, aws, "s3", "sync", tree, home)
    assert run(one_target, aws, "s3", "sync", tree, home) == ""  # nothing has changed
    listing = run(one_target, aws, "s3", "ls", "--recursive", f"{home}/")
    assert [line.split(maxsplit=3)[2] for line in listing.splitlines()] == [
        "1",
        "0",
        str(len(LARGE)),
        "10000",
    ]
    run(one_target, aws, "s3", "cp", "--recursive", f"{home}/", tmp_path / "back")
    assert same(tree, tmp_path / "back")
    url = run(one_target, aws, "s3", "presign", f"{home}/a.txt").strip()
    assert "AWSAccessKeyId=" in url or "X-Amz-Signature=" in url
    run(one_target, "curl", "-sf", "-o", tmp_path / "presigned", url)
    assert (tmp_path / "presigned").read_bytes() == b"a"
    run(one_target, aws, "s3", "mv", f"{home}/a.txt", f"{home}/moved.txt")
    where = ["--bucket", "data", "--key", f"{key}/moved.txt"]
    assert json.loads(run(one_target, aws, "s3api", "head-object", *where))["ContentLength"] == 1
    run(one_target, aws, "s3api", "get-object", *where, "--range", "bytes=0-0", tmp_path / "ranged")
    run(one_target, aws, "s3", "rm", "--recursive", f"{home}/")
    left = run(one_target, aws, "s3api", "list-objects-v2", "--bucket", "data", "--prefix", f"{key}/")
    assert "Contents" not in left


def test_rclone_copies_checks_and_lists(one_target: Target, key: str, tree: Path, tmp_path: Path) -> None:
    environment = {
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CONFIG_GW_TYPE": "s3",
        "RCLONE_CONFIG_GW_PROVIDER": "Other",
        "RCLONE_CONFIG_GW_ENV_AUTH": "true",
        "RCLONE_CONFIG_GW_ENDPOINT": one_target.endpoint,
        "RCLONE_S3_UPLOAD_CUTOFF": "6M",
        "RCLONE_S3_CHUNK_SIZE": "6M",
    }

    def call(*arguments: str | Path) -> str:
        return run(one_target, rclone(), *arguments, environment=environment)

    home = f"gw:data/{key}"
    call("copy", tree, home)
    call("check", tree, home)
    call("check", "--download", tree, home)
    listing = json.loads(call("lsjson", "-R", "--files-only", home))
    assert {entry["Path"]: entry["Size"] for entry in listing} == {
        "a.txt": 1,
        "empty": 0,
        "large.bin": len(LARGE),
        "sub dir/b+ü.txt": 10_000,
    }
    call("sync", home, tmp_path / "back")
    assert same(tree, tmp_path / "back")
    call("copyto", f"{home}/a.txt", f"{home}/copied.txt")
    assert call("cat", f"{home}/copied.txt") == "a"
    assert call("cat", "--offset", "9990", f"{home}/sub dir/b+ü.txt") == "b" * 10
    call("purge", home)
    assert json.loads(call("lsjson", "gw:data", "--include", f"{key}/**")) == []


def test_s5cmd_copies_and_lists(one_target: Target, key: str, tree: Path, tmp_path: Path) -> None:
    s5cmd = program("engines", "s5cmd")
    environment = {"S3_ENDPOINT_URL": one_target.endpoint}
    run(one_target, s5cmd, "cp", "-p", "5", f"{tree}/", f"s3://data/{key}/", environment=environment)
    for back in ("cold", "warm"):
        (tmp_path / back).mkdir()
        source, sink = f"s3://data/{key}/*", f"{tmp_path / back}/"
        run(one_target, s5cmd, "cp", "-p", "5", source, sink, environment=environment)
        assert same(tree, tmp_path / back)
    assert len(run(one_target, s5cmd, "ls", f"s3://data/{key}/*", environment=environment).splitlines()) == 4
    run(one_target, s5cmd, "rm", f"s3://data/{key}/*", environment=environment)


@pytest.mark.parametrize("engine", ["duckdb", "polars", "obstore", "crt"])
def test_engines_with_their_own_s3_client(one_target: Target, key: str, engine: str) -> None:
    create = ["create"] if "conditional_writes" in one_target.faithful else []
    run_script(one_target, "engines", "engines.py", engine, key, *create)


def test_duckdb_over_fsspec(one_target: Target, key: str) -> None:
    fs = s3fs.S3FileSystem(
        key=one_target.access_key,
        secret=one_target.secret_key,
        endpoint_url=one_target.endpoint,
        skip_instance_cache=True,
    )
    with duckdb.connect() as con:
        con.register_filesystem(fs)
        con.execute(f"COPY (SELECT i FROM range(100000) t(i)) TO 's3://data/{key}.parquet' (FORMAT parquet)")
        assert con.execute(f"SELECT sum(i) FROM 's3://data/{key}.parquet'").fetchone() == (
            sum(range(100_000)),
        )
