"""The wire: one try of one signed request to an S3 endpoint, and its answer.

Why not aiobotocore for calls: a read of 4 KiB, 1 MiB, 8 MiB costs it 930, 1,110, 3,210 µs of CPU and this 185, 370,
2,280 (`loadtest/origin_clients.py`, two shared cores), and it retries by rules of its own. Ours is aiohttp's client
with the signer of `s3/signer.py`: paths go out exactly as they were signed (yarl keeps an encoded URL as it is),
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
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from aiohttp import ClientTimeout, DummyCookieJar, TCPConnector
from aiohttp.http import HttpProcessingError
from yarl import URL

from gateway.errors import OriginDenied, Refused, Unreachable
from gateway.origins.base import Observer
from gateway.origins.limits import Limits
from gateway.origins.s3_body import NoBody, Upload
from gateway.origins.s3_credentials import CredentialSource
from gateway.origins.s3_endpoint import Endpoint
from gateway.s3.signer import EMPTY_SHA256, sign

READ_BYTES: Final = 128 << 10
IDLE_S: Final = 10.0
CONNECT_S: Final = 10.0
# Between two arrivals of bytes: a far origin pauses for a second or two, a dead one for ever.
STALL_S_MAX: Final = 30.0
# S3's own limit is 8 KiB for all headers; other stores are less strict.
HEADER_BYTES_MAX: Final = 16 << 10

# Sent and not signed: proxies may change them. `identity`: an object is read as it is stored.
_FIXED = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "s3-training-gateway"}
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

    __slots__ = ("_close", "_received", "_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, close: Any) -> None:
        self.status = response.status
        self.headers = _headers_of(response)
        self._response = response
        self._close = close
        self._received = 0

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
        return piece

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
            close(self._received)


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
        region: str,
        credentials: CredentialSource,
        limits: Limits,
        observer: Observer,
        *,
        allow_link_local: bool = False,
    ) -> None:
        self._name = name
        self._endpoint = endpoint
        self._region = region
        self._credentials = credentials
        self._limits = limits
        self._observer = observer
        self._allow_link_local = allow_link_local
        self._stall_s = min(limits.deadline_s, STALL_S_MAX)
        self._timeout = self._timeouts(self._stall_s)
        self._session: aiohttp.ClientSession | None = None

    @property
    def stall_s(self) -> float:
        return self._stall_s

    async def send(self, call: Call) -> Answer:
        """The answer's head, whatever its status. Raises Unreachable, OriginDenied (no credentials, a forbidden
        address), Refused (what cannot be a header), or what the body's iterator raises."""
        headers = self._checked(call.headers)
        credentials = await self._credentials.get()
        gate = self._limits.gate
        epoch = await gate.enter()
        try:
            host, path = self._endpoint.locate(call.bucket, call.key)
            signed = sign(
                call.method,
                host,
                path,
                call.query,
                headers,
                call.payload_hash,
                credentials,
                self._region,
                time.time(),
            )
            response = await self._request(call, host, path, signed)
        except BaseException as error:
            gate.leave()
            self._report(call, "error", 0)
            raise self._translated(call, error) from error
        if response.status in (429, 503):
            gate.aimd.throttled(epoch)
        elif response.status < 500:
            gate.aimd.succeeded()
        return Answer(response, lambda received: self._closed(call, str(response.status), received))

    async def _request(
        self, call: Call, host: str, path: str, signed: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        target = f"{self._endpoint.scheme}://{host}{path}"
        url = URL(f"{target}?{call.query}" if call.query else target, encoded=True)
        headers = {"host": host, **_FIXED}
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

    def _checked(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in headers.items():
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise Refused(400, "InvalidArgument", "A header holds what no header may hold.")
        return headers

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

    def _closed(self, call: Call, status: str, received: int) -> None:
        self._limits.gate.leave()
        self._report(call, status, received)

    def _report(self, call: Call, status: str, received: int) -> None:
        self._observer.request(self._name, call.op, status)
        if received:
            self._observer.moved(self._name, "in", received)
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
