"""Workers of a store, real processes, killed at random points. STORE_KILL_SEED repeats a run."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.cache.layout import CacheUnusable
from gateway.cache.startup import Prepared, prepare
from gateway.cache.store import Store
from tests.crash.writer import SHAPE, content, key_of
from tests.unit.cache.audit import audit
from tests.unit.cache.harness import disk_bytes, read

SEED = int(os.environ.get("STORE_KILL_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)


class Worker:
    def __init__(self, directory: Path, worker: int, seed: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.writer", str(directory), str(worker), str(seed)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.committed: list[int] = []
        assert self._line() == "open"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def commit(self, count: int) -> None:
        """Waits until so many more blocks are committed."""
        for _ in range(count):
            line = self._line()
            assert line, "the worker died by itself"
            self.committed.append(int(line))

    def kill(self) -> None:
        """At once, wherever it is; what it had still said counts."""
        self.process.send_signal(signal.SIGKILL)
        assert self.process.stdout is not None
        rest = self.process.stdout.read().split("\n")
        self.committed += [int(line) for line in rest[:-1] if line]
        self.process.wait()
        self.process.stdout.close()


@contextmanager
def workers(*living: Worker) -> Iterator[None]:
    try:
        yield
    finally:
        for one in living:
            if one.process.poll() is None:
                one.kill()


def node(directory: Path) -> Prepared:
    return prepare(directory, **SHAPE, workers_wait_s=0.2)


def open_worker(directory: Path, worker: int) -> Store:
    return Store.open(directory, worker=worker, free_bytes_min=0, **SHAPE)


async def check(store: Store, committed: list[int]) -> int:
    """Every byte that is found is right; how many blocks were found."""
    found = 0
    for number in committed:
        entry = store.entry(key_of(number))
        data = await read(store, key_of(number))
        if data is not None:
            assert entry is not None
            assert (entry.etag, data) == (f'"{number}"', content(number))
            found += 1
    assert store.counters.corrupt_blocks == 0
    audit(store)
    return found


@pytest.mark.parametrize("index", ["kept", "lost"])
async def test_what_is_found_after_kills_is_exact(tmp_path: Path, index: str) -> None:
    print(f"STORE_KILL_SEED={SEED}")
    choice = random.Random(SEED)
    committed: list[int] = []
    for turn in range(3):
        prepared = node(tmp_path)
        worker = Worker(tmp_path, 0, turn)
        with workers(worker):
            worker.commit(choice.randrange(1, 500))
            worker.kill()
        prepared._lock.close()  # the supervisor is gone as well
        committed += worker.committed
        if index == "lost":
            shutil.rmtree(tmp_path / "index")
        assert disk_bytes(tmp_path) <= SHAPE["capacity"]
        prepared = node(tmp_path)
        store = open_worker(tmp_path, 0)
        try:
            if prepared.rebuild:
                await store.rebuild()
            found = await check(store, committed)
        finally:
            await store.close()
            prepared.close()
        assert found >= min(len(committed), 60), "more was lost than evictions take"


async def test_a_killed_worker_disturbs_no_other_and_its_slot_is_taken_over(tmp_path: Path) -> None:
    print(f"STORE_KILL_SEED={SEED}")
    choice = random.Random(SEED)
    prepared = node(tmp_path)
    one, other = Worker(tmp_path, 0, 1), Worker(tmp_path, 1, 1)
    with workers(one, other):
        for turn in range(2, 5):
            one.commit(choice.randrange(1, 200))
            other.commit(choice.randrange(1, 100))
            with pytest.raises(CacheUnusable, match="still alive"):
                open_worker(tmp_path, 0)
            one.kill()
            other.commit(100)  # neither the index nor room waits for the dead
            committed, one.committed = one.committed, []
            one = Worker(tmp_path, 0, turn)
            one.committed = committed
        one.kill()
        other.kill()
        store = open_worker(tmp_path, 0)
        try:
            assert await check(store, one.committed + other.committed) >= 60
        finally:
            await store.close()
            prepared.close()


async def test_a_node_does_not_start_over_the_workers_of_a_killed_one(tmp_path: Path) -> None:
    prepared = node(tmp_path)
    worker = Worker(tmp_path, 0, 1)
    with workers(worker):
        prepared._lock.close()
        with pytest.raises(CacheUnusable, match="still use the cache"):
            node(tmp_path)
    node(tmp_path).close()
