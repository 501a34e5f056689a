"""pyarrow's own S3 client (aws-sdk-cpp): data sets written, listed and read column by column."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from tests.targets import Target

TABLE = pa.table(
    {
        "id": list(range(50_000)),
        "group": [n % 4 for n in range(50_000)],
        "text": [f"sample {n * 7919 % 50_000}" for n in range(50_000)],
    }
)


@pytest.fixture
def fs(target: Target) -> Any:
    return pafs.S3FileSystem(
        access_key=target.access_key,
        secret_key=target.secret_key,
        endpoint_override=target.endpoint.partition("//")[2],
        scheme="http",
        region="us-east-1",
        background_writes=False,
    )


pytestmark = pytest.mark.needs("range_without_checksum")


def test_columns_are_read_from_parquet(fs: Any, key: str) -> None:
    path = f"data/{key}.parquet"
    pq.write_table(TABLE, path, filesystem=fs, row_group_size=5_000)
    for _ in range(2):
        assert pq.read_table(path, filesystem=fs, columns=["text"]) == TABLE.select(["text"])
        assert pq.ParquetFile(path, filesystem=fs).read_row_group(3) == TABLE.slice(15_000, 5_000)


@pytest.mark.needs("slashes_in_keys")  # it puts a marker `directory/`
def test_a_partitioned_data_set_comes_back(fs: Any, key: str) -> None:
    ds.write_dataset(TABLE, f"data/{key}", filesystem=fs, format="parquet", partitioning=["group"])
    back = ds.dataset(f"data/{key}", filesystem=fs, format="parquet", partitioning=["group"])
    some = back.to_table(filter=(ds.field("group") == 2) & (ds.field("id") < 100), columns=["id"])
    assert sorted(some["id"].to_pylist()) == list(range(2, 100, 4))
    assert back.count_rows() == 50_000


@pytest.mark.needs("multipart")
def test_streams_larger_than_a_part_come_back(fs: Any, key: str) -> None:
    piece = bytes(range(256)) * 4096
    with fs.open_output_stream(f"data/{key}") as out:
        for _ in range(13):
            out.write(piece)
    with fs.open_input_file(f"data/{key}") as file:
        assert file.size() == 13 * 2**20
        assert file.read_at(1000, 12 * 2**20 + 5) == (piece * 13)[12 * 2**20 + 5 :][:1000]
        assert file.read() == piece * 13


@pytest.mark.needs("slashes_in_keys")  # it puts a marker `directory/`
def test_listing_and_removal(fs: Any, key: str) -> None:
    for name in ("x", "sub/y"):
        with fs.open_output_stream(f"data/{key}/{name}") as out:
            out.write(b"12345")
    found = fs.get_file_info(pafs.FileSelector(f"data/{key}", recursive=True))
    assert {info.path: info.size for info in found if info.type == pafs.FileType.File} == {
        f"data/{key}/x": 5,
        f"data/{key}/sub/y": 5,
    }
    fs.delete_file(f"data/{key}/x")
    assert fs.get_file_info(f"data/{key}/x").type == pafs.FileType.NotFound
