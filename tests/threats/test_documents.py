"""XML bodies, multipart rules, ranges and conditions: what is wrong is refused in no time and changes nothing."""

from __future__ import annotations

import base64
import hashlib
import time

import pytest

from tests.threats.conftest import Front
from tests.threats.wire import Answer

# The bound is 50 ms; this machine may be busy with other tests.
SOON_S = 0.5
PART_BYTES = 5 << 20
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
BOMBS = {
    "doctype": "<!DOCTYPE x><{root}/>",
    "external entity": '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><{root}><Key>&e;</Key></{root}>',
    "external dtd": '<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><{root}/>',
    "parameter entity": '<!DOCTYPE x [<!ENTITY % e SYSTEM "file:///etc/passwd">%e;]><{root}/>',
    "billion laughs": f'<!DOCTYPE x [<!ENTITY l0 "lol">{LAUGHS}]><{{root}}>&l11;</{{root}}>',
    "quadratic": '<!DOCTYPE x [<!ENTITY a "' + "a" * 50_000 + '">]><{root}>' + "&a;" * 10_000 + "</{root}>",
    "undefined entity": "<{root}><Key>&nbsp;</Key></{root}>",
    "deep": "<a>" * 20_000,
    "attributes": "<{root} " + " ".join(f'a{n}="{n}"' for n in range(20_000)) + "/>",
    "utf-16": '<?xml version="1.0" encoding="utf-16"?><{root}/>',
    "utf-7": '<?xml version="1.0" encoding="utf-7"?>+ADwAIQ-DOCTYPE x+AD4-<{root}/>',
    "two roots": "<{root}/><{root}/>",
    "other root": "<Other/>",
    "none": "",
    "no xml": "\x00\x01\x02",
    "processing instruction": '<?xml-stylesheet href="file:///etc/passwd"?><{root}/>',
}


def md5(body: bytes) -> dict[str, str]:
    return {"content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()}


def create(front: Front, target: str) -> str:
    answer = front.ask(front.anna.call("POST", f"{target}?uploads"))
    return answer.body.partition(b"<UploadId>")[2].partition(b"<")[0].decode()


def part(front: Front, target: str, upload: str, number: int, body: bytes) -> str:
    answer = front.ask(front.anna.call("PUT", f"{target}?partNumber={number}&uploadId={upload}", body))
    assert answer.status == 200
    return answer.headers["etag"].strip('"')


def complete(front: Front, target: str, upload: str, parts: list[tuple[int | str, str]]) -> Answer:
    listed = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in parts
    )
    document = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    return front.ask(front.anna.call("POST", f"{target}?uploadId={upload}", document))


@pytest.mark.parametrize("name", BOMBS)
def test_doctype_entities_and_other_hostile_xml(front: Front, target: str, name: str) -> None:
    upload = create(front, target)
    for url, root in ((f"{target}?uploadId={upload}", "CompleteMultipartUpload"), ("/anna?delete", "Delete")):
        document = BOMBS[name].replace("{root}", root).encode()
        began = time.monotonic()
        answer = front.ask(front.anna.call("POST", url, document, md5(document)))
        assert time.monotonic() - began < SOON_S
        assert answer.said in ((400, "MalformedXML"), (400, "MissingRequestBodyError"))
        assert b"root:" not in answer.body
    assert front.stored(target) == b"before"


def delete(front: Front, bucket: str, keys: list[str]) -> Answer:
    listed = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys)
    document = f"<Delete>{listed}</Delete>".encode()
    return front.ask(front.bert.call("POST", f"/{bucket}?delete", document, md5(document)))


def test_delete_objects_with_1001_keys(front: Front) -> None:
    assert front.ask(front.bert.call("PUT", "/bert/k0", b"stays")).status == 200
    assert delete(front, "bert", [f"k{n}" for n in range(1001)]).said == (400, "MalformedXML")
    assert front.stored("/bert/k0") == b"stays"
    assert delete(front, "bert", [f"k{n}" for n in range(1000)]).status == 200
    assert front.stored("/bert/k0") is None


def test_delete_objects_authorizes_each_key(front: Front, target: str) -> None:
    """Whoever may delete in one bucket names keys of another, and keys that are denied."""
    answer = delete(front, "anna", [target.removeprefix("/anna/"), "nowhere"])
    assert answer.status == 200
    assert (answer.body.count(b"<Code>AccessDenied</Code>"), answer.body.count(b"<Deleted>")) == (2, 0)
    assert front.stored(target) == b"before"
    assert delete(front, "bert", [f"..{target}", f"../anna-store/{target[6:]}"]).status == 200
    assert front.stored(target) == b"before"


def test_delete_objects_where_only_some_are_allowed(front: Front) -> None:
    for name, key in ((front.anna, "open"), (front.bert, "bert/kept")):
        assert front.ask(name.call("PUT", f"/common/{key}", b"before")).status == 200
    document = b"<Delete><Object><Key>bert/kept</Key></Object><Object><Key>open</Key></Object></Delete>"
    answer = front.ask(front.anna.call("POST", "/common?delete", document, md5(document)))
    assert (answer.body.count(b"<Code>AccessDenied</Code>"), answer.body.count(b"<Deleted>")) == (1, 1)
    assert front.stored("/common/bert/kept") == b"before"
    assert front.stored("/common/open") is None


def test_complete_in_the_wrong_order_or_with_the_wrong_parts(front: Front, target: str) -> None:
    upload = create(front, target)
    one, two = (part(front, target, upload, number, b"p" * PART_BYTES) for number in (1, 2))
    wrong: list[tuple[list[tuple[int | str, str]], str]] = [
        ([(2, two), (1, one)], "InvalidPartOrder"),
        ([(1, one), (1, one)], "InvalidPartOrder"),
        ([(1, one), (2, "0" * 32)], "InvalidPart"),
        ([(1, one), (3, two)], "InvalidPart"),
        ([(1, one), (10_001, two)], "InvalidArgument"),
        ([(0, one)], "InvalidArgument"),
        ([("1 1", one)], "MalformedXML"),
        ([], "MalformedXML"),
    ]
    for parts, code in wrong:
        answer = complete(front, target, upload, parts)
        assert answer.said == (400, code)
        assert front.stored(target) == b"before"
    assert complete(front, target, upload, [(1, one), (2, two)]).status == 200
    assert front.ask(front.anna.call("GET", target)).body == b"p" * (2 * PART_BYTES)


def test_complete_with_a_small_part(front: Front, target: str) -> None:
    upload = create(front, target)
    one, two = (part(front, target, upload, number, b"small") for number in (1, 2))
    answer = complete(front, target, upload, [(1, one), (2, two)])
    assert answer.said == (400, "EntityTooSmall")
    assert front.stored(target) == b"before"


def test_an_upload_of_another_key_or_tenant(front: Front, target: str) -> None:
    """The id of an upload is no right, and is good for its own key alone."""
    upload = create(front, target)
    etag = part(front, target, upload, 1, b"anna's own")
    document = (
        f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
        "</CompleteMultipartUpload>"
    ).encode()
    for query, method, body in (
        (f"partNumber=1&uploadId={upload}", "PUT", b"forged"),
        (f"uploadId={upload}", "POST", document),
        (f"uploadId={upload}", "GET", b""),
        (f"uploadId={upload}", "DELETE", b""),
    ):
        assert front.ask(front.bert.call(method, f"{target}?{query}", body)).said == (403, "AccessDenied")
        elsewhere = front.ask(front.bert.call(method, f"/bert/k?{query}", body))
        assert elsewhere.said == (404, "NoSuchUpload")
    for odd in ("..", "..%2F..%2Fanna", "%00", "x" * 2000, "%2Fetc%2Fpasswd"):
        answer = front.ask(front.bert.call("PUT", f"/bert/k?partNumber=1&uploadId={odd}", b"x"))
        assert answer.status in (400, 404)
    assert complete(front, target, upload, [(1, etag)]).status == 200


@pytest.mark.parametrize("value", ["bytes=6-", "bytes=6-9", "bytes=99999999999999999999-", "bytes=-0"])
def test_range_past_the_end(front: Front, target: str, value: str) -> None:
    for _ in range(3):  # cold, filling, warm
        answer = front.ask(front.anna.call("GET", target, headers={"range": value}))
        assert answer.said == (416, "InvalidRange")
        assert front.ask(front.anna.call("GET", target)).body == b"before"


MALFORMED = [
    "bytes=", "bytes=-", "bytes=a-b", "bytes=3-1", "bytes 0-1", "bytes=0-1,3-4", "bytes=0-0,-1", "octets=0-1", "0-1",
    "bytes=+1-2", "bytes=0x0-1", "bytes=1-2-3", "bytes=-1-", "bytes=" + "0-1," * 1000, "bytes=" + "9" * 500 + "-",
]  # fmt: skip


@pytest.mark.parametrize("value", MALFORMED, ids=lambda value: value[:20])
def test_malformed_or_multi_range(front: Front, target: str, value: str) -> None:
    for _ in range(2):
        answer = front.ask(front.anna.call("GET", target, headers={"range": value}))
        assert (answer.status, answer.body) == (200, b"before")


def test_if_match_on_a_missing_key(front: Front, target: str) -> None:
    for etag in ("*", '"0123456789abcdef0123456789abcdef"'):
        call = front.anna.call("PUT", f"{target}-missing", b"x", {"if-match": etag})
        assert front.ask(call).said == (404, "NoSuchKey")
    assert front.stored(f"{target}-missing") is None


def test_if_none_match_on_a_key_that_is_there(front: Front, target: str) -> None:
    call = front.anna.call("PUT", target, b"lost update", {"if-none-match": "*"})
    assert front.ask(call).said == (412, "PreconditionFailed")
    assert front.stored(target) == b"before"
