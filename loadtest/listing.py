"""LIST of 100,000 keys over three mounts of one bucket, beside listing the places: python -m loadtest.listing

Two mounts are of S3 servers that answer from memory (`listing_origin.py`: a page costs them well under a millisecond),
so that nothing hides what the gateway costs; the third is of a directory. The reader is boto3's paginator of
ListObjectsV2, as a job's is. The places themselves are listed by the same reader, one after the other. The directory
has no server of its own: what the fastest one could do is taken for it, which finds and looks at its files
(`os.scandir` and `stat`) and answers the same pages from memory. `--raw`: a reader that takes the keys out with a
pattern, so that most of the time is the servers'.

Figure to reach: every key once and in order, in ≤ 1.5 × the time of the places themselves, median of the rounds'
ratios. Rounds go places, gateway, places, gateway, …; a ratio is within its round. `--out` writes a JSON document."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import unquote_plus

import boto3
from botocore.config import Config

from loadtest.listing_origin import key_of
from loadtest.procs import HOST, Cores, Server, accepts, free_port, spawn, wait_until
from loadtest.results import Figure, Result
from loadtest.signing import Keys, Signer

KEYS = 100_000
ROUNDS = 5
REACH = 1.5
BUCKET = "lake"
MOUNTS = ("audio", "images", "text")  # the last is the directory
PAGE_SECONDS_MAX = 60
IDENTITY = Keys("listing", "listing-secret-0123456789")
_KEY = re.compile(rb"<Key>([^<]*)</Key>")
_TOKEN = re.compile(rb"<NextContinuationToken>([^<]*)<")

Listing = Callable[[int, str], Iterator[str]]


def with_boto3(port: int, bucket: str) -> Iterator[str]:
    client: Any = boto3.client(
        "s3",
        endpoint_url=f"http://{HOST}:{port}",
        aws_access_key_id=IDENTITY.access_key,
        aws_secret_access_key=IDENTITY.secret_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )
    with contextlib.closing(client):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for entry in page.get("Contents", ()):
                yield entry["Key"]


def raw(port: int, bucket: str) -> Iterator[str]:
    signer, token = Signer(IDENTITY, f"{HOST}:{port}"), ""
    connection = http.client.HTTPConnection(HOST, port, timeout=PAGE_SECONDS_MAX)
    connection.connect()
    with contextlib.closing(connection):
        while True:
            query = {"list-type": "2", "encoding-type": "url", "max-keys": "1000"}
            if token:
                query["continuation-token"] = token
            connection.sock.sendall(signer.head("GET", f"/{bucket}", query=query))
            response = http.client.HTTPResponse(connection.sock)
            response.begin()
            body = response.read()
            if response.status != 200:
                raise SystemExit(f"{response.status}: {body[:400]!r}")
            for key in _KEY.findall(body):
                yield unquote_plus(key.decode())
            found = _TOKEN.search(body)
            if found is None:
                return
            token = found[1].decode()


def walk(top: Path) -> int:
    """Finds every file below and asks what it is; their number."""
    count, todo = 0, [str(top)]
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                else:
                    count += entry.stat().st_size >= 0
    return count


def make_files(top: Path, keys: Sequence[str]) -> None:
    for key in keys:
        path = top / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def gateway(directory: Path, origins: Sequence[Server], cores: Cores) -> Server:
    port, admin = free_port(), free_port()
    config = directory / "gateway.toml"
    stores = "".join(
        f'[[origins]]\nname = "{name}"\ntype = "s3"\nendpoint = "http://{HOST}:{origin.port}"\n'
        f'access_key = "{IDENTITY.access_key}"\nsecret_key = "{IDENTITY.secret_key}"\n'
        for name, origin in zip(MOUNTS[:2], origins[:2], strict=True)
    )
    mounts = "".join(
        f'[[mounts]]\npath = "{BUCKET}/{name}"\norigin = "{name}"\nremote = "{BUCKET}"\n' for name in MOUNTS
    )
    config.write_text(
        f"""
[node]
data_dir = "{directory / "node"}"
workers = 1
[listen]
s3 = "{HOST}:{port}"
admin = "{HOST}:{admin}"
[cache]
capacity = "1GiB"
segment_size = "64MiB"
[log]
access = "off"
{stores}
[[origins]]
name = "{MOUNTS[-1]}"
type = "file"
root = "{directory / "root"}"
{mounts}
[[identities]]
name = "reader"
access_key = "{IDENTITY.access_key}"
secret_key = "{IDENTITY.secret_key}"
allow = [{{actions = ["s3:*"], resources = ["*"]}}]
"""
    )
    command: list[str | Path] = [sys.executable, "-m", "gateway.cli.main", "serve", "--config", config]
    server = spawn("gateway", command, cores=cores.server, log=directory / "gateway.log", port=port)
    wait_until(lambda: accepts(port), server)
    return server


def store(directory: Path, name: str, count: int, cores: Cores) -> Server:
    command = [sys.executable, "-m", "loadtest.listing_origin", name, str(count)]
    server = spawn(name, command, cores=cores.load, log=directory / f"{name}.log", talks=True)
    assert server.process.stdout is not None
    server.port = json.loads(server.process.stdout.readline())["s3"]
    return server


def measure(keys: int, rounds: int, reader: Listing) -> Result:
    cores = Cores.split()
    share = keys // len(MOUNTS)
    counts = [share, share, keys - 2 * share]
    expected = sorted(
        f"{name}/{key_of(name, number)}"
        for name, count in zip(MOUNTS, counts, strict=True)
        for number in range(count)
    )
    with tempfile.TemporaryDirectory(prefix="listing-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        top = directory / "root" / BUCKET
        make_files(top, [key_of(MOUNTS[-1], number) for number in range(counts[-1])])
        stores = [
            stack.enter_context(store(directory, one, count, cores))
            for one, count in zip(MOUNTS, counts, strict=True)
        ]
        server = stack.enter_context(gateway(directory, stores, cores))
        return _rounds(rounds, reader, server, stores, top, expected)


def _rounds(
    rounds: int, reader: Listing, server: Server, stores: Sequence[Server], top: Path, expected: list[str]
) -> Result:
    places, merged, cpu = [], [], []
    whole = True
    for _ in range(rounds + 1):  # the first only warms up
        began = time.perf_counter()
        files = walk(top)
        count = sum(sum(1 for _ in reader(origin.port, BUCKET)) for origin in stores)
        between, spent = time.perf_counter(), server.cpu_ns()
        found = list(reader(server.port, BUCKET))
        places.append(between - began)
        merged.append(time.perf_counter() - between)
        cpu.append((server.cpu_ns() - spent) / 1e6)
        in_directory = sum(key.startswith(f"{MOUNTS[-1]}/") for key in found)
        whole = whole and found == expected and (count, files) == (len(expected), in_directory)
    ratios = [one / other for one, other in zip(merged[1:], places[1:], strict=True)]
    pages = len(expected) / 1000
    return Result(
        "listing",
        f"LIST of {len(expected):,} keys over {len(MOUNTS)} mounts of one bucket",
        {
            "the places themselves": {"seconds": median(places[1:])},
            "gateway": {
                "seconds": median(merged[1:]),
                "CPU ms/page": median(cpu[1:]) / pages,
                "ratio min": min(ratios),
                "ratio max": max(ratios),
            },
        },
        [
            Figure("merged listing / the places themselves", median(ratios), REACH),
            Figure("every key once and in order", float(whole), 1.0, "", at_least=True),
        ],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--keys", type=int, default=KEYS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--raw", action="store_true", help="a reader that parses no XML")
    parser.add_argument("--out", type=Path, help="a file for the result as JSON")
    arguments = parser.parse_args()
    began = time.monotonic()
    result = measure(arguments.keys, arguments.rounds, raw if arguments.raw else with_boto3)
    result.seconds = time.monotonic() - began
    print(result.title)
    for name, row in result.rows.items():
        print(f"  {name:24}", "  ".join(f"{column} {value:.2f}" for column, value in row.items()))
    for figure in result.figures:
        print(
            f"  {'ok' if figure.ok else 'MISSED':6} {figure.what}: {figure.measured:.2f} (reach {figure.reach})"
        )
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(asdict(result), indent=2))
    return 0 if all(figure.ok for figure in result.figures) else 1


if __name__ == "__main__":
    sys.exit(main())
