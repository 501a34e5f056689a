"""What a request costs in the socket side of the gateway alone: no S3, no store. `python -m loadtest.front`.

A child process serves fixed bytes and files through `gateway.frontend.server`; this one drives it over loopback with
sixteen connections, always one request each, and reads the child's CPU clock. nginx serves the same files, if there
is one. Each figure is the best of several rounds: others on the machine can only add to it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import uvloop

from gateway.cache.residency import choose
from gateway.config.schema import Limits, Listen
from gateway.frontend.exchange import Exchange, HotConnection, RequestHead
from gateway.frontend.server import serve
from gateway.s3.errors import S3Error, error_xml
from gateway.telemetry.requests import RequestRecord
from loadtest.procs import HOST, Cores, cpu_ns_of, free_port, tree_of

CONNECTIONS, ROUNDS = 16, 15
SIZES = {"4 KiB": 4 << 10, "64 KiB": 64 << 10, "1 MiB": 1 << 20, "8 MiB": 8 << 20}
UPLOAD_BYTES = 64 << 20
# As long as what boto3 sends, and with its headers.
REQUEST = (
    "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:9000\r\nAccept-Encoding: identity\r\n"
    "x-amz-checksum-mode: ENABLED\r\nUser-Agent: Boto3/1.43 md/Botocore#1.43 ua/2.1 os/linux#6 lang/python#3.11\r\n"
    "X-Amz-Date: 20260101T000000Z\r\nX-Amz-Content-SHA256: "
    + hashlib.sha256().hexdigest()
    + "\r\nAuthorization: AWS4-HMAC-SHA256 "
    "Credential=AKIDEXAMPLE/20260101/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-checksum-mode;"
    "x-amz-content-sha256;x-amz-date, Signature=" + "0" * 64 + "\r\namz-sdk-invocation-id: "
    "12345678-1234-1234-1234-123456789012\r\namz-sdk-request: attempt=1\r\n{more}\r\n"
)


class File:
    """A file as the store's segments are."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY)
        self._resident = choose(path.parent)

    def resident(self, offset: int, length: int) -> bool:
        return self._resident(self.fd, offset, length)

    def populate(self, offset: int, length: int) -> None:
        os.pread(self.fd, length, offset)


class Fixed:
    """The application: `/hot/SIZE` from memory, `/file/SIZE` by sendfile, `/task/SIZE` through a handler; a PUT's
    body is counted."""

    def __init__(self, directory: Path) -> None:
        self.files = {size: File(directory / str(size)) for size in SIZES.values()}
        self.bodies = {size: bytes(size) for size in SIZES.values()}
        self.middles = {
            size: b'x-gateway-cache: hit\r\nContent-Length: %d\r\nETag: "%b"\r\n\r\n' % (size, b"e" * 32)
            for size in SIZES.values()
        }

    def hot(self, connection: HotConnection, head: RequestHead) -> bool:
        kind, _, size = head.target[1:].partition("/")
        if kind == "task":
            return False
        record = connection.record
        record.status = 200
        count = int(size)
        request_id = record.request_id.encode("ascii")
        answer = b"HTTP/1.1 200 OK\r\n%b%b\r\n%b" % (connection.base_headers, request_id, self.middles[count])
        if kind == "hot":
            connection.answer(answer + self.bodies[count], count)
        else:
            connection.answer_files(answer, [(self.files[count], 0, count)])
        return True

    async def handle(self, exchange: Exchange) -> None:
        count = 0
        async for piece in exchange.body():
            count += len(piece)
        if exchange.head.method == "PUT":
            await exchange.respond(200, [("x-bytes", str(count))])
        else:
            await exchange.respond(200, [("ETag", '"e"')], self.bodies[int(exchange.head.target[6:])])

    def refuse(self, error: S3Error, record: RequestRecord) -> tuple[int, list[tuple[str, str]], bytes]:
        return error.status, [], error_xml(error, "", record.request_id)

    def finished(self, record: RequestRecord) -> None:
        pass


async def _child(directory: Path, cert: str) -> None:
    listen = Listen(s3="127.0.0.1:0", tls_cert=cert, tls_key=cert)
    server = await serve(Fixed(directory), listen, Limits(), "gw-0")
    print(server.addresses[0][1], flush=True)
    await asyncio.Event().wait()


class Load:
    """Always one request on each connection."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self._sockets = [socket.create_connection((HOST, port)) for _ in range(CONNECTIONS)]
        for sock in self._sockets:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            self._sockets = [context.wrap_socket(sock) for sock in self._sockets]
        self._buffer = bytearray(1 << 20)

    def gets(self, target: str, size: int, count: int) -> None:
        request = REQUEST.format(method="GET", target=target, more="").encode()
        # Large answers one at a time: with all of them on their way the sockets' buffers would be what is measured.
        active = self._sockets if size <= 64 << 10 else self._sockets[:1]
        for _ in range(count // len(active)):
            for sock in active:
                sock.sendall(request)
            for sock in active:
                self._answer(sock, size)

    def _answer(self, sock: socket.socket, size: int) -> None:
        count = sock.recv_into(self._buffer)
        end = self._buffer.find(b"\r\n\r\n", 0, count)
        if end < 0 or not self._buffer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(bytes(self._buffer[:count]))
        count -= end + 4
        while count < size:
            more = sock.recv_into(self._buffer)
            if not more:
                raise RuntimeError("the answer was cut")
            count += more

    def put(self, size: int, more: str) -> None:
        sock = self._sockets[0]
        head = REQUEST.format(method="PUT", target="/put", more=f"Content-Length: {size}\r\n{more}")
        sock.sendall(head.encode())
        piece = bytes(1 << 20)
        for _ in range(size >> 20):
            sock.sendall(piece)
        self._answer(sock, 0)

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


def microseconds(pids: list[int], work: Callable[[], None], per: float) -> float:
    """CPU of the processes for one `work`, at its best."""
    work()
    best = float("inf")
    for _ in range(ROUNDS):
        before = sum(map(cpu_ns_of, pids))
        work()
        best = min(best, (sum(map(cpu_ns_of, pids)) - before) / 1000 / per)
    return best


@contextlib.contextmanager
def _gateway(directory: Path, cores: Cores, cert: str = "") -> Iterator[tuple[int, list[int]]]:
    argv = [sys.executable, "-m", "loadtest.front", "--child", str(directory), "--cert", cert]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        os.sched_setaffinity(process.pid, cores.server)
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), [process.pid]
        finally:
            process.kill()


@contextlib.contextmanager
def _nginx(directory: Path, cores: Cores) -> Iterator[tuple[int, list[int]]]:
    port = free_port()
    config = directory / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/error.log;\n"
        "events { worker_connections 256; }\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n"
        f"  server {{ listen {HOST}:{port}; location /file/ {{ alias {directory}/; }} }} }}\n"
    )
    directory.chmod(0o755)
    with subprocess.Popen(["nginx", "-c", str(config)], stderr=subprocess.DEVNULL) as process:
        try:
            while socket.socket().connect_ex((HOST, port)):
                if process.poll() is not None:
                    raise RuntimeError((directory / "error.log").read_text())
            pids = tree_of(process.pid)
            for pid in pids:
                os.sched_setaffinity(pid, cores.server)
            yield port, pids
        finally:
            process.terminate()
            process.wait()


def _measure_gets(
    port: int, pids: list[int], kind: str, context: ssl.SSLContext | None = None
) -> dict[str, float]:
    load = Load(port, context)
    found = {}
    for name, size in SIZES.items():
        count = max(16, min(3200, (64 << 20) // size // 16 * 16))

        def work(size: int = size, count: int = count) -> None:
            load.gets(f"/{kind}/{size}", size, count)

        found[name] = microseconds(pids, work, count)
    load.close()
    return found


def _print(name: str, row: dict[str, float], base: dict[str, float]) -> None:
    cells = (f"{row[size]:8.1f}" + (f" ({row[size] / base[size]:4.2f})" if base else "") for size in row)
    print(f"{name:26}", "  ".join(cells), flush=True)


def _self_signed(directory: Path) -> str:
    path = directory / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", str(path), "-out", str(directory / "only.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + (directory / "only.pem").read_text())
    return str(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cert", default="", help=argparse.SUPPRESS)
    parser.add_argument("--tls", action="store_true", help="also over TLS")
    arguments = parser.parse_args()
    if arguments.child:
        uvloop.run(_child(arguments.child, arguments.cert))
        return
    cores = Cores.split()
    os.sched_setaffinity(0, cores.load)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for size in SIZES.values():
            (directory / str(size)).write_bytes(os.urandom(size))
        print(f"{'CPU µs a request':26}", "  ".join(f"{size:>8}" for size in SIZES), " (of nginx)")
        base: dict[str, float] = {}
        with contextlib.suppress(FileNotFoundError), _nginx(directory, cores) as (port, pids):
            base = _measure_gets(port, pids, "file")
            _print("nginx, static", base, {})
        with _gateway(directory, cores) as (port, pids):
            for kind, title in (
                ("hot", "bytes, joined"),
                ("file", "sendfile"),
                ("task", "bytes, by a handler"),
            ):
                _print(title, _measure_gets(port, pids, kind), base)
            load = Load(port)
            cost = microseconds(pids, lambda: load.put(UPLOAD_BYTES, ""), UPLOAD_BYTES >> 20)
            print(f"{'upload, µs/MiB':26} {cost:8.1f}")
        if arguments.tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with _gateway(directory, cores, _self_signed(directory)) as (port, pids):
                _print("TLS, bytes", _measure_gets(port, pids, "hot", context), base)
                _print("TLS, files", _measure_gets(port, pids, "file", context), base)
                secure = Load(port, context)
                cost = microseconds(pids, lambda: secure.put(UPLOAD_BYTES, ""), UPLOAD_BYTES >> 20)
                print(f"{'TLS upload, µs/MiB':26} {cost:8.1f}")


if __name__ == "__main__":
    main()
