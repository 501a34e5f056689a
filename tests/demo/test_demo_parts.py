"""The demo's parts without a gateway: its far network, its data, its training loop against any S3 server."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import tarfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gateway.cli import demo, demo_data, demo_nodes, demo_training
from gateway.cli.demo_training import DemoError, Epoch
from gateway.cli.demo_wan import HOST, Network, Relay
from gateway.cli.emulators import programs
from gateway.config.load import load
from tests.stores import S3Server

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def through_relay(far: Talk, near: Talk, rtt_s: float, rate: float) -> None:
    """Lets the two talk over one relayed connection until both have ended."""
    ended = asyncio.Event()

    async def far_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await far(reader, writer)
        await closed(writer)
        ended.set()

    server = await asyncio.start_server(far_end, HOST, 0)
    relay = Relay(Network(server.sockets[0].getsockname()[1], rtt_s, rate))
    await relay.start()
    reader, writer = await asyncio.open_connection(HOST, relay.port)
    await near(reader, writer)
    await closed(writer)
    await ended.wait()
    await relay.close()
    server.close()


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def test_the_first_answer_takes_two_round_trips_and_the_next_one() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)

    took = []

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            began = time.perf_counter()
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            took.append(time.perf_counter() - began)

    await through_relay(echo, ask, rtt_s=0.1, rate=1e9)
    assert took[0] >= 0.19  # connecting and asking
    assert 0.09 <= took[1] < 0.19


async def test_a_connection_is_as_fast_as_its_rate_and_no_byte_changes() -> None:
    body = os.urandom(4_000_000)

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(body)
        await writer.drain()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began = time.perf_counter()
        assert await reader.read(-1) == body
        assert time.perf_counter() - began >= 0.1

    await through_relay(send, receive, rtt_s=0.0, rate=40e6)


async def test_a_far_side_that_is_not_there_ends_the_connection() -> None:
    [port] = demo_nodes.free_ports(1)
    relay = Relay(Network(port, 0.01, 1e9))
    await relay.start()
    reader, writer = await asyncio.open_connection(HOST, relay.port)
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    await closed(writer)
    await relay.close()


def test_shards_are_alike_on_every_run_and_are_tar_files(tmp_path: Path) -> None:
    one = demo_data.write_shards(tmp_path / "one", 2, 3, 1000)
    assert one == demo_data.write_shards(tmp_path / "two", 2, 3, 1000)
    assert len({shard.sha256 for shard in one}) == 2
    with tarfile.open(fileobj=io.BytesIO((tmp_path / "one" / one[0].key).read_bytes())) as tar:
        assert [member.size for member in tar] == [1000] * 3


@pytest.fixture
def lake(moto: S3Server, tmp_path: Path) -> Iterator[tuple[Any, list[demo_data.Shard]]]:
    moto.make_buckets("lake")
    client = moto.client()
    shards = demo_data.write_shards(tmp_path, 3, 10, 2000)
    for shard in shards:
        client.put_object(Bucket="lake", Key=shard.key, Body=(tmp_path / shard.key).read_bytes())
    yield client, shards
    client.close()


def test_an_epoch_reads_every_sample_once(lake: tuple[Any, list[demo_data.Shard]]) -> None:
    client, shards = lake
    seen: list[int] = []
    took = demo_training.epoch(client, "lake", shards, seen.append, step_s=0.001)
    assert sum(seen) == 30 * 2000
    assert took.count == sum(shard.size for shard in shards)
    assert 0 < took.waiting <= 1


def test_an_epoch_ends_at_the_first_shard_that_is_not_what_was_written(
    lake: tuple[Any, list[demo_data.Shard]],
) -> None:
    client, shards = lake
    with pytest.raises(DemoError, match=re.escape(shards[0].key)):
        demo_training.epoch(client, "lake", [replace(shards[0], sha256="0" * 64), *shards[1:]], step_s=0)


def test_a_missing_shard_is_an_error_and_no_hang(lake: tuple[Any, list[demo_data.Shard]]) -> None:
    client, shards = lake
    with pytest.raises(client.exceptions.NoSuchKey):
        demo_training.epoch(client, "lake", [replace(shards[0], key="train/none.tar")], step_s=0)


def test_a_checkpoint_is_written_in_parts_and_comes_back(lake: tuple[Any, list[demo_data.Shard]]) -> None:
    client, _ = lake
    written, read = demo_training.save_and_restore(
        client, "lake", "checkpoint", demo_data.checkpoint(11 << 20)
    )
    assert written > 0
    assert read > 0
    assert client.head_object(Bucket="lake", Key="checkpoint")["ETag"].endswith('-3"')


@pytest.mark.parametrize("cache", [True, False])
def test_the_configs_are_valid(cache: bool, tmp_path: Path) -> None:
    origin = 'type = "s3"\nendpoint = "http://127.0.0.1:1"\naccess_key = "a"\nsecret_key = "b"'
    if not cache:
        origin = f'type = "file"\nroot = "{tmp_path}"'
    (tmp_path / "near").mkdir()
    text = demo_nodes.config_text(
        tmp_path / "near", demo_nodes.Keys.fresh("near"), origin, (9000, 9001), workers=1, cache=cache
    )
    (tmp_path / "gateway.toml").write_text(text)
    config = load(tmp_path / "gateway.toml", {})
    assert config.rules[0].cache is cache
    assert config.origins[0].type == ("s3" if cache else "file")


def test_the_table_and_the_story_tell_the_figures() -> None:
    size = 96 * 2**20
    rows = [
        demo.Row("direct", Epoch(2.0, size, 0.8), 12),
        demo.Row("cold", Epoch(1.0, size, 0.5), 24),
        demo.Row("warm", Epoch(0.5, size, 0.1), 0),
        demo.Row("warm again", Epoch(0.4, size, 0.05), 0),
    ]
    console = Console(file=io.StringIO(), width=100)
    console.print(demo.table(rows))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(r"direct\W+2.00\W+48\W+12\W+80%", text)
    assert re.search(r"warm again\W+0.40\W+240\W+0\W+5%", text)
    direct, through, checkpoint = demo.story(rows, 16 << 20, (1.5, 0.25))
    assert "80%" in direct
    assert "24 parallel ranged GETs (2.0 × as fast)" in through
    assert "the last one took none (5.0 × as fast)" in through
    assert "16 MiB was written in 1.50 s" in checkpoint


def test_a_failure_is_one_line_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(demo_nodes.sys, "executable", "/bin/false")
    monkeypatch.setattr(demo_data, "SHARDS", 1)
    console = Console(file=io.StringIO(), width=300)
    before = dict(os.environ)
    assert demo.demo(console=console) == 1
    last = console.file.getvalue().strip().splitlines()[-1]  # type: ignore[attr-defined]
    assert last.startswith("demo failed: the far")
    assert list(tmp_path.iterdir()) == []
    assert dict(os.environ) == before


@pytest.mark.parametrize(("kind", "install"), [("s3", "moto"), ("gcs", "moto"), ("azure", "azurite")])
def test_a_missing_emulator_is_one_line_that_says_how_to_get_it(
    kind: str, install: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(programs.shutil, "which", lambda *asked, **more: None)
    console = Console(file=io.StringIO(), width=300)
    assert demo.demo(kind=kind, console=console) == 2
    last = console.file.getvalue().strip().splitlines()[-1]  # type: ignore[attr-defined]
    assert last.startswith("demo: ")
    assert "install" in last
    assert install in last
    assert list(tmp_path.iterdir()) == []
