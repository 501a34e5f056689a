"""The application behind the sockets: every request through the door, to its handler, and every failure to an S3
error that says no more than it may."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from gateway.frontend.exchange import Exchange, RequestHead
from gateway.frontend.handlers import handler_of
from gateway.frontend.handlers.answers import report
from gateway.frontend.handlers.buckets import require_expected_owner
from gateway.frontend.request import Request, admit
from gateway.objects.context import Services
from gateway.objects.owners import OWNER_HEADER
from gateway.s3.errors import S3Error, error_xml, to_s3

if TYPE_CHECKING:
    from gateway.frontend.connection import HotConnection
    from gateway.telemetry.requests import RequestRecord


class Hot(Protocol):
    """The hot path (hot.py): True if it answered, or its answer is under way."""

    def __call__(self, connection: HotConnection, head: RequestHead, /) -> bool: ...


def never_hot(connection: HotConnection, head: RequestHead, /) -> bool:
    """Leaves every request to the handlers."""
    return False


class FrontDoor:
    """Implements `connection.Application`. A reload swaps the services: each request takes them once, here or in the
    hot path, and is judged by their view and answered from their origins alone. `finished` is told of every request
    that ended."""

    def __init__(
        self,
        services: Services,
        finished: Callable[[RequestRecord], None],
        hot: Hot = never_hot,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._services = services
        # Attributes, not methods around them: both are called on every hit.
        self.finished = finished
        self.hot = hot
        self._clock = clock

    def adopt(self, services: Services) -> None:
        """For requests from now on."""
        self._services = services

    async def handle(self, exchange: Exchange) -> None:
        """Owns the whole answer. Raises nothing but CancelledError."""
        services = self._services
        try:
            request = self._admit(exchange, services)
            if OWNER_HEADER in request.headers:
                await require_expected_owner(services, request)
            await handler_of(request.operation)(services, request)
        except ConnectionResetError:
            exchange.abort()
        except Exception as error:
            await self._fail(exchange, error)

    def _admit(self, exchange: Exchange, services: Services) -> Request:
        view = services.view
        head = exchange.head
        admitted = admit(head, view, services.domain, self._clock(), exchange.record)
        return Request(
            exchange,
            head,
            admitted.headers,
            admitted.address,
            admitted.operation,
            admitted.auth,
            view,
            admitted.target,
            admitted.source,
        )

    async def _fail(self, exchange: Exchange, error: Exception) -> None:
        shown = to_s3(error)
        exchange.record.error = shown.code
        report(error, exchange.record)
        if exchange.started:
            exchange.abort()
            return
        headers, body = _document(shown, exchange.head.raw_path, exchange.request_id)
        if shown.status == 304:
            headers, body = list(shown.headers), b""
        elif exchange.head.method == "HEAD":
            body = b""
        try:
            await exchange.respond(shown.status, headers, body)
        except ConnectionResetError:
            exchange.abort()

    def refuse(self, error: S3Error, record: RequestRecord) -> tuple[int, list[tuple[str, str]], bytes]:
        """The answer to a head that could not be parsed. Nothing of the request is repeated in it."""
        record.error = error.code
        return error.status, *_document(error, "", record.request_id)


def _document(error: S3Error, resource: str, request_id: str) -> tuple[list[tuple[str, str]], bytes]:
    headers = [("Content-Type", "application/xml"), *error.headers]
    return headers, error_xml(error, resource, request_id)
