"""The whole front door in memory: real signatures, real handlers, a real directory origin; only the socket and the
store are stood in for."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

from pydantic import SecretStr

from gateway.access.policy import Access
from gateway.aio import Tasks, Threads
from gateway.config.schema import IdentityConfig, Statement
from gateway.frontend.application import FrontDoor
from gateway.frontend.exchange import FileSlice, RequestHead
from gateway.namespace.mounts import Mount, Mounts
from gateway.namespace.rules import Rule, Rules
from gateway.objects.context import Services, View
from gateway.origins.file import FileOrigin
from gateway.s3.signer import Credentials, sign
from gateway.telemetry.requests import RequestRecord

HOST = "gw.test:9000"
REGION = "us-east-1"
SECRET = "secret-{}-0123456789"
_ids = itertools.count(1)


class MemoryExchange:
    """One request, and what was answered. `pieces`: the raw body as it comes off the socket; an exception among
    them is raised in its place."""

    def __init__(self, head: RequestHead, pieces: Iterable[bytes | Exception] = ()) -> None:
        self.head = head
        self.request_id = f"ID{next(_ids)}"
        self.peer = "192.0.2.1"
        self.secure = False
        self.started = False
        self.record = RequestRecord(self.request_id, self.peer, head.method, head.target)
        self.pieces = list(pieces)
        self.body_read = 0
        self.status = 0
        self.headers: dict[str, str] = {}
        self.sent = b""
        self.length: int | None = None
        self.ended = False
        self.aborted = False
        self.heard = asyncio.Event()  # the client has been sent something of a streamed answer
        self._body = self._pieces()

    def body(self) -> AsyncIterator[bytes]:
        return self._body

    async def _pieces(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            await asyncio.sleep(0)
            if isinstance(piece, Exception):
                raise piece
            self.body_read += len(piece)
            yield piece

    async def respond(self, status: int, headers: Sequence[tuple[str, str]], body: bytes = b"") -> None:
        await self.start(status, headers, len(body))
        self.sent = body
        self.ended = True

    async def start(self, status: int, headers: Sequence[tuple[str, str]], length: int | None) -> None:
        assert not self.started, "answered twice"
        self.started = True
        self.status, self.length = status, length
        for name, value in headers:
            assert name.lower() not in self.headers, f"{name} twice"
            assert "\r" not in value
            assert "\n" not in value
            self.headers[name.lower()] = value

    async def send(self, data: bytes | memoryview) -> None:
        assert self.started
        self.sent += data
        self.heard.set()

    async def send_file(self, source: FileSlice, offset: int, length: int) -> None:
        raise AssertionError("nothing here is cached")

    async def finish(self) -> None:
        assert self.length in (None, len(self.sent))
        self.ended = True

    def abort(self) -> None:
        self.aborted = True

    # what a test asks

    @property
    def code(self) -> str:
        """The S3 error code, empty for a success."""
        return self.text("Code") if self.status >= 400 and self.sent else ""

    @property
    def xml(self) -> ElementTree.Element:
        return ElementTree.fromstring(self.sent)

    def text(self, name: str) -> str:
        """The first element of this name, at any depth."""
        return self.texts(name)[0]

    def texts(self, name: str) -> list[str]:
        return [node.text or "" for node in self.xml.iter() if node.tag.rpartition("}")[2] == name]


class Forgetful:
    """The store as writes see it. `gate`: closed, a forget waits."""

    def __init__(self) -> None:
        self.forgotten: list[bytes] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()

    async def forget(self, key: bytes) -> None:
        self.asked.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.forgotten.append(key)


def allow(*resources: str, actions: Sequence[str] = ("s3:*",)) -> Statement:
    return Statement(actions=tuple(actions), resources=resources)


def identity(name: str, *allowed: Statement, deny: Sequence[Statement] = ()) -> IdentityConfig:
    return IdentityConfig(
        name=name,
        access_key=f"AK{name.upper()}",
        secret_key=SecretStr(SECRET.format(name)),
        allow=allowed,
        deny=tuple(deny),
    )


def credentials(name: str) -> Credentials:
    return Credentials(f"AK{name.upper()}", SECRET.format(name))


IDENTITIES = (
    identity("root", allow("*", actions=("*",))),
    identity("alice", allow("data/alice/*", "data2/*")),
    identity("bob", allow("data/bob/*")),
    identity("reader", allow("data/*", actions=("s3:GetObject", "s3:ListBucket"))),
    identity("writer", allow("data/*", actions=("s3:PutObject", "s3:DeleteObject"))),
    identity("nobody"),
)
MOUNTS = (
    Mount("data", "disk", "data"),
    Mount("data2", "disk", "data2"),
    Mount("frozen", "disk", "data", read_only=True),
    Mount("shelf", "disk", "data", remote_prefix="on/the/shelf/"),
    Mount("other", "far", "data"),
    Mount("gone", "disk", "no-such-directory"),
)


class Node:
    def __init__(self, door: FrontDoor, services: Services, store: Forgetful, directory: Path) -> None:
        self.door = door
        self.services = services
        self.store = store
        self.directory = directory

    async def call(self, method: str, path: str, **options: Any) -> MemoryExchange:
        """Signs as `root` unless told otherwise; see `signed`."""
        return await self.handle(signed(method, path, **options))

    async def handle(self, exchange: MemoryExchange) -> MemoryExchange:
        await self.door.handle(exchange)
        assert exchange.ended or exchange.aborted, "left without an answer"
        return exchange

    async def put(self, path: str, body: bytes = b"x", **options: Any) -> MemoryExchange:
        put = await self.call("PUT", path, body=body, **options)
        assert put.status == 200, put.sent
        return put

    async def get(self, path: str, **options: Any) -> bytes | None:
        got = await self.call("GET", path, **options)
        return got.sent if got.status == 200 else None

    async def tidied(self) -> None:
        """Nothing of a failed write is left lying about; the origin tidies up behind its answer."""
        for _ in range(500):
            left = [path for path in self.directory.glob("*/.gateway/tmp/**/*") if path.is_file()]
            if not left:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"left behind: {left}")


@asynccontextmanager
async def running(
    directory: Path,
    *,
    mounts: Sequence[Mount] = MOUNTS,
    identities: Sequence[IdentityConfig] = IDENTITIES,
    origins: Mapping[str, Any] | None = None,
    domain: str = "",
) -> AsyncIterator[Node]:
    """Two directory origins, `disk` and `far`; every read goes straight to its origin."""
    disks: dict[str, Any] = {}
    for name in ("disk", "far"):
        for bucket in ("data", "data2"):
            (directory / name / bucket).mkdir(parents=True)
        disks[name] = FileOrigin(name, str(directory / name), part_bytes_min=10)
    view = View(Mounts(mounts), Rules([Rule("**", cache=False)]), Access.of(identities), domain)
    store, tasks, threads = Forgetful(), Tasks(), Threads("test", 2)
    reads: Any = SimpleNamespace(count=lambda *_: None)
    services = Services(view, {**disks, **(origins or {})}, store, threads, tasks, domain, reads)
    try:
        yield Node(FrontDoor(services, lambda _: None), services, store, directory)
    finally:
        await tasks.close()
        for disk in disks.values():
            await disk.close()
        threads.close()


def signed(
    method: str,
    path: str,
    *,
    who: str = "root",
    query: str = "",
    headers: Mapping[str, str] | None = None,
    body: bytes | Sequence[bytes | Exception] = b"",
    payload: str | None = None,
    now: float | None = None,
    unsigned: Mapping[str, str] | None = None,
    host: str = HOST,
    length: int | None = -1,
) -> MemoryExchange:
    """A request as a stock client signs it. `path` and `query` are wire text, `query` in canonical form. `unsigned`
    headers are added, or changed, after signing. `length` None: Transfer-Encoding: chunked."""
    pieces = [body] if isinstance(body, bytes) else list(body)
    whole = b"".join(piece for piece in pieces if isinstance(piece, bytes))
    length = len(whole) if length == -1 else length
    sent = dict(headers or {})
    if length is not None and (method in ("PUT", "POST") or whole):
        sent["content-length"] = str(length)
    digest = hashlib.sha256(whole).hexdigest() if payload is None else payload
    at = time.time() if now is None else now
    made = sign(method, host, path, query, sent, digest, credentials(who), REGION, at)
    made = {"host": host, **made, **(unsigned or {})}
    return exchange(method, f"{path}?{query}" if query else path, made, pieces, length)


def exchange(
    method: str,
    target: str,
    headers: Mapping[str, str],
    pieces: Sequence[bytes | Exception] = (),
    length: int | None = 0,
) -> MemoryExchange:
    return MemoryExchange(RequestHead(method, target, dict(headers), length, True), pieces)
