"""A head that is recognised is read as the parser would have read it, and as nothing else."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.frontend.exchange import RequestHead
from gateway.frontend.head import parse_head
from gateway.frontend.shapes import LESSONS_MAX, SHAPES_MAX, Shape, Shapes, recognise
from gateway.s3.errors import S3Error
from tests.frontend import harness

DATE, SIGNATURE, NUMBER = "20260101T000000Z", "0123456789abcdef" * 4, "6558653a-eea1-4868-aa96-15505992903c"

CREDENTIAL = (
    "AWS4-HMAC-SHA256 Credential=AK/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host;x-amz-checksum-mode;x-amz-content-sha256;x-amz-date"
)


def boto3(
    target: str = "/bucket/key",
    *,
    method: str = "GET",
    date: str = DATE,
    signature: str = SIGNATURE,
    number: str = NUMBER,
    wanted: str | None = None,
    more: str = "",
) -> bytes:
    """As boto3 sends it."""
    lines = [
        f"{method} {target} HTTP/1.1",
        "Accept-Encoding: identity",
        *([] if wanted is None else [f"Range: {wanted}"]),
        "x-amz-checksum-mode: ENABLED",
        "User-Agent: Boto3/1.43.117 md/Botocore#1.43.117 ua/2.1 os/linux#6.1 lang/python#3.11",
        "host: 127.0.0.1:9000",
        f"X-Amz-Date: {date}",
        "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        f"Authorization: {CREDENTIAL}, Signature={signature}",
        f"amz-sdk-invocation-id: {number}",
        "amz-sdk-request: attempt=1",
    ]
    return ("\r\n".join(lines) + f"\r\n{more}\r\n").encode("latin-1")


def told(head: RequestHead) -> tuple[object, ...]:
    return head.method, head.target, list(head.headers.items()), head.length, head.keep_alive, head.current


def parsed(raw: bytes) -> tuple[object, ...] | None:
    try:
        return told(parse_head(raw))
    except S3Error:
        return None


def learned(*heads: bytes) -> dict[int, Shape]:
    own: dict[int, Shape] = {}
    shapes = Shapes()
    for raw in heads:
        shapes.learn(own, raw, parse_head(raw))
    return own


def test_what_every_request_of_a_client_differs_in_may_differ() -> None:
    own = learned(boto3(), boto3(wanted="bytes=0-99"))
    for raw in (
        boto3("/another%20key"),
        boto3(method="HEAD"),
        boto3(date="20260101T000001Z"),
        boto3(signature="f" * 64),
        boto3(number="a19ad68c-8106-411e-9429-898825008ecb"),
        boto3("/k", wanted="bytes=5-10"),
    ):
        head = recognise(own, raw)
        assert head is not None
        assert told(head) == parsed(raw)
        assert head.shape is own[len(raw) - raw.index(b" HTTP")]
        assert head.shape.traits.sums
        assert head.shape.traits.whole == (b"Range" not in raw)


def test_what_may_not_differ_is_left_to_the_parser() -> None:
    own = learned(boto3(), boto3(more="x-amz-meta-a: b\r\n"))
    for raw in (
        boto3().replace(b"ENABLED", b"enabled"),
        boto3().replace(b"identity", b"gzip;q=0"),
        boto3().replace(b"host: 127.0.0.1:9000", b"host: 127.0.0.1:9001"),
        boto3().replace(b"SignedHeaders=host", b"SignedHeaders=hosu"),
        boto3().replace(b"HTTP/1.1", b"HTTP/1.0"),
        boto3("/key with blanks"),
        boto3("*"),
        boto3("/" + "k" * 8192),
        boto3(method="PUT"),
        boto3(method="get"),
        boto3(wanted="bytes=0-99"),
        boto3(more="Range: bytes=0-9\r\n"),
        boto3(more="x-amz-meta-a: c\r\n"),
        boto3(date="20260101T0000\r\n\tZ"),
        boto3(date="20260101T000000 "),
        boto3(date=" 20260101T000000"),
        boto3(signature=SIGNATURE[:40] + "\r\nx-amz-copy-source: /a"),
        boto3(signature=SIGNATURE[:-1] + "\xe9"),
        boto3(number=NUMBER[:-10] + "\r\nx-a: bcd"),
        boto3(number=NUMBER[:-1] + "\0"),
        boto3()[:-2] + b"a: b\r\n\r\n",
        b"GET /",
    ):
        assert recognise(own, raw) is None, raw


def test_only_plain_signed_reads_have_a_shape() -> None:
    twice = f"amz-sdk-invocation-id: {NUMBER}\r\n"
    for raw in (
        boto3(method="PUT"),
        boto3(more="Connection: close\r\n"),
        boto3(more="Content-Length: 5\r\n"),
        boto3(more="Transfer-Encoding: chunked\r\n"),
        boto3().replace(b"HTTP/1.1", b"HTTP/1.0"),
        boto3(more=twice),
        boto3(more=f"user-agent: {'a' * 2048}\r\n"),
        boto3().replace(b"X-Amz-Date: ", b"Date: "),
        boto3(signature=SIGNATURE[:-1]),
        boto3().replace(b"Authorization:", b"Authority:"),
    ):
        assert learned(raw) == {}, raw


def test_equal_shapes_of_a_server_are_one_and_their_number_is_bounded() -> None:
    shapes = Shapes()
    one: dict[int, Shape] = {}
    other: dict[int, Shape] = {}
    for own, raw in ((one, boto3()), (other, boto3("/other", date="20260102T000000Z"))):
        shapes.learn(own, raw, parse_head(raw))
    assert list(one.values()) == list(other.values())
    for length in range(SHAPES_MAX + 2):
        raw = boto3(more=f"user-agent: {'a' * length}\r\n")
        shapes.learn(one, raw, parse_head(raw))
        assert len(shapes._known) <= SHAPES_MAX
        head = recognise(one, raw)
        assert head is not None


TELLING = b"\r\n\t \0:;,=&%+/?.-_0129azAZ\x7f\x80\xff"
BYTES = st.one_of(st.sampled_from(TELLING), st.integers(0, 255))
MUTATIONS = st.lists(
    st.tuples(st.sampled_from(["flip", "insert", "delete", "move"]), st.integers(0, 900), BYTES), max_size=4
)
HEADS = [boto3(), boto3(wanted="bytes=0-99"), boto3("/a", method="HEAD"), boto3(more="x-amz-meta-a: b\r\n")]


@given(st.sampled_from(HEADS), MUTATIONS)
@settings(max_examples=1500, deadline=None)
def test_a_changed_head_is_read_as_the_parser_reads_it_or_not_at_all(
    raw: bytes, mutations: list[tuple[str, int, int]]
) -> None:
    changed = bytearray(raw)
    for kind, where, byte in mutations:
        at = where % len(changed)
        if kind == "flip":
            changed[at] = byte
        elif kind == "insert":
            changed.insert(at, byte)
        elif kind == "delete":
            del changed[at]
        else:  # keeps the length, as what fools a comparison by lengths would
            del changed[at]
            changed.insert(byte % len(changed), byte)
    head = recognise(learned(*HEADS), bytes(changed))
    if head is not None:
        assert told(head) == parsed(bytes(changed))


@given(st.lists(st.sampled_from(HEADS), min_size=1, max_size=4), st.data())
def test_values_of_any_bytes(heads: list[bytes], data: st.DataObject) -> None:
    """Whatever stands in the places of the values."""
    own = learned(*heads)
    raw = bytearray(heads[-1])
    for value in (DATE, SIGNATURE, NUMBER):
        at = raw.index(value.encode())
        raw[at : at + len(value)] = data.draw(st.binary(min_size=len(value), max_size=len(value)))
    head = recognise(own, bytes(raw))
    if head is not None:
        assert told(head) == parsed(bytes(raw))


def test_only_whoever_may_read_teaches_a_connection_anything_and_not_for_ever() -> None:
    with harness.door() as door, door.connect() as client:
        for raw in (boto3("/echo"), boto3("/echo"), boto3("/echo", wanted="bytes=0-9")):
            client.send(raw)
            assert client.answer()[0] == 200
        assert not door.server.shapes._known
        for number in range(2 * LESSONS_MAX):
            client.send(boto3("/hot", more=f"X-Forwarded-For: {number}\r\n"))
            assert client.answer()[2] == b"/hot"
        assert len(door.server.shapes._known) == LESSONS_MAX


def test_requests_that_come_together_are_recognised_one_by_one() -> None:
    with harness.door() as door, door.connect() as client:
        client.send(boto3("/hot"))
        assert client.answer()[2] == b"/hot"
        client.send(b"".join(boto3(f"/hot?{number}") for number in range(20)))
        for number in range(20):
            assert client.answer()[2] == b"/hot?%d" % number
        assert [target for _, target, _ in door.app.seen[1:]] == [f"/hot?{number}" for number in range(20)]
