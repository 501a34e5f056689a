"""GetObject and HeadObject: which version, which bytes, which headers; the bytes themselves are `objects/reading.py`'s.

Three ways:
  * cached: the rule allows it, the object is kept or will be;
  * straight: `cache = false`, or not worth keeping: one GET at the origin, piped through;
  * forwarded: a version, a part, a customer key, a payer: what the cache knows nothing of is the origin's to answer.

Order of the answers, as S3 gives them: 404, then conditions (412, 304), then the range (416).
"""

from __future__ import annotations

import re
import time
from typing import Final

from gateway.errors import Changed, Unreachable
from gateway.frontend.handlers.forwarding import forward, require_shown_version
from gateway.frontend.request import Request
from gateway.model import ObjectMeta
from gateway.objects.context import Services
from gateway.objects.mirrored import is_mirrored, located
from gateway.objects.owners import OWNER_HEADER
from gateway.objects.reading import Stream
from gateway.objects.revalidate import Direct, Wanted, entry_of, meta_of_entry
from gateway.origins.base import Origin
from gateway.s3.conditions import check, matches, parse_conditions
from gateway.s3.errors import S3Error
from gateway.s3.object_headers import http_date
from gateway.s3.ranges import parse_range

Pairs = list[tuple[str, str]]
# Begun anew this often when the object changes before its first byte was sent.
ATTEMPTS_MAX: Final = 4
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{1,19})-([0-9]{0,19})[ \t]*", re.IGNORECASE)
_SUFFIX = re.compile(r"bytes=[ \t]*-[0-9]", re.IGNORECASE)
# Headers that make a read mean something the cache does not know.
_ORIGINS_OWN = frozenset({OWNER_HEADER, "x-amz-request-payer"})
_CUSTOMER_KEY = "x-amz-server-side-encryption-customer-"
_OVERRIDES = {
    "response-cache-control": "cache-control",
    "response-content-disposition": "content-disposition",
    "response-content-encoding": "content-encoding",
    "response-content-language": "content-language",
    "response-content-type": "content-type",
    "response-expires": "expires",
}
_ON_304 = ("cache-control", "expires", "x-amz-version-id")


async def get_object(services: Services, request: Request) -> None:
    await _read(services, request, body=True)


async def head_object(services: Services, request: Request) -> None:
    await _read(services, request, body=False)


async def _read(services: Services, request: Request, *, body: bool) -> None:
    target = request.the_target
    version = request.address.get("versionId")
    if version is not None and is_mirrored(services, target):
        require_shown_version(request)
        version = None
    part = request.address.get("partNumber")
    own = (version, part) != (None, None) or _is_origins_own(request)
    if own:
        target = request.target = await located(services, target)
    origin = services.origin(target)
    if not origin.capabilities.forward:
        if version not in (None, "null"):
            if not origin.capabilities.versions:
                raise S3Error("NoSuchVersion")
            await forward(services, request)
            return
        if part is not None:
            await _read_part(services, request, origin, part, body=body)
            return
    elif own:
        request.exchange.record.outcome = "bypass"
        await forward(services, request)
        return
    if not request.view.rules.match(target.bucket, target.key).cache:
        request.exchange.record.outcome = "bypass"
        await _straight(services, request, origin, body=body, remember=False)
        return
    for _ in range(ATTEMPTS_MAX):
        try:
            await _cached(services, request, origin, body=body)
        except Direct:
            request.exchange.record.outcome = "miss"
            await _straight(services, request, origin, body=body, remember=True)
        except Changed:
            if request.exchange.started:
                raise
            continue
        return
    raise Unreachable("The object is being replaced faster than it can be read.")


def _is_origins_own(request: Request) -> bool:
    return any(name in _ORIGINS_OWN or name.startswith(_CUSTOMER_KEY) for name in request.headers)


# --- cached


async def _cached(services: Services, request: Request, origin: Origin, *, body: bool) -> None:
    reads, target, exchange = services.reads, request.the_target, request.exchange
    rule = request.view.rules.match(target.bucket, target.key)
    wanted = _wanted(request, reads.block_size, reads.run_blocks, body=body)
    before = reads.store.entry(target.cache_key)
    entry = await reads.questions.current(target.cache_key, rule.fresh_s, wanted, rule.ttl_s)
    if not entry.version and body:
        raise Direct
    meta = meta_of_entry(entry)
    if await _answered_by_condition(request, meta):
        return
    span = _span(request, meta)
    start, stop = span or (0, meta.size)
    headers = _headers(request, meta, span)
    status = 200 if span is None else 206
    if not body:
        exchange.record.outcome = "hit" if before is not None and before.version == entry.version else "miss"
        await exchange.respond(status, [*headers, ("Content-Length", str(stop - start))])
        return
    source = reads.source(target.cache_key)
    await reads.require_affordable(entry, source, start, stop)
    stream = Stream(reads, entry, source, start, stop)
    exchange.record.outcome = stream.outcome
    reads.noted(entry, start, stop, rule.read_ahead)
    await stream.prime()
    try:
        await exchange.start(status, headers, stop - start)
        await stream.send(exchange)
        await exchange.finish()
    finally:
        reads.count(target.origin, stream.from_segments, stream.from_origin)


def _wanted(request: Request, block_size: int, run_blocks: int, *, body: bool) -> Wanted:
    """The first blocks that this read needs, where that follows from the request alone."""
    value = request.headers.get("range")
    sums = _wants_checksums(request)
    if not body or (value is not None and _SUFFIX.match(value)):
        return Wanted(checksums=sums)
    found = None if value is None else _RANGE.fullmatch(value)
    if found is None:
        return Wanted(0, run_blocks - 1, sums)
    first = int(found[1]) // block_size
    run_end = first - first % run_blocks + run_blocks - 1
    last = min(int(found[2]) // block_size, run_end) if found[2] else run_end
    return Wanted(first, max(first, last))


# --- straight from the origin, for this reader alone


async def _straight(
    services: Services, request: Request, origin: Origin, *, body: bool, remember: bool
) -> None:
    target, exchange = request.the_target, request.exchange
    asked_ns, asked_at = time.monotonic_ns(), time.time()
    value = request.headers.get("range")
    if not body or (value is not None and _SUFFIX.match(value)):
        meta = await origin.head(target.remote)
        if await _answered_by_condition(request, meta):
            return
        span = _span(request, meta)
        start, stop = span or (0, meta.size)
        if not body:
            headers = [*_headers(request, meta, span), ("Content-Length", str(stop - start))]
            await exchange.respond(200 if span is None else 206, headers)
            return
        begin, end, etag = start, stop, meta.etag
    else:
        found = None if value is None else _RANGE.fullmatch(value)
        begin, end, etag = 0, None, None
        if found is not None and not (found[2] and int(found[2]) < int(found[1])):
            begin, end = int(found[1]), int(found[2]) + 1 if found[2] else None
    async with origin.get(target.remote, begin, end, if_match=etag) as reading:
        meta = reading.meta
        if remember:
            sums = begin == 0 and end is None
            entry = entry_of(target.cache_key, meta, asked_at, sums=sums)
            await services.reads.questions.remember(entry, asked_ns)
        if await _answered_by_condition(request, meta):
            return
        span = _span(request, meta)
        if (span or (0, meta.size)) != (
            reading.start,
            reading.stop,
        ):  # If-Range, or a range nobody understands
            raise Changed("The object changed while it was asked for.")
        await exchange.start(
            200 if span is None else 206, _headers(request, meta, span), reading.stop - reading.start
        )
        sent = 0
        try:
            async for piece in reading.chunks():
                await exchange.send(piece)
                sent += len(piece)
            await exchange.finish()
        finally:
            services.reads.count(target.origin, 0, sent)


async def _read_part(
    services: Services, request: Request, origin: Origin, number: str, *, body: bool
) -> None:
    """One part of an object at an origin that tells the sizes of parts; an object that was written whole is its own
    only part."""
    if not re.fullmatch(r"[0-9]{1,5}", number) or not 1 <= int(number) <= 10_000:
        raise S3Error("InvalidArgument", "partNumber must be 1 to 10000.")
    if "range" in request.headers:
        raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter.")
    exchange, target = request.exchange, request.the_target
    exchange.record.outcome = "bypass"
    meta = await origin.head(target.remote)
    if await _answered_by_condition(request, meta):
        return
    sizes = meta.parts or (meta.size,)
    if int(number) > len(sizes):
        raise S3Error("InvalidPartNumber")
    start = sum(sizes[: int(number) - 1])
    stop = start + sizes[int(number) - 1]
    span = (start, stop) if start < stop else None
    headers = _headers(request, meta, span)
    if meta.parts:
        headers.append(("x-amz-mp-parts-count", str(len(sizes))))
    status = 200 if span is None else 206
    if not body or span is None:
        await exchange.respond(status, headers if body else [*headers, ("Content-Length", str(stop - start))])
        return
    async with origin.get(target.remote, start, stop, if_match=meta.etag) as reading:
        await exchange.start(status, headers, stop - start)
        async for piece in reading.chunks():
            await exchange.send(piece)
        await exchange.finish()
    services.reads.count(target.origin, 0, stop - start)


# --- heads


async def _answered_by_condition(request: Request, meta: ObjectMeta) -> bool:
    """True: it was 304, and is answered. Raises PreconditionFailed."""
    code = check(parse_conditions(request.headers), meta.etag, meta.last_modified)
    if code == 412:
        raise S3Error("PreconditionFailed")
    if code is None:
        return False
    headers = [("ETag", meta.etag), ("Last-Modified", http_date(meta.last_modified))]
    headers += [(name, meta.headers[name]) for name in _ON_304 if name in meta.headers]
    await request.exchange.respond(304, headers)
    return True


def _span(request: Request, meta: ObjectMeta) -> tuple[int, int] | None:
    """Raises InvalidRange. A range whose If-Range does not hold is no range (RFC 9110 §13.1.5)."""
    condition = request.headers.get("if-range")
    holds = condition in (None, http_date(meta.last_modified))
    if condition is not None and not holds and not matches(condition, meta.etag, weak=False):
        return None
    return parse_range(request.headers.get("range"), meta.size)


def _wants_checksums(request: Request) -> bool:
    return (
        "range" not in request.headers and request.headers.get("x-amz-checksum-mode", "").lower() == "enabled"
    )


def _headers(request: Request, meta: ObjectMeta, span: tuple[int, int] | None) -> Pairs:
    """All but Content-Length."""
    shown = dict(meta.headers)
    for key, value in request.address.query:
        if (name := _OVERRIDES.get(key)) is not None:
            shown[name] = _header_value(value)
    headers = [
        ("ETag", meta.etag),
        ("Last-Modified", http_date(meta.last_modified)),
        ("Accept-Ranges", "bytes"),
    ]
    headers += shown.items()
    if span is not None:
        headers.append(("Content-Range", f"bytes {span[0]}-{span[1] - 1}/{meta.size}"))
    elif _wants_checksums(request):
        headers += meta.checksums.items()
    return headers


def _header_value(value: str) -> str:
    """An override is signed, but that does not make it a header. Raises InvalidArgument."""
    wire = value.encode("utf-8").decode("latin-1")
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", wire):
        raise S3Error("InvalidArgument", "A response- parameter holds a control character.")
    return wire
