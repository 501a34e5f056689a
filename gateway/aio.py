"""Tasks and threads, the one way this package starts either.

A bare `asyncio.create_task` is an error here: the loop keeps only a weak reference and an exception in it is
reported when, or if, the task is collected. `Tasks` keeps the reference, names the task and logs its failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import structlog

T = TypeVar("T")
log = structlog.get_logger()


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

    async def close(self) -> None:
        live = list(self._live)
        for task in live:
            task.cancel()
        await asyncio.gather(*live, return_exceptions=True)


class Threads:
    """A bounded pool for blocking calls. Eight threads: enough to keep an SSD's queue busy with 1 MiB reads,
    few enough that they do not fight the event loop for the GIL."""

    def __init__(self, name: str, count: int = 8) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, *args)

    def start(self, call: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Like `run`, for a caller that must know when the call ended even if it stops waiting for it."""
        return asyncio.get_running_loop().run_in_executor(self._pool, call, *args)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
