"""Single objects through boto3: what goes in comes out, whole, by range, by condition."""

from __future__ import annotations

import hashlib
import io
import random
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from tests.targets import Target

BODY = random.Random(1).randbytes(300_000)

ODD_KEYS = [
    "a b+c%d&e=f?g#h",
    "ключ/鍵/🔑",
    "per%25cent/%2F/%zz",
    "quote'\"<>\\back`tick|pipe",
    "tilde~!*()',;:@$^[]{}",
    "..dots/...x/.hidden",
    "nfc-é/nfd-e\u0301",
    "long-" + "k" * 200,
    "deep/" + "d/" * 60 + "leaf",
]
# S3 takes these; a store that is a directory underneath may not
KEYS_THAT_ARE_NO_PATHS = [
    "a//b",
    "trailing/",
    "./x",
    "x/../y",
    "x" * 1024,
    "\u0001control\x7f",
    " lead and trail ",
]
NOT_AT_AZURE = re.compile(r"[\x00-\x1f\x7f\\]|\.(/|$)")


def refused(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    answer = error.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


@pytest.mark.parametrize("size", [0, 1, 65_537])
def test_what_was_put_comes_back(s3: Any, key: str, size: int) -> None:
    put = s3.put_object(Bucket="data", Key=key, Body=BODY[:size])
    assert put["ETag"] == f'"{hashlib.md5(BODY[:size]).hexdigest()}"'
    for _ in range(2):  # cold, then warm
        got = s3.get_object(Bucket="data", Key=key)
        assert got["Body"].read() == BODY[:size]
        assert (got["ContentLength"], got["ETag"]) == (size, put["ETag"])
        assert abs((datetime.now(UTC) - got["LastModified"]).total_seconds()) < 120
    head = s3.head_object(Bucket="data", Key=key)
    assert (head["ContentLength"], head["ETag"], head["LastModified"]) == (
        size,
        put["ETag"],
        got["LastModified"],
    )


def test_overwriting_shows_the_new_bytes_at_once(s3: Any, key: str) -> None:
    for round_ in range(8):
        body = b"%d" % round_ * (round_ * 1000 + 1)
        s3.put_object(Bucket="data", Key=key, Body=body)
        assert s3.get_object(Bucket="data", Key=key)["Body"].read() == body
        assert s3.head_object(Bucket="data", Key=key)["ContentLength"] == len(body)


@pytest.mark.needs("headers")
def test_headers_and_metadata_come_back_as_they_went_in(s3: Any, key: str) -> None:
    stored = {
        "ContentType": "application/x-tar",
        "CacheControl": "max-age=60",
        "ContentDisposition": 'attachment; filename="a b.tar"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "en",
        "Metadata": {"epoch": "12", "mixedcase": "Value With  Spaces", "plus": "a+b/c=="},
    }
    s3.put_object(Bucket="data", Key=key, Body=BODY[:100], **stored)
    for _ in range(2):
        for answer in (s3.head_object(Bucket="data", Key=key), s3.get_object(Bucket="data", Key=key)):
            assert {name: answer[name] for name in stored} == stored


def test_an_encoded_body_is_stored_raw(s3: Any, key: str) -> None:
    s3.put_object(Bucket="data", Key=key, Body=BODY[:5000], ContentEncoding="gzip")  # it is not gzip at all
    assert s3.get_object(Bucket="data", Key=key)["Body"].read() == BODY[:5000]


@pytest.mark.needs("headers")
def test_a_user_metadata_name_in_capitals_comes_back_in_lower_case(s3: Any, key: str) -> None:
    s3.put_object(Bucket="data", Key=key, Body=b"x", Metadata={"UPPER-Case": "v"})
    assert s3.head_object(Bucket="data", Key=key)["Metadata"] == {"upper-case": "v"}


@pytest.mark.parametrize("name", ODD_KEYS)
def test_odd_keys_keep_their_identity(s3: Any, target: Target, key: str, name: str) -> None:
    odd = f"{hashlib.md5(key.encode()).hexdigest()[:8]}/{name}"
    _round_trip(s3, target, odd)


@pytest.mark.needs("slashes_in_keys")
@pytest.mark.parametrize("name", KEYS_THAT_ARE_NO_PATHS)
def test_keys_that_are_no_paths_keep_their_identity(s3: Any, target: Target, key: str, name: str) -> None:
    prefix = "" if len(name) == 1024 else f"{hashlib.md5(key.encode()).hexdigest()[:8]}/"
    _round_trip(s3, target, prefix + name)


def _round_trip(s3: Any, target: Target, key: str) -> None:
    body = key.encode()
    if "every_key" not in target.faithful and NOT_AT_AZURE.search(key):
        with pytest.raises(ClientError) as no:
            s3.put_object(Bucket="data", Key=key, Body=body)
        assert refused(no) == (501, "NotImplemented")
        assert "Contents" not in s3.list_objects_v2(Bucket="data", Prefix=key)
        return
    s3.put_object(Bucket="data", Key=key, Body=body)
    assert s3.get_object(Bucket="data", Key=key)["Body"].read() == body
    listed = s3.list_objects_v2(Bucket="data", Prefix=key)
    assert key in [entry["Key"] for entry in listed["Contents"]]
    s3.delete_object(Bucket="data", Key=key)
    with pytest.raises(ClientError) as gone:
        s3.head_object(Bucket="data", Key=key)
    assert refused(gone)[0] == 404


@pytest.mark.needs("range_without_checksum")
@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=299999-299999", 299_999, 300_000),
        ("bytes=1000-", 1000, 300_000),
        ("bytes=-1", 299_999, 300_000),
        ("bytes=-131072", 300_000 - 131_072, 300_000),
        ("bytes=0-8388607", 0, 300_000),
        ("bytes=299000-999999999", 299_000, 300_000),
        ("bytes=-99999999", 0, 300_000),
    ],
)
def test_ranges_give_exactly_their_bytes(s3: Any, asked: str, start: int, stop: int) -> None:
    s3.put_object(Bucket="data", Key=f"ranges{asked}", Body=BODY)
    for _ in range(2):
        got = s3.get_object(Bucket="data", Key=f"ranges{asked}", Range=asked)
        assert got["Body"].read() == BODY[start:stop]
        assert got["ContentRange"] == f"bytes {start}-{stop - 1}/300000"
        assert (got["ResponseMetadata"]["HTTPStatusCode"], got["ContentLength"]) == (206, stop - start)


@pytest.mark.parametrize("asked", ["bytes=300000-", "bytes=400000-500000", "bytes=-0"])
def test_a_range_past_the_end_is_refused(s3: Any, key: str, asked: str) -> None:
    s3.put_object(Bucket="data", Key=key, Body=BODY)
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket="data", Key=key, Range=asked)
    assert refused(error) == (416, "InvalidRange")


@pytest.mark.needs("empty_range_416")
def test_a_range_of_an_empty_object_is_refused_with_its_size(s3: Any, key: str) -> None:
    s3.put_object(Bucket="data", Key=key, Body=b"")
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket="data", Key=key, Range="bytes=0-8388607")
    assert refused(error) == (416, "InvalidRange")
    assert error.value.response["ResponseMetadata"]["HTTPHeaders"]["content-range"] == "bytes */0"


@pytest.mark.needs("conditional_reads")
def test_conditions_on_reads(s3: Any, key: str) -> None:
    etag = s3.put_object(Bucket="data", Key=key, Body=BODY[:10])["ETag"]
    where = {"Bucket": "data", "Key": key}
    modified = s3.head_object(**where)["LastModified"]
    hour = timedelta(hours=1)
    answered: list[dict[str, Any]] = [
        {"IfMatch": etag},
        {"IfNoneMatch": '"other"'},
        {"IfModifiedSince": modified - hour},
        {"IfUnmodifiedSince": modified + hour},
    ]
    refusals: list[tuple[dict[str, Any], int]] = [
        ({"IfMatch": '"other"'}, 412),
        ({"IfNoneMatch": etag}, 304),
        ({"IfModifiedSince": modified}, 304),
        ({"IfUnmodifiedSince": modified - hour}, 412),
    ]
    for read in (s3.get_object, s3.head_object):
        for condition in answered:
            assert read(**where, **condition)["ETag"] == etag, condition
        for condition, status in refusals:
            with pytest.raises(ClientError) as error:
                read(**where, **condition)
            assert refused(error)[0] == status, condition


@pytest.mark.needs("conditional_reads", "condition_precedence")
def test_of_two_conditions_the_etag_decides(s3: Any, key: str) -> None:
    etag = s3.put_object(Bucket="data", Key=key, Body=BODY[:10])["ETag"]
    where = {"Bucket": "data", "Key": key}
    earlier = s3.head_object(**where)["LastModified"] - timedelta(hours=1)
    assert s3.get_object(**where, IfMatch=etag, IfUnmodifiedSince=earlier)["ETag"] == etag
    with pytest.raises(ClientError) as error:
        s3.get_object(**where, IfNoneMatch=etag, IfModifiedSince=earlier)
    assert refused(error)[0] == 304


@pytest.mark.needs("conditional_reads", "any_etag")
def test_a_star_matches_whatever_is_there(s3: Any, key: str) -> None:
    etag = s3.put_object(Bucket="data", Key=key, Body=BODY[:10])["ETag"]
    assert s3.get_object(Bucket="data", Key=key, IfMatch="*")["ETag"] == etag
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket="data", Key=key, IfNoneMatch="*")
    assert refused(error)[0] == 304


@pytest.mark.needs("conditional_reads")
def test_a_range_with_a_stale_etag_is_refused(s3: Any, key: str) -> None:
    """Parallel downloads ask for every part with the ETag of the first."""
    old = s3.put_object(Bucket="data", Key=key, Body=BODY)["ETag"]
    assert s3.get_object(Bucket="data", Key=key, Range="bytes=5-9", IfMatch=old)["Body"].read() == BODY[5:10]
    s3.put_object(Bucket="data", Key=key, Body=BODY[::-1])
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket="data", Key=key, Range="bytes=5-9", IfMatch=old)
    assert refused(error) == (412, "PreconditionFailed")


@pytest.mark.needs("conditional_writes")
def test_create_only_and_compare_and_swap(s3: Any, key: str) -> None:
    where = {"Bucket": "data", "Key": key}
    first = s3.put_object(**where, Body=b"first", IfNoneMatch="*")["ETag"]
    with pytest.raises(ClientError) as error:
        s3.put_object(**where, Body=b"second", IfNoneMatch="*")
    assert refused(error) == (412, "PreconditionFailed")
    s3.put_object(**where, Body=b"third", IfMatch=first)
    with pytest.raises(ClientError) as error:
        s3.put_object(**where, Body=b"fourth", IfMatch=first)
    assert refused(error) == (412, "PreconditionFailed")
    assert s3.get_object(**where)["Body"].read() == b"third"
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket="data", Key=f"{key}-missing", Body=b"x", IfMatch=first)
    assert refused(error)[0] == 404


@pytest.mark.needs("response_overrides")
def test_response_overrides_change_the_answer_and_nothing_else(s3: Any, key: str) -> None:
    s3.put_object(Bucket="data", Key=key, Body=b"x", ContentType="text/plain")
    got = s3.get_object(
        Bucket="data",
        Key=key,
        ResponseContentType="image/png",
        ResponseContentDisposition='inline; filename="é"',
        ResponseCacheControl="no-store",
    )
    assert (got["ContentType"], got["CacheControl"]) == ("image/png", "no-store")
    plain = s3.get_object(Bucket="data", Key=key)
    assert (plain["ContentType"], plain.get("CacheControl")) == ("text/plain", None)


def test_what_is_missing_is_404_with_its_code(s3: Any, key: str) -> None:
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket="data", Key=f"{key}/none")
    with pytest.raises(ClientError) as error:
        s3.head_object(Bucket="data", Key=f"{key}/none")
    assert refused(error) == (404, "404")
    with pytest.raises(s3.exceptions.NoSuchBucket):
        s3.get_object(Bucket="no-such-bucket-here", Key="x")


def test_a_key_that_was_missing_appears_once_it_is_put(s3: Any, key: str) -> None:
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket="data", Key=key)
    s3.put_object(Bucket="data", Key=key, Body=b"now")
    assert s3.get_object(Bucket="data", Key=key)["Body"].read() == b"now"


def test_deleting_hides_the_object_at_once_and_twice_is_no_error(s3: Any, key: str) -> None:
    s3.put_object(Bucket="data", Key=key, Body=b"x")
    assert s3.get_object(Bucket="data", Key=key)["Body"].read() == b"x"
    for _ in range(2):
        assert s3.delete_object(Bucket="data", Key=key)["ResponseMetadata"]["HTTPStatusCode"] == 204
        with pytest.raises(s3.exceptions.NoSuchKey):
            s3.get_object(Bucket="data", Key=key)


def test_deleting_many_names_each(s3: Any, key: str) -> None:
    keys = [f"{key}/{n}&<{n}>" for n in range(7)]
    for name in keys:
        s3.put_object(Bucket="data", Key=name, Body=b"x")
        s3.head_object(Bucket="data", Key=name)
    answer = s3.delete_objects(Bucket="data", Delete={"Objects": [{"Key": name} for name in keys]})
    assert sorted(entry["Key"] for entry in answer["Deleted"]) == sorted(keys)
    assert s3.list_objects_v2(Bucket="data", Prefix=f"{key}/").get("Contents", []) == []
    for name in keys:
        with pytest.raises(ClientError):
            s3.head_object(Bucket="data", Key=name)


@pytest.mark.needs("quiet_deletes")
def test_deleting_many_quietly_names_none(s3: Any, key: str) -> None:
    quiet = s3.delete_objects(Bucket="data", Delete={"Objects": [{"Key": key}], "Quiet": True})
    assert "Deleted" not in quiet
    assert "Errors" not in quiet


def test_unseekable_and_slow_bodies_are_taken(target: Target, key: str) -> None:
    class Pipe(io.RawIOBase):
        """Cannot seek and tells no length; 16 KiB at a time, with a pause before each."""

        def __init__(self) -> None:
            self.inner = io.BytesIO(BODY)

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            time.sleep(0.001)
            return self.inner.read(size)

    client = target.client()
    client.upload_fileobj(Pipe(), "data", key, Config=TransferConfig(io_chunksize=16_384))
    assert client.get_object(Bucket="data", Key=key)["Body"].read() == BODY
    client.close()
