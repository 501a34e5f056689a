"""Checks of single objects: whole, by range, under conditions, copied, deleted, at odd keys, right after a write."""

from __future__ import annotations

import hashlib
from typing import Any

from gateway.cli.doctor_lab import Lab, check, expect, refused, same

BODY = bytes(range(256)) * 40


@check("put, get and head give back bytes, type and metadata")
def whole(lab: Lab) -> None:
    put = lab.put("whole", BODY, ContentType="text/x-doctor", Metadata={"step": "7"}, CacheControl="no-cache")
    same(put["ETag"], f'"{hashlib.md5(BODY).hexdigest()}"', "ETag of a plain PUT")
    same(lab.get("whole"), BODY, "body")
    head = lab.s3.head_object(**lab.at("whole"))
    same(head["ContentLength"], len(BODY), "Content-Length of HEAD")
    same(head["ETag"], put["ETag"], "ETag of HEAD")
    same(head["ContentType"], "text/x-doctor", "Content-Type")
    same(head["CacheControl"], "no-cache", "Cache-Control")
    same(head["Metadata"], {"step": "7"}, "metadata")


@check("an empty object")
def empty(lab: Lab) -> None:
    lab.put("empty")
    same(lab.get("empty"), b"", "body")
    same(lab.s3.head_object(**lab.at("empty"))["ContentLength"], 0, "Content-Length")


@check("response-* parameters override headers")
def overrides(lab: Lab) -> None:
    lab.put("overridden", b"x")
    answer = lab.s3.get_object(**lab.at("overridden"), ResponseContentType="text/x-other")
    answer["Body"].close()
    same(answer["ContentType"], "text/x-other", "Content-Type")


def _ranged(lab: Lab, wanted: str, first: int, after: int) -> None:
    lab.put("ranged", BODY)
    for _ in range(2):  # a cache answers the second from elsewhere
        answer = lab.s3.get_object(**lab.at("ranged"), Range=wanted)
        same(answer["Body"].read(), BODY[first:after], f"bytes of {wanted}")
        same(answer["ContentRange"], f"bytes {first}-{after - 1}/{len(BODY)}", f"Content-Range of {wanted}")
        same(answer["ResponseMetadata"]["HTTPStatusCode"], 206, f"status of {wanted}")


@check("range a-b")
def range_inside(lab: Lab) -> None:
    _ranged(lab, "bytes=100-299", 100, 300)


@check("range a-")
def range_open(lab: Lab) -> None:
    _ranged(lab, "bytes=9000-", 9000, len(BODY))


@check("range -n")
def range_suffix(lab: Lab) -> None:
    _ranged(lab, "bytes=-300", len(BODY) - 300, len(BODY))


@check("range that ends past the end is clamped")
def range_clamped(lab: Lab) -> None:
    _ranged(lab, "bytes=10000-99999", 10_000, len(BODY))


@check("range that begins past the end is refused")
def range_past_end(lab: Lab) -> None:
    lab.put("ranged", BODY)
    refused("InvalidRange", lab.s3.get_object, **lab.at("ranged"), Range=f"bytes={len(BODY)}-")


@check("If-Match")
def if_match(lab: Lab) -> None:
    etag = lab.put("matched", BODY)["ETag"]
    same(lab.get("matched", IfMatch=etag), BODY, "body when it matches")
    same(lab.get("matched", IfMatch=etag, Range="bytes=0-9"), BODY[:10], "range when it matches")
    refused("PreconditionFailed", lab.s3.get_object, **lab.at("matched"), IfMatch='"0"')


@check("If-None-Match answers 304")
def if_none_match(lab: Lab) -> None:
    etag = lab.put("matched", BODY)["ETag"]
    refused("304", lab.s3.get_object, **lab.at("matched"), IfNoneMatch=etag)
    refused("304", lab.s3.head_object, **lab.at("matched"), IfNoneMatch=etag)
    same(lab.get("matched", IfNoneMatch='"0"'), BODY, "body when it does not match")


@check("If-Modified-Since and If-Unmodified-Since")
def if_modified(lab: Lab) -> None:
    lab.put("dated", BODY)
    at = lab.s3.head_object(**lab.at("dated"))["LastModified"]
    refused("304", lab.s3.get_object, **lab.at("dated"), IfModifiedSince=at)
    same(lab.get("dated", IfUnmodifiedSince=at), BODY, "body when it is not modified since")


@check("create-only PUT (If-None-Match: *)")
def create_only(lab: Lab) -> None:
    lab.put("created", b"first", IfNoneMatch="*")
    refused("PreconditionFailed", lab.s3.put_object, **lab.at("created"), Body=b"second", IfNoneMatch="*")
    same(lab.get("created"), b"first", "body after the refused PUT")


ODD = (
    "a b+c&d=e;f,g", "per%cent%20", "ünïcode-雪-🜚", "~!*'()$@:", "a//b", "//", "dir/", "..hidden", "a/../b", "./x",
    "quo\"te<>&'", "back\\slash", "x" * 200,
)  # fmt: skip


@check("odd keys")
def odd_keys(lab: Lab) -> None:
    wrong = []
    for number, key in enumerate(ODD):
        name, body = f"odd/{key}", b"%d" % number
        try:
            lab.put(name, body)
            if lab.get(name) != body:
                wrong.append(f"{key!r} gave other bytes")
        except Exception as error:
            wrong.append(f"{key!r}: {error}")
    listed = set(lab.names("odd/"))
    wrong += [f"{key!r} is not listed" for key in ODD if f"odd/{key}" not in listed]
    expect(not wrong, f"every key keeps its own object; {'; '.join(wrong[:4])}")


@check("copy, with new metadata, and onto itself")
def copy(lab: Lab) -> None:
    lab.put("source", BODY, Metadata={"old": "1"})
    source = {"Bucket": lab.bucket, "Key": lab.key("source")}
    lab.s3.copy_object(**lab.at("copied"), CopySource=source)
    same(lab.get("copied"), BODY, "body of the copy")
    same(lab.s3.head_object(**lab.at("copied"))["Metadata"], {"old": "1"}, "metadata of the copy")
    lab.s3.copy_object(
        **lab.at("source"), CopySource=source, MetadataDirective="REPLACE", Metadata={"new": "2"}
    )
    same(
        lab.s3.head_object(**lab.at("source"))["Metadata"], {"new": "2"}, "metadata after a copy onto itself"
    )
    same(lab.get("source"), BODY, "body after a copy onto itself")


@check("delete, and delete what is not there")
def delete(lab: Lab) -> None:
    lab.put("deleted", BODY)
    for _ in range(2):
        answer = lab.s3.delete_object(**lab.at("deleted"))
        same(answer["ResponseMetadata"]["HTTPStatusCode"], 204, "status")
        lab.gone("deleted")


@check("delete many")
def delete_many(lab: Lab) -> None:
    names = [f"many/{number} &<" for number in range(5)]
    for name in names:
        lab.put(name, b"x")
    objects: list[dict[str, Any]] = [{"Key": lab.key(name)} for name in [*names, "many/none"]]
    answer = lab.s3.delete_objects(Bucket=lab.bucket, Delete={"Objects": objects})
    same(len(answer.get("Deleted", ())), len(objects), "number of keys told as deleted")
    same(lab.names("many/"), [], "what is left")


@check("a read after a write, an overwrite and a delete sees it")
def consistency(lab: Lab) -> None:
    for turn in range(5):
        body = b"turn %d" % turn * (turn + 1)
        etag = lab.put("again", body)["ETag"]
        same(lab.get("again"), body, "body right after the PUT")
        same(lab.s3.head_object(**lab.at("again"))["ETag"], etag, "ETag of HEAD right after the PUT")
        same(lab.names("again"), ["again"], "listing right after the PUT")
        lab.s3.delete_object(**lab.at("again"))
        lab.gone("again")
        same(lab.names("again"), [], "listing right after the DELETE")
