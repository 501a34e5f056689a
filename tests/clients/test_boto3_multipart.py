"""Multipart uploads and parallel downloads through boto3 and s3transfer."""

from __future__ import annotations

import hashlib
import io
import random
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from tests.targets import Target

MIB = 2**20
BODY = random.Random(2).randbytes(12 * MIB + 345)
PARTS = [BODY[: 5 * MIB], BODY[5 * MIB : 10 * MIB], BODY[10 * MIB :]]
COMPOSITE = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in PARTS)).hexdigest() + "-3"

pytestmark = pytest.mark.needs("multipart")


def upload(s3: Any, key: str, parts: list[bytes], **create: Any) -> dict[str, Any]:
    """A finished multipart upload; the answer of Complete."""
    where = {"Bucket": "data", "Key": key}
    where["UploadId"] = s3.create_multipart_upload(**where, **create)["UploadId"]
    done = [
        {"PartNumber": n, "ETag": s3.upload_part(**where, PartNumber=n, Body=part)["ETag"]}
        for n, part in enumerate(parts, 1)
    ]
    answer: dict[str, Any] = s3.complete_multipart_upload(**where, MultipartUpload={"Parts": done})
    return answer


def test_files_go_up_and_down_in_parallel_parts(s3: Any, key: str, tmp_path: Path) -> None:
    transfer = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_concurrency=4)
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(BODY)
    s3.upload_file(str(source), "data", key, Config=transfer, ExtraArgs={"Metadata": {"step": "7"}})
    for _ in range(2):
        s3.download_file("data", key, str(back), Config=transfer)
        assert back.read_bytes() == BODY
    sink = io.BytesIO()
    s3.download_fileobj("data", key, sink, Config=transfer)
    assert sink.getvalue() == BODY


@pytest.mark.needs("multipart_etag")
def test_the_etag_follows_from_the_parts(s3: Any, key: str) -> None:
    answer = upload(s3, key, PARTS, ContentType="application/x-checkpoint", Metadata={"step": "7"})
    head = s3.head_object(Bucket="data", Key=key)
    assert answer["ETag"] == head["ETag"] == f'"{COMPOSITE}"'
    assert (answer["Bucket"], answer["Key"]) == ("data", key)
    assert head["ContentLength"] == len(BODY)
    assert s3.get_object(Bucket="data", Key=key)["Body"].read() == BODY


@pytest.mark.needs("headers", "multipart_headers")
def test_headers_given_at_the_start_are_the_objects(s3: Any, key: str) -> None:
    upload(s3, key, [b"one small part"], ContentType="application/x-checkpoint", Metadata={"step": "7"})
    head = s3.head_object(Bucket="data", Key=key)
    assert (head["ContentType"], head["Metadata"]) == ("application/x-checkpoint", {"step": "7"})


def test_completing_replaces_what_was_read_before(s3: Any, key: str) -> None:
    s3.put_object(Bucket="data", Key=key, Body=b"before")
    assert s3.get_object(Bucket="data", Key=key)["Body"].read() == b"before"
    upload(s3, key, [b"after"])
    assert s3.get_object(Bucket="data", Key=key)["Body"].read() == b"after"


@pytest.mark.needs("multipart_etag")
def test_parts_in_any_order_and_replaced_ones(s3: Any, key: str) -> None:
    where = {"Bucket": "data", "Key": key}
    where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
    etags = {}
    for n, body in ((7, PARTS[2]), (2, b"to be replaced"), (2, PARTS[0])):
        etags[n] = s3.upload_part(**where, PartNumber=n, Body=body)["ETag"]
    parts = [
        {"PartNumber": n, "ETag": etags[n].strip('"')} for n in sorted(etags)
    ]  # the CRT sends bare ETags
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket="data", Key=key)["Body"].read() == PARTS[0] + PARTS[2]


@pytest.mark.needs("empty_part")
def test_one_empty_part_makes_an_empty_object(s3: Any, key: str) -> None:
    upload(s3, key, [b""])
    assert s3.get_object(Bucket="data", Key=key)["ContentLength"] == 0


@pytest.mark.needs("repeated_complete")
def test_completing_twice_is_no_error(s3: Any, key: str) -> None:
    """Clients repeat Complete when its answer was lost."""
    where = {"Bucket": "data", "Key": key}
    where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
    etag = s3.upload_part(**where, PartNumber=1, Body=b"x")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    first = s3.complete_multipart_upload(**where, MultipartUpload=parts)
    assert s3.complete_multipart_upload(**where, MultipartUpload=parts)["ETag"] == first["ETag"]


def test_nothing_shows_before_complete_and_nothing_after_abort(s3: Any, key: str) -> None:
    where = {"Bucket": "data", "Key": key}
    where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
    s3.upload_part(**where, PartNumber=1, Body=b"x")
    with pytest.raises(ClientError):
        s3.head_object(Bucket="data", Key=key)
    assert s3.list_objects_v2(Bucket="data", Prefix=key).get("Contents", []) == []
    s3.abort_multipart_upload(**where)
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket="data", Key=key)


@pytest.mark.needs("no_upload")
def test_an_aborted_upload_takes_no_parts(s3: Any, key: str) -> None:
    where = {"Bucket": "data", "Key": key}
    where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
    s3.abort_multipart_upload(**where)
    with pytest.raises(ClientError) as error:
        s3.upload_part(**where, PartNumber=2, Body=b"x")
    assert error.value.response["Error"]["Code"] == "NoSuchUpload"


@pytest.mark.needs("list_parts")
def test_parts_under_way_are_listed(s3: Any, key: str) -> None:
    where = {"Bucket": "data", "Key": key}
    where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
    etags = [s3.upload_part(**where, PartNumber=n, Body=b"x" * n)["ETag"] for n in (1, 2, 3)]
    pages = list(s3.get_paginator("list_parts").paginate(**where, PaginationConfig={"PageSize": 2}))
    parts = [part for page in pages for part in page.get("Parts", [])]
    assert [(part["PartNumber"], part["Size"], part["ETag"]) for part in parts] == [
        (n, n, etags[n - 1]) for n in (1, 2, 3)
    ]
    s3.abort_multipart_upload(**where)


@pytest.mark.needs("list_uploads")
def test_uploads_under_way_are_listed(s3: Any, key: str) -> None:
    where = {"Bucket": "data", "Key": key}
    upload_id = s3.create_multipart_upload(**where)["UploadId"]
    uploads = s3.list_multipart_uploads(Bucket="data", Prefix=key)["Uploads"]
    assert [(one["Key"], one["UploadId"]) for one in uploads] == [(key, upload_id)]
    s3.abort_multipart_upload(**where, UploadId=upload_id)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="data", Prefix=key)


@pytest.mark.needs("multipart_copy")
def test_parts_can_be_copied_from_objects(s3: Any, key: str) -> None:
    source = {"Bucket": "data", "Key": f"{key}/source & more"}
    etag = s3.put_object(**source, Body=BODY)["ETag"]
    where = {"Bucket": "data", "Key": key}
    where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
    whole = s3.upload_part_copy(**where, PartNumber=1, CopySource=source)
    piece = s3.upload_part_copy(
        **where, PartNumber=2, CopySource=source, CopySourceRange="bytes=1000-1999", CopySourceIfMatch=etag
    )
    parts = [
        {"PartNumber": n, "ETag": answer["CopyPartResult"]["ETag"]} for n, answer in ((1, whole), (2, piece))
    ]
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket="data", Key=key)["Body"].read() == BODY + BODY[1000:2000]


@pytest.mark.needs("multipart_copy", "copy_conditions")
def test_a_part_is_not_copied_from_a_source_that_changed(s3: Any, key: str) -> None:
    s3.put_object(Bucket="data", Key=f"{key}/source", Body=b"x")
    where = {"Bucket": "data", "Key": key}
    where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
    with pytest.raises(ClientError) as error:
        s3.upload_part_copy(
            **where,
            PartNumber=1,
            CopySource={"Bucket": "data", "Key": f"{key}/source"},
            CopySourceIfMatch='"other"',
        )
    assert error.value.response["Error"]["Code"] == "PreconditionFailed"


@pytest.mark.needs("part_number")
def test_single_parts_are_read_and_do_not_become_the_object(s3: Any, key: str) -> None:
    upload(s3, key, PARTS)
    for _ in range(2):
        for n, part in enumerate(PARTS, 1):
            head = s3.head_object(Bucket="data", Key=key, PartNumber=n)
            assert (head["ContentLength"], head["PartsCount"]) == (len(part), 3)
            got = s3.get_object(Bucket="data", Key=key, PartNumber=n)
            assert got["Body"].read() == part
            assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert s3.head_object(Bucket="data", Key=key)["ContentLength"] == len(BODY)
        assert s3.get_object(Bucket="data", Key=key)["Body"].read() == BODY


@pytest.mark.needs("attributes")
def test_object_attributes(s3: Any, key: str) -> None:
    etag = s3.put_object(Bucket="data", Key=key, Body=b"12345", ChecksumAlgorithm="SHA256")["ETag"]
    wanted = ["ETag", "ObjectSize", "StorageClass", "Checksum"]
    answer = s3.get_object_attributes(Bucket="data", Key=key, ObjectAttributes=wanted)
    assert (answer["ETag"], answer["ObjectSize"]) == (etag.strip('"'), 5)
    assert answer["Checksum"]["ChecksumSHA256"] == "WZRHGrsBESr8wYFZ9sx0tPURuZgG2lmzyvWpwXPKz8U="


@pytest.mark.needs("attributes", "attributes_parts")
def test_object_attributes_tell_the_parts(s3: Any, key: str) -> None:
    upload(s3, key, PARTS)
    parts = s3.get_object_attributes(Bucket="data", Key=key, ObjectAttributes=["ObjectParts"])["ObjectParts"]
    assert parts["TotalPartsCount"] == 3


@pytest.mark.needs("complete_errors")
@pytest.mark.parametrize("mistake", ["order", "etag", "missing", "small", "none"])
def test_a_wrong_complete_is_refused_and_leaves_nothing(
    target: Target, s3: Any, key: str, mistake: str
) -> None:
    where = {"Bucket": "data", "Key": key}
    where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
    first = b"small" if mistake == "small" else PARTS[0]
    one = {"PartNumber": 1, "ETag": s3.upload_part(**where, PartNumber=1, Body=first)["ETag"]}
    two = {"PartNumber": 2, "ETag": s3.upload_part(**where, PartNumber=2, Body=b"two")["ETag"]}
    if mistake == "none" and "no_parts_at_all" not in target.faithful:
        pytest.skip(f"{target.name} has its own code for it")
    parts, code = {
        "order": ([two, one], "InvalidPartOrder"),
        "etag": ([one, {**two, "ETag": f'"{"0" * 32}"'}], "InvalidPart"),
        "missing": ([one, {**two, "PartNumber": 3}], "InvalidPart"),
        "small": ([one, two], "EntityTooSmall"),
        "none": ([], "MalformedXML"),
    }[mistake]
    with pytest.raises(ClientError) as error:
        s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    assert error.value.response["Error"]["Code"] == code
    with pytest.raises(ClientError):
        s3.head_object(Bucket="data", Key=key)
    s3.abort_multipart_upload(**where)


@pytest.mark.needs("part_bounds")
def test_a_part_number_out_of_bounds_is_refused(s3: Any, key: str) -> None:
    where = {"Bucket": "data", "Key": key}
    where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
    for number in (0, 10_001):
        with pytest.raises(ClientError) as error:
            s3.upload_part(**where, PartNumber=number, Body=b"x")
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    s3.abort_multipart_upload(**where)
