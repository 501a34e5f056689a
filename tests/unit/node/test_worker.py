"""What a worker does about orders before there is an application to carry them out."""

from __future__ import annotations

import asyncio
import socket

from gateway.aio import Tasks
from gateway.node.control import Channel
from gateway.node.worker import Orders


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
