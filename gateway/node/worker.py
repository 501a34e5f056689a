"""A worker process: `python -m gateway.node.worker FD`, started by the supervisor only.

Its life: read the config from the channel on FD, start the application, say ready, report every 250 ms (every second
while there is nothing to tell); take another config over, in two steps, when it is told to (`reload.py`); on a drain
message, on SIGTERM, or when the supervisor is gone, drain, close and end. SIGINT and SIGHUP are ignored: a Ctrl-C on
the terminal reaches every process of the node, and the supervisor is who acts on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

import structlog
import uvloop

from gateway.aio import Tasks
from gateway.config import load
from gateway.config.schema import Config
from gateway.errors import GatewayError
from gateway.node.control import Channel, ControlError
from gateway.node.garbage import FullCollections
from gateway.telemetry import logging
from gateway.telemetry.access import AccessSink
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.requests import RequestLog

log = structlog.get_logger()

STEPS: Final = ("prepare", "commit", "abort")  # of a reload
REPORT_S: Final = 0.25
# Of a worker that has nothing to tell: a report takes a millisecond, which on an idle node was half of all it did.
IDLE_REPORT_S: Final = 1.0
# How long another thread (access lines, digests, the index) may keep the event loop waiting for the interpreter.
# Python's own 5 ms would be the p99 of every hit; the loop lets go of it at each system call anyway.
GIL_S: Final = 0.0003
# Without a supervisor nothing watches this worker and its port may be wanted by the next node: requests under
# way get this long, and the process ends a little later whatever hangs.
ORPHAN_DRAIN_S: Final = 2.0
ORPHAN_END_S: Final = 6.0
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class App(Protocol):
    """What serves S3 in here: `gateway.app.WorkerApp`."""

    async def drain(self, timeout_s: float) -> bool:
        """Takes no new requests and waits for those under way; True: none had to be cut."""
        ...

    async def close(self) -> None: ...

    async def prepare_reload(self, config: Config) -> None:
        """Builds what it needs to serve by `config`, and changes nothing yet. Raises GatewayError, and then nothing is
        prepared. Replaces what was prepared before."""
        ...

    def commit_reload(self) -> None:
        """Requests that begin after this are served by what was prepared."""
        ...

    def abort_reload(self) -> None:
        """Drops what was prepared, if anything was."""
        ...

    def obey_budgets(self, refused: Mapping[str, str]) -> None:
        """Origins that give out no data from now on, each with a sentence for clients; all others do."""
        ...

    def status(self) -> dict[str, Any]:
        """For people, as JSON: see `gateway.admin.status`."""
        ...

    def publish(self, metrics: Metrics) -> None:
        """Copies what is counted elsewhere into the metrics, before each snapshot."""
        ...


# config, slot, workers, metrics, request log, rebuild
Start = Callable[[Config, int, int, Metrics, RequestLog, bool], Awaitable[App]]


async def _gateway(
    config: Config, slot: int, workers: int, metrics: Metrics, request_log: RequestLog, rebuild: bool
) -> App:
    from gateway.app import WorkerApp  # the whole product: loaded after the config was read

    app: App = await WorkerApp.start(config, slot, workers, metrics, request_log, rebuild)
    return app


def main(argv: list[str], start: Start = _gateway) -> int:
    """The exit status: 0 after a drain, 1 when the application did not start."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise_descriptor_limit()
    sys.setswitchinterval(GIL_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(int(argv[0]), start))


def raise_descriptor_limit() -> None:
    """To what the administrator allows: a client, an origin connection and a segment take one descriptor each,
    and many systems start processes with 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(fd: int, start: Start) -> int:
    channel = await Channel.over(socket.socket(fileno=fd))
    first = await channel.receive()
    if first is None:
        return 0
    config = load.from_wire(first["config"])
    slot: int = first["slot"]
    logging.setup(config.log.level, config.log.format, worker=slot)
    tasks = Tasks()
    # Before the start, which may hang: the supervisor may go meanwhile.
    orders = Orders(channel, first.get("budgets", {}))
    tasks.spawn(orders.listen(), "control")
    metrics = Metrics()
    request_log = _request_log(config, metrics)
    try:
        app = await start(config, slot, first["workers"], metrics, request_log, first["rebuild"])
    except (GatewayError, OSError) as error:
        await channel.send({"failed": str(error)})
        return 1
    except Exception as error:
        log.exception("worker did not start")
        await channel.send({"failed": f"a bug: {error!r}"})
        return 1
    orders.obey = app.obey_budgets
    app.obey_budgets(orders.budgets)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, orders.give, config.limits.drain_timeout)
    return await Worker(channel, orders, app, metrics, request_log, tasks).run()


def _request_log(config: Config, metrics: Metrics) -> RequestLog:
    try:
        sink = AccessSink.open(config.log.access)
    except OSError as error:  # the supervisor could open it: this is a disk that failed since
        log.error("no access log", path=config.log.access, error=str(error))
        sink = None
    return RequestLog(metrics, sink, logfmt=not logging.wants_json(config.log.format))


class Orders:
    """From the supervisor or a signal: to drain within so many seconds; and the steps of reloads, until there is an
    application to take them. Of these one waits, the newest: a step is given when the one before was answered, or is of
    no interest any more."""

    def __init__(self, channel: Channel, budgets: Mapping[str, str]) -> None:
        self._channel = channel
        self.drain: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.reloads: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.budgets = budgets
        self.obey: Callable[[Mapping[str, str]], object] = lambda budgets: None

    async def listen(self) -> None:
        try:
            while (message := await self._channel.receive()) is not None:
                if "drain" in message:
                    self.give(message["drain"])
                elif "budgets" in message:
                    self.budgets = message["budgets"]
                    self.obey(self.budgets)
                elif not message.keys().isdisjoint(STEPS):
                    if not self.reloads.empty():
                        self.reloads.get_nowait()
                    self.reloads.put_nowait(message)
        except ControlError as error:
            log.error("control channel is damaged", error=str(error))
        _end_within(ORPHAN_END_S)
        if not self.drain.done():
            log.warning("the supervisor is gone, ending")
        self.give(ORPHAN_DRAIN_S)

    def give(self, timeout_s: float) -> None:
        if not self.drain.done():
            self.drain.set_result(timeout_s)


class Worker:
    """From ready to the end."""

    def __init__(
        self,
        channel: Channel,
        orders: Orders,
        app: App,
        metrics: Metrics,
        request_log: RequestLog,
        tasks: Tasks,
    ) -> None:
        self._channel = channel
        self._orders = orders
        self._app = app
        self._metrics = metrics
        self._request_log = request_log
        self._tasks = tasks
        self._collections = FullCollections(time.monotonic())

    async def run(self) -> int:
        self._collections.start()
        await self._channel.send({"ready": True, **self._said()})
        self._tasks.spawn(self._report(), "report")
        self._tasks.spawn(self._reload(), "reload")
        drained = await self._app.drain(await self._orders.drain)
        await self._channel.send({"drained": drained, **self._said()})
        await self._app.close()
        await self._tasks.close()
        self._request_log.close()
        self._channel.close()
        return 0

    async def _reload(self) -> None:
        """Answers each step with the objection to it, empty when it is done."""
        while True:
            message = await self._orders.reloads.get()
            step = next(name for name in STEPS if name in message)
            objection = ""
            try:
                await self._take_step(step, message)
            except GatewayError as error:
                objection = f"refuses: {error}"
            except Exception as error:
                log.exception("a step of a reload failed", step=step)
                objection = f"has a bug: {error!r}"
            if step != "abort":
                await self._channel.send({"done": step, "number": message[step], "objection": objection})

    async def _take_step(self, step: str, message: dict[str, Any]) -> None:
        if step == "prepare":
            await self._app.prepare_reload(load.from_wire(message["config"]))
        elif step == "commit":
            self._app.commit_reload()
        else:
            self._app.abort_reload()

    async def _report(self) -> None:
        told, lag, waited = -1.0, 0.0, IDLE_REPORT_S
        due = time.monotonic()
        while True:
            lag = max(lag, time.monotonic() - due)
            quiet = self._metrics.activity() == told
            if self._collections.due(due, quiet=quiet):
                began = time.monotonic()
                gc.collect()
                lag = max(lag, time.monotonic() - began)
            if waited >= IDLE_REPORT_S or not quiet:
                self._metrics.set("loop_lag_seconds", lag)
                self._channel.report(self._said())
                told, lag, waited = self._metrics.activity(), 0.0, 0.0
            waited += REPORT_S
            due = time.monotonic() + REPORT_S
            await asyncio.sleep(REPORT_S)

    def _said(self) -> dict[str, Any]:
        self._request_log.publish()
        self._metrics.set("worker_cpu_seconds", time.process_time())
        self._metrics.set("worker_resident_bytes", _resident_bytes())
        status: dict[str, Any] = {}
        try:
            self._app.publish(self._metrics)
            status = self._app.status()
        except Exception as error:  # a worker that serves must not end over its report
            log.error("report failed", error=repr(error))
        return {"metrics": self._metrics.snapshot(), "status": status}


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def _end_within(seconds: float) -> None:
    """A thread that ends the process: it works also while a call into the kernel hangs in another."""
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
