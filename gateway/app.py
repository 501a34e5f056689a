"""The composition root: the only module that sees concrete classes. `WorkerApp` is everything that one worker
process runs, put together from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.access.policy import Access
from gateway.aio import Tasks, Threads
from gateway.app_generations import Generations
from gateway.cache.neighbours import Message, Neighbours
from gateway.cache.store import Store
from gateway.config.schema import Config, MountConfig, RuleConfig
from gateway.frontend.application import FrontDoor
from gateway.frontend.hot import HotPath
from gateway.frontend.server import Server, serve
from gateway.namespace.mirrors import MirrorPlace, mirror_name
from gateway.namespace.mounts import Mount, Mounts
from gateway.namespace.rules import IMMUTABLE, Rule, Rules
from gateway.objects.context import Services, View
from gateway.objects.reading import Reads
from gateway.origins.base import Origin
from gateway.origins.budgets import Budgets
from gateway.origins.factory import make_origins
from gateway.origins.limits import pressure
from gateway.origins.places import places_of
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.money import Money
from gateway.telemetry.requests import RequestLog

RUN_DIR = "run"


class OriginMeter:
    """Counts what origins do; implements `origins.base.Observer`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def request(self, origin: str, op: str, status: str) -> None:
        self._metrics.add("origin_requests", 1, origin, op, status)

    def moved(self, origin: str, direction: str, count: int) -> None:
        self._metrics.add("origin_bytes", count, origin, direction)


def view_of(config: Config) -> View:
    places = places_of(config)
    mounts = Mounts(_mount_of(mount, places) for mount in config.mounts)
    rules = Rules(map(_rule_of, config.rules))
    return View(mounts, rules, Access.of(config.identities), config.listen.domain)


def _rule_of(rule: RuleConfig) -> Rule:
    ttl_s = IMMUTABLE if rule.ttl is None else rule.ttl
    return Rule(rule.match, rule.fresh_s, rule.cache, ttl_s, rule.pin, rule.quota, rule.read_ahead)


def _mount_of(mount: MountConfig, places: Mapping[str, str]) -> Mount:
    origin, starts = mount.origin, []
    if mount.mirror:
        origin = mirror_name(mount.path)
        found = [MirrorPlace.parse(text) for text in (f"{mount.origin}:{mount.remote}", *mount.mirror)]
        starts = [place.key_start(places[place.origin]) for place in found]
    return Mount.parse(
        mount.path, origin, mount.remote, mount.read_only, places.get(origin, ""), tuple(starts)
    )


def prices_of(config: Config) -> dict[str, float]:
    return {origin.name: origin.egress_price_per_gib for origin in config.origins}


def payers_of(config: Config) -> dict[str, str]:
    """A hit does not know which of a mirror's places it came from once: its own is taken for all."""
    return {mirror_name(mount.path): mount.origin for mount in config.mounts if mount.mirror}


class WorkerApp:
    """`start`, then `drain` and `close`. `publish` before each report of the metrics. A reload is `prepare_reload`,
    then `commit_reload` or `abort_reload`."""

    def __init__(
        self,
        config: Config,
        slot: int,
        metrics: Metrics,
        services: Services,
        store: Store,
        neighbours: Neighbours,
        server: Server,
        door: FrontDoor,
        hot: HotPath,
        generations: Generations,
        budgets: Budgets,
        money: Money,
    ) -> None:
        self._config = config
        self._slot = slot
        self._metrics = metrics
        self._services = services
        self._store = store
        self._neighbours = neighbours
        self._server = server
        self._door = door
        self._hot = hot
        self._generations = generations
        self._budgets = budgets
        self._money = money

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
        meter, budgets, money = OriginMeter(metrics), Budgets(), Money(metrics, prices_of(config))

        def make(config: Config, kept: Mapping[str, Origin]) -> Mapping[str, Origin]:
            return make_origins(config, meter, workers, kept, budgets)

        generations = Generations(config, make, view_of, tasks, threads)
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
        store.apply(generations.current.view.keeping)
        store.start()
        if rebuild:
            store.rebuild()
        reads: Reads

        async def answer(question: Message) -> Any:
            async for reply in reads.answer(question):
                yield reply

        neighbours = Neighbours(directory / RUN_DIR, slot, workers, answer)
        reads = Reads(store, generations.by_place, tasks, metrics, neighbours, cache.stripe_blocks)
        reads.payers = payers_of(config)
        await neighbours.start()
        services = Services(
            view=generations.current.view,
            origins=generations.current.origins,
            store=store,
            threads=threads,
            tasks=tasks,
            domain=config.listen.domain,
            reads=reads,
            views=generations.views,
        )
        hot = HotPath(services)
        door = FrontDoor(services, request_log.finished, hot.answer)
        server = await serve(door, config.listen, config.limits, config.node.name)
        return cls(
            config, slot, metrics, services, store, neighbours, server, door, hot, generations, budgets, money
        )

    async def prepare_reload(self, config: Config) -> None:
        """Raises GatewayError when this worker cannot serve it; then nothing is prepared."""
        await self._generations.prepare(config)

    def abort_reload(self) -> None:
        self._generations.abort()

    def commit_reload(self) -> None:
        """Requests that begin after this are judged by what was prepared; those under way end as they began."""
        new = self._generations.commit(self._server.tasks, self._config.limits.drain_timeout)
        self._config = new.config
        self._money.reprice(prices_of(new.config))
        self._services.reads.payers = payers_of(new.config)
        self._services = replace(self._services, view=new.view, origins=new.origins)
        self._store.apply(new.view.keeping)
        # Of rules that are no more; those that are, are published again.
        for gauge in ("quota_bytes", "quota_limit_bytes"):
            self._metrics.drop(gauge)
        self._door.adopt(self._services)
        self._hot.adopt(self._services)

    async def drain(self, timeout_s: float) -> bool:
        """Takes no new requests and lets those under way end. True when none had to be cut."""
        return await self._server.drain(timeout_s) == 0

    async def close(self) -> None:
        await self._server.close()
        await self._neighbours.close()
        await self._services.tasks.close()
        await self._generations.close()
        self._services.threads.close()
        await self._store.close()

    def publish(self, metrics: Metrics) -> None:
        """Figures that somebody else keeps."""
        self._hot.publish()
        counters = self._store.counters
        for name in counters.__slots__:
            metrics.set(name, getattr(counters, name))
        metrics.set("cache_capacity_bytes", self._store.capacity)
        for rule, held, limit in self._store.bounds.quotas():
            metrics.set("quota_bytes", held, rule)
            metrics.set("quota_limit_bytes", limit, rule)
        metrics.set("connections", self._server.connections)
        self._money.publish()

    def obey_budgets(self, refused: Mapping[str, str]) -> None:
        """Origins that give out no data from now on, each with a sentence for clients; all others do."""
        self._budgets.order(refused)

    def status(self) -> dict[str, Any]:
        """What the status page shows of this worker."""
        origins = self._services.origins.items()
        return {
            "slot": self._slot,
            "connections": self._server.connections,
            "fills": len(self._services.reads.fills),
            "cache": {"blocks": self._store.blocks_count()},
            "admission": self._store.admission.p,
            "origins": {name: found for name, origin in origins if (found := pressure(origin))},
        }
