"""Copies, tags, buckets: what is not one plain object."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.targets import BUCKETS, Target


@pytest.mark.needs("copy")
def test_a_copy_has_the_bytes_of_its_source(s3: Any, key: str) -> None:
    source = {"Bucket": "data", "Key": f"{key}/source ü&+"}
    s3.put_object(**source, Body=b"source bytes")
    s3.put_object(Bucket="strict", Key=key, Body=b"before")
    assert s3.get_object(Bucket="strict", Key=key)["Body"].read() == b"before"
    answer = s3.copy_object(Bucket="strict", Key=key, CopySource=source)
    got = s3.get_object(Bucket="strict", Key=key)
    assert got["Body"].read() == b"source bytes"
    assert answer["CopyObjectResult"]["ETag"] == got["ETag"]


@pytest.mark.needs("copy", "headers")
def test_a_copy_keeps_or_replaces_metadata_as_told(s3: Any, key: str) -> None:
    source = {"Bucket": "data", "Key": f"{key}/source"}
    s3.put_object(**source, Body=b"x", Metadata={"kept": "yes"}, ContentType="text/x-kept")
    s3.copy_object(Bucket="data", Key=key, CopySource=source)
    kept = s3.head_object(Bucket="data", Key=key)
    assert (kept["Metadata"], kept["ContentType"]) == ({"kept": "yes"}, "text/x-kept")
    s3.copy_object(
        Bucket="data",
        Key=key,
        CopySource=source,
        MetadataDirective="REPLACE",
        Metadata={"new": "1"},
        ContentType="text/x-new",
    )
    new = s3.head_object(Bucket="data", Key=key)
    assert (new["Metadata"], new["ContentType"]) == ({"new": "1"}, "text/x-new")


@pytest.mark.needs("copy", "headers", "copy_onto_itself")
def test_a_copy_onto_itself_changes_metadata_only(s3: Any, key: str) -> None:
    where = {"Bucket": "data", "Key": key}
    s3.put_object(**where, Body=b"the bytes", Metadata={"old": "1"})
    s3.head_object(**where)
    s3.copy_object(**where, CopySource=where, MetadataDirective="REPLACE", Metadata={"new": "2"})
    got = s3.get_object(**where)
    assert (got["Body"].read(), got["Metadata"]) == (b"the bytes", {"new": "2"})
    with pytest.raises(ClientError) as error:
        s3.copy_object(**where, CopySource=where)
    assert error.value.response["Error"]["Code"] == "InvalidRequest"


@pytest.mark.needs("copy")
def test_copying_what_is_missing_is_404(s3: Any, key: str) -> None:
    with pytest.raises(ClientError) as error:
        s3.copy_object(Bucket="data", Key=key, CopySource={"Bucket": "data", "Key": f"{key}/none"})
    assert error.value.response["Error"]["Code"] == "NoSuchKey"


@pytest.mark.needs("copy", "copy_conditions")
def test_a_copy_honours_the_conditions_on_its_source(s3: Any, key: str) -> None:
    source = {"Bucket": "data", "Key": f"{key}/source"}
    etag = s3.put_object(**source, Body=b"x")["ETag"]
    s3.copy_object(Bucket="data", Key=key, CopySource=source, CopySourceIfMatch=etag)
    for condition in ({"CopySourceIfMatch": '"other"'}, {"CopySourceIfNoneMatch": etag}):
        with pytest.raises(ClientError) as error:
            s3.copy_object(Bucket="data", Key=key, CopySource=source, **condition)
        assert error.value.response["Error"]["Code"] == "PreconditionFailed"


@pytest.mark.needs("tagging")
def test_tags_go_through(s3: Any, key: str) -> None:
    where = {"Bucket": "data", "Key": key}
    s3.put_object(**where, Body=b"x", Tagging="a=1&b=two%20words")
    tags = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "two words"}]
    assert sorted(s3.get_object_tagging(**where)["TagSet"], key=lambda tag: tag["Key"]) == tags
    s3.put_object_tagging(**where, Tagging={"TagSet": tags[:1]})
    assert s3.get_object_tagging(**where)["TagSet"] == tags[:1]
    s3.delete_object_tagging(**where)
    assert s3.get_object_tagging(**where)["TagSet"] == []
    assert s3.get_object(**where)["Body"].read() == b"x"


@pytest.mark.needs("bucket_settings")
def test_calls_the_gateway_does_not_know_go_through(s3: Any, key: str) -> None:
    """Re-signed and forwarded: nothing that a client could do against the bucket is lost."""
    rule = {
        "ID": key[:60],
        "Status": "Enabled",
        "Filter": {"Prefix": "tmp/"},
        "Expiration": {"Days": 1},
    }
    s3.put_bucket_lifecycle_configuration(Bucket="brief", LifecycleConfiguration={"Rules": [rule]})
    rules = s3.get_bucket_lifecycle_configuration(Bucket="brief")["Rules"]
    assert [one["ID"] for one in rules] == [key[:60]]
    s3.delete_bucket_lifecycle(Bucket="brief")
    assert s3.get_bucket_acl(Bucket="brief")["Grants"]
    cors = {"AllowedMethods": ["GET"], "AllowedOrigins": ["https://example.com"]}
    s3.put_bucket_cors(Bucket="brief", CORSConfiguration={"CORSRules": [cors]})
    assert s3.get_bucket_cors(Bucket="brief")["CORSRules"][0]["AllowedMethods"] == ["GET"]


def test_buckets_are_listed_and_found(target: Target, s3: Any) -> None:
    names = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    seen = set(BUCKETS) - ({"vault"} if target.gateway else set())
    assert seen <= names
    s3.head_bucket(Bucket="data")
    with pytest.raises(ClientError) as error:
        s3.head_bucket(Bucket="no-such-bucket-here")
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] in (403, 404)


@pytest.mark.needs("location")
def test_the_location_of_a_bucket(s3: Any) -> None:
    assert s3.get_bucket_location(Bucket="data")["LocationConstraint"] is None  # us-east-1


@pytest.mark.needs("create_bucket")
def test_a_bucket_is_made_used_and_removed(s3: Any) -> None:
    s3.create_bucket(Bucket="fresh")
    s3.put_object(Bucket="fresh", Key="k", Body=b"in a fresh bucket")
    assert s3.get_object(Bucket="fresh", Key="k")["Body"].read() == b"in a fresh bucket"
    with pytest.raises(ClientError) as error:
        s3.delete_bucket(Bucket="fresh")
    assert error.value.response["Error"]["Code"] == "BucketNotEmpty"
    s3.delete_object(Bucket="fresh", Key="k")
    s3.delete_bucket(Bucket="fresh")
    with pytest.raises(ClientError):
        s3.list_objects_v2(Bucket="fresh")


def test_a_bucket_that_no_mount_allows_is_refused_clearly(target: Target, s3: Any) -> None:
    if target.gateway is None:
        pytest.skip("a plain store takes any bucket")
    with pytest.raises(ClientError) as error:
        s3.create_bucket(Bucket="nowhere-mounted")
    assert 400 <= error.value.response["ResponseMetadata"]["HTTPStatusCode"] < 500


def test_a_read_only_mount_takes_no_writes(target: Target, s3: Any, key: str) -> None:
    if target.gateway is None:
        pytest.skip("mounts are the gateway's")
    target.behind.put("frozen", "there.bin", b"x")
    assert s3.get_object(Bucket="frozen", Key="there.bin")["Body"].read() == b"x"
    writes: list[Any] = [
        lambda: s3.put_object(Bucket="frozen", Key=key, Body=b"x"),
        lambda: s3.delete_object(Bucket="frozen", Key="there.bin"),
        lambda: s3.create_multipart_upload(Bucket="frozen", Key=key),
        lambda: s3.copy_object(Bucket="frozen", Key=key, CopySource={"Bucket": "frozen", "Key": "there.bin"}),
        lambda: s3.put_object_tagging(Bucket="frozen", Key="there.bin", Tagging={"TagSet": []}),
    ]
    for write in writes:
        with pytest.raises(ClientError) as error:
            write()
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] in (403, 405)
    many = s3.delete_objects(Bucket="frozen", Delete={"Objects": [{"Key": "there.bin"}]})
    assert [one["Code"] for one in many["Errors"]] == ["AccessDenied"]
    assert target.behind.get("frozen", "there.bin") == b"x"


def test_a_mount_of_a_prefix_shows_what_lies_under_it(target: Target, s3: Any, key: str) -> None:
    if target.gateway is None:
        pytest.skip("mounts are the gateway's")
    s3.put_object(Bucket="shelf", Key=f"{key}/x", Body=b"on the shelf")
    assert s3.get_object(Bucket="data", Key=f"on/the/shelf/{key}/x")["Body"].read() == b"on the shelf"
    listing = s3.list_objects_v2(Bucket="shelf", Prefix=key, Delimiter="/")
    assert [one["Prefix"] for one in listing["CommonPrefixes"]] == [f"{key}/"]
    assert [one["Key"] for one in s3.list_objects_v2(Bucket="shelf", Prefix=key)["Contents"]] == [f"{key}/x"]
    s3.put_object(Bucket="data", Key=f"on/the/shelf/{key}/x", Body=b"changed by the other mount")
    assert s3.get_object(Bucket="shelf", Key=f"{key}/x")["Body"].read() == b"changed by the other mount"
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket="shelf", Key="../out")
