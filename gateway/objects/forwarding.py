"""Calls that the gateway does not answer itself: re-signed and passed to the origin, so that the whole S3 API stays
within reach.

What is passed on is what the client asked for, less what belongs to this hop: its signature, its framing, its
connection. The remote bucket and key take the place of the virtual ones. Answers come back as they are; errors are
said anew from their code and text, because an origin's error document may name the gateway's own account.

A call that changes an object forgets its cache entry before its answer is seen (`settle`). A call on a bucket needs
a mount of the whole bucket: what it says or changes would concern others' prefixes too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException, ElementTree

from gateway.errors import GatewayError, OriginDenied, Throttled, Unreachable, Unsupported
from gateway.namespace.mounts import Target
from gateway.objects.context import Services
from gateway.objects.writes import settle
from gateway.origins.base import ForwardRequest, ForwardResponse, Origin, PutBody
from gateway.s3.errors import S3Error
from gateway.s3.signer import encode_query

# Answers of calls that change an object, and error documents: a few hundred bytes.
ANSWER_BYTES_MAX: Final = 1 << 20
_ERROR_BYTES_MAX: Final = 64 << 10

# True of this hop only, or made anew by the origin's client.
_HOP: Final = frozenset(
    [
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "date",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-decoded-content-length",
        "x-amz-security-token",
        "x-amz-trailer",
    ]
)
_SIGNING_QUERY: Final = frozenset(["awsaccesskeyid", "expires", "signature", "content-type", "content-md5"])
# Of an answer: this connection's own, or about the origin's hosts.
_NOT_RETURNED: Final = frozenset(
    [
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "location",
        "server",
        "set-cookie",
        "strict-transport-security",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-amz-id-2",
        "x-amz-request-id",
        "x-gateway-cache",
        "x-gateway-node",
    ]
)
# What an origin says when it does not know the gateway: none of a client's business, and never its mistake.
_ABOUT_THE_GATEWAY: Final = frozenset(
    [
        "AccessDenied",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    ]
)
_BY_STATUS: Final = {
    304: "NotModified",
    404: "NoSuchKey",
    405: "MethodNotAllowed",
    412: "PreconditionFailed",
    416: "InvalidRange",
}
_ERROR_HEADERS: Final = (
    "content-range",
    "etag",
    "last-modified",
    "x-amz-delete-marker",
    "x-amz-version-id",
    "allow",
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call to pass on. `headers` and `query` as the client sent them (decoded pairs, presigned headers put
    back); `changes`: it may change the object or the bucket."""

    name: str
    method: str
    target: Target
    query: Iterable[tuple[str, str]]
    headers: Mapping[str, str]
    body: PutBody | None
    changes: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """`length` None: not known before the end. `headers` are fit for the client, without Content-Length."""

    status: int
    headers: list[tuple[str, str]]
    length: int | None
    chunks: AsyncIterator[bytes]


def require_forwarding(services: Services, call_name: str, target: Target) -> Origin:
    """Raises Unsupported, with the reason, when a call cannot be passed on from here; before a body is read."""
    origin = services.origin(target)
    if not origin.capabilities.forwards(call_name):
        raise Unsupported(f"The origin {origin.name} does not know {call_name}.")
    mount = target.mount
    if not target.key and (mount.prefix or mount.remote_prefix):
        raise Unsupported(f"{call_name} needs a mount of the whole bucket; {mount.path} shows a part of one.")
    return origin


@asynccontextmanager
async def forwarded(services: Services, call: Call) -> AsyncIterator[Answer]:
    """The origin's answer, open while the block runs. Raises S3Error with the origin's code for its errors,
    OriginDenied, Throttled, Unreachable, Unsupported."""
    origin = require_forwarding(services, call.name, call.target)
    request = ForwardRequest(
        call.method, call.target.remote, _query(call.query), _end_to_end(call.headers), call.body
    )
    if call.changes and call.target.key:
        yield await settle(services, call.target, _whole(origin, request))
        return
    async with origin.forward(request) as response:
        await _raise_error(request.method, response)
        yield Answer(response.status, _returned(response), _length(response), response.chunks())


async def _whole(origin: Origin, request: ForwardRequest) -> Answer:
    async with origin.forward(request) as response:
        await _raise_error(request.method, response)
        body = await _collect(response, ANSWER_BYTES_MAX)
        return Answer(response.status, _returned(response), len(body), _once(body))


async def _once(body: bytes) -> AsyncIterator[bytes]:
    if body:
        yield body


async def _collect(response: ForwardResponse, bytes_max: int) -> bytes:
    body = bytearray()
    async for piece in response.chunks():
        body += piece
        if len(body) > bytes_max:
            raise Unreachable("The origin's answer is longer than any answer to this call.")
    return bytes(body)


def _query(pairs: Iterable[tuple[str, str]]) -> str:
    """Without what signs the client's request and what was put back among the headers."""
    return encode_query(
        [(k, v) for k, v in pairs if k.lower() not in _SIGNING_QUERY and not k.lower().startswith("x-")]
    )


def _end_to_end(headers: Mapping[str, str]) -> dict[str, str]:
    named = {name.strip() for name in headers.get("connection", "").lower().split(",")}
    kept = {
        name: value
        for name, value in headers.items()
        if name not in _HOP and name not in named and not name.startswith("amz-sdk-")
    }
    codings = [one.strip() for one in kept.pop("content-encoding", "").split(",")]
    if codings := [one for one in codings if one and one.lower() != "aws-chunked"]:
        kept["content-encoding"] = ",".join(codings)
    return kept


def _returned(response: ForwardResponse) -> list[tuple[str, str]]:
    """A checksum speaks of the whole object and would be wrong for a range of it."""
    partial = response.status == 206
    return [
        (name, value)
        for name, value in response.headers.items()
        if name not in _NOT_RETURNED and not (partial and name.startswith("x-amz-checksum-"))
    ]


def _length(response: ForwardResponse) -> int | None:
    text = response.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None


async def _raise_error(method: str, response: ForwardResponse) -> None:
    if response.status < 300:
        return
    code, message = "", ""
    if method != "HEAD" and response.status >= 400:
        code, message = _parse_error(await _collect(response, _ERROR_BYTES_MAX))
    raise _error_of(response, code, message)


def _error_of(response: ForwardResponse, code: str, message: str) -> GatewayError:
    status = response.status
    if status in (429, 503):
        return Throttled("The origin asked to slow down.")
    if status >= 500 and status != 501:
        return Unreachable(f"The origin answered {status}.")
    if code in _ABOUT_THE_GATEWAY or (not code and status in (401, 403)):
        return OriginDenied("The origin does not allow this gateway to do that.")
    if not code and 300 < status < 400 and status != 304:
        return Unreachable("The origin sends this bucket's requests elsewhere.")
    shown = [(name, response.headers[name]) for name in _ERROR_HEADERS if name in response.headers]
    return S3Error(
        code or _BY_STATUS.get(status, "InvalidRequest"), message or None, headers=shown, status=status
    )


def _parse_error(body: bytes) -> tuple[str, str]:
    """(code, message) of an S3 error document; empty for anything else."""
    try:
        root = ElementTree.fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        return "", ""
    found = {node.tag.rpartition("}")[2]: (node.text or "").strip() for node in root}
    return found.get("Code", ""), found.get("Message", "")
