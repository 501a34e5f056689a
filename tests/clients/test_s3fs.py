"""s3fs: what pandas, dask, fsspec and Hugging Face datasets do."""

from __future__ import annotations

import random
from typing import Any

import pytest
import s3fs

from tests.targets import Target

BODY = random.Random(3).randbytes(11 * 2**20 + 17)


@pytest.fixture
def fs(target: Target) -> Any:
    return s3fs.S3FileSystem(
        key=target.access_key,
        secret=target.secret_key,
        endpoint_url=target.endpoint,
        skip_instance_cache=True,
        use_listings_cache=False,
    )


def test_files_are_written_read_and_listed(fs: Any, key: str) -> None:
    home = f"data/{key}"
    fs.pipe({f"{home}/{name}": name.encode() for name in ("a.txt", "b.txt", "sub/c.txt")})
    assert sorted(fs.ls(home, detail=False)) == [f"{home}/a.txt", f"{home}/b.txt", f"{home}/sub"]
    assert sorted(fs.glob(f"{home}/**/*.txt")) == [f"{home}/{n}" for n in ("a.txt", "b.txt", "sub/c.txt")]
    assert fs.cat(f"{home}/sub/c.txt") == b"sub/c.txt"
    assert (fs.exists(f"{home}/a.txt"), fs.exists(f"{home}/none")) == (True, False)
    assert (fs.isdir(f"{home}/sub"), fs.isfile(f"{home}/a.txt")) == (True, True)
    assert fs.info(f"{home}/a.txt")["size"] == 5
    with pytest.raises(FileNotFoundError):
        fs.cat(f"{home}/none")


def test_seeking_reads_the_right_bytes(fs: Any, key: str) -> None:
    fs.pipe_file(f"data/{key}", BODY[: 3 * 2**20])
    with fs.open(f"data/{key}", "rb", block_size=2**18) as file:
        for offset, length in ((0, 10), (2**20 - 5, 10), (3 * 2**20 - 4, 99), (7, 300_000), (2**21, 1)):
            file.seek(offset)
            assert file.read(length) == BODY[: 3 * 2**20][offset : offset + length]


@pytest.mark.needs("range_without_checksum")
def test_many_ranges_at_once(fs: Any, key: str) -> None:
    path = f"data/{key}"
    fs.pipe_file(path, BODY[: 2**21])
    dice = random.Random(4)
    starts = [dice.randrange(2**21 - 1000) for _ in range(60)]
    ends = [start + dice.randrange(1, 1000) for start in starts]
    assert fs.cat_ranges([path] * 60, starts, ends) == [
        BODY[start:end] for start, end in zip(starts, ends, strict=True)
    ]


@pytest.mark.needs("multipart")
def test_large_files_are_written_in_parts(fs: Any, key: str) -> None:
    with fs.open(f"data/{key}", "wb", block_size=5 * 2**20) as file:
        for at in range(0, len(BODY), 2**20):
            file.write(BODY[at : at + 2**20])
    assert fs.cat_file(f"data/{key}") == BODY
    assert fs.cat_file(f"data/{key}", start=-10) == BODY[-10:]


@pytest.mark.needs("conditional_writes")
def test_exclusive_creation_never_overwrites(fs: Any, key: str) -> None:
    fs.pipe_file(f"data/{key}", b"first", mode="create")
    with pytest.raises(FileExistsError):
        fs.pipe_file(f"data/{key}", b"second", mode="create")
    assert fs.cat_file(f"data/{key}") == b"first"


@pytest.mark.needs("copy")
def test_copies_moves_and_removal(fs: Any, key: str) -> None:
    home = f"data/{key}"
    fs.pipe_file(f"{home}/a", b"bytes")
    fs.copy(f"{home}/a", f"{home}/b")
    fs.mv(f"{home}/b", f"{home}/c")
    assert sorted(fs.ls(home, detail=False)) == [f"{home}/a", f"{home}/c"]
    fs.rm(home, recursive=True)
    assert not fs.exists(home)
