"""A worker whose application only counts, for tests of the processes around it: `python -m
tests.unit.node.tiny_worker`. What it shall do wrong is the node's name."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

from gateway.config.schema import Config
from gateway.errors import GatewayError
from gateway.node import worker
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.requests import RequestLog, RequestRecord


class TinyApp:
    def __init__(self, config: Config, slot: int, fault: str, request_log: RequestLog) -> None:
        self.slot, self.fault, self.request_log = slot, fault, request_log
        self.refused: dict[str, str] = {}
        self.prepared, self.path = config, config.mounts[0].path

    async def drain(self, timeout_s: float) -> bool:
        if self.fault == "busy":  # a request that does not end by itself
            await asyncio.sleep(timeout_s)
            return False
        if self.fault == "stuck":
            threading.Event().wait()
        return True

    async def close(self) -> None:
        pass

    async def prepare_reload(self, config: Config) -> None:
        """Bad examples are named by the path of the first mount."""
        self.prepared = config
        fault = config.mounts[0].path
        if fault == "refused" and self.slot == 1:
            raise GatewayError("no such cloud")
        if fault == "hanging" and self.slot == 1:
            threading.Event().wait()
        if fault == "deadly":
            os._exit(9)

    def commit_reload(self) -> None:
        if self.prepared.mounts[0].path == "uncommitted" and self.slot == 1:
            threading.Event().wait()
        self.path = self.prepared.mounts[0].path

    def abort_reload(self) -> None:
        pass

    def obey_budgets(self, refused: Mapping[str, str]) -> None:
        self.refused = dict(refused)

    def status(self) -> dict[str, Any]:
        return {"connections": self.slot + 1, "refused": self.refused}

    def publish(self, metrics: Metrics) -> None:
        metrics.set("connections", self.slot + 1)
        metrics.add("read_bytes", 100, "segment")
        record = RequestRecord(f"slot-{self.slot}", "127.0.0.1:1", "GET", f"/{self.path}/key")
        record.op, record.status = "GetObject", 200
        self.request_log.finished(record)


async def start(
    config: Config, slot: int, workers: int, metrics: Metrics, request_log: RequestLog, rebuild: bool
) -> TinyApp:
    fault = config.node.name
    if fault == "refuse":
        raise GatewayError("the cache directory is on fire")
    if fault == "bug":
        raise ZeroDivisionError
    if fault in ("hang", "stuck"):  # their end is waited for
        worker.ORPHAN_END_S = 1.0  # type: ignore[misc]
    if fault == "hang":
        await asyncio.Event().wait()
    if fault == "die":
        os._exit(7)
    return TinyApp(config, slot, fault, request_log)


if __name__ == "__main__":
    sys.exit(worker.main(sys.argv[1:], start))
