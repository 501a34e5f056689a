"""The listener: TLS, bounds on connections, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config.schema import Limits, Listen
from tests.frontend import harness
from tests.frontend.harness import Client, Door, File, H, secure
from tests.processes import wait_for

GET_HOT = b"GET /hot HTTP/1.1\r\n" + H + b"\r\n"


@pytest.fixture(scope="module")
def cert(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=directory, check=True, capture_output=True,
    )  # fmt: skip
    return str(directory / "cert.pem")


@pytest.fixture
def tls_door(cert: str, tmp_path: Path) -> Iterator[Door]:
    listen = Listen(s3="127.0.0.1:0", tls_cert=cert, tls_key=cert.replace("cert.pem", "key.pem"))
    with harness.door(Limits(head_timeout=0.5), listen) as opened:
        (tmp_path / "data").write_bytes(os.urandom(5_000_000))
        opened.app.files["data"] = File(tmp_path / "data")
        yield opened


def tls_client(door: Door, cert: str) -> Client:
    return Client(secure(socket.create_connection(("127.0.0.1", door.port), harness.TIMEOUT_S), cert))


def test_the_same_is_served_over_tls(tls_door: Door, cert: str, tmp_path: Path) -> None:
    content = (tmp_path / "data").read_bytes()
    with tls_client(tls_door, cert) as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        assert client.sock.selected_alpn_protocol() == "http/1.1"
        for cold in (False, True):
            tls_door.app.files["data"].cold = cold
            for target in (b"/hotfile", b"/file"):
                client.send(b"GET %b HTTP/1.1\r\n%b\r\n" % (target, H))
                assert client.answer()[2] == content
        client.send(b"PUT /echo HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (H, len(content)) + content)
        assert client.answer()[2] == content
        client.send(GET_HOT * 3)
        for _ in range(3):
            assert client.answer()[2] == b"/hot"
    assert tls_door.app.files["data"].populated
    tls_door.empty()


def test_a_refused_upload_over_tls_sees_the_refusal(tls_door: Door, cert: str) -> None:
    with tls_client(tls_door, cert) as client:
        client.send(b"PUT /deny HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (H, 20 << 20))
        for _ in range(20):
            client.send(bytes(1 << 20))
        status, headers, _ = client.answer()
        assert (status, headers["connection"]) == (403, "close")
    tls_door.empty()


def test_a_slow_reader_over_tls_holds_one_piece(tls_door: Door, cert: str, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(64 << 20))
    tls_door.app.files["data"] = File(tmp_path / "large")
    before = tls_door.anonymous_bytes()
    clients = [tls_client(tls_door, cert) for _ in range(40)]
    for client in clients:
        client.send(b"GET /file HTTP/1.1\r\n" + H + b"\r\n")
        assert client.sock.recv(1)
    grown = tls_door.anonymous_bytes() - before
    for client in clients:
        client.sock.close()
    tls_door.empty()
    # A piece, OpenSSL's state, and as much again for this process's own side of it.
    assert grown < 40 * (600 << 10), f"{grown >> 10} KiB for 40 slow readers"


def test_what_is_no_tls_or_too_old_or_too_slow_is_closed(tls_door: Door, cert: str) -> None:
    with contextlib.suppress(ConnectionResetError):
        assert b"HTTP" not in tls_door.ask(GET_HOT)
    with tls_door.connect() as silent:
        assert silent.rest() == b""
    context = ssl.create_default_context(cafile=cert)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with tls_door.connect() as old, pytest.raises(ssl.SSLError):
        context.wrap_socket(old.sock, server_hostname="localhost")
    tls_door.empty()
    assert tls_door.app.records == []


def test_connections_past_the_bound_are_closed_at_once() -> None:
    with harness.door(Limits(connections=2)) as door, door.connect() as first, door.connect() as second:
        for client in (first, second):
            client.send(GET_HOT)
            assert client.answer()[0] == 200
        with door.connect() as third:
            assert third.rest() == b""
        first.sock.close()
        wait_for("one has gone", lambda: door.server.connections == 1)
        with door.connect() as fourth:
            fourth.send(GET_HOT)
            assert fourth.answer()[0] == 200


def test_every_family_of_an_empty_host_is_served() -> None:
    with harness.door(listen=Listen(s3=":0")) as door:
        families = {":" in host for host, _ in door.server.addresses}
        for host, port in door.server.addresses:
            with Client(socket.create_connection((host, port), harness.TIMEOUT_S)) as client:
                client.send(GET_HOT)
                assert client.answer()[0] == 200
        assert families == {False, True} or not socket.has_dualstack_ipv6()
        assert len({port for _, port in door.server.addresses}) == 1


def test_a_taken_port_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"), harness.door(listen=Listen(s3=f"127.0.0.1:{port}")):
            pass


def test_a_drain_lets_answers_end_and_closes_what_is_idle(door: Door) -> None:
    with door.connect() as idle, door.connect() as busy:
        idle.send(GET_HOT)
        idle.answer()
        busy.send(b"GET /wait HTTP/1.1\r\n" + H + b"\r\n")
        door.waits_for("begin wait")
        drained = asyncio.run_coroutine_threadsafe(door.server.drain(10), door.loop)
        assert idle.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            door.connect()
        door.open_gate()
        status, headers, body = busy.answer()
        assert (status, body, headers["connection"]) == (200, b"waited", "close")
        assert drained.result(10) == 0
        assert busy.rest() == b""


def test_a_drain_cuts_what_takes_too_long_and_says_how_many(door: Door) -> None:
    with door.connect() as busy:
        busy.send(b"GET /wait HTTP/1.1\r\n" + H + b"\r\n")
        door.waits_for("begin wait")
        assert door.call(door.server.drain(0.1)) == 1
        assert busy.rest() == b""
    door.waits_for("end wait")
    assert door.server.connections == 0
