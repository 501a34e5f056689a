"""The wire: one try of one signed request to an S3 endpoint, and its answer.

Why not aiobotocore for calls: a read of 4 KiB, 1 MiB, 8 MiB costs it 930, 1,110, 3,210 µs of CPU and this 185, 370,
2,280 (`loadtest/origin_clients.py`, two shared cores), and it retries by rules of its own. Ours is aiohttp's client
with a signer of ours (`s3_dialect.py`): paths go out exactly as they were signed (yarl keeps an encoded URL as it is),
answers are neither inflated nor redirected, proxies of the environment are not used, and nothing is sent twice behind
our back: aiohttp repeats requests on broken connections, PUT among them, but no body that calls itself consumed.

Bounds: `connections_max` requests at once (the gate of `limits.py`; a request waits before it takes a connection),
so as many connections; idle ones are kept for 10 s, less than any S3 front end is known to keep its end open, so
that few requests meet a connection that is just being closed. An open answer buffers at most 2 · `READ_BYTES` and
what one receive brings on top.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from aiohttp import ClientTimeout, DummyCookieJar, TCPConnector
from aiohttp.http import HttpProcessingError
from yarl import URL

from gateway.errors import OriginDenied, Refused, Unreachable
from gateway.origins.base import COUNTED_BYTES, Observer
from gateway.origins.budgets import fetches_data
from gateway.origins.limits import Limits
from gateway.origins.s3_body import NoBody, Upload
from gateway.origins.s3_dialect import Dialect
from gateway.origins.s3_endpoint import Endpoint
from gateway.s3.signer import EMPTY_SHA256

READ_BYTES: Final = 128 << 10
IDLE_S: Final = 10.0
CONNECT_S: Final = 10.0
# Between two arrivals of bytes: a far origin pauses for a second or two, a dead one for ever.
STALL_S_MAX: Final = 30.0
# S3's own limit is 8 KiB for all headers; other stores are less strict.
HEADER_BYTES_MAX: Final = 16 << 10

_NOT_SENT = ("Content-Type",)
_BROKEN: Final = (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError)
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,256}")


@dataclass(slots=True)
class Call:
    """One request. `query` in canonical form; `headers` in lower case, without host; `answer_s`: how long the
    origin may take to begin its answer once it has the whole request (None: the usual)."""

    op: str
    method: str
    bucket: str = ""
    key: str = ""
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    payload_hash: str = EMPTY_SHA256
    body: Upload | bytes | None = None
    answer_s: float | None = None


class Answer:
    """An answer whose head is there. `close` it: an unread body costs the connection, a read one gives it back."""

    __slots__ = ("_close", "_moved", "_received", "_response", "headers", "status")

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        headers: Mapping[str, str],
        moved: Callable[[int], None],
        close: Callable[[], None],
    ) -> None:
        """`moved`: told of bytes received; `close`: called once."""
        self.status = response.status
        self.headers = headers
        self._response = response
        self._moved = moved
        self._close: Callable[[], None] | None = close
        self._received = 0  # and not told yet

    async def piece(self) -> bytes:
        """What has come of the body, as it came; b"" at its end. Raises Unreachable when it breaks off."""
        try:
            piece, _ = await self._response.content.readchunk()
            while not piece and not self._response.content.at_eof():
                piece, _ = await self._response.content.readchunk()
        except (
            *_BROKEN,
            RuntimeError,
        ) as error:  # RuntimeError: aiohttp's word for a connection closed under a read
            raise Unreachable(f"The origin's answer broke off: {type(error).__name__}.") from error
        self._received += len(piece)
        if self._received >= COUNTED_BYTES:
            self._tell()
        return piece

    def _tell(self) -> None:
        received, self._received = self._received, 0
        if received:
            self._moved(received)

    async def read(self, bytes_max: int) -> bytes:
        """The whole body. Raises Unreachable when it is longer than `bytes_max`."""
        pieces, size = [], 0
        while piece := await self.piece():
            pieces.append(piece)
            size += len(piece)
            if size > bytes_max:
                raise Unreachable("The origin's answer is longer than any answer to this call.")
        return b"".join(pieces)

    @property
    def length(self) -> int | None:
        """Content-Length, None without one."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdigit() else None

    def close(self) -> None:
        close, self._close = self._close, None
        if close is not None:
            self._response.close()
            self._tell()
            close()


def _headers_of(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Names in lower case, values as latin-1; repeated ones joined (RFC 9110 §5.3)."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.raw_headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if not _VALUE.fullmatch(value):
            continue
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


class Wire:
    """The connections of one worker to one origin."""

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        dialect: Dialect,
        limits: Limits,
        observer: Observer,
        *,
        allow_link_local: bool = False,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """`trust`: what https certificates are checked by; None: the system's authorities."""
        self._name = name
        self._endpoint = endpoint
        self._dialect = dialect
        self._limits = limits
        self._observer = observer
        self._allow_link_local = allow_link_local
        self._trust = trust
        self._stall_s = min(limits.deadline_s, STALL_S_MAX)
        self._timeout = self._timeouts(self._stall_s)
        self._session: aiohttp.ClientSession | None = None

    @property
    def stall_s(self) -> float:
        return self._stall_s

    async def send(self, call: Call) -> Answer:
        """The answer's head, whatever its status. Raises Unreachable, OriginDenied (no credentials, a forbidden
        address), Refused (what cannot be a header), Unsupported (a header that the store has no word for), Throttled
        (not asked: too many wait), BudgetSpent (not asked), or what the body's iterator raises."""
        _check(call.headers)
        limits = self._limits
        if call.op == "get" or (call.op == "forward" and fetches_data(call.method, call.key, call.query)):
            limits.require_budget()
        keys = await self._dialect.keys()
        epoch = await limits.enter()
        try:
            host, path = self._endpoint.locate(call.bucket, call.key)
            signed = self._dialect.signed(call, host, path, keys)
            response = await self._request(call, host, path, signed)
        except BaseException as error:
            if isinstance(error, _BROKEN) and not _is_forbidden(error) and not _body_failed(call):
                limits.failed()
            self._closed(call, "error")
            raise self._translated(call, error) from error
        if response.status in (429, 503):
            limits.throttled(epoch)
        elif response.status < 500 or response.status == 501:
            limits.succeeded()
        else:
            limits.failed()
        headers = self._dialect.received(_headers_of(response))
        return Answer(response, headers, self._received, lambda: self._closed(call, str(response.status)))

    async def _request(
        self, call: Call, host: str, path: str, signed: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        target = f"{self._endpoint.scheme}://{host}{path}"
        url = URL(f"{target}?{call.query}" if call.query else target, encoded=True)
        headers = {"host": host, **self._dialect.unsigned(call)}
        for name, value in signed.items():
            headers[name] = value if value.isascii() else _utf8(value)
        if isinstance(call.body, Upload):
            headers["content-length"] = str(call.body.size)
        body = NoBody() if call.body is None and call.method == "PUT" else call.body
        return await self._open_session().request(
            call.method,
            url,
            headers=headers,
            data=body,
            skip_auto_headers=_NOT_SENT if body is not None else None,
            allow_redirects=False,
            timeout=self._timeout if call.answer_s is None else self._timeouts(call.answer_s),
        )

    def _translated(self, call: Call, error: BaseException) -> BaseException:
        if isinstance(call.body, Upload) and call.body.error is not None:
            return call.body.error
        if not isinstance(error, _BROKEN):
            return error
        if _is_forbidden(error):
            return OriginDenied(
                f"The endpoint of origin {self._name} resolves to a link-local address, where clouds hand out "
                "credentials; set allow_link_local if that is meant."
            )
        return Unreachable(f"The origin {self._name} cannot be reached: {type(error).__name__}.")

    def _received(self, count: int) -> None:
        self._observer.moved(self._name, "in", count)

    def _closed(self, call: Call, status: str) -> None:
        self._limits.leave()
        self._observer.request(self._name, call.op, status)
        sent = call.body.sent if isinstance(call.body, Upload) else len(call.body or b"")
        if sent:
            self._observer.moved(self._name, "out", sent)

    def _timeouts(self, answer_s: float) -> ClientTimeout:
        return ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=answer_s)

    def _open_session(self) -> aiohttp.ClientSession:
        """Made at the first request: it belongs to the running loop."""
        if self._session is None:
            connector = TCPConnector(
                limit=0,
                keepalive_timeout=IDLE_S,
                ssl=self._trust or True,
                socket_factory=None if self._allow_link_local else _socket_for,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                read_bufsize=READ_BYTES,
                max_line_size=HEADER_BYTES_MAX,
                max_field_size=HEADER_BYTES_MAX,
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _body_failed(call: Call) -> bool:
    """Whether it is the client's own end that failed."""
    return isinstance(call.body, Upload) and call.body.error is not None


def _check(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise Refused(400, "InvalidArgument", "A header holds what no header may hold.")


def _utf8(value: str) -> str:
    """aiohttp writes headers as UTF-8: text that makes it send exactly the latin-1 bytes that were signed."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        raise Refused(400, "InvalidArgument", "A header is not UTF-8.") from None


class ForbiddenAddress(OSError):
    """A link-local address, where clouds answer with the instance's credentials."""


def _socket_for(address: Any) -> socket.socket:
    """Called by the connector with each resolved address, before it connects."""
    family, kind, protocol, _, where = address
    if forbidden(where[0]):
        raise ForbiddenAddress("link-local address")
    return socket.socket(family, kind, protocol)


_METADATA = (
    ipaddress.ip_network("169.254.0.0/16"),
    ipaddress.ip_network("fe80::/10"),
    ipaddress.ip_network("fd00:ec2::254/128"),
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def forbidden(text: str) -> bool:
    """Whether an address is link-local or a cloud's metadata service, also in IPv6 forms of an IPv4 address."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        elif address.ipv4_mapped is not None:
            address = address.ipv4_mapped
    return any(address in network for network in _METADATA)


def _is_forbidden(error: BaseException) -> bool:
    return isinstance(getattr(error, "os_error", error), ForbiddenAddress)
