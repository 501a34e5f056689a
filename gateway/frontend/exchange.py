"""What passes between sockets and application: `Application` is what is served, `Exchange` is what a handler sees of
one request, `HotConnection` what the hot path sees. Implemented on sockets by `answering.py` and `connection.py`;
handlers and use cases know only these protocols, so they can be driven without one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Protocol

from gateway.s3.errors import S3Error
from gateway.telemetry.requests import RequestRecord

if TYPE_CHECKING:
    from gateway.frontend.shapes import Shape


class RequestHead:
    """One parsed request head. All text is latin-1, so `.encode("latin-1")` gives the wire bytes back.

    target   the request target as sent, origin-form: raw path, `?`, raw query
    headers  names in lower case; repeated harmless headers joined with `,`, repeated critical ones refused
    length   Content-Length, 0 without a body, None with Transfer-Encoding: chunked
    current  HTTP/1.1; an HTTP/1.0 client understands no chunked answer
    shape    what this head has in common with others of its client (`shapes.py`), None unless it was recognised by
             that; `values`: what it has not. Its headers are made of both when somebody asks for them.
    """

    __slots__ = ("_headers", "current", "keep_alive", "length", "method", "shape", "target", "values")

    def __init__(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | None,
        length: int | None,
        keep_alive: bool,
        current: bool = True,
        shape: Shape | None = None,
        values: tuple[bytes, ...] = (),
    ) -> None:
        self.method = method
        self.target = target
        self._headers = headers
        self.length = length
        self.keep_alive = keep_alive
        self.current = current
        self.shape = shape
        self.values = values

    @property
    def headers(self) -> dict[str, str]:
        headers = self._headers
        if headers is None:
            assert self.shape is not None
            headers = self._headers = self.shape.headers(self.values)
        return headers

    @property
    def raw_path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def raw_query(self) -> str:
        return self.target.partition("?")[2]


class FileSlice(Protocol):
    """A place that bytes can be sent from without passing through Python: an open file whose records never change.
    `resident` says, without touching the disk, whether [offset, offset+length) is in the page cache;
    `populate` blocks until it is (run in a thread)."""

    fd: int

    def resident(self, offset: int, length: int) -> bool: ...

    def populate(self, offset: int, length: int) -> None: ...


class Exchange(Protocol):
    """One request and its one answer. Every method raises `ConnectionResetError` once the client has gone; a handler
    that is waiting for something else meanwhile is cancelled, as soon as the socket tells.

    A client that has only closed its sending side still gets its answer.

    Bounds: `send` returns when nothing of it waits in user space; `body` is read from the socket only as it is
    consumed, in pieces of at most 128 KiB."""

    head: RequestHead
    record: RequestRecord  # status, sent and received are filled in here, the rest by whoever learns it
    request_id: str
    peer: str
    secure: bool
    started: bool  # an answer was begun: an error can now only cut the connection

    def body(self) -> AsyncIterator[bytes]:
        """The raw body: Transfer-Encoding removed, aws-chunked framing still on. Sends `100 Continue` at the
        first read if the client asked for it, so never before authentication. Raises `S3Error`: IncompleteBody when
        the client ends short, RequestTimeout when it is slower than the floor, BadRequest for malformed chunks.
        Every call gives the same iterator. What an answer leaves unread is discarded up to 64 KiB, beyond that the
        connection is closed after the answer."""
        ...

    async def respond(self, status: int, headers: Sequence[tuple[str, str]], body: bytes = b"") -> None:
        """The whole answer at once. Adds Date, Content-Length (a HEAD's comes in `headers`, else it is that of
        `body`, which is not sent), x-amz-request-id, x-gateway-node, x-gateway-cache if the record has an outcome."""
        ...

    async def start(self, status: int, headers: Sequence[tuple[str, str]], length: int | None) -> None:
        """The head of a streamed answer; `length=None` sends Transfer-Encoding: chunked (to HTTP/1.0 clients: until
        the connection ends). The head travels with the first bytes that are sent."""
        ...

    async def send(self, data: bytes | memoryview) -> None:
        """More than the announced length is a ValueError. Ignored for a HEAD."""
        ...

    async def send_file(self, source: FileSlice, offset: int, length: int) -> None:
        """os.sendfile where it can (plain TCP), copies in bounded pieces elsewhere; page-cold bytes are read in a
        thread first. A file that is too short cuts the connection."""
        ...

    async def finish(self) -> None:
        """Ends the answer; the connection takes its next request once the handler has returned. An answer
        shorter than announced is cut."""
        ...

    def abort(self) -> None:
        """Cuts the connection: the only honest way to end an answer that cannot be completed."""
        ...


class HotConnection(Protocol):
    """What `Application.hot` may do with a connection: exactly one answer. `record` was made for this request."""

    record: RequestRecord
    tls: bool

    @property
    def base_headers(self) -> bytes:
        """`Date` and `x-gateway-node`, as lines, and the name of `x-amz-request-id`, whose value is to follow."""
        ...

    def next_request_id(self) -> str: ...

    def answer(self, data: bytes, body_length: int) -> None:
        """The complete answer; its last `body_length` bytes are the body."""
        ...

    def answer_files(self, head: bytes, slices: Sequence[tuple[FileSlice, int, int]]) -> None:
        """`head`, then each slice (source, offset, length) by os.sendfile. Those that are not in the page cache are
        read by a thread first."""
        ...


class Application(Protocol):
    """What is served. `finished` is called once per request when its answer has ended or been cut."""

    def hot(self, connection: HotConnection, head: RequestHead) -> bool:
        """Called in the read callback for a request without a body: True if it was answered or its answer is under
        way. Never raises, never waits."""
        ...

    async def handle(self, exchange: Exchange) -> None:
        """Everything else. Owns the whole answer; cancelled when the client has gone."""
        ...

    def refuse(self, error: S3Error, record: RequestRecord) -> tuple[int, list[tuple[str, str]], bytes]:
        """The answer to a head that could not be parsed, or to a request that `handle` has failed on."""
        ...

    def finished(self, record: RequestRecord) -> None: ...
