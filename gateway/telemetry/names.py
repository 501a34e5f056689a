"""The table of metrics: the only place that knows their names, kinds, labels and how workers' values merge.

Rows are named without the prefix `gateway_` and without a counter's `_total`. A row is here when something
counts it. Labels take values from closed sets (operations, status codes, configured origins), never from
what clients send, so the number of series is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

PREFIX: Final = "gateway_"

# Upper bounds in seconds. From a hit in the page cache (half a millisecond with the kernel's part) to an
# upload over a slow line; a factor of two to two and a half between neighbours.
SECONDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)

Kind = Literal["counter", "gauge", "histogram"]
# How the values of several workers become the node's. Counters and histograms are summed. `max` is for what
# every worker sees alike (the cache's size) and for alarms.
Merge = Literal["sum", "max"]


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    merge: Merge = "sum"


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(name, "counter", text, labels)


def _gauge(name: str, merge: Merge, text: str, *labels: str) -> Metric:
    return Metric(name, "gauge", text, labels, merge)


_ROWS: Final = (
    # requests
    _counter("requests", "S3 requests that ended, by operation and HTTP status.", "op", "status"),
    Metric("request_seconds", "histogram", "From a request's first byte to its answer's last.", ("op",)),
    _counter("cache_outcomes", "Reads by what the cache did: hit, partial, miss, bypass, dirty.", "outcome"),
    _counter("sent_bytes", "Bytes of answers' bodies."),
    _counter("received_bytes", "Bytes of requests' bodies."),
    _gauge("connections", "sum", "Open client connections."),
    _counter("access_lines_dropped", "Access log lines that could not be written."),
    # reads
    _counter("read_bytes", "Object bytes sent, by where they came from.", "source"),
    _counter("fills_coalesced", "Reads that waited for a fill which another read had begun."),
    _counter("negative_hits", "Reads answered with 404 from the cache."),
    _counter("egress_saved_bytes", "Object bytes that were not fetched from the origin.", "origin"),
    _counter("egress_saved_dollars", "The same at the origin's configured price.", "origin"),
    _counter("egress_dollars", "What origin_bytes in cost at the origin's configured price.", "origin"),
    _gauge("egress_month_dollars", "max", "The same of this calendar month (UTC), over restarts.", "origin"),
    _gauge("egress_budget_dollars", "max", "The origin's configured budget of a month.", "origin"),
    _gauge("egress_budget_exceeded", "max", "1 when this month's dollars have reached the budget.", "origin"),
    # origins
    _counter(
        "origin_requests", "Requests to an origin; status is HTTP's or error.", "origin", "op", "status"
    ),
    _counter("origin_bytes", "Bytes of bodies from (in) and to (out) an origin.", "origin", "direction"),
    # cache
    _gauge("cache_bytes", "max", "Bytes of SSD in use: segments as reserved, and the index."),
    _gauge("cache_capacity_bytes", "max", "What cache_bytes may grow to."),
    _counter("evicted_bytes", "Bytes that left the cache to make room."),
    _counter("evicted_blocks", "Blocks that left the cache to make room."),
    _counter("evicted_segments", "Segment files that evictions removed."),
    _counter("kept_bytes", "Bytes that evictions wrote again because they were hot or pinned."),
    _gauge("pinned_bytes", "max", "Bytes of blocks that are pinned."),
    _counter("unpinned_bytes", "Bytes that lost their pin because pins may hold only a part of the cache."),
    _gauge("quota_bytes", "max", "Bytes of cache that the keys under a rule with a quota take.", "rule"),
    _gauge("quota_limit_bytes", "max", "That rule's quota.", "rule"),
    _counter("quota_dropped_bytes", "Bytes dropped to keep a rule within its quota."),
    _counter("expired_bytes", "Bytes dropped because their rule's ttl was over."),
    _counter("committed_blocks", "Blocks written to the cache."),
    _counter("committed_bytes", "Bytes written to the cache."),
    _counter("verified_blocks", "Blocks whose CRC was checked before their first use since the start."),
    _counter("corrupt_blocks", "Blocks that failed that check and were dropped."),
    _counter("admission_refused", "Misses not written to the cache, to keep a stable set in it."),
    _counter("reserve_failures", "Fills for which no room could be had."),
    _gauge("disk_full", "max", "1 while the cache's file system refuses bytes: reads go on uncached."),
    _counter("disk_full_errors", "Writes to the cache that failed for want of room."),
    _counter("index_rebuilt", "Starts that had to rebuild the index from the segments."),
    _gauge("index_broken", "max", "1 when the index failed in use: restart the node."),
    # processes
    _gauge("workers", "sum", "Workers that are configured."),
    _gauge("workers_ready", "sum", "Workers that serve."),
    _counter("workers_restarted", "Workers that died and were replaced."),
    _gauge("draining", "max", "1 from SIGTERM on."),
    _gauge("loop_lag_seconds", "max", "How late the latest quarter-second timer of an event loop was."),
    _gauge("worker_resident_bytes", "sum", "Resident memory of the workers; mapped segments count."),
    _counter("worker_cpu_seconds", "CPU time of the workers, user and system."),
)

TABLE: Final[dict[str, Metric]] = {row.name: row for row in _ROWS}
