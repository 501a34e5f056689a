"""What the S3 calls of `s3_read.py`, `s3_write.py`, … share: one call with its retries, errors as our kinds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeVar

from gateway.errors import GatewayError, Throttled
from gateway.origins import s3_xml
from gateway.origins.limits import Limits
from gateway.origins.s3_errors import error_of, kind_of
from gateway.origins.s3_flavours import Flavour
from gateway.origins.s3_http import Answer, Call, Wire

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

T = TypeVar("T")

# 1,000 keys of 1,024 bytes, each character three bytes percent-encoded, twice (Key and Owner), with their tags.
DOCUMENT_BYTES_MAX: Final = 16 << 20
# Copies and completes of large objects are one long computation at the store.
BULK_S: Final = 600.0


class Retry(Enum):
    """ALWAYS   the call may be carried out twice
    REFUSED  only when the origin said that it did not even begin (SlowDown)
    NEVER    the call consumes a body
    """

    ALWAYS = "always"
    REFUSED = "refused"
    NEVER = "never"


class Client:
    def __init__(self, name: str, wire: Wire, limits: Limits, flavour: Flavour) -> None:
        self.name = name
        self.wire = wire
        self.limits = limits
        self.flavour = flavour

    async def open(self, call: Call, statuses: tuple[int, ...] = (200,)) -> Answer:
        """One try. Whatever has another status is raised as the error that it is."""
        answer = await self.wire.send(call)
        if answer.status in statuses:
            return answer
        try:
            raise await self._error(call, answer)
        finally:
            answer.close()

    async def _error(self, call: Call, answer: Answer) -> GatewayError:
        return await error_of(self.name, call, answer)

    async def retried(
        self, call: Callable[[], Awaitable[T]], retry: Retry = Retry.ALWAYS, timeout_s: float | None = None
    ) -> T:
        """`timeout_s`: of each try, for a call that may outlast the deadline; that then bounds its failures."""
        if retry is Retry.NEVER:
            return await call()
        return await self.limits.retried(call, _RETRYABLE[retry], timeout_s)

    async def finished(
        self, call: Call, statuses: tuple[int, ...] = (200,), retry: Retry = Retry.ALWAYS
    ) -> Answer:
        """An answer whose body says nothing: read and closed."""

        async def once() -> Answer:
            answer = await self.open(call, statuses)
            try:
                await answer.read(DOCUMENT_BYTES_MAX)
            finally:
                answer.close()
            return answer

        return await self.retried(once, retry, call.answer_s)

    async def document(
        self,
        call: Call,
        root_name: str,
        retry: Retry = Retry.ALWAYS,
        parse: Callable[[bytes], Element] | None = None,
    ) -> tuple[Element, Answer]:
        """An XML answer with that root, and its head. An error document in a 200 is raised as its error. `parse`: in
        place of `s3_xml.parse`."""

        async def once() -> tuple[Element, Answer]:
            answer = await self.open(call)
            try:
                body = await answer.read(DOCUMENT_BYTES_MAX)
                root = parse(body) if parse is not None else s3_xml.parse(body, own_key=bool(call.key))
            finally:
                answer.close()
            if s3_xml.local(root) == "Error":
                raise kind_of(self.name, call, answer.status, answer.headers, s3_xml.fields(root))
            return s3_xml.require(root, root_name), answer

        return await self.retried(once, retry, call.answer_s)


_RETRYABLE: Final[dict[Retry, Callable[[GatewayError], bool]]] = {
    Retry.ALWAYS: lambda error: True,
    Retry.REFUSED: lambda error: isinstance(error, Throttled),
}
