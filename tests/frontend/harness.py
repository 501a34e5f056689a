"""A tiny application behind a real listener on uvloop, in a thread; tests are plain blocking sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from gateway.config.schema import Limits, Listen
from gateway.frontend.exchange import Exchange, HotConnection, RequestHead
from gateway.frontend.server import Server, serve
from gateway.s3.errors import S3Error, error_xml
from gateway.telemetry.requests import RequestRecord
from tests.processes import wait_for

T = TypeVar("T")
TIMEOUT_S = 10.0
H = b"Host: localhost\r\n"
LAST = H + b"Connection: close\r\n"


class File:
    """A FileSlice whose residency the test decides."""

    def __init__(self, path: Path, *, cold: bool = False) -> None:
        self.fd = os.open(path, os.O_RDONLY)
        self.cold = cold
        self.populated: list[tuple[int, int, str]] = []

    def resident(self, offset: int, length: int) -> bool:
        return not self.cold

    def populate(self, offset: int, length: int) -> None:
        self.populated.append((offset, length, threading.current_thread().name))

    def close(self) -> None:
        os.close(self.fd)


class Tiny:
    """What it does is in the target: /hot and /hotfile are answered in the read callback."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.seen: list[tuple[str, str, bytes]] = []
        self.records: list[RequestRecord] = []
        self.events: list[str] = []
        self.errors: list[BaseException] = []
        self.gate = asyncio.Event()
        self.answered: Callable[[], None] = lambda: (
            None
        )  # called when an answer waits for the end of the turn

    def hot(self, connection: HotConnection, head: RequestHead) -> bool:
        name = head.target.partition("?")[0]
        record = connection.record
        record.status = 200
        start = b"HTTP/1.1 200 OK\r\n%b%b\r\n" % (connection.base_headers, record.request_id.encode())
        if name == "/hot":
            self.seen.append((head.method, head.target, b""))
            body = head.target.encode()
            connection.answer(b"%bContent-Length: %d\r\n\r\n%b" % (start, len(body), body), len(body))
        elif name == "/hotfile":
            size = os.fstat(self.files["data"].fd).st_size
            half = size // 2
            slices = [(self.files["data"], 0, half), (self.files["data"], half, size - half)]
            connection.answer_files(b"%bContent-Length: %d\r\n\r\n" % (start, size), slices)
        elif name == "/hotone":
            connection.answer_files(start + b"Content-Length: 1000\r\n\r\n", [(self.files["data"], 0, 1000)])
        elif name == "/hotshort":
            connection.answer_files(start + b"Content-Length: 1000\r\n\r\n", [(self.files["short"], 0, 1000)])
        elif name == "/hotbug":
            raise ZeroDivisionError("a secret text")
        else:
            return False
        self.answered()
        return True

    async def handle(self, exchange: Exchange) -> None:
        name = exchange.head.target.partition("?")[0].strip("/").partition("/")[0].replace("-", "_")
        self.events.append(f"begin {name}")
        try:
            await getattr(self, f"do_{name}", self.do_echo)(exchange)
        except S3Error as error:
            self.errors.append(error)
            await exchange.respond(error.status, [], error_xml(error, "", exchange.request_id))
        except BaseException as error:
            self.errors.append(error)
            raise
        finally:
            self.events.append(f"end {name}")

    async def do_echo(self, exchange: Exchange) -> None:
        body = b"".join([piece async for piece in exchange.body()])
        self.seen.append((exchange.head.method, exchange.head.target, body))
        await exchange.respond(200, [("x-target", exchange.head.target)], body)

    async def do_count(self, exchange: Exchange) -> None:
        count = 0
        async for piece in exchange.body():
            count += len(piece)
        await exchange.respond(200, [], str(count).encode())

    async def do_deny(self, exchange: Exchange) -> None:
        await exchange.respond(403, [], b"denied")

    async def do_wait(self, exchange: Exchange) -> None:
        await self.gate.wait()
        await exchange.respond(200, [], b"waited")

    async def do_stall(self, exchange: Exchange) -> None:
        """Sends without an end, and notices that nobody reads."""
        await exchange.start(200, [], None)
        while True:
            await exchange.send(bytes(1 << 20))

    async def do_stream(self, exchange: Exchange) -> None:
        await exchange.start(200, [], None)
        for piece in (b"one", b"", memoryview(b"two"), bytes(300_000)):
            await exchange.send(piece)
        await exchange.finish()

    async def do_file(self, exchange: Exchange) -> None:
        size = os.fstat(self.files["data"].fd).st_size
        exchange.record.outcome = "hit"
        await exchange.start(200, [], size)
        await exchange.send_file(self.files["data"], 0, size)
        await exchange.finish()

    async def do_fileparts(self, exchange: Exchange) -> None:
        await exchange.start(200, [], None)
        await exchange.send_file(self.files["data"], 5, 100_000)
        await exchange.send(b"end")
        await exchange.finish()

    async def do_short(self, exchange: Exchange) -> None:
        await exchange.start(200, [], 1000)
        await exchange.send_file(self.files["short"], 0, 1000)
        await exchange.finish()

    async def do_less(self, exchange: Exchange) -> None:
        await exchange.start(200, [], 1000)
        await exchange.send(b"less")
        await exchange.finish()

    async def do_bug(self, exchange: Exchange) -> None:
        raise ZeroDivisionError("a secret text")

    async def do_late_bug(self, exchange: Exchange) -> None:
        await exchange.start(200, [], 1000)
        await exchange.send(b"begun")
        raise ZeroDivisionError("a secret text")

    async def do_nothing(self, exchange: Exchange) -> None:
        pass

    async def do_injected(self, exchange: Exchange) -> None:
        await exchange.respond(200, [("x-a", "b\r\nx-evil: 1")], b"")

    def refuse(self, error: S3Error, record: RequestRecord) -> tuple[int, list[tuple[str, str]], bytes]:
        record.error = error.code
        return error.status, [("Content-Type", "application/xml")], error_xml(error, "", record.request_id)

    def finished(self, record: RequestRecord) -> None:
        self.records.append(record)


class Door:
    """A running server. `call` runs a coroutine in its loop."""

    def __init__(self, limits: Limits, listen: Listen, stall_s_max: float) -> None:
        self.app: Tiny
        self.server: Server
        self.loop: asyncio.AbstractEventLoop
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(limits, listen, stall_s_max), name="door")
        self._thread.start()
        self._ready.result(TIMEOUT_S)
        self.port = self.server.addresses[0][1]

    def _run(self, limits: Limits, listen: Listen, stall_s_max: float) -> None:
        try:
            uvloop.run(self._serve(limits, listen, stall_s_max))
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self, limits: Limits, listen: Listen, stall_s_max: float) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.app = Tiny()
        self.server = await serve(self.app, listen, limits, "gw-0", stall_s_max=stall_s_max)
        self._ready.set_result(None)
        await self._stop.wait()
        await self.server.close()

    def call(self, coro: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coro, self.loop).result(TIMEOUT_S)

    def open_gate(self) -> None:
        self.loop.call_soon_threadsafe(self.app.gate.set)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(TIMEOUT_S)
        for file in self.app.files.values():
            file.close()

    def connect(self) -> Client:
        return Client(socket.create_connection(("127.0.0.1", self.port), TIMEOUT_S))

    def ask(self, request: bytes) -> bytes:
        """Everything until the server closes."""
        with self.connect() as client:
            client.send(request)
            return client.rest()

    def waits_for(self, event: str) -> None:
        wait_for(event, lambda: event in self.app.events)

    def finished(self, count: int) -> list[RequestRecord]:
        """The records of exactly so many requests. A client may see its answer before its record is done."""
        wait_for(f"{count} requests have ended", lambda: len(self.app.records) >= count)
        assert len(self.app.records) == count
        return self.app.records

    def anonymous_bytes(self) -> int:
        """Of this process, which the server is a part of."""
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) << 10
        raise AssertionError("no RssAnon")

    def empty(self) -> None:
        wait_for("no connection is left", lambda: self.server.connections == 0)


class Client:
    """A raw socket that can read answers."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._held = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def rest(self) -> bytes:
        """Until the server closes. ConnectionResetError if it does so rudely."""
        while piece := self.sock.recv(1 << 20):
            self._held += piece
        held, self._held = self._held, b""
        return held

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer with a Content-Length."""
        while b"\r\n\r\n" not in self._held:
            self._more()
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
        size = int(headers.get("content-length", "0"))
        while len(self._held) < size:
            self._more()
        body, self._held = self._held[:size], self._held[size:]
        return int(lines[0].split(" ")[1]), headers, body

    def _more(self) -> None:
        piece = self.sock.recv(1 << 20)
        if not piece:
            raise EOFError(f"closed after {self._held!r}")
        self._held += piece

    def nothing_comes(self, seconds: float = 0.2) -> bool:
        """Neither bytes nor the end."""
        self.sock.settimeout(seconds)
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return not self._held
        else:
            return False
        finally:
            self.sock.settimeout(TIMEOUT_S)


@contextlib.contextmanager
def door(
    limits: Limits | None = None, listen: Listen | None = None, stall_s_max: float = 60.0
) -> Iterator[Door]:
    opened = Door(limits or Limits(), listen or Listen(s3="127.0.0.1:0"), stall_s_max)
    try:
        yield opened
    finally:
        opened.close()


def secure(sock: socket.socket, cert: str) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=cert)
    context.set_alpn_protocols(["http/1.1"])
    return context.wrap_socket(sock, server_hostname="localhost")
