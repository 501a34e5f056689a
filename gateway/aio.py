"""Tasks and threads, the one way this package starts either.

A bare `asyncio.create_task` is an error here: the loop keeps only a weak reference and an exception in it is
reported when, or if, the task is collected. `Tasks` keeps the reference, names the task and logs its failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

import structlog

T = TypeVar("T")
log = structlog.get_logger()


def _log_failure(future: Future[Any]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        log.error("background call failed", error=repr(error), exc_info=error)


class Tasks:
    """The background tasks of one owner; `close` cancels them and waits."""

    def __init__(self) -> None:
        self._live: set[asyncio.Task[Any]] = set()

    def spawn(self, coro: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self._live.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._live.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task failed", task=task.get_name(), error=repr(error), exc_info=error)

    def __len__(self) -> int:
        return len(self._live)

    def live(self) -> set[asyncio.Task[Any]]:
        """Those that have not ended yet."""
        return set(self._live)

    async def close(self) -> None:
        live = list(self._live)
        for task in live:
            task.cancel()
        await asyncio.gather(*live, return_exceptions=True)


# Enough to keep an SSD's queue busy with 1 MiB reads, few enough that they do not fight the event loop for the GIL.
THREADS: Final = 8


class Threads:
    """A bounded pool for blocking calls. `nice`: by so much its threads stand back behind the event loop where both
    want the core (Linux keeps that per thread)."""

    def __init__(self, name: str, count: int = THREADS, nice: int = 0) -> None:
        self._nice = nice
        self._pool = ThreadPoolExecutor(count, name, self._began if nice else None)

    def _began(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._nice)

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, *args)

    def start(self, call: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Like `run`, for a caller that must know when the call ended even if it stops waiting for it."""
        return asyncio.get_running_loop().run_in_executor(self._pool, call, *args)

    def submit(self, call: Callable[..., object], *args: Any) -> None:
        """Runs it some time soon, without anybody waiting; a failure is logged. For the edges of `close`,
        where the pool takes nothing any more, the caller has to cope with its not running."""
        with contextlib.suppress(RuntimeError):
            self._pool.submit(call, *args).add_done_callback(_log_failure)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
