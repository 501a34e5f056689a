"""What a worker does about orders before there is an application to carry them out."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from gateway.aio import Tasks
from gateway.node import worker as module
from gateway.node.control import Channel
from gateway.node.worker import IDLE_REPORT_S, REPORT_S, Orders, Worker
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.requests import RequestLog, RequestRecord


async def test_of_the_steps_of_reloads_only_the_newest_waits() -> None:
    supervisor, worker = [await Channel.over(end) for end in socket.socketpair()]
    tasks, heard = Tasks(), asyncio.Event()
    orders = Orders(worker, {})
    orders.obey = lambda budgets: heard.set()
    tasks.spawn(orders.listen(), "listen")
    for number in (1, 2):
        supervisor.order({"prepare": number, "config": "{}"})
        supervisor.order({"abort": number})
    supervisor.order({"prepare": 3, "config": "{}"})
    supervisor.order({"budgets": {"aws": "spent"}})
    async with asyncio.timeout(10):
        await heard.wait()
    assert orders.reloads.get_nowait() == {"prepare": 3, "config": "{}"}
    assert orders.reloads.empty()
    assert orders.budgets == {"aws": "spent"}
    await tasks.close()
    for channel in (supervisor, worker):
        channel.close()
    await asyncio.sleep(0)


async def test_a_worker_with_nothing_to_tell_reports_every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what a request counted, at the next quarter."""
    reports: list[Any] = []
    ticks: asyncio.Queue[None] = asyncio.Queue()
    slept = asyncio.Event()

    class Parts:
        """Channel and application."""

        def report(self, message: Any) -> None:
            reports.append(message)

        def publish(self, metrics: Metrics) -> None: ...

        def status(self) -> dict[str, Any]:
            return {}

    async def sleep(seconds: float) -> None:
        assert seconds == REPORT_S
        slept.set()
        await ticks.get()

    async def tick() -> int:
        slept.clear()
        ticks.put_nowait(None)
        await slept.wait()
        return len(reports)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    metrics, tasks, parts = Metrics(), Tasks(), Parts()
    request_log = RequestLog(metrics)
    made = Worker(parts, None, parts, metrics, request_log, tasks)  # type: ignore[arg-type]
    reporting = asyncio.get_running_loop().create_task(made._report())
    await slept.wait()
    per_second = round(IDLE_REPORT_S / REPORT_S)
    assert [await tick() for _ in range(2 * per_second)] == [1, 1, 1, 2, 2, 2, 2, 3]
    record = RequestRecord("ID", "peer", "GET", "/")
    for expected in (4, 5):
        request_log.finished(record)
        assert await tick() == expected
    assert await tick() == 5
    metrics.add("origin_bytes", 7, "aws")  # a long answer that has not ended
    assert await tick() == 6
    reporting.cancel()
