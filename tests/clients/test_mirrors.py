"""Moving a bucket from one cloud to another under running jobs, with stock boto3."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.gateway_process import Gateway
from tests.stores import S3Server

OLD, NEW = "moving-old", "moving-new"
# One of two blocks and a bit, so that a read of it is of several ranges.
LARGE = random.Random(11).randbytes(2 * 2**20 + 12345)


def body_of(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest() * 40


@pytest.fixture(scope="module", params=["moto to a directory", "rclone to moto"])
def moving(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, Any, Any]]:
    """(gateway, boto3 at the old place, boto3 at the new). The new place is asked through the gateway's other mount
    where it is a directory."""
    directory = tmp_path_factory.mktemp("moving")
    names = {"moto to a directory": ("moto", ""), "rclone to moto": ("rclone", "moto")}
    old_name, new_name = names[request.param]
    old: S3Server = request.getfixturevalue(old_name)
    old.make_buckets(OLD)
    origins = [old.as_origin("old")]
    if new_name:
        new: S3Server = request.getfixturevalue(new_name)
        new.make_buckets(NEW)
        origins.append(new.as_origin("new"))
    else:
        (directory / "root" / NEW).mkdir(parents=True)
        origins.append({"name": "new", "type": "file", "root": str(directory / "root")})
    mounts: list[dict[str, object]] = [
        {"path": "data", "origin": "new", "remote": f"{NEW}/in", "mirror": [f"old:{OLD}/from"]},
        {"path": "new-alone", "origin": "new", "remote": f"{NEW}/in"},
        {"path": "old-alone", "origin": "old", "remote": f"{OLD}/from"},
    ]
    with (
        Gateway(directory, origins=origins, mounts=mounts) as gateway,
        closing(old.client()) as behind,
        closing(gateway.client(config={"retries": {"total_max_attempts": 1}})) as s3,
    ):
        yield gateway, behind, s3


def put_old(behind: Any, key: str, body: bytes) -> None:
    behind.put_object(Bucket=OLD, Key=f"from/{key}", Body=body)


def read(s3: Any, key: str, bucket: str = "data") -> bytes | None:
    try:
        with closing(s3.get_object(Bucket=bucket, Key=key)["Body"]) as body:
            return bytes(body.read())
    except s3.exceptions.NoSuchKey:
        return None


def keys_of(s3: Any, prefix: str, bucket: str = "data", **options: Any) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **options)
    return [entry["Key"] for page in pages for entry in page.get("Contents", ())]


def test_the_old_cloud_is_read_and_the_new_one_written(moving: tuple[Gateway, Any, Any]) -> None:
    _, behind, s3 = moving
    put_old(behind, "w/a", b"old a")
    put_old(behind, "w/large", LARGE)
    assert read(s3, "w/a") == b"old a"
    assert read(s3, "w/large") == LARGE
    s3.put_object(Bucket="data", Key="w/b", Body=b"new b")
    assert (read(s3, "w/b"), read(s3, "w/b", "new-alone"), read(s3, "w/b", "old-alone")) == (
        b"new b",
        b"new b",
        None,
    )
    s3.put_object(Bucket="data", Key="w/a", Body=b"overwritten")
    assert (read(s3, "w/a"), read(s3, "w/a", "old-alone")) == (b"overwritten", b"old a")
    assert s3.head_object(Bucket="data", Key="w/a")["ContentLength"] == len(b"overwritten")
    assert read(s3, "w/none") is None


def test_what_is_deleted_stays_deleted(moving: tuple[Gateway, Any, Any]) -> None:
    _, behind, s3 = moving
    for key in ("d/both", "d/old", "d/many"):
        put_old(behind, key, b"old")
    s3.put_object(Bucket="data", Key="d/both", Body=b"new")
    assert read(s3, "d/both") == b"new"
    for key in ("d/both", "d/old"):
        s3.delete_object(Bucket="data", Key=key)
        assert (read(s3, key), read(s3, key, "old-alone"), read(s3, key, "new-alone")) == (None, None, None)
    s3.delete_objects(Bucket="data", Delete={"Objects": [{"Key": "d/many"}, {"Key": "d/none"}]})
    assert keys_of(s3, "d/") == []


def test_a_listing_is_of_both(moving: tuple[Gateway, Any, Any]) -> None:
    _, behind, s3 = moving
    old = [f"l/{number:03}" for number in range(0, 40, 2)] + ["l/sub/x", "l/z ü"]
    new = [f"l/{number:03}" for number in range(0, 40, 3)] + ["l/other/y"]
    for key in old:
        put_old(behind, key, b"old")
    for key in new:
        s3.put_object(Bucket="data", Key=key, Body=b"newer")
    together = sorted({*old, *new}, key=str.encode)
    assert keys_of(s3, "l/") == together
    assert keys_of(s3, "l/", PaginationConfig={"PageSize": 7}) == together
    assert keys_of(s3, "l/", StartAfter="l/010") == [key for key in together if key > "l/010"]
    page = s3.list_objects_v2(Bucket="data", Prefix="l/", Delimiter="/")
    assert [one["Prefix"] for one in page["CommonPrefixes"]] == ["l/other/", "l/sub/"]
    assert {one["Key"]: one["Size"] for one in page["Contents"]} == {
        key: 5 if key in new else 3 for key in together if key.count("/") == 1
    }
    versions = s3.list_object_versions(Bucket="data", Prefix="l/0")["Versions"]
    assert {one["VersionId"] for one in versions} == {"null"}


def test_a_change_through_another_mount_is_seen_at_once(moving: tuple[Gateway, Any, Any]) -> None:
    _, behind, s3 = moving
    put_old(behind, "e", b"one")
    assert read(s3, "e") == b"one"
    s3.put_object(Bucket="old-alone", Key="e", Body=b"two!")
    assert read(s3, "e") == b"two!"
    s3.put_object(Bucket="new-alone", Key="e", Body=b"three")
    assert read(s3, "e") == b"three"
    assert read(s3, "e", "new-alone") == b"three"
    s3.delete_object(Bucket="data", Key="e")
    assert (read(s3, "e", "new-alone"), read(s3, "e", "old-alone")) == (None, None)


def test_uploads_in_parts_go_to_the_new_place(moving: tuple[Gateway, Any, Any]) -> None:
    _, behind, s3 = moving
    put_old(behind, "m", LARGE)
    assert read(s3, "m") == LARGE
    upload = s3.create_multipart_upload(Bucket="data", Key="m")["UploadId"]
    where = {"Bucket": "data", "Key": "m", "UploadId": upload}
    first = random.Random(12).randbytes(5 * 2**20)
    parts = [s3.upload_part(**where, PartNumber=1, Body=first)["ETag"]]
    copied = s3.upload_part_copy(
        **where, PartNumber=2, CopySource={"Bucket": "data", "Key": "m"}, CopySourceRange="bytes=7-1048582"
    )
    parts.append(copied["CopyPartResult"]["ETag"])
    assert read(s3, "m") == LARGE
    uploads = s3.list_multipart_uploads(Bucket="data", Prefix="m").get("Uploads", [])
    assert [one["UploadId"] for one in uploads] == [upload]
    named = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(parts, 1)]
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": named})
    assert read(s3, "m") == first + LARGE[7 : 2**20 + 7]
    assert read(s3, "m", "old-alone") == LARGE


def test_what_only_one_place_knows_is_refused_in_words(moving: tuple[Gateway, Any, Any]) -> None:
    _, behind, s3 = moving
    put_old(behind, "r", b"x")
    refused: list[Any] = [
        lambda: s3.get_bucket_policy(Bucket="data"),
        lambda: s3.put_object_tagging(
            Bucket="data", Key="r", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]}
        ),
        lambda: s3.delete_object(Bucket="data", Key="r", IfMatch='"x"'),
    ]
    for call in refused:
        with pytest.raises(ClientError) as error:
            call()
        assert error.value.response["Error"]["Code"] == "NotImplemented"
    with pytest.raises(ClientError) as missing:
        s3.get_object(Bucket="data", Key="r", VersionId="some-version")
    assert missing.value.response["Error"]["Code"] == "NoSuchVersion"
    assert "Status" not in s3.get_bucket_versioning(Bucket="data")
    assert read(s3, "r") == b"x"


def test_a_copy_onto_itself_brings_an_object_over(moving: tuple[Gateway, Any, Any]) -> None:
    _, behind, s3 = moving
    put_old(behind, "c/one", LARGE)
    source = {"Bucket": "data", "Key": "c/one"}
    s3.copy_object(Bucket="data", Key="c/one", CopySource=source)
    assert read(s3, "c/one", "new-alone") == LARGE
    assert s3.head_object(Bucket="data", Key="c/one")["ETag"] == f'"{hashlib.md5(LARGE).hexdigest()}"'
    with pytest.raises(ClientError) as error:
        s3.copy_object(Bucket="data", Key="c/one", CopySource=source)
    assert error.value.response["Error"]["Code"] == "InvalidRequest"
    s3.copy_object(Bucket="data", Key="c/two", CopySource=source)
    assert (read(s3, "c/two"), read(s3, "c/two", "old-alone")) == (LARGE, None)


def test_migration_under_load_serves_every_byte_of_every_object(moving: tuple[Gateway, Any, Any]) -> None:
    """Objects are moved, by copy and delete behind the gateway's other mounts, while readers go round."""
    gateway, behind, s3 = moving
    keys = [f"load/{number:03}" for number in range(60)]
    for key in keys:
        put_old(behind, key, body_of(key))
    moved = threading.Event()
    wrong: list[str] = []
    rounds = [0, 0, 0]

    def reads(number: int) -> None:
        dice = random.Random(number)
        with closing(gateway.client(config={"retries": {"total_max_attempts": 1}})) as reader:
            while not (moved.is_set() and rounds[number] >= 60) and not wrong:
                key = dice.choice(keys)
                got = read(reader, key)
                if got != body_of(key):
                    wrong.append(f"{key}: {got!r}")
                if rounds[number] % 10 == 0 and len(keys_of(reader, "load/")) != len(keys):
                    wrong.append("the listing has holes")
                rounds[number] += 1

    threads = [threading.Thread(target=reads, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for key in keys:
            source = {"Bucket": "old-alone", "Key": key}
            s3.copy_object(Bucket="new-alone", Key=key, CopySource=source)
            behind.delete_object(Bucket=OLD, Key=f"from/{key}")
    finally:
        moved.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert keys_of(s3, "load/", "old-alone") == []
    assert keys_of(s3, "load/") == keys_of(s3, "load/", "new-alone") == keys
