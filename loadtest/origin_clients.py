"""CPU of one ranged GET at the client: ours, aiobotocore, and a bare aiohttp client without any signing; and ours for
Azure beside Azure's SDK (where `azure-storage-blob` is installed).

    python -m loadtest.origin_clients [--seconds 2]

One connection, one read at a time, against `loadtest.origin` in its own process; user and system time of this
process only, so what the network of a real machine adds is not in it. The best of three rounds counts, the clients
take turns. Prints µs per read and the ratio to ours for S3. What asks as for Azure is answered with Azure's headers.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import uvloop
from aiobotocore.session import get_session

from gateway.config.schema import OriginConfig
from gateway.model import Remote
from gateway.origins.factory import make_origin

try:
    from azure.storage.blob.aio import BlobClient
except ImportError:
    BlobClient = None

SIZES = {"4 KiB": 4 << 10, "1 MiB": 1 << 20, "8 MiB": 8 << 20}
OBJECT = Remote("bucket", f"clients/{64 << 20}/000000")
ROUNDS = 3
PIECE_BYTES = 1 << 20

Read = Callable[[int], Awaitable[None]]


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def cost_us(read: Read, size: int, seconds: float) -> float:
    await read(size)
    began, until, count = cpu_s(), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        await read(size)
        count += 1
    return (cpu_s() - began) / count * 1e6


def ours(origin: Any, etag: str) -> Read:
    async def read(size: int) -> None:
        count = 0
        async with origin.get(OBJECT, 0, size, if_match=etag) as reading:
            async for piece in reading.chunks():
                count += len(piece)
        assert count == size

    return read


def botocore(client: Any, etag: str) -> Read:
    async def read(size: int) -> None:
        count = 0
        answer = await client.get_object(
            Bucket=OBJECT.bucket, Key=OBJECT.key, Range=f"bytes=0-{size - 1}", IfMatch=etag
        )
        async with answer["Body"] as body:
            while piece := await body.read(PIECE_BYTES):
                count += len(piece)
        assert count == size

    return read


def azure_sdk(blob: Any) -> Read:
    async def read(size: int) -> None:
        count = 0
        stream = await blob.download_blob(offset=0, length=size)
        async for piece in stream.chunks():
            count += len(piece)
        assert count == size

    return read


def bare(session: aiohttp.ClientSession, url: str, etag: str) -> Read:
    async def read(size: int) -> None:
        count = 0
        headers = {"Range": f"bytes=0-{size - 1}", "If-Match": etag}
        async with session.get(url, headers=headers) as response:
            async for piece in response.content.iter_any():
                count += len(piece)
        assert count == size

    return read


async def compare(port: int, seconds: float) -> None:
    endpoint = f"http://127.0.0.1:{port}"
    keys = {"access_key": "key", "secret_key": "secret"}
    origin = make_origin(OriginConfig(name="truth", type="s3", endpoint=endpoint, **keys))
    etag = (await origin.head(OBJECT)).etag
    session = aiohttp.ClientSession(auto_decompress=False)
    made = get_session().create_client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    azure = make_origin(
        OriginConfig(
            name="blobs", type="azure", endpoint=endpoint, access_key="account", secret_key="c2VjcmV0"
        )
    )
    google = make_origin(OriginConfig(name="gcs", type="gcs", endpoint=endpoint, **keys))
    async with session, made as client, AsyncExitStack() as stack:
        reads = {
            "gateway": ours(origin, etag),
            "aiobotocore": botocore(client, etag),
            "aiohttp, unsigned": bare(session, f"{endpoint}/{OBJECT.bucket}/{OBJECT.key}", etag),
            "gateway, Azure": ours(azure, etag),
            "gateway, GCS": ours(google, etag),
        }
        if BlobClient is not None:
            key = {"account_name": "account", "account_key": "c2VjcmV0"}
            # One request for each read, as the others make.
            most = {"max_single_get_size": 16 << 20, "max_chunk_get_size": 16 << 20}
            blob = BlobClient(endpoint, OBJECT.bucket, OBJECT.key, credential=key, **most)
            reads["azure-storage-blob"] = azure_sdk(await stack.enter_async_context(blob))
        print(f"{'':8}" + "".join(f"{name:>26}" for name in reads))
        for label, size in SIZES.items():
            best = dict.fromkeys(reads, float("inf"))
            for _ in range(ROUNDS):
                for name, read in reads.items():
                    best[name] = min(best[name], await cost_us(read, size, seconds))
            base = best["gateway"]
            print(
                f"{label:8}" + "".join(f"{cost:>15,.0f} µs ({cost / base:.2f} x)" for cost in best.values())
            )
    await origin.close()
    await azure.close()
    await google.close()


def main() -> None:
    arguments = argparse.ArgumentParser(prog="loadtest.origin_clients")
    arguments.add_argument("--seconds", type=float, default=2.0)
    seconds = arguments.parse_args().seconds
    argv = [sys.executable, "-m", "loadtest.origin"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as truth:
        assert truth.stdout is not None
        port = json.loads(truth.stdout.readline())["port"]
        uvloop.run(compare(port, seconds))
        assert truth.stdin is not None
        truth.stdin.close()


if __name__ == "__main__":
    main()
