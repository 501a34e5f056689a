"""Answers: whole and in the right frame, from memory or files, and cut rather than wrong."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from gateway.frontend.sending import Sending
from tests.frontend import harness
from tests.frontend.harness import LAST, Client, Door, File, H
from tests.processes import wait_for


def get(target: bytes, method: bytes = b"GET", headers: bytes = H) -> bytes:
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, headers)


def reset(client: Client) -> None:
    """Goes as a killed process does that had something unread."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.sock.close()


@pytest.mark.parametrize("target", [b"/hotfile", b"/file"])
@pytest.mark.parametrize("cold", [False, True])
def test_a_file_is_sent_whole_and_read_in_a_thread_when_cold(
    door: Door, data: bytes, target: bytes, cold: bool
) -> None:
    file = door.app.files["data"]
    file.cold = cold
    with door.connect() as client:
        for _ in range(3):
            client.send(get(target))
            status, headers, body = client.answer()
            assert status == 200
            assert body == data
            assert headers["x-gateway-node"] == "gw-0"
            assert "date" in headers
        client.send(get(b"/hot"))
        assert client.answer()[2] == b"/hot"
    assert [record.sent for record in door.finished(4)[:3]] == [len(data)] * 3
    assert bool(file.populated) == cold
    assert all(thread.startswith("sendfile") and length <= 1 << 20 for _, length, thread in file.populated)


def test_an_exchange_names_request_node_and_outcome(door: Door, data: bytes) -> None:
    with door.connect() as client:
        client.send(get(b"/file"))
        _, headers, _ = client.answer()
    (record,) = door.finished(1)
    assert headers["x-amz-request-id"] == record.request_id
    assert len(record.request_id) == 16
    assert headers["x-gateway-cache"] == "hit"
    assert (record.method, record.target, record.status) == ("GET", "/file", 200)
    assert record.peer.startswith("127.0.0.1:")


def test_request_ids_differ(door: Door) -> None:
    with door.connect() as client:
        for _ in range(50):
            client.send(get(b"/hot"))
            client.answer()
    assert len({record.request_id for record in door.finished(50)}) == 50


def test_pieces_and_files_may_be_chunked(door: Door, data: bytes) -> None:
    said = door.ask(get(b"/stream", headers=LAST)).partition(b"\r\n\r\n")[2]
    assert said == b"3\r\none\r\n3\r\ntwo\r\n493e0\r\n" + bytes(300_000) + b"\r\n0\r\n\r\n"
    said = door.ask(get(b"/fileparts", headers=LAST)).partition(b"\r\n\r\n")[2]
    assert said == b"186a0\r\n" + data[5:100_005] + b"\r\n3\r\nend\r\n0\r\n\r\n"


@pytest.mark.parametrize("target", [b"/echo", b"/file", b"/stream", b"/deny"])
def test_a_head_request_has_no_body(door: Door, data: bytes, target: bytes) -> None:
    with door.connect() as client:
        client.send(get(target, b"HEAD"))
        client.send(get(b"/hot"))
        held = client.sock.recv(10_000)
        while b"/hot" not in held:
            held += client.sock.recv(10_000)
    first, second, body = held.split(b"\r\n\r\n")
    assert second.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"/hot"
    assert (b"Content-Length: 5000000" in first) == (target == b"/file")
    assert (b"Content-Length: 6" in first) == (target == b"/deny")
    assert door.finished(2)[0].sent == 0


@pytest.mark.parametrize("target", [b"/short", b"/hotshort"])
def test_a_file_that_is_too_short_cuts_the_connection(door: Door, tmp_path: Path, target: bytes) -> None:
    (tmp_path / "short").write_bytes(b"x" * 100)
    door.app.files["short"] = File(tmp_path / "short")
    said = door.ask(get(target))
    assert said.partition(b"\r\n\r\n")[2] == b"x" * 100
    (record,) = door.finished(1)
    assert record.status == 200
    assert record.error


@pytest.mark.parametrize("target", [b"/less", b"/late-bug"])
def test_an_answer_that_cannot_be_completed_is_cut(door: Door, target: bytes) -> None:
    said = door.ask(get(target))
    assert said.partition(b"\r\n\r\n")[2] in (b"less", b"begun")
    door.empty()
    door.finished(1)


@pytest.mark.parametrize("target", [b"/bug", b"/nothing", b"/injected"])
def test_a_failing_handler_is_an_internal_error(door: Door, target: bytes) -> None:
    with door.connect() as client:
        client.send(get(target))
        status, headers, body = client.answer()
        assert status == 500
        assert b"<Code>InternalError</Code>" in body
        assert b"secret" not in body
        assert "x-evil" not in headers
        client.send(get(b"/hot"))
        assert client.answer()[0] == 200
    assert door.finished(2)[0].error == "InternalError"


def test_a_failing_hot_path_cuts_one_connection_only(door: Door) -> None:
    with door.connect() as other:
        assert door.ask(get(b"/hotbug")) == b""
        assert door.finished(1)[0].error
        other.send(get(b"/hot"))
        assert other.answer()[0] == 200


def test_a_client_that_goes_cancels_a_handler_that_waits_for_something_else(door: Door) -> None:
    with door.connect() as client:
        client.send(get(b"/wait"))
        door.waits_for("begin wait")
        reset(client)
    door.waits_for("end wait")
    assert type(door.app.errors[0]).__name__ == "CancelledError"
    door.empty()
    (record,) = door.finished(1)
    assert record.error == "ClientGone"


@pytest.mark.parametrize("target", [b"/stall", b"/file"])
def test_a_client_that_goes_in_the_middle_of_an_answer_ends_its_handler(
    door: Door, data: bytes, target: bytes
) -> None:
    with door.connect() as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(get(target))
        client.sock.recv(1)
        reset(client)
    door.waits_for("end " + target.decode().strip("/"))
    door.empty()
    door.finished(1)


def test_a_client_that_reads_nothing_is_cut(tmp_path: Path) -> None:
    with harness.door(stall_s_max=0.3) as door, door.connect() as stream, door.connect() as file:
        (tmp_path / "data").write_bytes(bytes(50_000_000))
        door.app.files["data"] = File(tmp_path / "data")
        stream.send(get(b"/stall"))
        file.send(get(b"/hotfile"))
        wait_for("both are cut", lambda: len(door.app.records) == 2)
        door.empty()
        assert {record.error for record in door.app.records} == {"ClientGone"}
        assert isinstance(door.app.errors[0], ConnectionResetError)


def test_slow_readers_of_files_hold_no_memory(door: Door, tmp_path: Path) -> None:
    with (tmp_path / "data").open("wb") as file:
        for _ in range(32):
            file.write(os.urandom(1 << 20))
    door.app.files["data"] = File(tmp_path / "data")
    before = door.anonymous_bytes()
    clients = [door.connect() for _ in range(200)]
    for number, client in enumerate(clients):
        client.send(get(b"/file" if number % 2 else b"/hotfile"))
        assert client.sock.recv(10_000)
    grown = door.anonymous_bytes() - before
    for client in clients:
        reset(client)
    door.empty()
    assert grown < 30 << 20, f"{grown >> 20} MiB for 200 slow readers"


def test_a_large_answer_from_memory_waits_for_its_reader(door: Door) -> None:
    body = os.urandom(30_000_000)
    with door.connect() as client:
        client.send(b"PUT /echo HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (H, len(body)) + body)
        assert client.answer()[2] == body
        client.send(get(b"/hot"))
        assert client.answer()[2] == b"/hot"


@pytest.mark.parametrize("target", [b"/hot", b"/hotone"])
def test_what_a_client_did_not_take_because_it_had_gone_is_not_counted(
    door: Door, data: bytes, target: bytes
) -> None:
    """Between the call that answers and the end of the turn, when the answer is sent."""
    with door.connect() as client:
        client.send(get(b"/hotone"))
        assert client.answer()[2] == data[:1000]
        door.app.answered = lambda: reset(client)
        client.send(get(target))
        first, last = door.finished(2)
    assert (first.sent, first.error) == (1000, "")
    assert (last.sent, last.error) == (0, "ClientGone")


def test_a_bug_with_one_answer_costs_nobody_else_his(
    door: Door, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(Sending, "end", fail)
    with door.connect() as client, door.connect() as other:
        # Both in one turn of the loop.
        door.app.answered = lambda: other.send(get(b"/hot")) if not door.app.seen else None
        client.send(get(b"/hotone"))
        assert other.answer()[2] == b"/hot"
        assert b"\r\n\r\n" not in client.rest().partition(b"\r\n\r\n")[2]
        other.send(get(b"/hot"))
        assert other.answer()[2] == b"/hot"
