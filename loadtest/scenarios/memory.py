"""Anonymous memory per worker under loads that tempt a server to buffer: slow readers, large uploads.

Anonymous memory (RssAnon), because pages of the cache's files are the kernel's to take back. Peaks are
sampled ten times a second, of the largest process.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from loadtest import peers, upload
from loadtest.bench import Bench, Meter, signer_for
from loadtest.client import gets
from loadtest.pattern import key_for
from loadtest.procs import Server, Watch
from loadtest.results import Figure, Result
from loadtest.slow import read_slowly

MIB, GIB = 1 << 20, 1 << 30
READERS = 500
READER_BYTES_S = 64 << 10
OBJECT_BYTES = 64 * MIB
UPLOADS = 8
PART_BYTES = 64 * MIB
REACH_MIB = 200.0


def slow_readers(bench: Bench) -> Result:
    """Half of the readers read warm objects, half cold ones, which fill while they are read slowly."""
    readers, seconds = bench.scaled(READERS, READERS), bench.scaled(20, 6)
    result = Result("slow_readers", f"{readers} slow readers of 64 MiB objects: memory of the server")
    with bench.place() as place, ExitStack() as stack:
        origin = stack.enter_context(peers.start_origin(bench.cores.load, place))
        for name, server in _caches(bench, stack, result, origin, place).items():
            warm = [key_for("slow", OBJECT_BYTES, number) for number in range(8)]
            cold = [key_for("slow-cold", OBJECT_BYTES, number) for number in range(8)]
            Meter(server, 4).warm(warm)
            keys = [(warm if number % 2 else cold)[number // 2 % 8] for number in range(readers)]
            calls = gets(signer_for(server), peers.BUCKET, keys)
            with Watch(server) as watch:
                taken, first_s = read_slowly(server.port, calls, seconds=seconds, bytes_per_s=READER_BYTES_S)
            result.rows[name] = {**_memory_row(watch), "first bytes s": first_s, "taken MiB": taken / MIB}
    _judge(result, f"{readers} slow readers: anonymous memory of a worker")
    return result


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


def _memory_row(watch: Watch) -> dict[str, float]:
    return {
        "before MiB": watch.before.anonymous_max / MIB,
        "peak MiB": watch.peak.anonymous_max / MIB,
        "peak of all MiB": watch.peak.anonymous_sum / MIB,
    }


def _judge(result: Result, what: str) -> None:
    peaks = [row["peak MiB"] for name, row in result.rows.items() if name.startswith("gateway")]
    result.figures.append(Figure(what, max(peaks, default=None), REACH_MIB, "MiB"))


def uploads(bench: Bench) -> Result:
    """8 × 1 GiB at once, each as one PUT and then as parts; the origin takes 40 MB/s per connection, so the
    server, which could receive faster, has to hold the clients back."""
    size = bench.scaled(GIB, 256 * MIB)
    result = Result(
        "uploads", f"8 uploads of {size // MIB} MiB at once to a slower origin: memory of the server"
    )
    with bench.place() as place, ExitStack() as stack:
        origin = stack.enter_context(peers.start_origin(bench.cores.load, place))
        relay = stack.enter_context(peers.start_relay(origin, bench.cores.load, place))
        for name, server in _caches(bench, stack, result, relay, place).items():
            for kind, send in (("PUT", _puts), ("multipart", _multipart)):
                before = peers.counted(origin)
                with Watch(server) as watch:
                    cpu_ns = server.cpu_ns()
                    seconds = send(server, f"{name}-{kind}", size)
                    cpu_ns = server.cpu_ns() - cpu_ns
                got = peers.counted(origin).since(before)
                if got.mismatches or got.body_bytes_received < UPLOADS * size:
                    result.notes.append(f"{name} {kind}: WRONG at the origin: {got}")
                result.rows[f"{name} {kind}"] = {
                    **_memory_row(watch),
                    "seconds": seconds,
                    "MiB/s": UPLOADS * size / MIB / seconds,
                    "CPU µs/MiB": cpu_ns / 1000 / (UPLOADS * size / MIB),
                }
    _judge(result, f"8 uploads of {size // MIB} MiB: anonymous memory of a worker")
    return result


def _puts(server: Server, prefix: str, size: int) -> float:
    signer = signer_for(server)
    lanes = [[upload.whole(signer, key_for(prefix, size, number), size)] for number in range(UPLOADS)]
    return upload.run_lanes(server.port, lanes, seconds_max=240)[0]


def _multipart(server: Server, prefix: str, size: int) -> float:
    signer = signer_for(server)
    keys = [key_for(prefix, size, number) for number in range(UPLOADS)]
    ids = [upload.create(server.port, signer, key) for key in keys]
    lanes = [upload.parts(signer, key, size, PART_BYTES, id_) for key, id_ in zip(keys, ids, strict=True)]
    seconds, etags = upload.run_lanes(server.port, lanes, seconds_max=240)
    for key, id_, listed in zip(keys, ids, etags, strict=True):
        upload.complete(server.port, signer, key, id_, listed)
    return seconds


SCENARIOS: dict[str, Callable[[Bench], Result]] = {"slow_readers": slow_readers, "uploads": uploads}
