"""Checks of who may do what: presigned URLs of both kinds, signatures, and the codes of refusals."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.cli.doctor_lab import Lab, check, expect, refused, same

KINDS = {"V4": "s3v4", "V2": "s3"}


def _signed(lab: Lab, kind: str, call: str, name: str, expires_s: int = 300) -> str:
    client = lab.client(signature_version=KINDS[kind])
    url = str(client.generate_presigned_url(call, Params=lab.at(name), ExpiresIn=expires_s))
    expect(
        ("X-Amz-Signature=" if kind == "V4" else "Signature=") in url,
        f"boto3 signs with {kind} when asked to",
    )
    return url


def _presigned(kind: str) -> Callable[[Lab], None]:
    def run(lab: Lab) -> None:
        name, body = f"presigned {kind}", kind.encode() * 1000
        status, _, said = lab.send("PUT", _signed(lab, kind, "put_object", name), body)
        same(status, 200, f"status of a presigned PUT ({said[:200]!r})")
        status, _, got = lab.send("GET", _signed(lab, kind, "get_object", name))
        same((status, got), (200, body), "answer to a presigned GET")

    return run


def _tampered(kind: str) -> Callable[[Lab], None]:
    def run(lab: Lab) -> None:
        lab.put("theirs", b"secret")
        lab.put("mine", b"mine")
        url = _signed(lab, kind, "get_object", "mine").replace("/mine?", "/theirs?")
        same(lab.send("GET", url)[0], 403, "status when a presigned URL is bent to another key")
        url = _signed(lab, kind, "get_object", "mine")
        same(lab.send("PUT", url, b"overwritten")[0], 403, "status when a presigned GET is used for PUT")
        same(lab.get("mine"), b"mine", "body after that")

    return run


for _kind in KINDS:
    check(f"presigned {_kind} GET and PUT")(_presigned(_kind))
    check(f"presigned {_kind} URL for another key or verb is refused")(_tampered(_kind))


@check("presigned URLs that have expired are refused")
def expired(lab: Lab) -> None:
    lab.put("mine", b"mine")
    urls = {kind: _signed(lab, kind, "get_object", "mine", expires_s=1) for kind in KINDS}
    time.sleep(2.1)  # the shortest life there is, in clocks that tell whole seconds
    for kind, url in urls.items():
        same(lab.send("GET", url)[0], 403, f"status of an expired {kind} URL")


@check("a wrong signature is refused")
def wrong_signature(lab: Lab) -> None:
    lab.put("guarded", b"x")
    client = lab.client(lab.account.access_key, "not-the-secret")
    refused("SignatureDoesNotMatch", client.get_object, **lab.at("guarded"))
    refused("SignatureDoesNotMatch", client.put_object, **lab.at("guarded"), Body=b"y")
    same(lab.get("guarded"), b"x", "body after that")


@check("an unknown access key is refused")
def unknown_key(lab: Lab) -> None:
    refused(
        "InvalidAccessKeyId", lab.client("DOCTORUNKNOWN", "x").list_objects_v2, Bucket=lab.bucket, MaxKeys=1
    )


@check("an unsigned request is refused")
def unsigned(lab: Lab) -> None:
    lab.put("guarded", b"x")
    same(lab.send("GET", lab.url("guarded"))[0], 403, "status")


@check("what is not there has its own code")
def missing(lab: Lab) -> None:
    refused("NoSuchKey", lab.s3.get_object, **lab.at("none"))
    refused("404", lab.s3.head_object, **lab.at("none"))
    refused("NoSuchUpload", lab.s3.list_parts, **lab.at("none"), UploadId="none")
