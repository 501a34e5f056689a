"""What the store counts, as plain integers of one process; telemetry turns them into metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    cache_bytes: int = 0  # gauge, of the whole node: segments as reserved, and the index
    evicted_bytes: int = 0
    evicted_blocks: int = 0
    evicted_segments: int = 0
    kept_bytes: int = 0  # appended again by evictions, because they were hot or pinned
    pinned_bytes: int = 0  # gauge, of the whole node
    unpinned_bytes: int = 0  # of blocks that lost their pin because pins were over their bound
    quota_dropped_bytes: int = 0  # of blocks dropped to keep a rule within its quota
    expired_bytes: int = 0  # of blocks dropped because their rule's ttl was over
    committed_blocks: int = 0
    committed_bytes: int = 0
    verified_blocks: int = 0
    corrupt_blocks: int = 0
    reserve_failures: int = 0
    disk_full: int = 0  # gauge: 1 while the file system refuses bytes
    disk_full_errors: int = 0
    index_rebuilt: int = 0  # 1 in worker 0 after a start that found no usable index
    index_broken: int = 0  # gauge: 1 when the index failed while it was in use
    admission_refused: int = 0
