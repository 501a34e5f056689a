"""What comes over the wire is one request or none: nothing that two readers could read differently is served."""

from __future__ import annotations

import contextlib
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config.schema import Limits
from gateway.frontend.exchange import RequestHead
from gateway.frontend.head import hopeless, parse_head
from gateway.s3.errors import S3Error
from tests.frontend import harness
from tests.frontend.harness import LAST, Door, H

MALFORMED = {
    "length and chunked": b"PUT /k HTTP/1.1\r\n"
    + H
    + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two lengths": b"PUT /k HTTP/1.1\r\n" + H + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "list of lengths": b"PUT /k HTTP/1.1\r\n" + H + b"Content-Length: 3, 3\r\n\r\nabc",
    "two hosts": b"GET /k HTTP/1.1\r\n" + H + b"Host: localhost\r\n\r\n",
    "no host": b"GET /k HTTP/1.1\r\n\r\n",
    "hostile host": b"GET /k HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "folded": b"GET /k HTTP/1.1\r\n" + H + b"X-A: 1\r\n folded\r\n\r\n",
    "bare LF": b"GET /k HTTP/1.1\n" + H + b"\r\n",
    "bare LF at the end": b"GET /k HTTP/1.1\r\n" + H + b"\n",
    "bare CR": b"GET /k HTTP/1.1\r\n" + H + b"X-A: 1\rX-B: 2\r\n\r\n",
    "NUL": b"GET /k HTTP/1.1\r\n" + H + b"X-A: 1\x00\r\n\r\n",
    "plus": b"PUT /k HTTP/1.1\r\n" + H + b"Content-Length: +3\r\n\r\nabc",
    "minus": b"PUT /k HTTP/1.1\r\n" + H + b"Content-Length: -3\r\n\r\n",
    "hex length": b"PUT /k HTTP/1.1\r\n" + H + b"Content-Length: 0x3\r\n\r\nabc",
    "blank before the colon": b"PUT /k HTTP/1.1\r\n" + H + b"Content-Length : 3\r\n\r\nabc",
    "chunked, oddly": b"PUT /k HTTP/1.1\r\n" + H + b"Transfer-Encoding: xchunked\r\n\r\n",
    "chunked twice": b"PUT /k HTTP/1.1\r\n"
    + H
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked by 1.0": b"PUT /k HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n",
    "another host in the target": b"GET http://evil/k HTTP/1.1\r\n" + H + b"\r\n",
    "no path": b"GET k HTTP/1.1\r\n" + H + b"\r\n",
    "blank in the target": b"GET /k k HTTP/1.1\r\n" + H + b"\r\n",
    "TLS on the plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "9 kB header": b"GET /k HTTP/1.1\r\n" + H + b"X-A: " + b"secret" * 1500 + b"\r\n\r\n",
    "500 headers": b"GET /k HTTP/1.1\r\n" + H + b"X-A: secret\r\n" * 500 + b"\r\n",
    "20 kB head": b"GET /k HTTP/1.1\r\n" + H + b"X-A: secret\r\n" * 1600,
    "two x-amz-date": b"GET /k HTTP/1.1\r\n" + H + b"x-amz-date: 1\r\nX-Amz-Date: 2\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_head_is_answered_in_xml_and_the_connection_ends(door: Door, name: str) -> None:
    said = door.ask(MALFORMED[name])
    assert said.startswith(b"HTTP/1.1 400 "), said
    assert b"\r\nConnection: close\r\n" in said
    assert b"<Error><Code>" in said
    assert b"secret" not in said
    assert door.app.seen == []
    (record,) = door.finished(1)
    assert (record.status, record.method, record.target) == (400, "-", "-")


def test_nothing_behind_a_malformed_head_is_served(door: Door) -> None:
    said = door.ask(MALFORMED["two lengths"] + b"GET /hot HTTP/1.1\r\n" + LAST + b"\r\n")
    assert said.count(b"HTTP/1.1 ") == 1
    assert door.app.seen == []


def test_only_known_methods_and_expectations_are_served(door: Door) -> None:
    assert door.ask(b"PATCH /k HTTP/1.1\r\n" + H + b"\r\n").startswith(b"HTTP/1.1 405 ")
    assert door.ask(b"GET /k HTTP/2.0\r\n" + H + b"\r\n").startswith(b"HTTP/1.1 505 ")
    assert door.ask(b"PUT /k HTTP/1.1\r\n" + H + b"Expect: tea\r\nContent-Length: 0\r\n\r\n").startswith(
        b"HTTP/1.1 417 "
    )


def test_an_absolute_target_on_the_same_host_is_its_path(door: Door) -> None:
    said = door.ask(b"GET http://localhost/echo?x HTTP/1.1\r\n" + LAST + b"\r\n")
    assert b"x-target: /echo?x\r\n" in said


def test_pipelined_requests_are_answered_in_order(door: Door) -> None:
    requests = b""
    for number in range(200):
        requests += b"GET /hot?%d HTTP/1.1\r\n%b\r\n" % (number, H)
        requests += b"PUT /echo?%d HTTP/1.1\r\n%bContent-Length: 4\r\n\r\nbody" % (number, H)
    with door.connect() as client:
        client.send(requests)
        for number in range(200):
            assert client.answer()[2] == b"/hot?%d" % number
            assert client.answer()[1]["x-target"] == f"/echo?{number}"


def test_the_next_request_is_not_looked_at_before_the_answer_has_ended(door: Door) -> None:
    with door.connect() as client:
        client.send(b"GET /wait HTTP/1.1\r\n" + H + b"\r\nGET /hot HTTP/1.1\r\n" + H + b"\r\n")
        door.waits_for("begin wait")
        # Far more than is read ahead: the rest stays in the kernel until the first answer is out.
        more = b"GET /hot HTTP/1.1\r\n" + H + b"\r\n"
        client.send(more * 2000)
        assert client.nothing_comes()
        assert door.app.seen == []
        door.open_gate()
        assert client.answer()[2] == b"waited"
        for _ in range(2001):
            assert client.answer()[2] == b"/hot"


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_close_and_http_1_0_end_the_connection_after_the_answer(door: Door, version: bytes) -> None:
    head = b"GET /stream HTTP/%b\r\n%b\r\n" % (version, LAST)
    said = door.ask(head)
    chunked = b"Transfer-Encoding: chunked" in said
    assert chunked == (version == b"1.1")
    assert b"Connection: close" in said
    if not chunked:
        assert said.partition(b"\r\n\r\n")[2] == b"onetwo" + bytes(300_000)
    door.empty()


def test_a_head_that_is_not_finished_in_time_is_cut() -> None:
    with harness.door(Limits(head_timeout=0.2)) as door, door.connect() as client:
        client.send(b"GET /hot HTTP/1.1\r\n")
        assert client.rest() == b""
        assert door.app.records == []


def test_an_idle_connection_is_closed_in_time_but_not_one_at_work() -> None:
    with harness.door(Limits(idle_timeout=0.3)) as door, door.connect() as idle, door.connect() as busy:
        busy.send(b"GET /wait HTTP/1.1\r\n" + H + b"\r\n")
        door.waits_for("begin wait")
        idle.send(b"GET /hot HTTP/1.1\r\n" + H + b"\r\n")
        assert idle.answer()[0] == 200
        assert idle.rest() == b""
        door.open_gate()
        assert busy.answer()[2] == b"waited"


def test_a_half_closed_client_gets_its_answers(door: Door) -> None:
    with door.connect() as client:
        client.send(b"GET /wait HTTP/1.1\r\n" + H + b"\r\nGET /hot HTTP/1.1\r\n" + H + b"\r\nGET /ho")
        client.sock.shutdown(socket.SHUT_WR)
        door.waits_for("begin wait")
        door.open_gate()
        assert client.rest().count(b"HTTP/1.1 200 ") == 2
    door.empty()


@settings(max_examples=300)
@given(st.binary(max_size=300) | st.text(alphabet="GET /HTP1.\r\n:aHost", max_size=200).map(str.encode))
def test_parsing_garbage_raises_nothing_but_s3_errors(raw: bytes) -> None:
    for candidate in (raw, raw + b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: h\r\n" + raw + b"\r\n\r\n"):
        with contextlib.suppress(S3Error):
            head = parse_head(candidate)
            assert isinstance(head, RequestHead)
            assert not set("\r\n\0") & set("".join(head.headers.values()) + head.target)
    if raw:
        assert hopeless(raw) is None or isinstance(hopeless(raw), S3Error)


def test_remembered_header_lines_do_not_change_what_is_read() -> None:
    for number in range(1000):
        raw = b"GET /%d HTTP/1.1\r\nHost: h%d\r\nUser-Agent: \t u%d \r\nX-B:\r\n\r\n" % (
            number,
            number,
            number,
        )
        for _ in range(2):
            head = parse_head(raw)
            assert head.headers == {"host": f"h{number}", "user-agent": f"u{number}", "x-b": ""}
    with pytest.raises(S3Error):
        parse_head(b"GET / HTTP/1.1\r\nHost: h1\r\nHost: h1\r\n\r\n")
    for _ in range(2):
        with pytest.raises(S3Error):
            parse_head(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n")


STREAM = (
    b"GET /hot?1 HTTP/1.1\r\n" + H + b"\r\n"
    b"PUT /echo?2 HTTP/1.1\r\n" + H + b"Content-Length: 11\r\n\r\nhello world"
    b"PUT /echo?3 HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n"
    b"5;ext=1\r\nhello\r\n001\r\n \r\n5\r\nworld\r\n0\r\nTrailer: x\r\n\r\n"
    b"PUT /deny?4 HTTP/1.1\r\n" + H + b"Content-Length: 5\r\n\r\nskip!"
    b"GET /hot?5 HTTP/1.1\r\n" + LAST + b"\r\n"
)  # fmt: skip
SERVED = [
    ("GET", "/hot?1", b""),
    ("PUT", "/echo?2", b"hello world"),
    ("PUT", "/echo?3", b"hello world"),
    ("GET", "/hot?5", b""),
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, len(STREAM) - 1), max_size=12, unique=True).map(sorted))
def test_any_split_into_segments_gives_the_same_requests(door: Door, cuts: list[int]) -> None:
    door.app.seen.clear()
    with door.connect() as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, stop in zip([0, *cuts], [*cuts, len(STREAM)], strict=True):
            client.send(STREAM[start:stop])
        said = client.rest()
    assert said.count(b"HTTP/1.1 200 OK\r\n") == 4
    assert said.count(b"HTTP/1.1 403 Forbidden\r\n") == 1
    assert door.app.seen == SERVED
