"""What a blob's metadata says, and when it is believed."""

from __future__ import annotations

import base64
import hashlib
import random
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Refused, Throttled, Unreachable, Unsupported
from gateway.origins import azure_meta
from gateway.origins.azure_meta import Record, blob_of, decode, encode, metadata_headers, stored_headers

MD5 = hashlib.md5(b"x", usedforsecurity=False)
OWN = '"0x8DEADBEEF"'
values = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60)
names = st.text(st.sampled_from("abz09-_.~!#"), min_size=1, max_size=20)


def _date(seconds: float) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds))


def _answer(sent: dict[str, str], **changes: str) -> dict[str, str]:
    """HEAD's answer for a block blob that was written with these headers, just now."""
    headers = {
        "etag": OWN,
        "last-modified": _date(time.time()),
        "x-ms-blob-type": "BlockBlob",
        "content-md5": base64.b64encode(MD5.digest()).decode(),
        **{name: value for name, value in sent.items() if name.startswith("x-ms-meta-")},
    }
    headers.update({name.replace("_", "-"): value for name, value in changes.items()})
    return headers


def _sent(stored: dict[str, str] | None = None, etag: str = "", size: int = 1) -> dict[str, str]:
    return metadata_headers(
        stored or {}, etag=etag or MD5.hexdigest(), size=size, checksums={"x-amz-checksum-crc32": "c"}
    )


def test_what_is_remembered_of_metadata_is_bounded() -> None:
    """Of objects with as many parts as there can be, none of them as large as the next."""
    kept = 8
    decode.cache_clear()
    texts = [_largest(number) for number in range(kept + 1)]
    assert decode(texts.pop()) is not None  # what is loaded or made at the first one is not counted
    tracemalloc.start()
    try:
        assert all(decode(text) is not None for text in texts)
        each = tracemalloc.get_traced_memory()[0] / kept
    finally:
        tracemalloc.stop()
    count = decode.cache_parameters()["maxsize"]
    assert count is not None
    assert count * each < 64 << 20


def _largest(number: int) -> str:
    parts = ",".join(["8388608,8388609"] * 5000)
    return azure_meta.pack({"etag": f"{number}", "size": 1, "at": 1, "parts": parts})


def test_a_record_that_holds() -> None:
    blob = blob_of(_answer(_sent()), 1)
    assert (blob.meta.etag, blob.etag) == (f'"{MD5.hexdigest()}"', OWN)
    assert blob.meta.checksums == {"x-amz-checksum-crc32": "c"}
    assert blob_of(_answer(_sent()), 1, whole=False).meta.checksums == {}


@pytest.mark.parametrize(
    "change",
    [
        {"x_ms_blob_type": "AppendBlob"},
        {"content_md5": base64.b64encode(b"0" * 16).decode()},
        {"content_md5": ""},
        {"last_modified": _date(time.time() + 86_400)},
        {"last_modified": _date(time.time() - 86_400)},
        {"x_ms_meta_s3gateway": "{"},
        {"x_ms_meta_s3gateway": "[]"},
        {"x_ms_meta_s3gateway": "z:AAAA"},
        {"x_ms_meta_s3gateway": '{"size":1}'},
        {"x_ms_meta_s3gateway": '{"size":1,"at":1,"parts":"1x99999999999"}'},
    ],
)
def test_a_record_that_does_not_hold(change: dict[str, str]) -> None:
    blob = blob_of(_answer(_sent(), **change), 1)
    assert (blob.meta.etag, blob.record, blob.meta.checksums) == (OWN, None, {})


def test_nor_for_another_size_nor_a_multipart_etag_with_an_md5() -> None:
    assert blob_of(_answer(_sent()), 2).meta.etag == OWN
    multipart = _sent(etag=f"{'0' * 32}-3")
    assert blob_of(_answer(multipart), 1).meta.etag == OWN
    assert blob_of(_answer(multipart, content_md5=""), 1).meta.etag == f'"{"0" * 32}-3"'


def test_an_answer_without_what_every_blob_has_is_none() -> None:
    for name in ("etag", "last-modified"):
        headers = _answer({})
        del headers[name]
        with pytest.raises(Unreachable):
            blob_of(headers, 1)
    with pytest.raises(Throttled):
        blob_of(_answer({}, x_ms_copy_status="pending"), 1)


@given(st.dictionaries(names, values, max_size=5))
def test_user_metadata_comes_back_exactly(meta: dict[str, str]) -> None:
    headers = {f"x-amz-meta-{name}": value for name, value in meta.items()}
    sent = _sent(stored_headers(headers))
    for name, value in sent.items():
        assert value.isascii()
        assert value == value.strip()
        assert "  " not in value
        assert name.removeprefix("x-ms-meta-").isidentifier()
    stored = blob_of(_answer(sent), 1).meta.headers
    assert {name: v for name, v in stored.items() if name.startswith("x-amz-meta-")} == headers


def test_properties_are_properties_and_the_rest_is_kept_beside() -> None:
    stored = stored_headers({"content-type": "a/b", "expires": "0", "content-disposition": "é"})
    assert azure_meta.property_headers(stored, None) == {"x-ms-blob-content-type": "a/b"}
    back = blob_of(_answer(_sent(stored), content_type="a/b"), 1).meta.headers
    assert (back["expires"], back["content-disposition"], back["content-type"]) == ("0", "é", "a/b")


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-server-side-encryption": "aws:kms"},
        {"x-amz-server-side-encryption-customer-algorithm": "AES256"},
        {"x-amz-tagging": "a=b"},
        {"x-amz-acl": "public-read"},
        {"x-amz-grant-read": "id=1"},
        {"x-amz-object-lock-mode": "GOVERNANCE"},
        {"x-amz-storage-class": "GLACIER"},
    ],
)
def test_promises_that_could_not_be_kept(headers: dict[str, str]) -> None:
    with pytest.raises(Unsupported):
        stored_headers(headers)


def test_s3s_most_metadata_fits_and_more_is_told() -> None:
    compressible = {f"x-amz-meta-a-{number}": "é" * 100 for number in range(20)}
    assert blob_of(_answer(_sent(compressible)), 1).meta.headers.items() >= compressible.items()
    one = random.Random(2)
    noise = "".join(chr(one.randrange(160, 256)) for _ in range(2000))
    more = "".join(chr(one.randrange(160, 256)) for _ in range(10_000))
    assert blob_of(_answer(_sent({"x-amz-meta-a": noise})), 1).meta.headers["x-amz-meta-a"] == noise
    with pytest.raises(Refused, match="8 KiB"):
        _sent({"x-amz-meta-a": more})


def test_sizes_of_parts_are_left_out_where_they_do_not_fit() -> None:
    one = random.Random(3)
    for sizes, fits in (
        ((8 << 20,) * 9999 + (17,), True),
        (tuple(one.randrange(5 << 20, 5 << 30) for _ in range(10_000)), False),
    ):
        sent = metadata_headers({}, etag="0" * 32 + "-9", size=1, checksums={}, parts=sizes)
        record = decode(sent["x-ms-meta-s3gateway"])
        assert record is not None
        assert record.parts == (sizes if fits else ())


@given(st.dictionaries(names, values, max_size=3), st.lists(st.integers(0, 9), max_size=30))
def test_a_record_comes_back(headers: dict[str, str], sizes: list[int]) -> None:
    record = Record("e", 5, 7, headers, headers, headers, tuple(sizes), "id")
    assert decode(encode(record)) == record
