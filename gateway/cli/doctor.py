"""`gateway doctor`: does an S3 endpoint do what stock clients need? Works against this gateway and any other.

Writes under a prefix of its own in the given bucket and removes it again. One line per check. Exit status 0 all
ok (or skipped), 1 something failed, 2 no keys, 3 nothing answered at the endpoint.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import typer
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, HTTPClientError
from rich.console import Console
from rich.text import Text

from gateway.cli.doctor_lab import CHECKS, Account, Check, Failed, Lab, Skipped

ROOMS = ("objects", "lists", "uploads", "access", "clients")  # in the order in which they are checked
Outcome = Literal["ok", "FAILED", "skipped"]


@dataclass(frozen=True)
class Report:
    check: str
    outcome: Outcome
    detail: str
    seconds: float


class Unusable(Exception):
    """No check makes sense; the text is the one line that the user sees, `status` the exit status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


def command(
    endpoint: str = typer.Option(..., "--endpoint", envvar="AWS_ENDPOINT_URL", help="http://HOST:PORT"),
    bucket: str = typer.Option(..., "--bucket", help="A bucket that exists and may be written to."),
    prefix: str = typer.Option("", "--prefix", help="Write below this prefix only."),
    access_key: str = typer.Option("", "--access-key", envvar="AWS_ACCESS_KEY_ID"),
    secret_key: str = typer.Option(
        "", "--secret-key", envvar="AWS_SECRET_ACCESS_KEY", help="Better by the variable."
    ),
    region: str = typer.Option("us-east-1", "--region", envvar=["AWS_REGION", "AWS_DEFAULT_REGION"]),
    as_json: bool = typer.Option(False, "--json", help="The whole report as JSON."),
) -> None:
    """Check what an S3 endpoint does, with stock clients."""
    if not (access_key and secret_key):
        typer.echo("no keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", err=True)
        raise typer.Exit(2)
    account = Account(access_key, secret_key, region, os.environ.get("AWS_SESSION_TOKEN"))
    raise typer.Exit(doctor(endpoint, bucket, account, prefix, as_json=as_json))


def doctor(
    endpoint: str,
    bucket: str,
    account: Account,
    prefix: str = "",
    *,
    as_json: bool = False,
    console: Console | None = None,
) -> int:
    """Runs every check and prints its line as it ends; the exit status."""
    console = console or Console(highlight=False, soft_wrap=True)
    told: Callable[[Report], object] = (lambda report: None) if as_json else (lambda r: _print(console, r))
    try:
        reports = examine(endpoint, bucket, account, prefix, told)
    except Unusable as unusable:
        typer.echo(str(unusable), err=True)
        return unusable.status
    failed = sum(report.outcome == "FAILED" for report in reports)
    skipped = sum(report.outcome == "skipped" for report in reports)
    if as_json:
        whole = {"endpoint": endpoint, "bucket": bucket, "failed": failed, "skipped": skipped}
        typer.echo(json.dumps(whole | {"checks": [asdict(report) for report in reports]}, indent=2))
    else:
        ok = len(reports) - failed - skipped
        console.print(f"{ok} ok, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def examine(
    endpoint: str,
    bucket: str,
    account: Account,
    prefix: str = "",
    told: Callable[[Report], object] = lambda report: None,
) -> list[Report]:
    """The reports of all checks, each also told as soon as it is there. Raises Unusable."""
    for room in ROOMS:
        importlib.import_module(f"gateway.cli.doctor_{room}")
    if not endpoint.startswith(("http://", "https://")):
        raise Unusable(f"{endpoint!r} is not a URL such as http://127.0.0.1:9000", 2)
    with _lab(endpoint, bucket, account, prefix) as lab:
        _probe(lab)
        reports = []
        try:
            for check in CHECKS:
                reports.append(_one(check, lab))
                told(reports[-1])
        finally:
            left = _one(Check("everything it wrote is removed again", clean), lab)
            told(left)
        return [*reports, left]


@contextmanager
def _lab(endpoint: str, bucket: str, account: Account, prefix: str) -> Iterator[Lab]:
    lab = Lab(endpoint, bucket, account, prefix)
    try:
        yield lab
    finally:
        lab.close()


def _probe(lab: Lab) -> None:
    """Is anybody there, and may we use the bucket? Raises Unusable."""
    try:
        lab.s3.list_objects_v2(Bucket=lab.bucket, Prefix=lab.prefix, MaxKeys=1)
    except ClientError as error:
        raise Unusable(f"cannot use bucket {lab.bucket!r} at {lab.endpoint}: {error}", 1) from None
    except (EndpointConnectionError, HTTPClientError) as error:
        raise Unusable(f"nothing answers at {lab.endpoint}: {_line(error)}", 3) from None
    except BotoCoreError as error:
        raise Unusable(f"what answers at {lab.endpoint} does not speak S3: {_line(error)}", 3) from None


def _one(check: Check, lab: Lab) -> Report:
    began = time.monotonic()
    outcome: Outcome = "FAILED"
    detail = ""
    try:
        check.run(lab)
        outcome = "ok"
    except Skipped as why:
        outcome, detail = "skipped", str(why)
    except Failed as what:
        detail = str(what)
    except Exception as error:  # clients raise what they like; here it is the finding
        detail = _line(error)
    return Report(check.name, outcome, detail, round(time.monotonic() - began, 3))


def clean(lab: Lab) -> None:
    """Deletes what lies under the run's prefix, one by one: this must work where DeleteObjects does not."""
    for upload in _open_uploads(lab):
        lab.s3.abort_multipart_upload(Bucket=lab.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    for name in lab.names():
        lab.s3.delete_object(**lab.at(name))
    if left := lab.names():
        raise Failed(f"{len(left)} objects are left under {lab.prefix}")


def _open_uploads(lab: Lab) -> Sequence[Any]:
    answer = lab.s3.list_multipart_uploads(Bucket=lab.bucket, Prefix=lab.prefix)
    return [each for each in answer.get("Uploads", ()) if each["Key"].startswith(lab.prefix)]


def _print(console: Console, report: Report) -> None:
    style = {"ok": "green", "FAILED": "bold red", "skipped": "yellow"}[report.outcome]
    line = Text(f"{report.outcome:8}", style=style)
    line.append(report.check, style="default")
    if report.detail:
        line.append(f": {report.detail}", style="default")
    console.print(line)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
