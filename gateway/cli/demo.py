"""`gateway demo`: what a cache beside the training job is worth, shown on one machine without a cloud.

A data set lies in a far store, 50 ms away: a directory, or with `--origin` a cloud's emulator. A training loop reads
it once directly, once through a cold gateway and twice through the warm one, then saves a checkpoint. Every byte that
it reads is compared with what was written. Takes about 20 seconds on two cores. Everything is in a temporary directory
that is removed in the end.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from gateway.cli import demo_data, demo_training
from gateway.cli.demo_nodes import BUCKET, RATE_MB, REGION, RTT_MS, Keys, Stage, origin_gets
from gateway.cli.demo_stores import STORES, boto3_client
from gateway.cli.demo_training import DemoError, Epoch
from gateway.cli.emulators.programs import MissingProgramError

KINDS = {
    "file": "A far store",
    "s3": "An emulator of S3",
    "gcs": "An emulator of Google Cloud Storage",
    "azure": "An emulator of Azure Blob Storage",
}
CHECKPOINT = "checkpoints/step-000192.pt"


@dataclass(frozen=True)
class Row:
    name: str
    epoch: Epoch
    origin_gets: int


def command(
    keep: bool = typer.Option(
        False, "--keep", help="Leave it serving, with the exports a client needs, until Ctrl-C."
    ),
    origin: str = typer.Option(
        "file", "--origin", help=f"What the far store is: {', '.join(KINDS)} (a cloud's emulator)."
    ),
) -> None:
    """Show a small training job over a far store: directly, cold and warm. Needs no cloud and no config."""
    raise typer.Exit(demo(keep, origin))


def demo(keep: bool = False, kind: str = "file", console: Console | None = None) -> int:
    """Exit status 0 when all went well, 1 after one line of error, 2 after one about a program that is not installed.
    `keep`: the gateway then serves until Ctrl-C."""
    if kind not in KINDS:
        raise typer.BadParameter(f"{kind!r} is none of {', '.join(KINDS)}", param_hint="--origin")
    console = console or Console(highlight=False)
    try:
        with (
            _term_as_interrupt(),
            _plain_aws(),
            tempfile.TemporaryDirectory(prefix="gateway-demo-", ignore_cleanup_errors=True) as directory,
        ):
            _run(Path(directory), keep, kind, console)
    except MissingProgramError as error:
        console.print(f"demo: {error}", style="red", markup=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("\ninterrupted")
        return 1
    except Exception as error:  # boto3's errors have no common kind; whatever it is, it is one line
        console.print(f"demo failed: {_line(error)}", style="red", markup=False, soft_wrap=True)
        return 1
    return 0


def _run(directory: Path, keep: bool, kind: str, console: Console) -> None:
    say = console.print
    say(
        f"{KINDS[kind]}, {RTT_MS} ms and {RATE_MB} MB/s per connection away, holds {demo_data.SHARDS} tar shards. "
        "Starting it and a gateway near the training job …"
    )
    far = STORES[kind]()
    with Stage(directory, far) as stage:
        direct = far.reader(stage.relay_port)
        near = boto3_client(stage.near.endpoint, stage.near.keys)
        rows = _epochs(stage, direct, near, stage.shards, console)
        state = demo_data.checkpoint()
        saved = demo_training.save_and_restore(near, BUCKET, CHECKPOINT, state)
        if far.stored(CHECKPOINT) != state:
            raise DemoError("the checkpoint is not in the far store although its write was acknowledged")
        say(table(rows))
        say("\n".join(story(rows, len(state), saved)))
        if keep:
            _keep(stage, console)
        for client in (direct, near):
            client.close()


def _epochs(
    stage: Stage, direct: Any, near: Any, shards: list[demo_data.Shard], console: Console
) -> list[Row]:
    rows = [Row("direct", _epoch("direct", direct, shards, console), len(shards))]
    before = origin_gets(stage.near, 0)
    for number, name in enumerate(("cold", "warm", "warm again"), 1):
        took = _epoch(name, near, shards, console)
        after = origin_gets(stage.near, number * len(shards))
        rows.append(Row(name, took, after - before))
        before = after
    return rows


def _epoch(name: str, s3: Any, shards: list[demo_data.Shard], console: Console) -> Epoch:
    columns = (TextColumn("{task.description:10}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=sum(shard.size for shard in shards))
        took = demo_training.epoch(s3, BUCKET, shards, lambda count: progress.advance(task, count))
    console.print(f"  {name}: {took.seconds:.2f} s")
    return took


def table(rows: list[Row]) -> Table:
    shown = Table(
        title=f"one epoch: {rows[0].epoch.count / 2**20:.0f} MiB in tar shards", title_justify="left"
    )
    shown.add_column("read")
    for column in ("seconds", "MiB/s", "GETs to the far store", "time waiting for data"):
        shown.add_column(column, justify="right")
    for row in rows:
        shown.add_row(
            row.name,
            f"{row.epoch.seconds:.2f}",
            f"{row.epoch.mib_per_s:.0f}",
            str(row.origin_gets),
            f"{row.epoch.waiting:.0%}",
        )
    return shown


def story(rows: list[Row], checkpoint_bytes: int, saved: tuple[float, float]) -> list[str]:
    """What happened, in three sentences with this run's figures."""
    direct, cold, *_, warm = rows

    def faster(row: Row) -> str:
        return f"{direct.epoch.seconds / row.epoch.seconds:.1f} × as fast"

    through = (
        f"Through the gateway the first epoch took {cold.origin_gets} parallel ranged GETs ({faster(cold)}) and kept "
        f"what came on local disk; the last one took {warm.origin_gets or 'none'} ({faster(warm)})."
    )
    checkpoint = (
        f"A checkpoint of {checkpoint_bytes >> 20} MiB was written in {saved[0]:.2f} s and was in the far store before "
        f"that was acknowledged; it was read back in {saved[1]:.2f} s, and every byte of all this was right."
    )
    return [
        f"Directly, the step loop stood waiting for data {direct.epoch.waiting:.0%} of the time.",
        through,
        checkpoint,
    ]


def _keep(stage: Stage, console: Console) -> None:
    console.print("\nStill serving, until Ctrl-C:\n")
    for line in exports(stage.near.endpoint, stage.near.keys):
        console.print(line, markup=False, soft_wrap=True)
    console.print(
        f"\n  aws s3 ls s3://{BUCKET}/train/\n  curl -s http://127.0.0.1:{stage.near.admin}/metrics\n",
        markup=False,
    )
    try:
        while True:
            for process in stage.processes:
                process.check()
            time.sleep(1.0)
    except KeyboardInterrupt:
        console.print("\nending")


def exports(endpoint: str, keys: Keys) -> list[str]:
    return [
        f"export AWS_ENDPOINT_URL={endpoint}",
        f"export AWS_ACCESS_KEY_ID={keys.access}",
        f"export AWS_SECRET_ACCESS_KEY={keys.secret}",
        f"export AWS_DEFAULT_REGION={REGION}",
    ]


def _line(error: Exception) -> str:
    return " ".join(f"{error}".split()) or type(error).__name__


@contextmanager
def _plain_aws() -> Iterator[None]:
    """The user's AWS profile and proxies have no say here."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


@contextmanager
def _term_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does, so that nothing that it started is left."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
