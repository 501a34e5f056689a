"""The origin is far (50 ms, 40 MB/s per connection): one cold stream, a herd on one object, a footer read."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from loadtest import pattern, peers
from loadtest.bench import Bench, settle, signer_for
from loadtest.client import Generator, LoadError, gets, load
from loadtest.pattern import key_for
from loadtest.procs import Server, Watch
from loadtest.results import Figure, Result

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
RTT_MS, RATE_MB = 50.0, 40.0
HERD = 64
QUIET_S = 1.0  # without a byte from the origin: whatever was read ahead has come
QUIET_S_MAX = 60.0


def cold_stream(bench: Bench) -> Result:
    """Stock boto3, `get_object()["Body"].read()`, a fresh key each time, gateway and direct in turn."""
    size, repeats = 64 * MIB, bench.scaled(7, 3)
    result = Result("cold_stream", "One cold 64 MiB object over 50 ms, 40 MB/s per connection (boto3)")
    with bench.place() as place, ExitStack() as stack:
        origin = stack.enter_context(peers.start_origin(bench.cores.load, place))
        relay = stack.enter_context(_far(origin, bench, place))
        started = _caches(bench, stack, result, relay, place)
        if "direct" in bench.systems:
            started["direct"] = relay
        clients = {name: _boto3(server) for name, server in started.items()}
        for name, client in clients.items():  # connections open, as in the midst of an epoch
            _timed_read(client, key_for(f"first-{name}", MIB, 0))
        seconds: dict[str, list[float]] = {name: [] for name in clients}
        for number in range(repeats):
            for name, client in clients.items():
                seconds[name].append(_timed_read(client, key_for(f"cold-{name}", size, number)))
        result.notes.append(_relay_ceiling(origin, bench, place))
    for name, taken in seconds.items():
        rate = size / MIB / median(taken)
        result.rows[name] = {"seconds": median(taken), "min": min(taken), "max": max(taken), "MiB/s": rate}
    for name, reach in (("gateway", 3.0), ("nginx", None)):
        measured = None
        if seconds.get("direct") and seconds.get(name):
            # direct's best: a neighbour that slows the direct reads must not speed up the ratio
            measured = min(seconds["direct"]) / median(seconds[name])
        what = f"cold 64 MiB stream: direct / {name}, seconds"
        result.figures.append(Figure(what, measured, reach, at_least=True))
    return result


def _far(origin: Server, bench: Bench, place: Path) -> Server:
    return peers.start_relay(origin, bench.cores.load, place, rtt_ms=RTT_MS, rate_mb=RATE_MB)


def _caches(
    bench: Bench, stack: ExitStack, result: Result, upstream: Server, place: Path
) -> dict[str, Server]:
    cores = bench.cores.server
    return bench.start(
        stack,
        result,
        {
            "gateway": lambda: peers.start_gateway(upstream.port, cores, place),
            "nginx": lambda: peers.start_nginx(upstream.port, cores, place),
        },
    )


def _boto3(server: Server) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{server.port}",
        region_name="us-east-1",
        aws_access_key_id=peers.KEYS.access_key,
        aws_secret_access_key=peers.KEYS.secret_key,
        config=Config(
            s3={"addressing_style": "path"}, retries={"max_attempts": 1}, read_timeout=60, proxies={}
        ),
    )


def _timed_read(client: Any, key: str) -> float:
    """Seconds for the whole object; its bytes are compared after the clock stopped."""
    began = time.perf_counter()
    body = client.get_object(Bucket=peers.BUCKET, Key=key)["Body"].read()
    seconds = time.perf_counter() - began
    if len(body) != pattern.size_of(key) or not pattern.matches(pattern.start_of(key), 0, memoryview(body)):
        raise LoadError(f"wrong bytes in {key}: {len(body)}, SHA-256 {hashlib.sha256(body).hexdigest()}")
    return seconds


def _relay_ceiling(origin: Server, bench: Bench, place: Path) -> str:
    """What the relay itself can carry when it neither delays nor limits: it must not be what is measured."""
    with peers.start_relay(origin, bench.cores.load, place, rtt_ms=0, rate_mb=0) as relay:
        calls = gets(
            signer_for(relay),
            peers.BUCKET,
            [key_for("ceiling", 64 * MIB, n) for n in range(16)],
            check_every=99,
        )
        outcome = load(relay.port, calls, 8)
    rate = outcome.body_bytes / outcome.seconds / 1e6
    return f"the relay alone carries {rate:.0f} MB/s ({rate / RATE_MB:.0f} connections at {RATE_MB:.0f} MB/s)"


def herd(bench: Bench) -> Result:
    """64 clients ask for the same cold object at the same moment; each one's every byte is compared."""
    size, repeats = 64 * MIB, bench.scaled(3, 1)
    result = Result("herd", "64 clients at once on one cold 64 MiB object over the far network")
    with bench.place() as place, ExitStack() as stack:
        origin = stack.enter_context(peers.start_origin(bench.cores.load, place))
        relay = stack.enter_context(_far(origin, bench, place))
        for name, server in _caches(bench, stack, result, relay, place).items():
            shares, seconds = [], []
            with Watch(server) as watch:
                for number in range(repeats):
                    before = peers.counted(origin)
                    calls = gets(
                        signer_for(server), peers.BUCKET, [key_for(f"herd-{name}", size, number)] * HERD
                    )
                    seconds.append(load(server.port, calls, HERD, seconds_max=240).seconds)
                    _quiet(origin)
                    shares.append(peers.counted(origin).since(before).body_bytes_sent / size)
            result.rows[name] = {
                "origin bytes / object": max(shares),
                "seconds": median(seconds),
                "anonymous MiB": watch.peak.anonymous_max / MIB,
            }
    measured = result.rows.get("gateway", {}).get("origin bytes / object")
    result.figures.append(Figure("herd of 64: origin bytes / object", measured, 1.02))
    return result


def footer(bench: Bench) -> Result:
    """4 KiB at the end of a cold 1 GiB object and 4 KiB in its midst, a fresh object each."""
    size, block = GIB, MIB
    result = Result("footer", "A 4 KiB read in a cold 1 GiB object: bytes from the origin")
    extents = {
        "last 4 KiB": (size - 4 * KIB, size),
        "4 KiB amid": (size // 2 + 12_345, size // 2 + 12_345 + 4 * KIB),
    }
    with bench.place() as place, ExitStack() as stack:
        origin = stack.enter_context(peers.start_origin(bench.cores.load, place))
        relay = stack.enter_context(_far(origin, bench, place))
        cores = bench.cores.server
        starters: dict[str, Callable[[], Server]] = {
            "gateway": lambda: peers.start_gateway(relay.port, cores, place)
        }
        for name, server in bench.start(stack, result, starters).items():
            for number, (label, extent) in enumerate(extents.items()):
                before = peers.counted(origin)
                calls = gets(
                    signer_for(server), peers.BUCKET, [key_for("footer", size, number)], extent=extent
                )
                with Generator(server.port, 1) as generator:
                    seconds = generator.run(calls).seconds
                    settle(server)
                    _quiet(origin)
                sent = peers.counted(origin).since(before)
                result.rows[f"{name}, {label}"] = {
                    "origin MiB": sent.body_bytes_sent / MIB,
                    "origin requests": sent.requests,
                    "ms": seconds * 1e3,
                }
    most = max((row["origin MiB"] * MIB / block for row in result.rows.values()), default=None)
    result.figures.append(
        Figure("4 KiB read in a cold 1 GiB object: blocks from the origin", most, 1.0, "blocks")
    )
    return result


def _quiet(origin: Server) -> None:
    deadline = time.monotonic() + QUIET_S_MAX
    before = peers.counted(origin)
    while time.monotonic() < deadline:
        time.sleep(QUIET_S)
        now = peers.counted(origin)
        if now.body_bytes_sent == before.body_bytes_sent:
            return
        before = now


SCENARIOS: dict[str, Callable[[Bench], Result]] = {"cold_stream": cold_stream, "herd": herd, "footer": footer}
