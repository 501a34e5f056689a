"""Where the time of a hit goes, without sockets: `python -m loadtest.hot_profile [--profile]`.

Runs the parts of the hot path over many signed heads of 4 KiB objects and prints microseconds per request. The rest of
what a request costs is the kernel's: receiving, sending, epoll.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.access.policy import Access
from gateway.aio import Tasks, Threads
from gateway.cache.neighbours import Neighbours
from gateway.cache.startup import prepare
from gateway.cache.store import Store
from gateway.config.schema import IdentityConfig, Statement
from gateway.frontend.exchange import RequestHead
from gateway.frontend.head import parse_head
from gateway.frontend.hot import HotPath, _head_bytes
from gateway.frontend.request import admit_read, admit_signed, signer_of
from gateway.frontend.shapes import Shape, Shapes, recognise
from gateway.model import ObjectMeta
from gateway.namespace.mounts import Mount, Mounts
from gateway.namespace.rules import Rule, Rules
from gateway.objects.context import Services, View
from gateway.objects.reading import Reads
from gateway.objects.revalidate import is_fresh
from gateway.s3.object_headers import wire_lines
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.requests import RequestLog, RequestRecord
from loadtest.client import gets
from loadtest.pattern import key_for
from loadtest.peers import BUCKET, KEYS
from loadtest.signing import Signer

OBJECTS = 2000
SIZE = 4096


class FakeConnection:
    base_headers = b"Date: Wed, 25 Nov 2026 00:00:00 GMT\r\nx-gateway-node: loadtest\r\nx-amz-request-id: "

    def __init__(self, log: RequestLog) -> None:
        self.log = log
        self.record = RequestRecord("0" * 16, "127.0.0.1", "GET", "/")

    def answer(self, data: bytes, body_length: int) -> None:
        self.record.sent = body_length

    def answer_files(self, head: bytes, slices: Any) -> None:
        self.record.sent = sum(length for _, _, length in slices)


async def services_over(directory: Path, metrics: Metrics) -> tuple[Services, Any]:
    settings = {"capacity": 1 << 30, "segment_size": 64 << 20, "block_size": 1 << 20, "workers": 1}
    prepared = prepare(directory, **settings)
    store = Store.open(directory, worker=0, **settings)  # type: ignore[arg-type]
    store.start()
    tasks = Tasks()
    neighbours = Neighbours(directory / "run", 0, 1, lambda q: reads.answer(q))
    reads = Reads(store, {}, tasks, metrics, neighbours, 16)
    identity = IdentityConfig(
        name="loadtest",
        access_key=KEYS.access_key,
        secret_key=KEYS.secret_key,  # type: ignore[arg-type]
        allow=(Statement(actions=("s3:*",), resources=(BUCKET, f"{BUCKET}/*")),),
    )
    view = View(
        Mounts([Mount.parse(BUCKET, "truth", BUCKET)]),
        Rules([Rule(f"{BUCKET}/**", 3600.0)]),
        Access.of([identity]),
    )
    services = Services(view, {}, store, Threads("digests", 1), tasks, "", reads)
    meta = ObjectMeta(
        SIZE, '"0123456789abcdef0123456789abcdef"', 1_700_000_000, {"content-type": "binary/octet-stream"}
    )
    for number in range(OBJECTS):
        key = view.mounts.resolve(BUCKET, key_for("hits", SIZE, number)).cache_key
        entry = await store.install(
            key,
            etag=meta.etag,
            size=SIZE,
            last_modified=meta.last_modified,
            wire=wire_lines(meta),
            checksum_wire=b"",
            started_ns=time.monotonic_ns(),
            validated_at=time.time(),
        )
        await store.put_block(entry, 0, bytes(SIZE))
    return services, prepared


def timed(what: str, call: Callable[[Any], Any], items: list[Any]) -> None:
    best = 1e9
    for _ in range(5):
        began = time.process_time()
        for item in items:
            call(item)
        best = min(best, (time.process_time() - began) / len(items))
    print(f"{what:40s} {best * 1e6:7.2f} µs")


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        metrics = Metrics()
        services, _ = await services_over(Path(directory), metrics)
        keys = [key_for("hits", SIZE, number) for number in range(OBJECTS)]
        wires = [bytes(call.wire) for call in gets(Signer(KEYS, "127.0.0.1:9000"), BUCKET, keys)]
        heads = [parse_head(wire) for wire in wires]
        own: dict[int, Shape] = {}
        Shapes().learn(own, wires[0], heads[0])
        recognised = [recognise(own, wire) for wire in wires]
        hot, view, now = HotPath(services), services.view, time.time()
        log = RequestLog(metrics, None)
        connection = FakeConnection(log)
        cache_keys = [view.mounts.resolve(BUCKET, key).cache_key for key in keys]

        def whole(wire: bytes) -> None:
            connection.record = RequestRecord("0" * 16, "127.0.0.1", "GET", "/")
            assert hot.answer(connection, recognise(own, wire))  # type: ignore[arg-type]
            log.finished(connection.record)

        def first(head: RequestHead) -> None:
            hot._known.clear()
            assert hot.answer(connection, head)  # type: ignore[arg-type]

        timed("parse_head", parse_head, wires)
        timed("admit_read (signature, rights, mount)", lambda h: admit_read(h, view, "", now), heads)
        timed(
            "  of it the signature",
            lambda h: view.verifier.verify("GET", h.target, "", h.headers, now),
            heads,
        )
        timed("recognise", lambda wire: recognise(own, wire), wires)
        timed("signer_of (signature)", lambda h: signer_of(h, view, now), recognised)
        timed(
            "admit_signed (rights, mount)", lambda h: admit_signed(h, view, "", KEYS.access_key), recognised
        )  # type: ignore[arg-type]
        timed("index lookup", lambda k: services.reads.store.lookup(k, 0, 0), cache_keys)
        timed("hot path", lambda h: hot.answer(connection, h), recognised)  # type: ignore[arg-type]
        timed("hot path, new to it", first, recognised)
        timed("all, with record and log", whole, wires)
        entry, extents = services.reads.store.lookup(cache_keys[0], 0, 0)
        store, record = services.reads.store, connection.record
        timed("  stamp", lambda _: store.stamp(), heads)
        timed("  is_fresh", lambda _: is_fresh(entry, 3600.0, now), heads)  # type: ignore[arg-type]
        timed("  read_small", lambda _: store.read_small(extents[0], 0, SIZE), heads)  # type: ignore[arg-type]
        timed("  head of the answer", lambda _: _head_bytes(connection, entry, None, SIZE, b""), heads)  # type: ignore[arg-type]
        timed("  count", lambda _: services.reads.count("truth", SIZE, 0), heads)
        timed("  record", lambda _: RequestRecord("0" * 16, "127.0.0.1", "GET", "/"), heads)
        timed("  finished", lambda _: log.finished(record), heads)
        timed("  an empty call", lambda _: None, heads)
        if "--profile" in sys.argv:
            with cProfile.Profile() as profile:
                for wire in wires:
                    whole(wire)
            pstats.Stats(profile).sort_stats("tottime").print_stats(30)
        await services.reads.store.close()


if __name__ == "__main__":
    asyncio.run(main())
