"""Request bodies: framing, pace, and what happens to what nobody reads."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import socket
import time
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.schema import Limits
from gateway.frontend.body import ChunkedDecoder, LengthDecoder
from gateway.s3.errors import S3Error
from tests.frontend import harness
from tests.frontend.harness import LAST, Door, H

CHUNKED = b"PUT /echo HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n"


def put(target: bytes, length: int, more: bytes = b"") -> bytes:
    return b"PUT %b HTTP/1.1\r\n%bContent-Length: %d\r\n%b\r\n" % (target, H, length, more)


def test_a_large_body_arrives_whole_and_is_counted(door: Door) -> None:
    body = os.urandom(20_000_000)
    with door.connect() as client:
        client.send(put(b"/echo", len(body)) + body)
        status, _, echoed = client.answer()
    assert status == 200
    assert hashlib.sha256(echoed).digest() == hashlib.sha256(body).digest()
    (record,) = door.finished(1)
    assert (record.received, record.sent, record.status) == (len(body), len(body), 200)


def test_chunks_are_joined_and_the_connection_goes_on(door: Door) -> None:
    body = os.urandom(3_000_000)
    with door.connect() as client:
        client.send(CHUNKED)
        for at in range(0, len(body), 70_000):
            piece = body[at : at + 70_000]
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        client.send(b"0\r\nTrailer: ignored\r\n\r\nGET /hot HTTP/1.1\r\n" + H + b"\r\n")
        assert client.answer()[2] == body
        assert client.answer()[2] == b"/hot"


@pytest.mark.parametrize(
    "chunks",
    [
        b"+3\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b" 3\r\nabc\r\n0\r\n\r\n",
        b"3\nabc\n0\n\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"3;\x00\r\nabc\r\n0\r\n\r\n",
        b"\r\n",
        b"-1\r\n\r\n",
        b"fffffffffffffffff\r\n",
        b"ffffffffffffffff\r\n",
        b"3;" + b"x" * 20_000,
        b"3\r\nabc\r\n0\r\n" + b"X: " + b"y" * 20_000,
        b"3\r\nabc\r\n0\r\nnot a trailer\r\n\r\n",
    ],
)  # fmt: skip
def test_malformed_chunks_are_refused_and_the_connection_ends(door: Door, chunks: bytes) -> None:
    said = door.ask(CHUNKED + chunks)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"<Code>BadRequest</Code>" in said
    assert b"\r\nConnection: close\r\n" in said
    assert door.app.seen == []


def test_twenty_megabytes_of_chunk_extensions_are_refused_early(door: Door) -> None:
    with door.connect() as client:
        client.send(CHUNKED)
        chunk = b"1;%b\r\nx\r\n" % (b"e" * 4000)
        began = time.process_time()
        for _ in range(20_000_000 // len(chunk)):
            client.send(chunk)
        assert client.answer()[0] == 400
        assert time.process_time() - began < 2
    assert door.finished(1)[0].received < 100


@given(
    st.lists(
        st.tuples(st.binary(min_size=1, max_size=40), st.sampled_from([b"", b";a", b' ;a="b"'])), max_size=8
    ),
    st.data(),
)
def test_any_split_of_chunks_decodes_alike(chunks: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    wire = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece, extension in chunks)
    wire += b"0\r\n\r\nNEXT"
    decoder, decoded, fed = ChunkedDecoder(), b"", 0
    while not decoder.done:
        step = data.draw(st.integers(1, 9))
        decoded += decoder.feed(wire[fed : fed + step])
        fed += step
    assert decoded == b"".join(piece for piece, _ in chunks)
    assert b"NEXT".startswith(decoder.rest)
    assert decoder.rest + wire[fed:] == b"NEXT"


@given(st.lists(st.binary(max_size=30)))
def test_decoding_garbage_raises_nothing_but_s3_errors(pieces: list[bytes]) -> None:
    decoder = ChunkedDecoder()
    with contextlib.suppress(S3Error):
        for piece in pieces:
            if not decoder.done:
                decoder.feed(piece)


def test_a_length_is_not_exceeded() -> None:
    decoder = LengthDecoder(5)
    assert decoder.feed(b"abc") + decoder.feed(b"defgh") == b"abcde"
    assert (decoder.done, decoder.rest) == (True, b"fgh")


def test_continue_is_sent_when_the_body_is_first_read(door: Door) -> None:
    with door.connect() as client:
        client.send(put(b"/echo", 4, b"Expect: 100-continue\r\n"))
        assert client.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"body")
        assert client.answer()[2] == b"body"


def test_no_continue_is_sent_to_a_client_that_began_to_send(door: Door) -> None:
    with door.connect() as client:
        client.send(put(b"/echo", 4, b"Expect: 100-continue\r\n") + b"body")
        assert client.answer()[2] == b"body"


def test_a_refused_request_gets_no_continue_and_its_connection_ends(door: Door) -> None:
    said = door.ask(put(b"/deny", 4, b"Expect: 100-continue\r\n"))
    assert said.startswith(b"HTTP/1.1 403 ")
    assert b"100 Continue" not in said
    assert b"\r\nConnection: close\r\n" in said


def test_an_empty_body_gets_its_continue_too(door: Door) -> None:
    with door.connect() as client:
        client.send(put(b"/echo", 0, b"Expect: 100-continue\r\n"))
        assert client.answer() == (100, {}, b"")
        assert client.answer()[0] == 200


def test_a_small_body_that_is_not_read_is_skipped(door: Door) -> None:
    with door.connect() as client:
        client.send(put(b"/deny", 60_000) + bytes(100))
        assert client.answer()[0] == 403
        door.finished(1)
        client.send(bytes(59_900) + b"GET /hot HTTP/1.1\r\n" + H + b"\r\n")
        assert client.answer()[2] == b"/hot"


def test_a_client_that_sends_all_before_it_reads_still_sees_the_refusal(door: Door) -> None:
    size = 256 << 20
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=30)
    connection.connect()
    connection.sock.settimeout(30)
    connection.putrequest("PUT", "/deny")
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    piece = bytes(1 << 20)
    for _ in range(size >> 20):
        connection.send(piece)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (403, b"denied")
    assert answer.getheader("Connection") == "close"
    connection.close()
    door.empty()


def _without_expect(request: Any, **_: object) -> None:
    request.headers.pop("Expect", None)


@pytest.mark.parametrize("expects", [True, False])
def test_boto3_sees_the_refusal_of_a_large_upload(door: Door, tmp_path: Path, expects: bool) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{door.port}",
        region_name="us-east-1",
        aws_access_key_id="AK",
        aws_secret_access_key="SK",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )
    if not expects:
        s3.meta.events.register("before-send.s3.PutObject", _without_expect)
    with (tmp_path / "large").open("w+b") as body:
        body.truncate(128 << 20)
        with pytest.raises(ClientError) as caught:
            s3.put_object(Bucket="deny", Key="k", Body=body)
    s3.close()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_a_body_that_ends_short_is_an_incomplete_body(door: Door) -> None:
    with door.connect() as client:
        client.send(put(b"/echo", 10) + b"short")
        client.sock.shutdown(socket.SHUT_WR)
        said = client.rest()
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"<Code>IncompleteBody</Code>" in said
    assert door.app.seen == []


def test_a_client_that_goes_while_sending_ends_its_handler(door: Door) -> None:
    with door.connect() as client:
        client.send(put(b"/echo", 10) + b"short")
        door.waits_for("begin echo")
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    door.waits_for("end echo")
    assert isinstance(door.app.errors[0], ConnectionResetError)
    door.empty()
    door.finished(1)


def test_a_body_slower_than_the_floor_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.frontend.body.RATE_WINDOW_S", 0.4)
    with harness.door(Limits(body_rate_min=1000, head_timeout=0.4)) as door, door.connect() as client:
        client.send(put(b"/echo", 1000) + b"a")
        status, headers, body = client.answer()
        assert status == 400
        assert b"<Code>RequestTimeout</Code>" in body
        assert headers["connection"] == "close"


def test_a_slow_handler_is_not_the_clients_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.frontend.body.RATE_WINDOW_S", 0.2)
    with harness.door(Limits(body_rate_min=1000, head_timeout=0.2)) as door, door.connect() as client:
        client.send(put(b"/wait", 4) + b"body")
        assert client.nothing_comes(0.6)
        door.open_gate()
        assert client.answer()[2] == b"waited"


def test_a_fast_sender_waits_for_the_handler_in_its_own_buffers(door: Door) -> None:
    with door.connect() as client:
        client.send(put(b"/wait", 1 << 30))
        client.sock.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 64 << 20:
                sent += client.sock.send(bytes(1 << 20))
        assert sent < 64 << 20
        door.open_gate()
        client.sock.settimeout(10)
        assert client.answer()[2] == b"waited"


def test_the_last_answer_says_that_it_is(door: Door) -> None:
    said = door.ask(b"PUT /echo HTTP/1.1\r\n" + LAST + b"Content-Length: 2\r\n\r\nhi")
    assert b"\r\nConnection: close\r\n" in said
