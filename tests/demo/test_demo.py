"""The demo as users run it: a command that ends by itself, or serves until Ctrl-C, and leaves nothing either way."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests import stores
from tests.gateway_process import command_line
from tests.processes import Child, wait_for
from tests.whole import lacking


def start(directory: Path, *arguments: str, shards: int = 0) -> Child:
    """AWS settings of the user are there to be ignored. `shards`: of the data set, where not as many as usual."""
    environment = {
        "TMPDIR": str(directory),
        "COLUMNS": "120",
        "PYTHONUNBUFFERED": "1",
        "AWS_PROFILE": "no-such-profile",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "GATEWAY_LISTEN__S3": "127.0.0.1:1",
    }
    program = "import sys; from gateway.cli import demo_data, main; "
    program += f"demo_data.SHARDS = {shards} or demo_data.SHARDS; sys.exit(main.run(sys.argv[1:]))"
    argv = [sys.executable, "-c", program, "demo", *arguments]
    return Child(argv, directory.with_suffix(".log"), environment)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "tmp"
    path.mkdir()
    return path


def started_from(directory: Path) -> list[str]:
    """Command lines of processes whose config lies there: both gateways."""
    lines = [command_line(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [line for line in lines if str(directory) in line]


def nothing_is_left(directory: Path) -> None:
    wait_for("the demo's gateways have ended", lambda: not started_from(directory))
    assert list(directory.iterdir()) == []


def gets_of(text: str) -> dict[str, int]:
    """The table's GETs to the far store, by what was read."""
    return {name.strip(): int(count) for name, count in re.findall(r"│ ([\w ]+)│.*?│.*?│\s+(\d+) │", text)}


def test_it_shows_a_warm_epoch_without_the_far_store_and_leaves_nothing(directory: Path) -> None:
    demo = start(directory)
    status = demo.process.wait(90)
    text = demo.output()
    assert status == 0, text
    gets = gets_of(text)
    assert gets["direct"] > 0
    assert gets["cold"] > gets["direct"]  # several ranges of each shard
    assert gets["warm"] == gets["warm again"] == 0
    assert "every byte" in text
    nothing_is_left(directory)


@pytest.mark.parametrize("origin", ["s3", "gcs", "azure"])
def test_each_cloud_shows_the_same(origin: str, directory: Path) -> None:
    if origin == "azure" and stores.azurite() is None:
        lacking("no Azurite: `make test` installs it into .venvs/azurite")
    demo = start(directory, "--origin", origin, shards=1)
    status = demo.process.wait(90)
    text = demo.output()
    assert status == 0, text
    gets = gets_of(text)
    assert gets["direct"] == 1
    assert gets["cold"] > 1
    assert gets["warm"] == gets["warm again"] == 0
    assert "every byte" in text
    nothing_is_left(directory)


def test_an_origin_that_is_none_is_bad_usage(directory: Path) -> None:
    demo = start(directory, "--origin", "ftp")
    assert demo.process.wait(30) == 2
    assert "'ftp' is none of file, s3, gcs, azure" in demo.output()


def exported(text: str) -> dict[str, str]:
    return dict(re.findall(r"^export (\w+)=(\S+)$", text, re.MULTILINE))


def test_kept_it_serves_what_its_exports_say_until_it_is_interrupted(directory: Path) -> None:
    demo = start(directory, "--keep")
    demo.wait_ready("the demo", lambda: "AWS_DEFAULT_REGION" in exported(demo.output()), 90)
    names = exported(demo.output())
    client: Any = boto3.client(
        "s3",
        endpoint_url=names["AWS_ENDPOINT_URL"],
        aws_access_key_id=names["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=names["AWS_SECRET_ACCESS_KEY"],
        region_name=names["AWS_DEFAULT_REGION"],
        config=Config(s3={"addressing_style": "path"}),
    )
    assert client.list_objects_v2(Bucket="lake", Prefix="train/")["KeyCount"] > 0
    client.close()
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(30) == 0
    nothing_is_left(directory)


def test_killed_it_leaves_files_but_no_process(directory: Path) -> None:
    demo = start(directory)
    wait_for("both gateways were started", lambda: len(started_from(directory)) >= 2, 90)
    os.kill(demo.pid, signal.SIGKILL)
    demo.process.wait()
    wait_for("the demo's gateways have ended", lambda: not started_from(directory), 40)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_broken_off_it_leaves_nothing(directory: Path, number: signal.Signals) -> None:
    demo = start(directory)
    wait_for("a gateway was started", lambda: started_from(directory))
    os.kill(demo.pid, number)
    assert demo.process.wait(40) == 1
    nothing_is_left(directory)
