"""The supervisor: everything a node does that is not serving requests. `run` is what `gateway serve` calls.

    start    ports probed → cache prepared → admin listener → workers
    serving  workers kept alive, their numbers added up, silence counted
    reload   SIGHUP, or who may ask the admin listener: the config file is read again (`reload.py`)
    stop     SIGTERM or SIGINT: not ready any more, every worker drains for at most `limits.drain_timeout`, then the
             cache is closed. A second signal breaks requests off at once. While the cache is still being prepared,
             there is nothing to drain: the node ends at once, with status 0.

A worker notices the end of its channel, so workers of a killed supervisor end by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import structlog

import gateway
from gateway.admin import app as admin
from gateway.admin import status as pages
from gateway.aio import Tasks
from gateway.cache.startup import Prepared, prepare
from gateway.config import load
from gateway.config.changes import ReloadRefused
from gateway.config.schema import Address, Config
from gateway.errors import GatewayError
from gateway.namespace.explain import explain
from gateway.node import ledger, ports
from gateway.node.budgets import Bookkeeper
from gateway.node.children import TICK_S, Child, GaveUp
from gateway.node.reload import Reloader
from gateway.telemetry import logging
from gateway.telemetry.exposition import Exposition, NodeMetrics

log = structlog.get_logger()

# -P: a file in the working directory must not shadow a module of ours.
WORKER: Final = (sys.executable, "-P", "-m", "gateway.node.worker")
# What a worker may need after its drain deadline: closing the store syncs nothing, but writes what is queued.
CLOSE_GRACE_S: Final = 5.0
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class _Stopped(BaseException):
    """A signal to stop came before the node heeds signals in its loop."""


def run(
    config: Config,
    announce: Callable[[str], None],
    *,
    reread: Callable[[], Config] | None = None,
    worker_argv: Sequence[str] = WORKER,
) -> int:
    """Serves until a signal. The exit status: 0 after a drain that cut nothing and for a node that was stopped before
    it served, else 1. `announce` gets lines for who started the node; why it could not start is one line on stderr.
    `reread`: the config again, for a reload."""
    logging.setup(config.log.level, config.log.format)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what is being started is read already
    try:
        for number in _SIGNALS:
            signal.signal(number, _stop_now)
        return _run(config, announce, reread, worker_argv)
    except _Stopped:
        return _stopped()


def _stopped() -> int:
    log.info("stopped before it served")
    return 0


def _stop_now(number: int, frame: FrameType | None) -> NoReturn:
    for other in _SIGNALS:
        signal.signal(other, signal.SIG_IGN)  # once is enough, and the way out must not be cut again
    raise _Stopped


def _run(
    config: Config,
    announce: Callable[[str], None],
    reread: Callable[[], Config] | None,
    worker_argv: Sequence[str],
) -> int:
    try:
        _check(config)
        prepared = prepare(
            config.node.cache_dir,
            capacity=config.cache.capacity,
            segment_size=config.cache.segment_size,
            block_size=config.cache.block_size,
            workers=config.workers,
        )
    except GatewayError as error:
        return _complain(str(error))
    except OSError as error:
        return _complain(f"{error.filename or config.node.cache_dir}: {error.strerror or error}")
    # Its close is the mark of a clean stop, so a node that fails otherwise must not reach it.
    try:
        code = asyncio.run(_serve(config, prepared, announce, reread, worker_argv))
    except _Stopped:  # no worker was started yet
        code = _stopped()
    # The loop took its handlers along, and what it ends with, an fsync and a checksum of the index, takes a while.
    for number in (*_SIGNALS, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    prepared.close()
    return code


def _check(config: Config) -> None:
    """Raises PortUnusable, OSError."""
    ports.probe("listen.s3", config.listen.s3_address)
    ports.probe("listen.admin", config.listen.admin_address)
    if config.log.access not in ("stdout", "off"):
        os.close(os.open(config.log.access, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640))


async def _serve(
    config: Config,
    prepared: Prepared,
    announce: Callable[[str], None],
    reread: Callable[[], Config] | None,
    worker_argv: Sequence[str],
) -> int:
    supervisor = Supervisor(config, prepared.rebuild, worker_argv, reread)
    token = config.admin.token.get_secret_value()
    try:
        listener = await admin.serve(supervisor, config.listen.admin_address, token)
    except OSError as error:
        return _complain(f"listen.admin: {config.listen.admin}: {error.strerror or error}")
    try:
        return await supervisor.run(announce)
    except GaveUp as error:
        return _complain(str(error))
    finally:
        await listener.cleanup()


def _complain(reason: str) -> int:
    with contextlib.suppress(OSError):
        print(f"gateway: {reason}", file=sys.stderr, flush=True)
    return 1


class Supervisor:
    """Of a prepared node; heeds signals from its making on. Also what the admin listener shows (`admin.app.Node`)."""

    def __init__(
        self,
        config: Config,
        rebuild: bool,
        worker_argv: Sequence[str],
        reread: Callable[[], Config] | None = None,
    ) -> None:
        self._config = config
        self._metrics = NodeMetrics()
        self._exposition = Exposition(self._metrics)
        self._books = Bookkeeper(Path(config.node.data_dir) / ledger.FILE, self._metrics, config.origins)
        self._started = time.time()
        self._began = time.monotonic()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._all_ready = asyncio.Event()
        self._tasks = Tasks()
        wire = load.to_wire(config)
        gate = asyncio.Lock()
        self._children = [
            Child(
                slot,
                worker_argv,
                # A rebuild goes on where it was, so whoever takes the slot of a dead worker goes on with it.
                {"config": wire, "slot": slot, "workers": config.workers, "rebuild": rebuild and slot == 0},
                self._metrics,
                self._changed,
                gate,
            )
            for slot in range(config.workers)
        ]
        self._reloader = Reloader(config, self._children, gate, reread, self._adopt)
        self._hung_up = asyncio.Event()
        self._order(self._books.orders)
        self._changed()
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signalled)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up.set)

    # --- life

    async def run(self, announce: Callable[[str], None]) -> int:
        """Until a signal; the exit status. Raises GaveUp when workers do not start; none is left then either."""
        self._tasks.spawn(self._tick(), "tick")
        self._tasks.spawn(self._heed_hangups(), "hangups")
        self._tasks.spawn(self._books.keep(self._order), "budgets")
        keepers: list[asyncio.Task[Any]] = [
            self._tasks.spawn(child.keep(), f"worker-{child.slot}") for child in self._children
        ]
        self._tasks.spawn(self._announce(announce), "announce")
        stop: asyncio.Task[Any] = self._tasks.spawn(self._stopping.wait(), "stop")
        try:
            done, _ = await asyncio.wait([stop, *keepers], return_when=asyncio.FIRST_COMPLETED)
            if not self._stopping.is_set():
                raise GaveUp(next(iter(done)).result())
            log.info("draining", timeout_s=self._config.limits.drain_timeout)
            await self._drain(keepers)
        finally:
            # A keeper that gave up has no process; the others must not outlive this one.
            for child in self._children:
                child.kill()
            await asyncio.gather(*keepers, return_exceptions=True)
            await self._tasks.close()
            self._books.close()
        cut = any(child.cut for child in self._children)
        log.info("stopped", requests_cut=cut)
        return int(cut)

    def _signalled(self) -> None:
        (self._hurry if self._stopping.is_set() else self._stopping).set()
        self._changed()

    # --- reload

    async def _heed_hangups(self) -> None:
        """Signals that come during a reload are one more reload after it: the file may have changed since it was
        read. They have nobody to answer to; the log says all."""
        while True:
            await self._hung_up.wait()
            self._hung_up.clear()
            with contextlib.suppress(ReloadRefused):
                await self.reload()

    async def reload(self) -> dict[str, Any]:
        """What changed, by section. Raises ReloadRefused."""
        if self._stopping.is_set():
            raise ReloadRefused("conflict", "the node is stopping")
        return {**await self._reloader.reload()}

    def _order(self, order: dict[str, Any]) -> None:
        for child in self._children:
            child.stand(order)

    def _adopt(self, config: Config) -> None:
        """What the supervisor itself goes by from now on."""
        self._config = config
        self._books.configure(config.origins)
        self._order(self._books.orders)

    async def _drain(self, keepers: Sequence[asyncio.Task[Any]]) -> None:
        timeout_s = self._config.limits.drain_timeout
        for child in self._children:
            child.drain(timeout_s)
        hurry: asyncio.Future[Any] = self._tasks.spawn(self._hurry.wait(), "hurry")
        ended: asyncio.Future[Any] = asyncio.gather(*keepers, return_exceptions=True)
        done, _ = await asyncio.wait(
            [hurry, ended], timeout=timeout_s + CLOSE_GRACE_S, return_when=asyncio.FIRST_COMPLETED
        )
        if ended not in done:
            log.warning("breaking requests off", reason="second signal" if done else "deadline")

    async def _announce(self, announce: Callable[[str], None]) -> None:
        await self._all_ready.wait()
        config = self._config
        scheme = "https" if config.listen.tls_cert else "http"
        announce(f"S3 at {_url(scheme, config.listen.s3_address)}, {config.workers} workers")
        announce(f"admin at {_url('http', config.listen.admin_address)} (console, /metrics, /api/v1/status)")

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for child in self._children:
                child.tick()

    def _changed(self) -> None:
        own = self._metrics.own
        ready = sum(child.state == "ready" for child in self._children)
        own.set("workers", len(self._children))
        own.set("workers_ready", ready)
        own.set("draining", int(self._stopping.is_set()))
        if ready == len(self._children):
            self._all_ready.set()

    # --- what the admin listener shows

    def not_ready(self) -> str:
        if self._stopping.is_set():
            return "draining"
        serving = sum(child.responsive for child in self._children)
        count = len(self._children)
        return "" if serving == count else f"{serving} of {count} workers serve"

    def status(self) -> dict[str, Any]:
        reason = self.not_ready()
        now = time.monotonic()
        state = "draining" if self._stopping.is_set() else "starting" if reason else "ready"
        if reason and self._all_ready.is_set() and state == "starting":
            state = "degraded"
        workers = [
            pages.WorkerFacts(
                slot=child.slot,
                pid=child.pid,
                state=child.state if child.responsive or child.state != "ready" else "silent",
                restarts=child.restarts,
                uptime_s=now - child.ready_at if child.ready_at else 0.0,
                report=child.status,
            )
            for child in self._children
        ]
        facts = pages.NodeFacts(gateway.__version__, state, reason, self._started, now - self._began, workers)
        return pages.status(self._config, facts, self._metrics.merged())

    def mounts(self) -> list[dict[str, Any]]:
        return pages.mounts(self._config)

    def explain(self, bucket: str, key: str) -> dict[str, Any]:
        return explain(self._config, bucket, key)

    def metrics_page(self) -> bytes:
        return self._exposition.page()


def _url(scheme: str, address: Address) -> str:
    if address.host in ("", "0.0.0.0", "::"):
        return f"{scheme}://*:{address.port}"
    return f"{scheme}://{address}"


__all__ = ["WORKER", "Supervisor", "run"]
