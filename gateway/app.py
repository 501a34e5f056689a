"""The composition root: the only module that sees concrete classes. `WorkerApp` is everything that one worker
process runs, put together from its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.access.policy import Access
from gateway.aio import Tasks, Threads
from gateway.cache.neighbours import Message, Neighbours
from gateway.cache.store import Store
from gateway.config.schema import Config
from gateway.frontend.application import FrontDoor
from gateway.frontend.hot import HotPath
from gateway.frontend.server import Server, serve
from gateway.namespace.mounts import Mount, Mounts
from gateway.namespace.rules import Rule, Rules
from gateway.objects.context import Services, View
from gateway.objects.reading import Reads
from gateway.origins.factory import make_origins
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.requests import RequestLog

RUN_DIR = "run"
_GIB = 2**30


class OriginMeter:
    """Counts what origins do; implements `origins.base.Observer`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def request(self, origin: str, op: str, status: str) -> None:
        self._metrics.add("origin_requests", 1, origin, op, status)

    def moved(self, origin: str, direction: str, count: int) -> None:
        self._metrics.add("origin_bytes", count, origin, direction)


def view_of(config: Config) -> View:
    mounts = Mounts(
        Mount.parse(mount.path, mount.origin, mount.remote, mount.read_only) for mount in config.mounts
    )
    rules = Rules(Rule(rule.match, rule.fresh_s, rule.cache) for rule in config.rules)
    return View(mounts, rules, Access.of(config.identities), config.listen.domain)


class WorkerApp:
    """`start`, then `drain` and `close`. `publish` before each report of the metrics."""

    def __init__(
        self,
        config: Config,
        slot: int,
        metrics: Metrics,
        services: Services,
        store: Store,
        neighbours: Neighbours,
        server: Server,
        hot: HotPath,
    ) -> None:
        self._config = config
        self._slot = slot
        self._metrics = metrics
        self._services = services
        self._store = store
        self._neighbours = neighbours
        self._server = server
        self._hot = hot
        self._prices = {origin.name: origin.egress_price_per_gib for origin in config.origins}

    @classmethod
    async def start(
        cls,
        config: Config,
        slot: int,
        workers: int,
        metrics: Metrics,
        request_log: RequestLog,
        rebuild: bool,
    ) -> WorkerApp:
        """Raises CacheUnusable, OSError (the port), GatewayError."""
        tasks, threads = Tasks(), Threads("digests")
        meter = OriginMeter(metrics)
        origins = make_origins(config, meter, workers)
        directory, cache = Path(config.node.data_dir), config.cache
        store = Store.open(
            config.node.cache_dir,
            cache.capacity,
            cache.segment_size,
            cache.block_size,
            slot,
            workers,
            stripe_blocks=cache.stripe_blocks,
        )
        store.start()
        if rebuild:
            store.rebuild()
        reads: Reads

        async def answer(question: Message) -> Any:
            async for reply in reads.answer(question):
                yield reply

        neighbours = Neighbours(directory / RUN_DIR, slot, workers, answer)
        reads = Reads(store, origins, tasks, metrics, neighbours, cache.stripe_blocks)
        await neighbours.start()
        services = Services(
            view=view_of(config),
            origins=origins,
            store=store,
            threads=threads,
            tasks=tasks,
            domain=config.listen.domain,
            reads=reads,
        )
        hot = HotPath(services)
        door = FrontDoor(services, request_log.finished, hot)
        server = await serve(door, config.listen, config.limits, config.node.name)
        return cls(config, slot, metrics, services, store, neighbours, server, hot)

    async def drain(self, timeout_s: float) -> bool:
        """Takes no new requests and lets those under way end. True when none had to be cut."""
        return await self._server.drain(timeout_s) == 0

    async def close(self) -> None:
        await self._server.close()
        await self._neighbours.close()
        await self._services.tasks.close()
        for origin in self._services.origins.values():
            await origin.close()
        self._services.threads.close()
        await self._store.close()

    def publish(self, metrics: Metrics) -> None:
        """Figures that somebody else keeps."""
        self._hot.publish()
        counters = self._store.counters
        for name in counters.__slots__:
            metrics.set(name, getattr(counters, name))
        metrics.set("cache_capacity_bytes", self._store.capacity)
        metrics.set("connections", self._server.connections)
        for name, price in self._prices.items():
            saved = metrics.get("egress_saved_bytes", name)
            metrics.set("egress_saved_dollars", saved / _GIB * price, name)

    def status(self) -> dict[str, Any]:
        """What the status page shows of this worker."""
        return {
            "slot": self._slot,
            "connections": self._server.connections,
            "fills": len(self._services.reads.fills),
            "cache": {"blocks": self._store.blocks_count()},
            "admission": self._store.admission.p,
        }
