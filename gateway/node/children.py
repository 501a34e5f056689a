"""A slot of the node: the worker process in it, what it said last, and the loop that keeps one there.

    starting ─▶ ready ─▶ (draining) ─▶ stopped        the way of a process
        └──────────┴──▶ waiting ─▶ starting …          it died: after a pause, if the policy allows

A worker that says nothing for 30 s (stopped, stuck in the kernel) is killed: it holds its share of the port's
connections and perhaps the index's write lock. Silence is counted in the supervisor's own ticks, so a machine
that slept does not look like one whose workers hang.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import structlog

from gateway.errors import GatewayError
from gateway.node.control import Channel, ControlError
from gateway.node.restarts import RestartPolicy
from gateway.telemetry.exposition import NodeMetrics

log = structlog.get_logger()

State = Literal["starting", "ready", "draining", "waiting", "stopped"]
TICK_S: Final = 1.0
SILENT_TICKS_MAX: Final = 30
# Until it is ready: opening the store takes milliseconds, but a slow disk may be behind it.
START_TICKS_MAX: Final = 60
NOT_READY_TICKS: Final = 5  # silence after which the node does not call itself ready
END_S: Final = 5.0  # from the end of the channel to the end of the process


class GaveUp(GatewayError):
    """A worker does not start; the text says which and why."""


class Child:
    """`keep` runs as one task; everything else is called beside it on the same loop."""

    def __init__(
        self,
        slot: int,
        argv: Sequence[str],
        first_message: Mapping[str, Any],
        metrics: NodeMetrics,
        changed: Callable[[], None],
        gate: asyncio.Lock | None = None,
    ) -> None:
        """`first_message` may be replaced at any time: the next process gets the new one. While somebody holds
        `gate`, none is started."""
        self.slot = slot
        self.state: State = "starting"
        self.pid = 0
        self.restarts = 0
        self.status: Mapping[str, Any] = {}
        self.ready_at = 0.0  # time.monotonic()
        self.cut = False  # requests were broken off, or we cannot know
        self.silent_ticks = 0
        self.first_message = first_message
        # An order that processes to come are given, too, in their first message.
        self.standing: Mapping[str, Any] = {}
        self._argv = argv
        self._gate = gate or asyncio.Lock()
        self._orders: dict[tuple[str, int], asyncio.Future[str | None]] = {}
        self._metrics = metrics
        self._changed = changed
        self._policy = RestartPolicy()
        self._stopping = asyncio.Event()
        self._channel: Channel | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._was_ready = False
        self._failed = ""
        self._drained: bool | None = None

    @property
    def responsive(self) -> bool:
        return self.state == "ready" and self.silent_ticks < NOT_READY_TICKS

    async def keep(self) -> str:
        """Starts the worker, and again when it died, until `drain` or `kill`: then empty. Else why it cannot be
        kept, one line."""
        try:
            while not self._stopping.is_set():
                async with self._gate:
                    process = await self._start()
                await self._listen()
                code = await self._ended(process)
                if not self._stopping.is_set():
                    await self._pause(self._delay(code))
        except GaveUp as error:
            return str(error)
        finally:
            self._become("stopped")
        return ""

    async def _start(self) -> asyncio.subprocess.Process:
        ours, theirs = socket.socketpair()
        self.silent_ticks, self.ready_at, self._failed, self._drained = 0, 0.0, "", None
        self._become("starting")
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._argv, str(theirs.fileno()), stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
                )
            except OSError as error:
                ours.close()
                raise GaveUp(f"worker {self.slot} could not be started: {error.strerror}") from None
        self._process, self.pid = process, process.pid
        self._changed()
        self._channel = await Channel.over(ours)
        self._channel.order({**self.first_message, **self.standing})
        if self._stopping.is_set():
            self.kill()
        return process

    async def _listen(self) -> None:
        assert self._channel is not None
        try:
            while (message := await self._channel.receive()) is not None:
                self.silent_ticks = 0
                self._take(message)
        except ControlError as error:
            log.error("worker's channel is damaged, killing it", slot=self.slot, error=str(error))
            self._signal(signal.SIGKILL)

    def _take(self, message: Mapping[str, Any]) -> None:
        if "metrics" in message:
            self._metrics.update(self.slot, message["metrics"])
        if "status" in message:
            self.status = message["status"]
        if "failed" in message:
            self._failed = str(message["failed"])
        if "drained" in message:
            self._drained = bool(message["drained"])
        if "done" in message:
            order = self._orders.pop((message["done"], message["number"]), None)
            if order is not None and not order.done():
                order.set_result(str(message["objection"]))
        if "ready" in message and self.state == "starting":
            self._was_ready = True
            self.ready_at = time.monotonic()
            self._become("ready")

    async def _ended(self, process: asyncio.subprocess.Process) -> int:
        """Reaps the process; its counters stay, its gauges go."""
        assert self._channel is not None
        try:
            code = await asyncio.wait_for(process.wait(), END_S)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            code = await process.wait()
        self._channel.close()
        self._give_orders_up()
        self._channel, self._process, self.pid, self.status = None, None, 0, {}
        self._metrics.ended(self.slot)
        if self.ready_at and self._drained is not True:
            self.cut = True
        return code

    def _delay(self, code: int) -> float:
        served_s = time.monotonic() - self.ready_at if self.ready_at else None
        reason = self._failed or describe(code)
        if self._failed and not self._was_ready:
            raise GaveUp(self._failed)
        delay = self._policy.died(time.monotonic(), served_s=served_s)
        if delay is None:
            raise GaveUp(f"worker {self.slot} does not start, it {reason}")
        log.error("worker died, starting another", slot=self.slot, reason=reason, after_s=delay)
        self.restarts += 1
        self.cut = False  # of requests that a dead worker had, the node's exit status says nothing
        self._metrics.own.add("workers_restarted")
        return delay

    async def _pause(self, seconds: float) -> None:
        self._become("waiting")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _become(self, state: State) -> None:
        self.state = state
        self._changed()

    def tick(self) -> None:
        """Every TICK_S."""
        self.silent_ticks += 1
        limit = START_TICKS_MAX if self.state == "starting" else SILENT_TICKS_MAX
        if self.silent_ticks >= limit and self.state in ("starting", "ready"):
            log.error("worker says nothing, killing it", slot=self.slot, pid=self.pid, seconds=limit * TICK_S)
            self._signal(signal.SIGKILL)

    # --- orders of a reload

    @property
    def alive(self) -> bool:
        """There is a process, and it has been given its first message."""
        return self._channel is not None

    def order(self, what: str, number: int, **more: str) -> asyncio.Future[str | None]:
        """What the worker says when it has done it: empty, or its objection; None when it ended before. Raises
        ControlError for a message that is too long."""
        order: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        if self.tell(what, number, **more):
            self._orders = {(what, number): order}  # of earlier ones nobody wants to know any more
        else:
            order.set_result(None)
        return order

    def tell(self, what: str, number: int, **more: str) -> bool:
        """An order that is not answered; False: there is no process."""
        if self._channel is None:
            return False
        self._channel.order({what: number, **more})
        return True

    def stand(self, order: Mapping[str, Any]) -> None:
        """An order that holds until the next one, also for processes to come. The one that holds already is no news."""
        if order == self.standing:
            return
        self.standing = order
        if self._channel is not None:
            self._channel.order(order)

    def replace(self) -> None:
        """At once, by a new process."""
        self._signal(signal.SIGKILL)

    def _give_orders_up(self) -> None:
        for order in self._orders.values():
            if not order.done():
                order.set_result(None)
        self._orders = {}

    def drain(self, timeout_s: float) -> None:
        """No more restarts; a worker that serves ends its requests first, one that does not ends at once."""
        self._stopping.set()
        if self.state == "ready" and self._channel is not None:
            self._become("draining")
            self._channel.order({"drain": timeout_s})
        else:
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._stopping.set()
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


def describe(code: int) -> str:
    """An exit status as asyncio gives it: negative for a signal."""
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


__all__ = ["TICK_S", "Child", "GaveUp", "describe"]
