"""Scans over more data than fits keep hitting; nothing else suffers for it. A model of the cache: segments in FIFO
order, hot blocks appended again, one block per stripe unless said otherwise."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Iterable

import pytest

from gateway.cache.admission import Admission
from gateway.cache.entry import Extent
from gateway.cache.eviction import Candidate, keep

CAPACITY = 1000  # blocks
PER_SEGMENT = 50


class Model:
    """The store as far as admission and eviction see it; one unit of length is a block."""

    def __init__(self, admit: Callable[[int, bool], bool]) -> None:
        self.admit = admit
        self.segments: OrderedDict[int, dict[int, int]] = OrderedDict({0: {}})
        self.where: dict[int, int] = {}
        self.hits = 0
        self.reads = 0
        self.written = 0
        self._full = False

    def read(self, name: int) -> bool:
        self.reads += 1
        if name in self.where:
            segment = self.segments[self.where[name]]
            segment[name] = min(3, segment[name] + 1)
            self.hits += 1
            return True
        if self.admit(name, not self._full):
            self._append(name)
        return False

    def _append(self, name: int) -> None:
        last = next(reversed(self.segments))
        if len(self.segments[last]) >= PER_SEGMENT:
            last += 1
            self.segments[last] = {}
        self.segments[last][name] = 0
        self.where[name] = last
        self.written += 1
        if len(self.segments) * PER_SEGMENT > CAPACITY:
            self._full = True
            self._evict()

    def _evict(self) -> None:
        number, blocks = self.segments.popitem(last=False)
        for name in blocks:
            del self.where[name]
        candidates = [
            Candidate(name, 0, b"", Extent(number, i, 1, 0, i, 0), count)
            for i, (name, count) in enumerate(blocks.items())
        ]
        for kept in keep(candidates, PER_SEGMENT):
            self._append(kept.version)

    def ratio(self, names: Iterable[int]) -> float:
        self.hits = self.reads = 0
        for name in names:
            self.read(name)
        return self.hits / self.reads


def managed(stripe_blocks: int = 1) -> tuple[Model, Admission]:
    admission = Admission(CAPACITY, stripe_blocks)

    def admit(name: int, room: bool) -> bool:
        key, block = divmod(name, 100)
        return admission.admit(b"key-%d" % key, block, 1, room=room)

    return Model(admit), admission


def epochs(model: Model, names: list[int], count: int, seed: int | None = None) -> list[float]:
    order = random.Random(seed)
    ratios = []
    for _ in range(count):
        if seed is not None:
            order.shuffle(names)
        ratios.append(model.ratio(names))
    return ratios


def test_without_admission_a_cyclic_scan_never_hits() -> None:
    assert epochs(Model(lambda *_: True), list(range(2 * CAPACITY)), 4)[-1] == 0


@pytest.mark.parametrize("stripe_blocks", [1, 16])
def test_a_cyclic_scan_over_twice_the_capacity_keeps_a_stable_subset(stripe_blocks: int) -> None:
    model, _ = managed(stripe_blocks)
    ratios = epochs(model, list(range(2 * CAPACITY)), 12)
    assert min(ratios[-4:]) >= 0.4, ratios


def test_shuffled_epochs_over_twice_the_capacity_keep_a_stable_subset() -> None:
    model, _ = managed()
    ratios = epochs(model, list(range(2 * CAPACITY)), 12, seed=1)
    assert min(ratios[-4:]) >= 0.4, ratios


@pytest.mark.parametrize(("times", "least"), [(1.1, 0.75), (1.5, 0.52), (4, 0.19), (10, 0.07)])
def test_the_subset_is_near_the_best_possible(times: float, least: float) -> None:
    model, _ = managed()
    ratios = epochs(model, list(range(int(times * CAPACITY))), 15)
    assert min(ratios[-3:]) >= least, ratios


def test_a_steady_scan_writes_little() -> None:
    model, _ = managed()
    epochs(model, list(range(2 * CAPACITY)), 10)
    before = model.written
    epochs(model, list(range(2 * CAPACITY)), 5)
    assert (model.written - before) / (5 * 2 * CAPACITY) < 0.05


def test_a_set_that_fits_is_admitted_whole() -> None:
    model, admission = managed()
    assert epochs(model, list(range(int(0.85 * CAPACITY))), 3)[-1] == 1.0
    assert admission.p == 1.0


def test_a_new_working_set_that_fits_takes_over() -> None:
    model, admission = managed()
    epochs(model, list(range(2 * CAPACITY)), 8)
    assert admission.p < 0.6
    ratios = epochs(model, list(range(100_000, 100_000 + CAPACITY // 2)), 12)
    assert ratios[3] >= 0.7, ratios
    assert ratios[-1] >= 0.95, ratios


def test_a_new_scan_takes_over_from_an_old_one() -> None:
    model, _ = managed()
    epochs(model, list(range(2 * CAPACITY)), 8)
    ratios = epochs(model, list(range(100_000, 100_000 + 2 * CAPACITY)), 12)
    assert min(ratios[-3:]) >= 0.4, ratios


def test_a_skewed_load_loses_little_to_admission() -> None:
    def load(model: Model) -> float:
        random_ = random.Random(3)
        names = [int(random_.paretovariate(0.9)) % 20_000 for _ in range(60_000)]
        model.ratio(names[:40_000])
        return model.ratio(names[40_000:])

    plain, (model, _) = Model(lambda *_: True), managed()
    assert load(model) >= load(plain) - 0.03


def test_a_hot_object_among_a_scan_is_admitted_whatever_its_hash() -> None:
    model, admission = managed()
    epochs(model, list(range(2 * CAPACITY)), 8)
    refused = next(
        n
        for n in range(200_000, 900_000, 100)
        if not admission.admit(b"key-%d" % (n // 100), 0, 1, room=False)
    )
    for name in range(2 * CAPACITY):
        model.read(name)
        if name % 40 == 0:
            model.read(refused)
    assert refused in model.where


def test_the_ghosts_are_bounded_and_the_threshold_still_found() -> None:
    admission = Admission(CAPACITY, 1, ghosts_max=64)
    model = Model(lambda name, room: admission.admit(b"key-%d" % name, 0, 1, room=room))
    ratios = epochs(model, list(range(2 * CAPACITY)), 14)
    assert len(admission._ghosts) <= 64
    assert min(ratios[-4:]) >= 0.4, ratios
