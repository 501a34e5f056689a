"""The only thread of a process that writes to the index.

Callers hand over a change (a function of the transaction); the thread drains what has queued up into one
transaction, so a busy worker pays one commit for many blocks. A change that raises a GatewayError fails
alone, and what it wrote before stays; any LMDB error (map full, disk full) aborts the batch, which is then
tried again one change at a time, so that one that cannot fit does not take the others with it.

Bound: `QUEUE_MAX` changes wait, beyond that new ones raise StoreFull, except those that must not be refused
(invalidations), whose number is bounded by the connections that wait for them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

import lmdb
import structlog

from gateway.cache.index import Index
from gateway.errors import GatewayError, StoreFull

T = TypeVar("T")
Change = Callable[..., Any]
log = structlog.get_logger()

QUEUE_MAX: Final = 8192  # some 50 ms of writing; a fill beyond it had better go uncached
BATCH_MAX: Final = 256  # keeps one transaction below some 5 ms, which is what other workers' writers wait for
READER_CHECK_S: Final = 30.0  # a killed reader pins every page that is freed after it, until somebody looks


class _Waiter:
    __slots__ = ("args", "change", "error", "future", "loop", "result")

    def __init__(self, change: Change, args: tuple[Any, ...], future: Any, loop: Any) -> None:
        self.change = change
        self.args = args
        self.future = future
        self.loop = loop
        self.result: Any = None
        self.error: BaseException | None = None

    def resolve(self) -> None:
        if self.future is None or self.future.done():
            return  # nobody waits, or the waiter was cancelled; the change stands
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


def _resolve_all(waiters: list[_Waiter]) -> None:
    for waiter in waiters:
        waiter.resolve()


class IndexWriter:
    def __init__(self, index: Index, slot: int = 0) -> None:
        self.index = index
        self._slot = slot
        self.transactions = 0
        self.failures = 0
        self._queue: SimpleQueue[_Waiter | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="cache-index", daemon=True)
        self._thread.start()

    # --- the callers' side

    async def run(self, change: Callable[..., T], *args: Any, must: bool = False) -> T:
        """Runs `change(txn, *args)`; its result, once committed and so visible to every worker."""
        self._admit(must)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put(_Waiter(change, args, future, loop))
        return await future

    def call(self, change: Callable[..., T], *args: Any) -> T:
        """The same from another thread (never from the event loop, never from a change)."""
        self._admit(must=True)
        future: Future[T] = Future()
        self._queue.put(_Waiter(change, args, future, None))
        return future.result()

    def post(self, change: Change, *args: Any) -> None:
        """Runs it some time soon; failures are only counted."""
        if not self._closed:
            self._queue.put(_Waiter(change, args, None, None))

    def _admit(self, must: bool) -> None:
        if self._closed:
            raise StoreFull("the cache is closed")
        if not must and self._queue.qsize() >= QUEUE_MAX:
            raise StoreFull("too many changes to the cache index are waiting")

    def close(self) -> None:
        """Finishes what is queued. Blocks: run it in a thread."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()

    # --- the thread

    def _run(self) -> None:
        check_at = time.monotonic() + READER_CHECK_S
        open_for_more = True
        while open_for_more:
            batch: list[_Waiter] = []
            try:
                item = self._queue.get(timeout=READER_CHECK_S)
                while True:
                    if item is None:
                        open_for_more = False
                        break
                    batch.append(item)
                    if len(batch) >= BATCH_MAX:
                        break
                    item = self._queue.get_nowait()
            except Empty:
                pass
            if batch:
                self._commit(batch)
                self.index.shared.changed(self._slot)
                self._wake(batch)
            if time.monotonic() >= check_at:
                check_at = time.monotonic() + READER_CHECK_S
                self._reader_check()

    def _commit(self, batch: list[_Waiter]) -> None:
        try:
            self._transact(batch)
        except Exception as error:
            self.failures += 1
            log.warning("cache index transaction failed", changes=len(batch), error=repr(error))
            for waiter in batch:
                try:
                    self._transact([waiter])
                except Exception as again:
                    self._fail(waiter, again)

    def _transact(self, batch: list[_Waiter]) -> None:
        self.transactions += 1
        with self.index.env.begin(write=True) as txn:
            for waiter in batch:
                waiter.error = None
                try:
                    waiter.result = waiter.change(txn, *waiter.args)
                except GatewayError as error:
                    waiter.error = error

    def _fail(self, waiter: _Waiter, error: Exception) -> None:
        if isinstance(error, lmdb.Error):
            if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.PanicError):
                self.index.report(error)
            waiter.error = StoreFull(f"the cache index could not be written: {error}")
        else:
            log.error("cache index change failed", change=repr(waiter.change), exc_info=error)
            waiter.error = error

    def _wake(self, batch: list[_Waiter]) -> None:
        """One wake-up of the event loop for the whole batch."""
        by_loop: dict[Any, list[_Waiter]] = {}
        for waiter in batch:
            if waiter.loop is None:
                waiter.resolve()
            else:
                by_loop.setdefault(waiter.loop, []).append(waiter)
        for loop, waiters in by_loop.items():
            try:
                loop.call_soon_threadsafe(_resolve_all, waiters)
            except RuntimeError:  # the loop is closed: nobody waits any more
                log.warning("cache index changes without a listener", changes=len(waiters))

    def _reader_check(self) -> None:
        try:
            self.index.env.reader_check()
        except lmdb.Error as error:
            log.warning("LMDB reader check failed", error=repr(error))
