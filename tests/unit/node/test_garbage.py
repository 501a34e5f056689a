"""When a worker looks through all it remembers for garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from gateway.node.garbage import COLLECT_S, OVERDUE_S, FullCollections


@pytest.fixture
def restored() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_a_quiet_moment_is_used_once_it_is_time() -> None:
    collections = FullCollections(1000.0)
    assert not collections.due(1000.0 + COLLECT_S - 1, quiet=True)
    assert collections.due(1000.0 + COLLECT_S, quiet=True)
    assert not collections.due(1000.0 + COLLECT_S + 1, quiet=True)


def test_a_busy_worker_collects_when_it_is_overdue() -> None:
    collections = FullCollections(1000.0)
    assert not collections.due(1000.0 + OVERDUE_S - 1, quiet=False)
    assert collections.due(1000.0 + OVERDUE_S, quiet=False)
    assert not collections.due(1000.0 + OVERDUE_S + COLLECT_S - 1, quiet=True)


def test_python_starts_no_full_collection_by_itself(restored: None) -> None:
    collected: list[int] = []
    gc.callbacks.append(lambda phase, info: collected.append(info["generation"]) if phase == "stop" else None)
    try:
        FullCollections(0.0).start()
        collected.clear()
        kept = [[number] for number in range(200_000)]
    finally:
        gc.callbacks.pop()
    assert len(kept) == 200_000
    assert collected.count(1) > 0
    assert 2 not in collected
