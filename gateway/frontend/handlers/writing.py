"""PutObject."""

from __future__ import annotations

from gateway.frontend.handlers.answers import answer_empty, naming, write_conditions
from gateway.frontend.handlers.bodies import upload_body
from gateway.frontend.request import Request
from gateway.objects import writes
from gateway.objects.context import Services


async def put_object(services: Services, request: Request) -> None:
    body = await upload_body(services.threads, request)
    conditions = write_conditions(request.headers)
    with naming(conditions):
        result = await writes.put_object(services, request.the_target, body, conditions)
    await answer_empty(request, 200, [("ETag", result.etag), *result.headers.items()])
