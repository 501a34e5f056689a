"""Checks of uploads: in parts, and with checksums in headers and trailers."""

from __future__ import annotations

import os
from collections.abc import Callable

from gateway.cli.doctor_lab import Lab, check, expect, refused, same
from gateway.s3 import checksums

MIB = 1 << 20
ALGORITHMS = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")


@check("multipart upload of two parts")
def multipart(lab: Lab) -> None:
    parts = [os.urandom(5 * MIB), os.urandom(1000)]
    upload = lab.s3.create_multipart_upload(**lab.at("parts"), ContentType="text/x-parts")["UploadId"]
    done = []
    for number, body in enumerate(parts, 1):
        answer = lab.s3.upload_part(**lab.at("parts"), UploadId=upload, PartNumber=number, Body=body)
        done.append({"PartNumber": number, "ETag": answer["ETag"]})
    listed = lab.s3.list_parts(**lab.at("parts"), UploadId=upload)["Parts"]
    same([part["Size"] for part in listed], [len(part) for part in parts], "sizes told by ListParts")
    lab.gone("parts")
    whole = lab.s3.complete_multipart_upload(
        **lab.at("parts"), UploadId=upload, MultipartUpload={"Parts": done}
    )
    expect(whole["ETag"].strip('"').endswith("-2"), f"an ETag of two parts ends with -2, got {whole['ETag']}")
    same(lab.get("parts"), b"".join(parts), "body")
    same(
        lab.get("parts", Range=f"bytes={5 * MIB - 10}-{5 * MIB + 9}"), parts[0][-10:] + parts[1][:10], "seam"
    )
    same(lab.s3.head_object(**lab.at("parts"))["ContentType"], "text/x-parts", "Content-Type")


@check("multipart upload aborted")
def multipart_abort(lab: Lab) -> None:
    upload = lab.s3.create_multipart_upload(**lab.at("aborted"))["UploadId"]
    lab.s3.upload_part(**lab.at("aborted"), UploadId=upload, PartNumber=1, Body=b"x")
    uploads = lab.s3.list_multipart_uploads(Bucket=lab.bucket, Prefix=lab.key("aborted")).get("Uploads", [])
    same([each["UploadId"] for each in uploads], [upload], "open uploads")
    lab.s3.abort_multipart_upload(**lab.at("aborted"), UploadId=upload)
    refused("NoSuchUpload", lab.s3.list_parts, **lab.at("aborted"), UploadId=upload)
    lab.gone("aborted")


@check("multipart upload by copying ranges")
def multipart_copy(lab: Lab) -> None:
    body = os.urandom(5 * MIB + 77)
    lab.put("copy-source", body)
    upload = lab.s3.create_multipart_upload(**lab.at("copy-parts"))["UploadId"]
    source = {"Bucket": lab.bucket, "Key": lab.key("copy-source")}
    done = []
    for number, span in enumerate((f"bytes=0-{5 * MIB - 1}", f"bytes={5 * MIB}-{len(body) - 1}"), 1):
        answer = lab.s3.upload_part_copy(
            **lab.at("copy-parts"),
            UploadId=upload,
            PartNumber=number,
            CopySource=source,
            CopySourceRange=span,
        )
        done.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
    lab.s3.complete_multipart_upload(**lab.at("copy-parts"), UploadId=upload, MultipartUpload={"Parts": done})
    same(lab.get("copy-parts"), body, "body")


@check("multipart upload: parts in the wrong order are refused")
def multipart_order(lab: Lab) -> None:
    upload = lab.s3.create_multipart_upload(**lab.at("order"))["UploadId"]
    etag = lab.s3.upload_part(**lab.at("order"), UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    parts = [{"PartNumber": number, "ETag": etag} for number in (2, 1)]
    refused(
        "InvalidPartOrder InvalidPart",
        lab.s3.complete_multipart_upload,
        **lab.at("order"),
        UploadId=upload,
        MultipartUpload={"Parts": parts},
    )


def _value(algorithm: str, body: bytes) -> str:
    return checksums.encode(checksums.compute(algorithm, body))


def _trailer(algorithm: str) -> Callable[[Lab], None]:
    def run(lab: Lab) -> None:
        name, body, header = f"trailer-{algorithm}", os.urandom(70_000), f"x-amz-checksum-{algorithm}"
        status, said = lab.send_with_trailer(name, body, {}, header, _value(algorithm, body))
        same(status, 200, f"status ({said[:200]!r})")
        same(lab.get(name), body, "body, without the framing it came in")
        head = lab.s3.head_object(**lab.at(name))
        expect(
            "aws-chunked" not in head.get("ContentEncoding", ""), "aws-chunked is not stored as an encoding"
        )

    return run


def _stored(algorithm: str) -> Callable[[Lab], None]:
    def run(lab: Lab) -> None:
        name, body = f"stored-{algorithm}", os.urandom(70_000)
        lab.put(name, body, ChecksumAlgorithm=algorithm.upper())
        answer = lab.s3.get_object(**lab.at(name), ChecksumMode="ENABLED")
        same(answer["Body"].read(), body, "body")
        got = answer.get(f"Checksum{algorithm.upper()}")
        same(got, _value(algorithm, body), "checksum that comes back")

    return run


def _wrong(algorithm: str) -> Callable[[Lab], None]:
    def run(lab: Lab) -> None:
        name, header = f"wrong-{algorithm}", f"x-amz-checksum-{algorithm}"
        status, _ = lab.send_with_trailer(name, b"right", {}, header, _value(algorithm, b"wrong"))
        same(status, 400, "status of a PUT with a wrong trailer")
        lab.gone(name)

    return run


for _name in ALGORITHMS:
    check(f"checksum {_name} in a trailer")(_trailer(_name))
for _name in ALGORITHMS:
    check(f"checksum {_name} comes back")(_stored(_name))
for _name in ALGORITHMS:
    check(f"wrong checksum {_name} in a trailer is refused")(_wrong(_name))


@check("wrong checksum in a header is refused")
def wrong_header(lab: Lab) -> None:
    refused(
        "BadDigest InvalidRequest",
        lab.s3.put_object,
        **lab.at("wrong-header"),
        Body=b"right",
        ChecksumSHA256=_value("sha256", b"wrong"),
    )
    lab.gone("wrong-header")


@check("wrong Content-MD5 is refused")
def wrong_md5(lab: Lab) -> None:
    refused(
        "BadDigest",
        lab.s3.put_object,
        **lab.at("wrong-md5"),
        Body=b"right",
        ContentMD5=_value("md5", b"wrong"),
    )
    lab.gone("wrong-md5")
