"""Whether bytes are in the page cache: never yes for bytes that are not, whichever way is chosen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cache.residency import Resident, always, by_cachestat, by_probing, choose

SIZE = 1 << 20


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


def dropped(fd: int) -> bool:
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return not by_probing(fd, 0, SIZE)


@pytest.mark.parametrize("resident", [by_cachestat, by_probing])
def test_what_was_written_is_there_and_what_was_dropped_is_not(
    file: int, resident: Resident, tmp_path: Path
) -> None:
    if resident is by_cachestat and choose(tmp_path) is not by_cachestat:
        pytest.skip("this kernel or file system has no cachestat")
    assert resident(file, 0, SIZE)
    assert resident(file, 4095, 2)
    assert resident(file, SIZE, 0)
    if not dropped(file):
        pytest.skip("this file system keeps everything in memory")
    assert not resident(file, 0, SIZE)
    assert not resident(file, SIZE - 1, 1)


def test_a_part_is_not_the_whole(file: int, tmp_path: Path) -> None:
    if not dropped(file):
        pytest.skip("this file system keeps everything in memory")
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)  # no readahead
    os.pread(file, 4096, 0)
    resident = choose(tmp_path)
    assert resident(file, 0, 4096)
    assert not resident(file, 0, SIZE)


def test_what_is_beyond_the_end_is_not_there(file: int, tmp_path: Path) -> None:
    """A segment that was cut short must miss, not be sent short."""
    resident = choose(tmp_path)
    if resident is not always:
        assert not resident(file, SIZE, 4096)
        assert not resident(file, 0, 2 * SIZE)


def test_the_choice_leaves_nothing_behind(tmp_path: Path) -> None:
    choose(tmp_path)
    assert list(tmp_path.iterdir()) == []
