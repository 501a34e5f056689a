"""What a handler sees of one request: its head, its raw body, and the ways to answer. `connection.py` implements
it on a socket; handlers and use cases know only this protocol, so they can be driven without one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class RequestHead:
    """One parsed request head. All text is latin-1, so `.encode("latin-1")` gives the wire bytes back.

    target   the request target as sent, origin-form: raw path, `?`, raw query
    headers  names in lower case; repeated harmless headers joined with `,`, repeated critical ones refused
    length   Content-Length, 0 without a body, None with Transfer-Encoding: chunked
    """

    method: str
    target: str
    headers: dict[str, str]
    length: int | None
    keep_alive: bool

    @property
    def raw_path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def raw_query(self) -> str:
        return self.target.partition("?")[2]


class FileSlice(Protocol):
    """A place that bytes can be sent from without passing through Python: an open, immutable-below-the-watermark
    file. `resident` says, without touching the disk, whether [offset, offset+length) is in the page cache;
    `populate` blocks until it is (run in a thread)."""

    fd: int

    def resident(self, offset: int, length: int) -> bool: ...

    def populate(self, offset: int, length: int) -> None: ...


class Exchange(Protocol):
    """One request and its one answer. Every method raises `ConnectionResetError` once the client has gone.

    Bounds: `send` returns when at most 64 KiB wait in user space for this client; `body` is read only as it is
    consumed (the socket is paused beyond 256 KiB)."""

    head: RequestHead
    request_id: str
    peer: str
    secure: bool
    started: bool  # the status line has been sent: an error can now only cut the connection

    def body(self) -> AsyncIterator[bytes]:
        """The raw body: Transfer-Encoding removed, aws-chunked framing still on. Sends `100 Continue` at the
        first read if the client asked for it, so never before authentication. Raises `S3Error`: IncompleteBody when
        the client ends short, RequestTimeout when it is slower than the floor."""
        ...

    async def respond(self, status: int, headers: Sequence[tuple[str, str]], body: bytes = b"") -> None:
        """The whole answer at once. Adds Date, Content-Length (a HEAD's comes in `headers`), x-amz-request-id,
        x-gateway-node."""
        ...

    async def start(self, status: int, headers: Sequence[tuple[str, str]], length: int | None) -> None:
        """The head of a streamed answer; `length=None` sends Transfer-Encoding: chunked."""
        ...

    async def send(self, data: bytes | memoryview) -> None: ...

    async def send_file(self, source: FileSlice, offset: int, length: int) -> None:
        """os.sendfile where it can (plain TCP), copies in bounded pieces elsewhere; page-cold bytes are read in a
        thread first."""
        ...

    async def finish(self) -> None:
        """Ends the answer; the connection then takes the next request."""
        ...

    def abort(self) -> None:
        """Cuts the connection: the only honest way to end an answer that cannot be completed."""
        ...
