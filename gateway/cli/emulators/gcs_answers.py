"""Headers and bodies in Google's words, from what the store says, and the other way round."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Final

from aiohttp import web

from gateway.cli.emulators.gcs_bodies import PIECE_BYTES
from gateway.cli.emulators.gcs_checks import Head, Refusal
from gateway.cli.emulators.gcs_state import Generation
from gateway.origins.s3_client import DOCUMENT_BYTES_MAX
from gateway.origins.s3_http import Answer

DOCUMENT_BODY_MAX: Final = 4 << 20
_STORED: Final = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
)
_SHOWN: Final = (
    *_STORED,
    "accept-ranges",
    "content-length",
    "content-range",
    "etag",
    "last-modified",
)
# Kept among the metadata, where no client sees it: the store may not know Google's classes.
_CLASS: Final = "x-amz-meta-of-the-emulator-class"


def to_store(headers: Mapping[str, str]) -> dict[str, str]:
    sent = {key: headers[key] for key in _STORED if key in headers}
    for key, value in headers.items():
        if key.startswith("x-goog-meta-"):
            sent["x-amz-meta-" + key.removeprefix("x-goog-meta-")] = value
    if (storage := headers.get("x-goog-storage-class", "STANDARD")) != "STANDARD":
        sent[_CLASS] = storage
    return sent


def of_generation(seen: Generation) -> dict[str, str]:
    hashes = {"x-goog-hash": seen.hashes} if seen.hashes else {}
    return {"x-goog-generation": str(seen.number), "x-goog-metageneration": "1", **hashes}


def shown_headers(headers: Mapping[str, str], seen: Generation) -> dict[str, str]:
    shown = {key: headers[key] for key in _SHOWN if key in headers}
    for key, value in headers.items():
        if key.startswith("x-amz-meta-") and key != _CLASS:
            shown["x-goog-meta-" + key.removeprefix("x-amz-meta-")] = value
    shown["x-goog-storage-class"] = headers.get(_CLASS, "STANDARD")
    shown["x-goog-stored-content-encoding"] = headers.get("content-encoding", "identity")
    return shown | of_generation(seen)


async def small_body(request: web.BaseRequest) -> bytes:
    body = bytearray()
    while piece := await request.content.read(PIECE_BYTES):
        body += piece
        if len(body) > DOCUMENT_BODY_MAX:
            raise Refusal(400, "EntityTooLarge")
    return bytes(body)


async def passed(answer: Answer, head: Head) -> web.Response:
    """An answer that needs no other words here: a document, or an error."""
    try:
        body = b"" if head.method == "HEAD" else await answer.read(DOCUMENT_BYTES_MAX)
    finally:
        answer.close()
    shown = ("content-type", "content-range", "etag", "last-modified")
    headers = {key: answer.headers[key] for key in shown if key in answer.headers}
    return web.Response(status=answer.status, body=body, headers=headers)


async def streamed(
    request: web.BaseRequest, answer: Answer, headers: Mapping[str, str], status: int
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=_wire(headers))
    await response.prepare(request)
    if request.method != "HEAD":
        async for piece in _pieces(answer):
            await response.write(piece)
    return response


async def inflated(
    request: web.BaseRequest, answer: Answer, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Decompressive transcoding: what Google does to a reader that does not take gzip. Bytes that are none are given
    as they are."""
    left_out = ("content-encoding", "content-length", "content-range")
    shown = {key: value for key, value in headers.items() if key not in left_out}
    shown["warning"] = "214 UploadServer gunzipped"
    response = web.StreamResponse(status=200, headers=_wire(shown))
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    inflater: zlib._Decompress | None = zlib.decompressobj(31)
    async for piece in _pieces(answer):
        try:
            out = piece if inflater is None else inflater.decompress(piece)
        except zlib.error:
            inflater, out = None, piece
        if out:
            await response.write(out)
    return response


async def _pieces(answer: Answer) -> AsyncIterator[bytes]:
    while piece := await answer.piece():
        yield piece


def _wire(headers: Mapping[str, str]) -> dict[str, str]:
    """aiohttp writes headers as UTF-8: text that makes the latin-1 bytes that came."""
    return {
        name: value.encode("latin-1").decode("utf-8", "surrogateescape") for name, value in headers.items()
    }
