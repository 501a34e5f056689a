"""Every answer is read back by botocore's own parsers as it was meant, whatever the keys."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from botocore.parsers import create_parser
from botocore.session import get_session
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model import (
    BucketEntry,
    ListEntry,
    ListPage,
    ObjectMeta,
    PartEntry,
    PartPage,
    UploadEntry,
    UploadPage,
    VersionEntry,
    VersionPage,
)
from gateway.s3 import xml_lists, xml_write
from gateway.s3.errors import S3Error, error_xml

MODEL = get_session().get_service_model("s3")
PARSER = create_parser("rest-xml")
TIME = 1_700_000_000.25
every_key = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
# Without encoding-type=url XML 1.0 can hold these; a carriage return needs care.
xml_key = st.text(
    st.characters(
        codec="utf-8",
        exclude_categories=("Cs", "Cc"),
        include_characters="\t\n\r\x85",
        exclude_characters="\ufffe\uffff",
    ),
    min_size=1,
    max_size=40,
)


def parsed(operation: str, body: bytes) -> dict[str, Any]:
    answer = {"status_code": 200, "headers": {}, "body": body, "context": {"operation_name": operation}}
    found: dict[str, Any] = PARSER.parse(answer, MODEL.operation_model(operation).output_shape)
    return found


@settings(deadline=None)
@given(st.lists(every_key, max_size=5), st.lists(every_key, max_size=3), every_key, st.booleans())
def test_list_objects_v2(keys: list[str], prefixes: list[str], prefix: str, more: bool) -> None:
    entries = tuple(
        ListEntry(key, 7, '"e"', TIME, checksum_algorithms=("CRC32",), checksum_type="FULL_OBJECT")
        for key in keys
    )
    page = ListPage(entries, tuple(prefixes), "next/ä" if more else None)
    found = parsed("ListObjectsV2", xml_lists.list_objects_v2(
        "bucket", page, prefix=prefix, delimiter="/", encoding_type="url", token="t", start_after=prefix, owner_id="me",
    ))  # fmt: skip
    assert [unquote(entry["Key"]) for entry in found.get("Contents", [])] == keys
    assert [unquote(entry["Prefix"]) for entry in found.get("CommonPrefixes", [])] == prefixes
    assert (unquote(found["Prefix"]), unquote(found["StartAfter"]), found["Delimiter"]) == (
        prefix,
        prefix,
        "/",
    )
    assert (found["KeyCount"], found["MaxKeys"], found["IsTruncated"]) == (
        len(keys) + len(prefixes),
        1000,
        more,
    )
    if more:
        assert xml_lists.decode_token(found["NextContinuationToken"]) == "next/ä"
    for entry in found.get("Contents", []):
        assert (entry["Size"], entry["ETag"], entry["Owner"]["ID"]) == (7, '"e"', "me")
        assert (entry["ChecksumAlgorithm"], entry["ChecksumType"]) == (["CRC32"], "FULL_OBJECT")
        assert entry["LastModified"].timestamp() == TIME


@settings(deadline=None)
@given(st.lists(xml_key, max_size=5), xml_key)
def test_list_objects_v1_without_an_encoding(keys: list[str], marker: str) -> None:
    page = ListPage(
        tuple(ListEntry(key, 1, '"e"', TIME) for key in keys), (marker,), keys[-1] if keys else None
    )
    found = parsed("ListObjects", xml_lists.list_objects_v1("bucket", page, marker=marker, prefix=marker))
    assert [entry["Key"] for entry in found.get("Contents", [])] == keys
    assert (found["Marker"], found["Prefix"], found["CommonPrefixes"]) == (
        marker,
        marker,
        [{"Prefix": marker}],
    )
    assert found.get("NextMarker") == (keys[-1] if keys else None)


@settings(deadline=None)
@given(every_key)
def test_versions_and_uploads(key: str) -> None:
    gone = VersionEntry(key, "v2", True, TIME, is_delete_marker=True)
    versions = VersionPage(
        (gone, VersionEntry(key, "v1", False, TIME, size=3, etag='"e"')), (key,), key, "v1"
    )
    found = parsed(
        "ListObjectVersions", xml_lists.list_versions("bucket", versions, encoding_type="url", key_marker=key)
    )
    (marker,), (version,) = found["DeleteMarkers"], found["Versions"]
    assert (unquote(marker["Key"]), marker["VersionId"], marker["IsLatest"]) == (key, "v2", True)
    assert (unquote(version["Key"]), version["VersionId"], version["Size"]) == (key, "v1", 3)
    assert (unquote(found["NextKeyMarker"]), found["NextVersionIdMarker"]) == (key, "v1")
    uploads = UploadPage((UploadEntry(key, "id", TIME),), (key,), key, "id")
    found = parsed("ListMultipartUploads", xml_lists.list_uploads("bucket", uploads, encoding_type="url"))
    assert (unquote(found["Uploads"][0]["Key"]), found["Uploads"][0]["UploadId"]) == (key, "id")
    assert (unquote(found["NextKeyMarker"]), found["NextUploadIdMarker"], found["IsTruncated"]) == (
        key,
        "id",
        True,
    )


@given(xml_key)
def test_multipart_answers(key: str) -> None:
    found = parsed("CreateMultipartUpload", xml_write.initiate_upload("bucket", key, "id"))
    assert (found["Bucket"], found["Key"], found["UploadId"]) == ("bucket", key, "id")
    sums = {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA=", "x-amz-checksum-type": "FULL_OBJECT"}
    found = parsed(
        "CompleteMultipartUpload", xml_write.complete_upload("http://h/b/k", "bucket", key, '"e-2"', sums)
    )
    assert (found["Key"], found["ETag"], found["ChecksumCRC64NVME"]) == (key, '"e-2"', "AAAAAAAAAAA=")
    assert found["ChecksumType"] == "FULL_OBJECT"
    page = PartPage(
        (PartEntry(1, '"p"', 5, TIME, {"x-amz-checksum-sha256": "x"}),), 1, checksum_algorithm="SHA256"
    )
    found = parsed("ListParts", xml_lists.list_parts("bucket", key, "id", page, owner_id="me"))
    assert (found["Key"], found["NextPartNumberMarker"], found["IsTruncated"]) == (key, 1, True)
    assert (found["Parts"][0]["ETag"], found["Parts"][0]["ChecksumSHA256"]) == ('"p"', "x")


def test_copies_buckets_location_and_attributes() -> None:
    for operation, body in (
        ("CopyObject", xml_write.copy_object('"e"', TIME)),
        ("UploadPartCopy", xml_write.copy_part('"e"', TIME)),
    ):
        found = parsed(operation, body)
        result = next(value for name, value in found.items() if name.endswith("Result"))
        assert (result["ETag"], result["LastModified"].timestamp()) == ('"e"', TIME)
    found = parsed("ListBuckets", xml_write.list_buckets([BucketEntry("b-1", TIME)], "me", token="t"))
    assert (found["Buckets"][0]["Name"], found["Owner"]["ID"], found["ContinuationToken"]) == (
        "b-1",
        "me",
        "t",
    )
    assert b">eu-west-3<" in xml_write.location("eu-west-3")
    assert b"us-east-1" not in xml_write.location("us-east-1")
    meta = ObjectMeta(9, '"e-2"', 1, {}, {"x-amz-checksum-crc32": "AAAAAA=="})
    parts = PartPage((PartEntry(1, '"p"', 5, TIME),))
    found = parsed("GetObjectAttributes", xml_lists.object_attributes(meta, xml_lists.ATTRIBUTES, parts, 2))
    assert (found["ETag"], found["ObjectSize"], found["StorageClass"]) == ("e-2", 9, "STANDARD")
    assert (found["Checksum"]["ChecksumCRC32"], found["ObjectParts"]["TotalPartsCount"]) == ("AAAAAA==", 2)


@given(xml_key)
def test_delete_result(key: str) -> None:
    body = xml_write.delete_result(
        [{"Key": key, "DeleteMarker": "true"}], [{"Key": key, "Code": "AccessDenied", "Message": "<no>"}]
    )
    found = parsed("DeleteObjects", body)
    assert found["Deleted"] == [{"Key": key, "DeleteMarker": True}]
    assert found["Errors"] == [{"Key": key, "Code": "AccessDenied", "Message": "<no>"}]


@given(st.text(max_size=60), st.text(max_size=20))
def test_an_error_document_is_always_well_formed(resource: str, value: str) -> None:
    """Its texts may come from a hostile request."""
    body = error_xml(S3Error("NoSuchKey", extra={"Key": value}), resource, "id-1")
    answer = {"status_code": 404, "headers": {}, "body": body, "context": {"operation_name": "GetObject"}}
    found = PARSER.parse(answer, MODEL.operation_model("GetObject").output_shape)
    assert found["Error"]["Code"] == "NoSuchKey"
    assert ElementTree.fromstring(body).findtext("RequestId") == "id-1"


@given(every_key)
def test_a_token_comes_back(position: str) -> None:
    assert xml_lists.decode_token(xml_lists.encode_token(position)) == position


@pytest.mark.parametrize("token", ["", "x", "AAAA", "MQ", "é", "Mf8=", "1" * 1404])
def test_a_forged_token_is_refused(token: str) -> None:
    with pytest.raises(S3Error) as caught:
        xml_lists.decode_token(token)
    assert caught.value.code == "InvalidArgument"


def test_another_encoding_and_unknown_attributes_are_refused() -> None:
    with pytest.raises(S3Error):
        xml_lists.KeyText("base64")
    for header in (None, "", "ETag,Sise"):
        with pytest.raises(S3Error):
            xml_lists.parse_attributes(header)
    assert xml_lists.parse_attributes("ETag, Checksum") == {"ETag", "Checksum"}
