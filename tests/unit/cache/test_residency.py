"""Whether bytes are in the page cache: never yes for bytes that are not, whichever way is chosen.

Dropping pages is a request that a file system may pass over (memory file systems do), so what happened is found out
with mincore, which reads nothing in: the question of `by_cachestat` ends with reads, which start the disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cache import residency
from gateway.cache.residency import CALM_NS, Resident, always, by_cachestat, by_mincore, calm, choose
from gateway.cache.shared import SharedPage

SIZE = 1 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


@pytest.fixture(params=[by_cachestat, by_mincore])
def resident(request: pytest.FixtureRequest, tmp_path: Path) -> Resident:
    way: Resident = request.param
    if way is by_cachestat and choose(tmp_path) is not by_cachestat:
        pytest.skip("this kernel or file system has no cachestat")
    return way


def drop(fd: int) -> None:
    """Skips the test where pages stay."""
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)  # no readahead
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    if any(by_mincore(fd, at, 1) for at in range(0, SIZE, PAGE)):
        pytest.skip("this file system keeps pages that it was told to drop")


def test_what_was_written_is_there(file: int, resident: Resident) -> None:
    assert resident(file, 0, SIZE)
    assert resident(file, PAGE - 1, 2)
    assert resident(file, SIZE, 0)


def test_what_was_dropped_is_not_there(file: int, resident: Resident) -> None:
    for at, length in ((0, SIZE), (SIZE - 1, 1), (PAGE - 1, 2)):
        drop(file)
        assert not resident(file, at, length)


def test_a_part_is_not_the_whole(file: int, resident: Resident) -> None:
    drop(file)
    os.pread(file, PAGE, 0)
    os.pread(file, PAGE, SIZE // 2)
    os.pread(file, PAGE, SIZE - PAGE)
    assert resident(file, 0, PAGE)
    assert resident(file, SIZE // 2, PAGE)
    assert not resident(file, 0, SIZE)


def test_what_is_beyond_the_end_is_not_there(file: int, resident: Resident) -> None:
    """A segment that was cut short must miss, not be sent short."""
    assert not resident(file, SIZE, PAGE)
    assert not resident(file, 0, 2 * SIZE)


def test_the_choice_tells_the_truth_and_leaves_nothing_behind(file: int, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    chosen = choose(tmp_path / "cache")
    assert chosen is always or not chosen(file, 0, 2 * SIZE)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.fixture
def page(tmp_path: Path) -> Iterator[SharedPage]:
    page = SharedPage(tmp_path / "shared")
    yield page
    page.close()


def test_pages_that_may_still_be_read_are_looked_for_only_after_reads(
    file: int, resident: Resident, page: SharedPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    if resident is not by_cachestat:
        assert calm(resident, page) is resident
        return
    probed: list[int] = []
    monkeypatch.setattr(residency, "_up_to_date", lambda fd, offset: not probed.append(offset))
    ask = calm(resident, page)
    assert ask(file, 0, SIZE)
    assert ask(file, 0, 0)
    assert probed == []
    page.disk_read()
    assert ask(file, 0, SIZE)
    assert probed == [SIZE - 1, SIZE // 2]
    monkeypatch.setattr(residency.time, "monotonic_ns", lambda now=page.disk_read_ns: now + CALM_NS + 1)
    assert ask(file, 0, SIZE)
    assert len(probed) == 2


@pytest.mark.parametrize("way", [by_cachestat])
def test_whoever_learns_that_he_has_to_wait_tells_the_others(
    file: int, page: SharedPage, way: Resident
) -> None:
    assert page.disk_read_ns == 0
    assert not calm(way, page)(file, SIZE, PAGE)
    assert page.disk_read_ns
    # By then there are reads under way, so nothing that was dropped is taken for being there either.
    drop(file)
    assert not calm(way, page)(file, 0, SIZE)
