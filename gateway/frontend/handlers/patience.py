"""Answers that may take minutes: completes and copies.

A client gives up on a silent connection after about a minute, and would then do the whole work again. So, as S3
does, a slow one gets `200` and white space while the work goes on, and then the document: the result, or an Error
element, which SDKs look for in exactly these answers. Source: S3 API Reference, CompleteMultipartUpload, CopyObject.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from gateway.frontend.handlers.answers import answer_xml, report
from gateway.frontend.request import Request
from gateway.objects.context import Services
from gateway.s3.errors import error_xml, to_s3

Work = Coroutine[Any, Any, tuple[bytes, list[tuple[str, str]]]]

# Errors keep their status for this long; the shortest usual read timeout of a client is 60 s.
QUIET_S_MAX = 10.0
_BLANK_EVERY_S = 5.0
_DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'


async def answer_patiently(
    services: Services, request: Request, work: Work, quiet_s_max: float = QUIET_S_MAX
) -> None:
    """`work` gives the XML document and further headers (which a slow answer cannot have any more). A client that
    leaves ends the waiting, and the work with it as far as the use case allows that."""
    task = services.tasks.spawn(_outcome(work), request.operation.name)
    try:
        await asyncio.wait([task], timeout=quiet_s_max)
        if not task.done():
            await _start(request, task)
        result = await task
    finally:
        task.cancel()
    if isinstance(result, Exception):
        if not request.exchange.started:
            raise result
        shown = to_s3(result)
        request.exchange.record.error = shown.code
        report(result, request.exchange.record)
        document = error_xml(shown, request.head.raw_path, request.exchange.request_id)
        await _finish(request, document)
    elif request.exchange.started:
        await _finish(request, result[0])
    else:
        await answer_xml(request, result[0], result[1])


async def _outcome(work: Work) -> tuple[bytes, list[tuple[str, str]]] | Exception:
    """Failures as values: a task's own exception is logged as a bug."""
    try:
        return await work
    except Exception as error:
        return error


async def _start(request: Request, task: asyncio.Task[Any]) -> None:
    exchange = request.exchange
    await exchange.start(200, [("Content-Type", "application/xml")], None)
    await exchange.send(_DECLARATION)
    while not task.done():
        await exchange.send(b" ")
        await asyncio.wait([task], timeout=_BLANK_EVERY_S)


async def _finish(request: Request, document: bytes) -> None:
    await request.exchange.send(document.removeprefix(_DECLARATION))
    await request.exchange.finish()
