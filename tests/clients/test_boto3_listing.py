"""Listings through boto3: both versions, delimiters, paging, encoding, agreement with what is stored."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.targets import Target

NAMES = sorted(
    [f"a/{n:03}.bin" for n in range(23)]
    + ["a.txt", "a0", "b/c/deep.bin", "b/c.bin", "b/other one.bin", "c&d=e.bin", "c+d.bin", "ä/ö.bin", "z"],
    key=lambda name: name.encode(),
)


@pytest.fixture(scope="module")
def shelf(every_target: Target) -> str:
    """A prefix with `NAMES` under it."""
    client = every_target.client()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: client.put_object(Bucket="data", Key=f"listing/{n}", Body=n.encode()), NAMES))
    client.close()
    return "listing/"


def listed(pages: Any) -> tuple[list[str], list[str]]:
    keys: list[str] = []
    prefixes: list[str] = []
    for page in pages:
        keys += [entry["Key"] for entry in page.get("Contents", [])]
        prefixes += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
    return keys, prefixes


@pytest.mark.needs("pages")
@pytest.mark.parametrize("version", ["list_objects", "list_objects_v2"])
@pytest.mark.parametrize("page_size", [1, 7, 1000])
def test_pages_put_together_are_the_whole_in_byte_order(
    s3: Any, shelf: str, version: str, page_size: int
) -> None:
    pages = s3.get_paginator(version).paginate(
        Bucket="data", Prefix=shelf, PaginationConfig={"PageSize": page_size}
    )
    assert listed(pages) == ([shelf + name for name in NAMES], [])


@pytest.mark.needs("pages")
@pytest.mark.parametrize("version", ["list_objects", "list_objects_v2"])
@pytest.mark.parametrize("page_size", [1, 3, 1000])
def test_a_delimiter_rolls_up_each_prefix_once(
    target: Target, s3: Any, shelf: str, version: str, page_size: int
) -> None:
    if version == "list_objects" and page_size < 1000 and "delimiter_pages_v1" not in target.faithful:
        pytest.skip(f"{target.name} repeats prefixes on the next page of ListObjects")
    pages = s3.get_paginator(version).paginate(
        Bucket="data", Prefix=shelf, Delimiter="/", PaginationConfig={"PageSize": page_size}
    )
    keys, prefixes = listed(pages)
    assert keys == [shelf + name for name in NAMES if "/" not in name]
    assert prefixes == [f"{shelf}a/", f"{shelf}b/", f"{shelf}ä/"]


@pytest.mark.needs("any_delimiter")
def test_any_string_can_delimit(s3: Any, shelf: str) -> None:
    answer = s3.list_objects_v2(Bucket="data", Prefix=f"{shelf}a/", Delimiter=".bi")
    assert listed([answer]) == ([], [f"{shelf}a/{n:03}.bi" for n in range(23)])


def test_start_after_is_exclusive_and_need_not_exist(s3: Any, shelf: str) -> None:
    answer = s3.list_objects_v2(Bucket="data", Prefix=f"{shelf}a/", StartAfter=f"{shelf}a/010.bin", MaxKeys=2)
    assert listed([answer])[0] == [f"{shelf}a/011.bin", f"{shelf}a/012.bin"]
    answer = s3.list_objects_v2(Bucket="data", Prefix=f"{shelf}a/", StartAfter=f"{shelf}a/0105", MaxKeys=1)
    assert listed([answer])[0] == [f"{shelf}a/011.bin"]
    answer = s3.list_objects(Bucket="data", Prefix=f"{shelf}a/", Marker=f"{shelf}a/021.bin")
    assert listed([answer])[0] == [f"{shelf}a/022.bin"]


@pytest.mark.needs("key_counts")
def test_counts_and_flags_of_a_page(s3: Any, shelf: str) -> None:
    page = s3.list_objects_v2(Bucket="data", Prefix=f"{shelf}a/", MaxKeys=10)
    assert (page["KeyCount"], page["MaxKeys"], page["IsTruncated"]) == (10, 10, True)
    assert (page["Name"], page["Prefix"]) == ("data", f"{shelf}a/")
    last = s3.list_objects_v2(
        Bucket="data", Prefix=f"{shelf}a/", ContinuationToken=page["NextContinuationToken"], MaxKeys=1000
    )
    assert (last["KeyCount"], last["IsTruncated"]) == (13, False)
    assert "NextContinuationToken" not in last
    empty = s3.list_objects_v2(Bucket="data", Prefix=f"{shelf}no-such/")
    assert (empty["KeyCount"], empty["IsTruncated"]) == (0, False)


@pytest.mark.needs("max_keys_0")
def test_zero_keys_are_an_empty_page(s3: Any, shelf: str) -> None:
    page = s3.list_objects_v2(Bucket="data", Prefix=shelf, MaxKeys=0)
    assert (page.get("Contents", []), page["IsTruncated"]) == ([], False)


@pytest.mark.needs("quoted_etags")
def test_entries_agree_with_head(s3: Any, shelf: str) -> None:
    for entry in s3.list_objects_v2(Bucket="data", Prefix=f"{shelf}b/")["Contents"]:
        head = s3.head_object(Bucket="data", Key=entry["Key"])
        assert (entry["Size"], entry["ETag"]) == (head["ContentLength"], head["ETag"])
        assert abs((entry["LastModified"] - head["LastModified"]).total_seconds()) < 1
        assert entry.get("StorageClass", "STANDARD") == "STANDARD"


@pytest.mark.needs("fetch_owner")
def test_the_owner_comes_when_asked_for(s3: Any, shelf: str) -> None:
    asked = s3.list_objects_v2(Bucket="data", Prefix=f"{shelf}z", FetchOwner=True)["Contents"][0]
    assert asked["Owner"]["ID"]
    assert "Owner" not in s3.list_objects_v2(Bucket="data", Prefix=f"{shelf}z")["Contents"][0]


@pytest.mark.needs("encoding_type", "control_characters")
def test_keys_that_xml_cannot_hold_come_encoded(s3: Any, key: str) -> None:
    names = [f"{key}/\u0001bell", f"{key}/new\nline", f"{key}/plus+and space%"]
    for name in names:
        s3.put_object(Bucket="data", Key=name, Body=b"x")
    assert listed([s3.list_objects_v2(Bucket="data", Prefix=f"{key}/")])[0] == sorted(
        names
    )  # botocore decodes


def test_a_listing_shows_every_write_at_once(s3: Any, key: str) -> None:
    for n in range(4):
        s3.put_object(Bucket="data", Key=f"{key}/{n}", Body=b"x" * n)
        entries = s3.list_objects_v2(Bucket="data", Prefix=f"{key}/")["Contents"]
        assert [entry["Size"] for entry in entries] == list(range(n + 1))
    s3.delete_object(Bucket="data", Key=f"{key}/2")
    assert listed([s3.list_objects_v2(Bucket="data", Prefix=f"{key}/")])[0] == [
        f"{key}/{n}" for n in (0, 1, 3)
    ]


@pytest.mark.needs("versions")
def test_versions_are_listed_and_read_each(s3: Any, key: str) -> None:
    bucket = "brief"
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    old = s3.put_object(Bucket=bucket, Key=key, Body=b"old")["VersionId"]
    new = s3.put_object(Bucket=bucket, Key=key, Body=b"newer")["VersionId"]
    for _ in range(2):
        for version, body in ((old, b"old"), (new, b"newer"), (old, b"old")):
            got = s3.get_object(Bucket=bucket, Key=key, VersionId=version)
            assert (got["Body"].read(), got["VersionId"]) == (body, version)
            assert s3.head_object(Bucket=bucket, Key=key, VersionId=version)["ContentLength"] == len(body)
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"newer"
    marker = s3.delete_object(Bucket=bucket, Key=key)
    assert marker["DeleteMarker"] is True
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket=bucket, Key=key)
    listing = s3.list_object_versions(Bucket=bucket, Prefix=key)
    assert [(v["VersionId"], v["IsLatest"], v["Size"]) for v in listing["Versions"]] == [
        (new, False, 5),
        (old, False, 3),
    ]
    assert [(m["VersionId"], m["IsLatest"]) for m in listing["DeleteMarkers"]] == [
        (marker["VersionId"], True)
    ]
    s3.delete_object(Bucket=bucket, Key=key, VersionId=marker["VersionId"])
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"newer"
    pages = s3.get_paginator("list_object_versions").paginate(
        Bucket=bucket, Prefix=key, PaginationConfig={"PageSize": 1}
    )
    assert [v["VersionId"] for page in pages for v in page.get("Versions", [])] == [new, old]
