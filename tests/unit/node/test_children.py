"""A slot keeps a working worker in it, also when the one there neither works nor dies."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest

from gateway.aio import Tasks
from gateway.node.children import SILENT_TICKS_MAX, START_TICKS_MAX, Child, describe
from gateway.telemetry.exposition import NodeMetrics

BEGIN = """
import json, os, signal, socket, sys
channel = socket.socket(fileno=int(sys.argv[1]))
channel.recv(100_000)
"""
READY = 'channel.send(b\'{"ready":true}\\n{"metrics":{"values":[["fills_coalesced",[],5]]}}\\n\')\n'
STOPPED = "os.kill(os.getpid(), signal.SIGSTOP)\n"
UNTIL_TOLD = "channel.recv(1000)\n"


class Slot:
    """One child, and a way to wait for what becomes of it."""

    def __init__(self, program: str, config: str = "") -> None:
        self.metrics = NodeMetrics()
        self.happened = asyncio.Event()
        self.tasks = Tasks()
        self.child = Child(
            0, [sys.executable, "-c", program], {"config": config}, self.metrics, self.happened.set
        )
        self.keeper = self.tasks.spawn(self.child.keep(), "keep")

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.happened.clear()
                await self.happened.wait()

    def counted(self) -> float:
        return self.metrics.merged().total("fills_coalesced")

    async def end(self) -> str:
        self.child.kill()
        return await self.keeper


async def test_a_worker_that_says_nothing_for_long_is_killed_and_replaced() -> None:
    slot = Slot(BEGIN + READY + STOPPED)
    await slot.until(lambda: slot.child.state == "ready")
    assert slot.child.responsive
    for _ in range(SILENT_TICKS_MAX - 1):
        slot.child.tick()
    assert not slot.child.responsive
    first = slot.child.pid
    slot.child.tick()
    await slot.until(lambda: slot.child.state == "ready" and slot.child.pid != first)
    assert slot.child.restarts == 1
    assert await slot.end() == ""


async def test_a_worker_that_does_not_become_ready_is_killed_and_replaced() -> None:
    slot = Slot(BEGIN + STOPPED)
    await slot.until(lambda: slot.child.pid != 0)
    for _ in range(START_TICKS_MAX):
        slot.child.tick()
    await slot.until(lambda: slot.child.restarts == 1 and slot.child.state == "starting")
    assert await slot.end() == ""


ORDERED = """
lines = channel.makefile("rb")
said = [json.loads(lines.readline()) for _ in range(3)]
if said != [{"config": "", "budgets": {"aws": "spent"}}, {"budgets": {}}, {"abort": 1}]:
    os.kill(os.getpid(), signal.SIGSTOP)
"""
LATE = """
lines = channel.makefile("rb")
said = [sorted(json.loads(lines.readline())) for _ in range(4)]
if said != [["config"], ["config", "prepare"], ["abort"], ["budgets"]]:
    os.kill(os.getpid(), signal.SIGSTOP)
"""
LARGE = "x" * (2 << 20)  # a config; more than may be unread before reports are dropped


async def reads(program: str, config: str = "") -> Slot:
    return Slot(BEGIN.replace("channel.recv(100_000)", "") + program + READY + UNTIL_TOLD, config)


async def started(slot: Slot) -> None:
    await slot.until(lambda: slot.child.pid != 0)
    while not slot.child.alive:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_an_order_that_stands_is_in_the_first_message_of_a_worker_and_told_once() -> None:
    slot = await reads(ORDERED)
    slot.child.stand({"budgets": {"aws": "spent"}})  # before there is a process
    await started(slot)
    for order in ({"aws": "spent"}, {}, {}):
        slot.child.stand({"budgets": order})
    slot.child.tell("abort", 1)
    await slot.until(lambda: slot.child.state == "ready")
    assert await slot.end() == ""


async def test_orders_are_heard_by_a_worker_that_has_megabytes_of_them_to_read() -> None:
    slot = await reads(LATE, LARGE)
    await started(slot)
    slot.child.order("prepare", 1, config=LARGE)
    assert slot.child.tell("abort", 1)
    slot.child.stand({"budgets": {"aws": "spent"}})
    await slot.until(lambda: slot.child.state == "ready")
    assert await slot.end() == ""


async def test_a_worker_that_does_not_read_its_orders_is_killed_for_its_silence() -> None:
    slot = Slot(BEGIN + READY + STOPPED)
    await slot.until(lambda: slot.child.state == "ready")
    first = slot.child.pid
    orders = [slot.child.order("prepare", number, config=LARGE) for number in range(3)]
    for _ in range(SILENT_TICKS_MAX):
        slot.child.tick()
    await slot.until(lambda: slot.child.state == "ready" and slot.child.pid != first)
    assert await orders[-1] is None
    assert await slot.end() == ""


async def test_what_a_dead_worker_counted_stays() -> None:
    slot = Slot(BEGIN + READY + UNTIL_TOLD)
    await slot.until(lambda: slot.child.state == "ready")
    slot.child.drain(1.0)
    assert await slot.keeper == ""
    assert slot.counted() == 5
    assert slot.child.cut  # it went without saying that nothing was cut


async def test_nonsense_on_the_channel_ends_the_worker_that_sent_it() -> None:
    slot = Slot(BEGIN + READY + 'channel.send(b"nonsense\\n")\n' + UNTIL_TOLD)
    await slot.until(lambda: slot.child.restarts > 0)
    await slot.end()


async def test_a_program_that_is_not_there_is_given_up() -> None:
    slot = Slot("")
    await slot.end()
    child = Child(0, ["/no/such/program"], {}, slot.metrics, slot.happened.set)
    assert await child.keep() == "worker 0 could not be started: No such file or directory"


@pytest.mark.parametrize(
    ("code", "text"),
    [(0, "ended with status 0"), (-9, "was ended by SIGKILL"), (-99, "was ended by signal 99")],
)
def test_describe(code: int, text: str) -> None:
    assert describe(code) == text
