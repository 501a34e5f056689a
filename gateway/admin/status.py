"""What `/api/v1/status` says: facts of the supervisor and the merged counters, put together. Pure.

From each worker's own report (`WorkerApp.status()`) these keys are used, all of them optional:

    connections  int
    cache        {"blocks": int, "objects": int, …}     alike in every worker: the first one's is shown
    origins      {name: {"in_flight": int, "concurrency": int, "state": "ok" | …}}     added up; states that are not
                 ok are all named: throttled, unreachable (`origins/health.py`), budget (spent, and cold reads refused)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway.config.schema import Config, OriginConfig
from gateway.telemetry.exposition import Merged


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    slot: int
    pid: int
    state: str
    restarts: int
    uptime_s: float
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """`reason`: why it is not ready, empty when it is. `started`: seconds since the epoch."""

    version: str
    state: str
    reason: str
    started: float
    uptime_s: float
    workers: Sequence[WorkerFacts] = ()


def status(config: Config, facts: NodeFacts, merged: Merged) -> dict[str, Any]:
    scheme = "https" if config.listen.tls_cert else "http"
    return {
        "node": config.node.name,
        "version": facts.version,
        "state": facts.state,
        "reason": facts.reason,
        "started_at": datetime.fromtimestamp(facts.started, UTC).isoformat(timespec="seconds"),
        "uptime_s": round(facts.uptime_s, 3),
        "listen": {"s3": f"{scheme}://{config.listen.s3}", "admin": f"http://{config.listen.admin}"},
        "workers": [_worker(worker) for worker in facts.workers],
        "requests": _requests(merged),
        "reads": _reads(merged),
        "cache": _cache(merged, facts.workers),
        "origins": [_origin(origin, merged, facts.workers) for origin in config.origins],
        "mounts": mounts(config),
        "egress_spent": {
            "bytes": sum(n for labels, n in merged.series("origin_bytes").items() if labels[1] == "in"),
            "dollars": round(merged.total("egress_dollars"), 6),
        },
        "egress_saved": {
            "bytes": merged.total("egress_saved_bytes"),
            "dollars": round(merged.total("egress_saved_dollars"), 6),
        },
    }


def mounts(config: Config) -> list[dict[str, Any]]:
    types = {origin.name: origin.type for origin in config.origins}
    return [
        {
            "path": mount.path,
            "origin": mount.origin,
            "type": types.get(mount.origin, ""),
            "remote": mount.remote,
            "read_only": mount.read_only,
            "mirror": list(mount.mirror),
        }
        for mount in config.mounts
    ]


def _worker(worker: WorkerFacts) -> dict[str, Any]:
    return {
        "slot": worker.slot,
        "pid": worker.pid,
        "state": worker.state,
        "connections": worker.report.get("connections", 0),
        "restarts": worker.restarts,
        "uptime_s": round(worker.uptime_s, 3),
    }


def _requests(merged: Merged) -> dict[str, Any]:
    by_op: dict[str, float] = {}
    errors: float = 0
    for (op, code), count in merged.series("requests").items():
        by_op[op] = by_op.get(op, 0) + count
        errors += count if code.startswith("5") else 0
    return {
        "total": sum(by_op.values()),
        "server_errors": errors,
        "by_op": dict(sorted(by_op.items(), key=lambda item: -item[1])),
        "connections": merged.total("connections"),
        "sent_bytes": merged.total("sent_bytes"),
        "received_bytes": merged.total("received_bytes"),
    }


def _reads(merged: Merged) -> dict[str, Any]:
    """`hit_ratio` counts reads that needed nothing from elsewhere, `byte_hit_ratio` bytes; null before the
    first read."""
    sources = {labels[0]: count for labels, count in merged.series("read_bytes").items()}
    outcomes = {labels[0]: count for labels, count in merged.series("cache_outcomes").items()}
    hits = outcomes.get("hit", 0) + outcomes.get("dirty", 0)
    local = sources.get("segment", 0) + sources.get("dirty", 0)
    return {
        "hit_ratio": _ratio(hits, sum(outcomes.values())),
        "byte_hit_ratio": _ratio(local, sum(sources.values())),
        "outcomes": outcomes,
        "bytes": sources,
        "coalesced": merged.total("fills_coalesced"),
    }


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def _cache(merged: Merged, workers: Iterable[WorkerFacts]) -> dict[str, Any]:
    first: Mapping[str, Any] = next((w.report["cache"] for w in workers if "cache" in w.report), {})
    return {
        **first,
        "bytes": merged.total("cache_bytes"),
        "capacity_bytes": merged.total("cache_capacity_bytes"),
        "pinned_bytes": merged.total("pinned_bytes"),
        "quotas": [
            {"rule": rule, "bytes": held, "limit_bytes": merged.total("quota_limit_bytes", rule)}
            for (rule,), held in sorted(merged.series("quota_bytes").items())
        ],
        "evicted_bytes": merged.total("evicted_bytes"),
        "committed_bytes": merged.total("committed_bytes"),
        "corrupt_blocks": merged.total("corrupt_blocks"),
        "disk_full": bool(merged.total("disk_full")),
        "index_broken": bool(merged.total("index_broken")),
    }


def _origin(origin: OriginConfig, merged: Merged, workers: Iterable[WorkerFacts]) -> dict[str, Any]:
    name = origin.name
    by_status: dict[str, float] = {}
    for (known, _, code), count in merged.series("origin_requests").items():
        if known == name:
            by_status[code] = by_status.get(code, 0) + count
    reports = [worker.report.get("origins", {}).get(name, {}) for worker in workers]
    states = sorted({str(report["state"]) for report in reports if "state" in report} - {"ok"})
    return {
        "name": name,
        "type": origin.type,
        "endpoint": _without_user(origin.endpoint) or origin.root,
        "state": ", ".join(states) or "ok",
        "requests": sum(by_status.values()),
        "errors": sum(n for code, n in by_status.items() if _failed(code)),
        "throttled": by_status.get("429", 0) + by_status.get("503", 0),
        "in_flight": sum(report.get("in_flight", 0) for report in reports),
        "concurrency": sum(report.get("concurrency", 0) for report in reports),
        "bytes_in": merged.total("origin_bytes", name, "in"),
        "bytes_out": merged.total("origin_bytes", name, "out"),
        "request_limit": origin.request_limit or None,
        "egress_dollars": round(merged.total("egress_dollars", name), 6),
        "egress_saved_bytes": merged.total("egress_saved_bytes", name),
        "egress_saved_dollars": round(merged.total("egress_saved_dollars", name), 6),
        "month": _month(origin, merged),
    }


def _month(origin: OriginConfig, merged: Merged) -> dict[str, Any] | None:
    """This calendar month's egress (UTC), by the ledger; null for an origin whose egress has no price."""
    if not origin.egress_price_per_gib:
        return None
    return {
        "dollars": round(merged.total("egress_month_dollars", origin.name), 6),
        "budget_dollars": origin.budget or None,
        "budget_action": origin.budget_action if origin.budget else None,
        "exceeded": bool(merged.total("egress_budget_exceeded", origin.name)),
    }


def _without_user(endpoint: str) -> str:
    return re.sub(r"//[^/@]*@", "//", endpoint)


def _failed(code: str) -> bool:
    return code == "error" or (code.startswith("5") and code != "503")


__all__ = ["NodeFacts", "WorkerFacts", "mounts", "status"]
