"""All five checksum algorithms: kept, returned on whole reads only, and enforced."""

from __future__ import annotations

import base64
import hashlib
import zlib
from typing import Any

import pytest
from awscrt import checksums as crt
from botocore.exceptions import ClientError

BODY = bytes(range(256)) * 40

ALGORITHMS = {
    "CRC32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "CRC32C": lambda data: crt.crc32c(data).to_bytes(4, "big"),
    "CRC64NVME": lambda data: crt.crc64nvme(data).to_bytes(8, "big"),
    "SHA1": lambda data: hashlib.sha1(data).digest(),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
}


def checksum(algorithm: str, data: bytes) -> str:
    return base64.b64encode(ALGORITHMS[algorithm](data)).decode()


@pytest.mark.needs("checksums")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_checksum_comes_back_on_whole_reads_only(s3: Any, key: str, algorithm: str) -> None:
    field, value = f"Checksum{algorithm}", checksum(algorithm, BODY)
    put = s3.put_object(Bucket="data", Key=key, Body=BODY, ChecksumAlgorithm=algorithm)
    assert put[field] == value
    for _ in range(2):
        got = s3.get_object(Bucket="data", Key=key, ChecksumMode="ENABLED")
        assert got["Body"].read() == BODY  # botocore verifies as it reads
        assert got[field] == value
        assert s3.head_object(Bucket="data", Key=key, ChecksumMode="ENABLED")[field] == value
        part = s3.get_object(Bucket="data", Key=key, Range="bytes=1-9", ChecksumMode="ENABLED")
        assert part["Body"].read() == BODY[1:10]
        assert field not in part


@pytest.mark.needs("bad_digest")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_wrong_checksum_is_refused_and_leaves_nothing(s3: Any, key: str, algorithm: str) -> None:
    wrong = {f"Checksum{algorithm}": checksum(algorithm, b"something else")}
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket="data", Key=key, Body=BODY, **wrong)
    assert error.value.response["Error"]["Code"] == "BadDigest"
    with pytest.raises(ClientError):
        s3.head_object(Bucket="data", Key=key)


@pytest.mark.needs("bad_digest", "refused_keeps_old")
def test_a_wrong_checksum_does_not_replace_what_is_there(s3: Any, key: str) -> None:
    s3.put_object(Bucket="data", Key=key, Body=b"before")
    with pytest.raises(ClientError):
        s3.put_object(Bucket="data", Key=key, Body=BODY, ChecksumCRC32=checksum("CRC32", b"x"))
    assert s3.get_object(Bucket="data", Key=key)["Body"].read() == b"before"


@pytest.mark.needs("bad_digest")
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (base64.b64encode(hashlib.md5(b"other").digest()).decode(), "BadDigest"),
        ("not base64 at all", "InvalidDigest"),
        (base64.b64encode(b"too short").decode(), "InvalidDigest"),
    ],
)
def test_content_md5_is_enforced(s3: Any, key: str, sent: str, code: str) -> None:
    right = base64.b64encode(hashlib.md5(BODY).digest()).decode()
    s3.put_object(Bucket="data", Key=f"{key}-right", Body=BODY, ContentMD5=right)
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket="data", Key=key, Body=BODY, ContentMD5=sent)
    assert error.value.response["Error"]["Code"] == code


@pytest.mark.needs("bad_digest", "multipart")
def test_a_part_with_a_wrong_checksum_is_refused(s3: Any, key: str) -> None:
    where = {"Bucket": "data", "Key": key}
    where["UploadId"] = s3.create_multipart_upload(**where, ChecksumAlgorithm="CRC32")["UploadId"]
    with pytest.raises(ClientError) as error:
        s3.upload_part(**where, PartNumber=1, Body=BODY, ChecksumCRC32=checksum("CRC32", b"x"))
    assert error.value.response["Error"]["Code"] == "BadDigest"
    s3.abort_multipart_upload(**where)


@pytest.mark.needs("checksums", "composite_checksums", "multipart")
@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256"])
def test_a_multipart_upload_has_a_checksum_of_checksums(s3: Any, key: str, algorithm: str) -> None:
    field = f"Checksum{algorithm}"
    where = {"Bucket": "data", "Key": key}
    upload_id = s3.create_multipart_upload(**where, ChecksumAlgorithm=algorithm)["UploadId"]
    part = s3.upload_part(**where, UploadId=upload_id, PartNumber=1, Body=BODY, ChecksumAlgorithm=algorithm)
    s3.complete_multipart_upload(
        **where,
        UploadId=upload_id,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"], field: part[field]}]},
    )
    head = s3.head_object(**where, ChecksumMode="ENABLED")
    assert head[field] == checksum(algorithm, ALGORITHMS[algorithm](BODY)) + "-1"
    got = s3.get_object(**where, ChecksumMode="ENABLED")
    assert got["Body"].read() == BODY


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_delete_objects_takes_each_checksum(s3: Any, key: str, algorithm: str) -> None:
    s3.put_object(Bucket="data", Key=key, Body=b"x")
    answer = s3.delete_objects(Bucket="data", Delete={"Objects": [{"Key": key}]}, ChecksumAlgorithm=algorithm)
    assert [entry["Key"] for entry in answer["Deleted"]] == [key]
