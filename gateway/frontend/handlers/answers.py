"""What handlers share: reading parameters of the query, and answering."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import structlog

from gateway.errors import ConditionFailed, GatewayError
from gateway.frontend.request import Request
from gateway.model import Conditions
from gateway.s3.address import Address
from gateway.s3.checksums import HEADER_PREFIX
from gateway.s3.errors import S3Error
from gateway.telemetry.requests import RequestRecord

log = structlog.get_logger()

# What the gateway says of who owns buckets, objects and uploads: the clouds' own accounts are nobody's business.
OWNER_ID = "gateway"

Pairs = Iterable[tuple[str, str]]
_INTEGER = re.compile(r"[0-9]{1,10}")


def integer(address: Address, name: str, default: int, maximum: int) -> int:
    """A count of the query, 0 or more, cut at `maximum` as S3 does. Raises InvalidArgument."""
    text = address.get(name)
    if text is None or text == "":
        return default
    if not _INTEGER.fullmatch(text) or int(text) > 2**31 - 1:
        raise S3Error("InvalidArgument", f"{name} must be an integer between 0 and 2147483647.")
    return min(int(text), maximum)


def write_conditions(headers: Mapping[str, str]) -> Conditions:
    """The two that S3 knows on writes; dates are ignored there."""
    return Conditions(headers.get("if-match"), headers.get("if-none-match"))


@contextmanager
def naming(conditions: Conditions) -> Iterator[None]:
    """A failed write says which condition it was, as S3 does: s3fs tells an existing file by it."""
    try:
        yield
    except ConditionFailed as error:
        pairs = (("If-Match", conditions.if_match), ("If-None-Match", conditions.if_none_match))
        given = [name for name, value in pairs if value is not None]
        if len(given) != 1:
            raise
        raise S3Error("PreconditionFailed", str(error), extra={"Condition": given[0]}) from None


def split_checksums(headers: Mapping[str, str]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Checksums, which some answers have in their XML, and the other headers."""
    checksums = {name: value for name, value in headers.items() if name.startswith(HEADER_PREFIX)}
    return checksums, [(name, value) for name, value in headers.items() if name not in checksums]


async def answer_xml(request: Request, body: bytes, headers: Pairs = ()) -> None:
    await request.exchange.respond(200, [("Content-Type", "application/xml"), *headers], body)


async def answer_empty(request: Request, status: int, headers: Pairs = ()) -> None:
    await request.exchange.respond(status, list(headers))


def report(error: Exception, record: RequestRecord) -> None:
    """Logs what nobody raised on purpose; the client is told nothing of it but the request id to ask for."""
    if not isinstance(error, GatewayError):
        log.error(
            "request failed",
            request_id=record.request_id,
            op=record.op,
            error=type(error).__name__,
            exc_info=error,
        )
