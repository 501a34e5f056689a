"""What stock boto3 finds through a gateway before Google Cloud Storage, where it differs from S3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.targets import CHOSEN, Target

pytestmark = pytest.mark.skipif("gcs" not in CHOSEN, reason="gcs is not among the TARGETS")


@pytest.fixture
def s3(over_gcs: Target) -> Iterator[Any]:
    with closing(over_gcs.client(config={"retries": {"total_max_attempts": 1}})) as client:
        yield client


def test_generations_are_versions_and_a_delete_leaves_no_marker(s3: Any, key: str) -> None:
    bucket = "brief"
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    old = s3.put_object(Bucket=bucket, Key=key, Body=b"old")["VersionId"]
    new = s3.put_object(Bucket=bucket, Key=key, Body=b"newer")["VersionId"]
    assert int(new) > int(old)
    for version, body in ((old, b"old"), (new, b"newer"), (old, b"old")):
        got = s3.get_object(Bucket=bucket, Key=key, VersionId=version)
        assert (got["Body"].read(), got["VersionId"]) == (body, version)
        assert s3.head_object(Bucket=bucket, Key=key, VersionId=version)["ContentLength"] == len(body)
        part = s3.get_object(Bucket=bucket, Key=key, VersionId=version, Range="bytes=1-2")
        assert part["Body"].read() == body[1:3]
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"newer"
    assert "DeleteMarker" not in s3.delete_object(Bucket=bucket, Key=key)
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket=bucket, Key=key)
    pages = s3.get_paginator("list_object_versions").paginate(
        Bucket=bucket, Prefix=key, PaginationConfig={"PageSize": 1}
    )
    listed = [version for page in pages for version in page.get("Versions", [])]
    assert [(one["VersionId"], one["IsLatest"]) for one in listed] == [(new, False), (old, False)]
    s3.copy_object(Bucket=bucket, Key=key, CopySource={"Bucket": bucket, "Key": key, "VersionId": old})
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"old"
    for version in (old, new):
        s3.delete_object(Bucket=bucket, Key=key, VersionId=version)
        with pytest.raises(ClientError) as error:
            s3.get_object(Bucket=bucket, Key=key, VersionId=version)
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_the_checksum_of_a_whole_object_is_googles_crc32c(s3: Any, key: str) -> None:
    s3.put_object(Bucket="data", Key=key, Body=b"123456789")
    got = s3.get_object(Bucket="data", Key=key, ChecksumMode="ENABLED")
    assert got["Body"].read() == b"123456789"  # botocore verifies as it reads
    assert got["ChecksumCRC32C"] == "4waSgw=="
    part = s3.get_object(Bucket="data", Key=key, Range="bytes=0-3", ChecksumMode="ENABLED")
    assert part["Body"].read() == b"1234"
    assert "ChecksumCRC32C" not in part


def test_a_delete_of_what_was_seen(s3: Any, key: str) -> None:
    etag = s3.put_object(Bucket="data", Key=key, Body=b"x")["ETag"]
    with pytest.raises(ClientError) as error:
        s3.delete_object(Bucket="data", Key=key, IfMatch='"other"')
    assert error.value.response["Error"]["Code"] == "PreconditionFailed"
    s3.delete_object(Bucket="data", Key=key, IfMatch=etag)
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket="data", Key=key)


def test_what_google_cannot_do_is_said(s3: Any, key: str) -> None:
    where = {"Bucket": "data", "Key": key}
    calls: list[Any] = [
        lambda: s3.put_object(**where, Body=b"x", Tagging="a=1"),
        lambda: s3.put_object(**where, Body=b"x", StorageClass="INTELLIGENT_TIERING"),
        lambda: s3.put_object(Bucket="data", Key=f"{key}\n", Body=b"x"),
        lambda: s3.put_object_tagging(**where, Tagging={"TagSet": [{"Key": "a", "Value": "1"}]}),
        lambda: s3.get_bucket_cors(Bucket="data"),
    ]
    for call in calls:
        with pytest.raises(ClientError) as error:
            call()
        said = error.value.response["Error"]
        assert (said["Code"], said["Message"][-1]) == ("NotImplemented", "."), said
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(**where)
