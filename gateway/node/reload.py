"""A reload: the config file is read again, and all workers change over or none does.

    read      the file, with the environment that the node started with; mistakes end it here
    compare   what only a start can change ends it here
    prepare   every worker builds what the new config makes of views and origins, beside what it serves with
    decide    all that live have said yes, and there is one: from here on it is carried out
    commit    every worker swaps within one turn of its loop; one that does not say so in time is killed, and the
              one in its place starts with the new config

No worker starts between prepare and decide (`gate`), so none begins with a config that is not the newest. A worker that
dies meanwhile has no say; one that is still starting has, as soon as it serves.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import structlog

from gateway.config import load
from gateway.config.changes import Difference, ReloadRefused, differences, fixed_changes, taken_over
from gateway.config.mistakes import ConfigError
from gateway.config.schema import Config
from gateway.node.children import Child
from gateway.node.control import ControlError

T = TypeVar("T")
log = structlog.get_logger()

# Reading looks at directories of origins, and a NAS that hangs must not hang the reload.
READ_S_MAX: Final = 10.0
# Compiling the rights of ten thousand identities takes a second.
PREPARE_S_MAX: Final = 10.0
COMMIT_S_MAX: Final = 5.0


class Reloader:
    """`reread` gives the config anew or raises ConfigError; None: the node was started without a file. `adopt` is
    told of the new config when it is decided."""

    def __init__(
        self,
        config: Config,
        children: Sequence[Child],
        gate: asyncio.Lock,
        reread: Callable[[], Config] | None,
        adopt: Callable[[Config], None],
    ) -> None:
        self._config = config
        self._children = children
        self._gate = gate
        self._reread = reread
        self._adopt = adopt
        self._number = 0
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> dict[str, Difference]:
        """What changed, by section; empty when nothing did. Raises ReloadRefused. Those who ask meanwhile wait."""
        async with self._one_at_a_time:
            try:
                new = await self._read()
                changed = differences(self._config, new)
                if changed:
                    await self._change(new)
            except ReloadRefused as why:
                log.error("config not reloaded, nothing changed", reason=str(why))
                for path, text in why.mistakes:
                    log.error("mistake in the config", path=path, mistake=text)
                raise
        log.info("config reloaded" if changed else "config read again, nothing changed", **changed)
        return changed

    async def _read(self) -> Config:
        if self._reread is None:
            raise ReloadRefused(
                "conflict", "the node was started without a config file, so there is none to read"
            )
        try:
            new = await asyncio.wait_for(_in_thread(self._reread), READ_S_MAX)
        except ConfigError as error:
            mistakes = [(path, text) for path, _, text in (line.partition(": ") for line in error.mistakes)]
            raise ReloadRefused("mistakes", "the config has mistakes", mistakes) from None
        except TimeoutError:
            reason = f"reading the config takes longer than {READ_S_MAX:.0f} s; a directory in it may hang"
            raise ReloadRefused("workers", reason) from None
        except Exception as error:
            log.exception("the config could not be read")
            raise ReloadRefused("workers", f"a bug: {error!r}") from None
        if fixed := fixed_changes(self._config, new):
            reason = "these keys change only with a restart: " + ", ".join(fixed)
            raise ReloadRefused("conflict", reason, [(path, "changes only with a restart") for path in fixed])
        return taken_over(self._config, new)

    async def _change(self, new: Config) -> None:
        self._number += 1
        wire = load.to_wire(new)
        async with self._gate:
            asked = [child for child in self._children if child.alive]
            followers = await self._prepare(asked, wire)
            for child in self._children:
                child.first_message = {**child.first_message, "config": wire}
            committed = {child: child.order("commit", self._number) for child in followers}
            self._config = new
            self._adopt(new)
        await self._confirm(committed)

    async def _prepare(self, asked: Sequence[Child], wire: str) -> list[Child]:
        """Those that will commit. Raises ReloadRefused, and then all have been told to abort."""
        try:
            orders = {child: child.order("prepare", self._number, config=wire) for child in asked}
        except ControlError:
            raise ReloadRefused(
                "conflict", "the config is too large for the channel to the workers"
            ) from None
        if orders:
            await asyncio.wait(orders.values(), timeout=PREPARE_S_MAX)
        said = {
            child: order.result() if order.done() else "does not answer" for child, order in orders.items()
        }
        objections = {child: text for child, text in said.items() if text}
        followers = [child for child, text in said.items() if text == ""]
        if followers and not objections:
            return followers
        for child in asked:
            child.tell("abort", self._number)
        for child, text in objections.items():
            raise ReloadRefused("workers", f"worker {child.slot} {text}")
        raise ReloadRefused("workers", "no worker serves at the moment")

    async def _confirm(self, committed: dict[Child, asyncio.Future[str | None]]) -> None:
        await asyncio.wait(committed.values(), timeout=COMMIT_S_MAX)
        for child, order in committed.items():
            if not order.done() or order.result():
                log.error("worker does not take the new config over, killing it", slot=child.slot)
                child.replace()


async def _in_thread(call: Callable[[], T]) -> T:
    """In a thread of its own that nobody waits for at the end: it may hang in the kernel."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(result: Any, error: Exception | None) -> None:
        if outcome.done():
            return
        if error is None:
            outcome.set_result(result)
        else:
            outcome.set_exception(error)

    def run() -> None:
        result, failed = None, None
        try:
            result = call()
        except Exception as error:
            failed = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=run, name="read-config", daemon=True).start()
    return await outcome


__all__ = ["Reloader"]
