"""Heads that two readers could read in two ways, and heads that only cost: a 400 in S3's XML, and the end of the
connection, so that nothing behind one of them is ever taken for a request."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.threats.conftest import Front
from tests.threats.signing import Call
from tests.threats.wire import Answer

MARK = "a-mark-that-no-log-may-show"


def refused(front: Front, wire: bytes) -> Answer:
    """The answer to `wire`, behind which a good request follows that must not be answered."""
    with front.line() as line:
        line.send(wire + front.anna.call("GET", "/anna/smuggled").wire())
        answer = line.answer()
        assert answer.status == 400
        assert answer.code
        assert answer.body.startswith(b"<?xml")
        line.done_sending()
        assert line.ended()
        return answer


def with_lines(call: Call, *lines: str) -> bytes:
    """The call with more lines at the end of its head, as they are."""
    return call.head()[:-2] + "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n" + call.body


@pytest.fixture
def put(front: Front, target: str) -> Call:
    return front.anna.call("PUT", target, b"after")


CL_AND_TE = [
    ("transfer-encoding: chunked",),
    ("Transfer-Encoding: chunked", "transfer-encoding: chunked"),
    ("transfer-encoding:\tchunked",),
    ("transfer-encoding: identity",),
    ("transfer-encoding: x, chunked",),
    ("transfer-encoding: chunked, x",),
    ("transfer-encoding:",),
    ("transfer-encoding : chunked",),
    (" transfer-encoding: chunked",),
    ("x: y\ntransfer-encoding: chunked",),
    ("transfer_encoding\x00: chunked",),
]


@pytest.mark.parametrize("lines", CL_AND_TE, ids=repr)
def test_cl_and_te(front: Front, put: Call, lines: tuple[str, ...]) -> None:
    refused(front, with_lines(put, *lines))
    assert front.stored(put.target) == b"before"


@pytest.mark.parametrize(
    "coding", ["chunked, chunked", "gzip, chunked", "xchunked", "chunked;q=1", "CHUNKED\x0b", "identity"]
)
def test_te_that_is_not_just_chunked(front: Front, put: Call, coding: str) -> None:
    wire = with_lines(put.but(content_length=None), f"transfer-encoding: {coding}")
    with front.line() as line:
        line.send(wire + b"5\r\nafter\r\n0\r\n\r\n")
        assert line.answer().status in (400, 501)
        line.done_sending()
        assert line.ended()
    assert front.stored(put.target) == b"before"


@pytest.mark.parametrize("other", ["5", "0", "4"])
def test_duplicate_content_length(front: Front, put: Call, other: str) -> None:
    refused(front, with_lines(put, f"Content-Length: {other}"))
    refused(front, with_lines(put.but(content_length=f"5, {other}")))
    assert front.stored(put.target) == b"before"


@pytest.mark.parametrize("value", ["+5", "-5", "5 ,", "0x5", "5.0", "5e0", "٥", "1_0", "", "9" * 40, " 5 5"])
def test_content_length_in_an_odd_spelling(front: Front, put: Call, value: str) -> None:
    refused(front, with_lines(put.but(content_length=value.encode().decode("latin-1"))))
    assert front.stored(put.target) == b"before"


@pytest.mark.parametrize("chunk", ["+5", "-5", "0x5", "5 ", " 5", "5\x0b", "", "5" * 20, "5\n"])
def test_a_chunk_size_in_an_odd_spelling(front: Front, target: str, chunk: str) -> None:
    call = front.anna.call(
        "PUT",
        target,
        headers={
            "transfer-encoding": "chunked",
            "x-amz-decoded-content-length": "5",
            "x-amz-trailer": "x-amz-checksum-crc32",
        },
        payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    )
    assert refused(front, call.head() + f"{chunk}\r\nafter\r\n0\r\n\r\n".encode()).status == 400
    assert front.stored(target) == b"before"


@pytest.mark.parametrize("line", ["Host: other", "host: {host}", "HOST:{host}"])
def test_duplicate_host(front: Front, put: Call, line: str) -> None:
    refused(front, with_lines(put, line.format(host=front.host)))


@pytest.mark.parametrize("host", ["", "a b", "a,b", "a/b", "a@b", "a:b", "a:1:2", "é", None])
def test_malformed_or_missing_host(front: Front, put: Call, host: str | None) -> None:
    refused(front, put.but(host=host.encode().decode("latin-1") if host else host).wire())


@pytest.mark.parametrize(
    "name", ["authorization", "range", "x-amz-date", "x-amz-content-sha256", "X-Amz-Copy-Source", "If-Match"]
)
def test_any_other_header_that_must_not_come_twice(front: Front, target: str, name: str) -> None:
    call = front.anna.call("GET", target, headers={name.lower(): "bytes=0-1"})
    refused(front, with_lines(call, f"{name}: bytes=2-3"))


@pytest.mark.parametrize("fold", [" ", "\t", "  "])
def test_obs_fold(front: Front, put: Call, fold: str) -> None:
    refused(front, with_lines(put, "x: 1", f"{fold}2"))
    first, _, rest = put.head().partition(b"\r\n")
    refused(front, first + b"\r\n" + fold.encode() + rest + put.body)


def test_bare_lf(front: Front, put: Call) -> None:
    head = put.head()
    first, _, rest = head.partition(b"\r\n")
    for wire in (
        head.replace(b"\r\n", b"\n"),
        first + b"\n" + rest,
        head[:-4] + b"\n\n",
        head[:-4] + b"\n\r\n",
        head.replace(b"\r\n", b"\r\r\n", 1),
        head[:-4] + b"\r\nx: a\rb\r\n\r\n",
        head[:-4] + b"\r\nx: a\0b\r\n\r\n",
    ):
        refused(front, wire + put.body)


@pytest.mark.parametrize(
    "line",
    [
        "{method} {target}",
        "{method}  {target} HTTP/1.1",
        "{method} {target}  HTTP/1.1",
        " {method} {target} HTTP/1.1",
        "{method}\t{target}\tHTTP/1.1",
        "{method} {target} HTTP/1.1 ",
        "{method} {target} HTTP/1.1 HTTP/1.1",
        "{method} {target} http/1.1",
        "{method} {target} HTTP/01.1",
        "{method} {target} x HTTP/1.1",
        "{method} {target}\xe9 HTTP/1.1",
        "{method} anna HTTP/1.1",
        "{method} * HTTP/1.1",
        "p{method} {target} HTTP/1.1",
    ],
)
def test_a_malformed_request_line(front: Front, put: Call, line: str) -> None:
    rest = put.wire().partition(b"\r\n")[2]
    first = line.format(method=put.method, target=put.target).encode("latin-1")
    with front.line() as connection:
        connection.send(first + b"\r\n" + rest)
        assert connection.answer().status in (400, 405)
        connection.done_sending()
        assert connection.ended()
    assert front.stored(put.target) == b"before"


@pytest.mark.parametrize(
    "form",
    [
        "http://elsewhere{target}",
        "http://{host}.elsewhere{target}",
        "http://user@{host}{target}",
        "http://127.0.0.1{target}",
        "https://elsewhere:443{target}",
        "ftp://{host}{target}",
    ],
)
def test_absolute_form_naming_another_host(front: Front, target: str, form: str) -> None:
    call = front.anna.call("GET", target)
    wire = replace(call, target=form.format(host=front.host, target=target)).wire()
    assert b"before" not in refused(front, wire).body


def test_absolute_form_cannot_move_a_request_to_another_bucket(front: Front, target: str) -> None:
    """The authority is no path: what is signed is what is read."""
    call = front.anna.call("GET", target)
    same = replace(call, target=f"http://{front.host}{target}")
    assert front.ask(same).body == b"before"
    moved = replace(call, target=f"http://{front.host}/common{target}")
    assert front.ask(moved).said == (403, "SignatureDoesNotMatch")


def test_a_header_of_9_kb(front: Front, put: Call) -> None:
    refused(front, with_lines(put, f"x-long: {MARK}{'x' * 9000}"))
    refused(front, with_lines(put, *(f"x-amz-meta-{n}: {MARK}{'x' * 900}" for n in range(30))))
    assert MARK.encode() not in front.logs()


def test_500_headers(front: Front, put: Call) -> None:
    refused(front, with_lines(put, *(f"x-{n}: {MARK}" for n in range(500))))
    assert MARK.encode() not in front.logs()


def test_a_target_of_9_kb(front: Front) -> None:
    refused(front, front.anna.call("GET", f"/anna/k?x={MARK}{'x' * 9000}").wire())
    assert MARK.encode() not in front.logs()


def test_nothing_malformed_is_logged_or_repeated(front: Front, put: Call) -> None:
    for wire in (
        with_lines(put, f"x {MARK}: 1"),
        b"GET /" + MARK.encode() + b" HTTP/9.9.9\r\n\r\n",
        MARK.upper().encode() + b" / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ):
        assert MARK.encode() not in refused(front, wire).body.lower()
    assert MARK.encode() not in front.logs().lower()
