"""Bodies that clients send: what botocore writes is understood, what an attacker writes is refused at once."""

from __future__ import annotations

import time
from typing import Any
from xml.sax.saxutils import escape

import pytest
from botocore.serialize import create_serializer
from botocore.session import get_session
from hypothesis import given
from hypothesis import strategies as st

from gateway.s3.errors import S3Error
from gateway.s3.xml_read import COMPLETE_BYTES_MAX, DELETE_BYTES_MAX, parse_complete, parse_delete

MODEL = get_session().get_service_model("s3")
keys = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"),
    min_size=1,
    max_size=30,
)


def written(operation: str, **parameters: Any) -> bytes:
    request = create_serializer("rest-xml").serialize_to_request(
        {"Bucket": "bucket", **parameters}, MODEL.operation_model(operation)
    )
    body: bytes = request["body"]
    return body


def code_of(parse: Any, body: bytes) -> str:
    try:
        parse(body)
    except S3Error as error:
        return error.code
    return ""


@given(st.lists(keys, min_size=1, max_size=5), st.booleans())
def test_a_delete_of_botocore_is_understood(names: list[str], quiet: bool) -> None:
    objects = [{"Key": name, "VersionId": "v"} for name in names]
    found = parse_delete(written("DeleteObjects", Delete={"Objects": objects, "Quiet": quiet}))
    assert [(entry.key, entry.version_id) for entry in found.entries] == [(name, "v") for name in names]
    assert found.quiet == quiet


def test_a_complete_of_botocore_is_understood() -> None:
    parts = [{"PartNumber": 1, "ETag": '"a"', "ChecksumCRC32": "AAAAAA=="}, {"PartNumber": 7, "ETag": "b"}]
    found = parse_complete(
        written("CompleteMultipartUpload", Key="k", UploadId="u", MultipartUpload={"Parts": parts})
    )
    assert [(part.number, part.etag, dict(part.checksums)) for part in found] == [
        (1, '"a"', {"x-amz-checksum-crc32": "AAAAAA=="}),
        (7, '"b"', {}),
    ]


def delete(*objects: str) -> bytes:
    return f"<Delete>{''.join(f'<Object>{text}</Object>' for text in objects)}</Delete>".encode()


def complete(*parts: str) -> bytes:
    inner = "".join(f"<Part>{text}</Part>" for text in parts)
    return f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>".encode()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (delete("<Key>k</Key>"), ""),
        (delete(*["<Key>k</Key>"] * 1000), ""),
        (delete(*["<Key>k</Key>"] * 1001), "MalformedXML"),
        (delete(), "MalformedXML"),
        (delete(""), "MalformedXML"),
        (delete("<Key></Key>"), "MalformedXML"),
        (delete("<Key>a</Key><Key>b</Key>"), "MalformedXML"),
        (delete("<Key>a<b/></Key>"), "MalformedXML"),
        (delete("<Key>" + "k" * 1025 + "</Key>"), "KeyTooLongError"),
        (delete("<Key>" + "é" * 513 + "</Key>"), "KeyTooLongError"),
        (delete("<Key>k</Key><Size>5</Size>"), ""),
        (b"<Other><Object><Key>k</Key></Object></Other>", "MalformedXML"),
        (b"", "MalformedXML"),
        (b"\x00", "MalformedXML"),
        (b"<Delete>", "MalformedXML"),
        (b'<?xml version="1.0" encoding="no-such"?>' + delete("<Key>k</Key>"), "MalformedXML"),
        (b'<?xml version="1.0" encoding="utf-16"?>' + delete("<Key>k</Key>"), "MalformedXML"),
        (delete("<Key>\xff</Key>").replace("ÿ".encode(), b"\xff"), "MalformedXML"),
    ],
)
def test_deletes(body: bytes, code: str) -> None:
    assert code_of(parse_delete, body) == code


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (complete("<PartNumber>1</PartNumber><ETag>a</ETag>"), ""),
        (complete(), "MalformedXML"),
        (complete("<ETag>a</ETag>"), "MalformedXML"),
        (complete("<PartNumber>1</PartNumber>"), "MalformedXML"),
        (complete("<PartNumber>x</PartNumber><ETag>a</ETag>"), "MalformedXML"),
        (complete("<PartNumber>-1</PartNumber><ETag>a</ETag>"), "MalformedXML"),
        (complete("<PartNumber>٣</PartNumber><ETag>a</ETag>"), "MalformedXML"),
        (complete("<PartNumber>0</PartNumber><ETag>a</ETag>"), "InvalidArgument"),
        (complete("<PartNumber>10001</PartNumber><ETag>a</ETag>"), "InvalidArgument"),
        (complete(*["<PartNumber>2</PartNumber><ETag>a</ETag>"] * 2), "InvalidPartOrder"),
        (
            complete("<PartNumber>2</PartNumber><ETag>a</ETag>", "<PartNumber>1</PartNumber><ETag>a</ETag>"),
            "InvalidPartOrder",
        ),
    ],
)
def test_completes(body: bytes, code: str) -> None:
    assert code_of(parse_complete, body) == code


LAUGHS = (
    "<!DOCTYPE x [<!ENTITY a0 'ha'>"
    + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12))
    + "]>"
)
HOSTILE = {
    "billion laughs": LAUGHS.encode() + delete("<Key>&a11;</Key>"),
    "quadratic": (f"<!DOCTYPE x [<!ENTITY a '{'a' * 50_000}'>]>").encode()
    + delete("<Key>" + "&a;" * 10_000 + "</Key>"),
    "external file": b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + delete("<Key>&e;</Key>"),
    "external dtd": b'<!DOCTYPE x SYSTEM "http://169.254.169.254/x.dtd">' + delete("<Key>k</Key>"),
    "parameter entity": b'<!DOCTYPE x [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>'
    + delete("<Key>k</Key>"),
    "plain doctype": b"<!DOCTYPE Delete>" + delete("<Key>k</Key>"),
    "deep": b"<a>" * 100_000,
    "deep inside": b"<Delete>" + b"<a>" * 20_000 + b"</a>" * 20_000 + b"</Delete>",
    "ten megabytes": delete("<Key>" + "k" * (10 << 20) + "</Key>"),
    "many attributes": b"<Delete " + b" ".join(b'a%d=""' % n for n in range(20_000)) + b"></Delete>",
    "utf-16 doctype": ('<?xml version="1.0" encoding="utf-16"?>' + LAUGHS + "<Delete/>").encode("utf-16"),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_bodies_are_refused_in_no_time(name: str) -> None:
    for parse in (parse_delete, parse_complete):
        began = time.process_time()
        assert code_of(parse, HOSTILE[name]) == "MalformedXML"
        assert time.process_time() - began < 0.5  # what they are made to cost is minutes


def test_the_bounds_hold_what_is_legal() -> None:
    body = delete(*[f"<Key>{escape('&' * 300)}</Key><VersionId>{'v' * 32}</VersionId>"] * 1000)
    assert len(body) < DELETE_BYTES_MAX
    assert len(parse_delete(body).entries) == 1000
    parts = [
        f"<PartNumber>{n}</PartNumber><ETag>&quot;{'a' * 32}&quot;</ETag><ChecksumSHA256>{'A' * 44}</ChecksumSHA256>"
        for n in range(1, 10_001)
    ]
    assert len(complete(*parts)) < COMPLETE_BYTES_MAX
    assert len(parse_complete(complete(*parts))) == 10_000


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_an_error_and_nothing_else(body: bytes) -> None:
    assert code_of(parse_delete, body) == "MalformedXML"
    assert code_of(parse_complete, b"<CompleteMultipartUpload>" + body) == "MalformedXML"
