"""The truth: an S3-like origin that is cheap enough to stand behind everything and counts all it does.

    python -m loadtest.origin [--port N]      prints {"port": N} on one line, serves until stdin closes

Objects are not stored. GET and HEAD serve the pattern of the key (see `pattern`); an upload must carry the
same bytes: they are compared as they arrive, a difference answers 400 BadDigest and is counted. Nobody is
refused: signatures are not looked at. Supported: GET with one range, If-Match, If-None-Match; HEAD; PUT;
multipart; DELETE; ListObjectsV2 and ListBuckets of what was uploaded; HEAD bucket. ETags are of the multipart
kind, so nobody takes them for an MD5.

Control: `GET /_/stats` (JSON), `POST /_/reset`.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import cast
from urllib.parse import parse_qsl, unquote

from loadtest import pattern
from loadtest.bodies import Body, BodyError, body_of, payload_length
from loadtest.serving import serve_until_stdin_closes

RECEIVE_BYTES = 256 << 10
WRITE_BYTES = 256 << 10  # one transport.write of the pattern
BUFFER_HIGH, BUFFER_LOW = 1 << 20, 256 << 10  # of the transport: two writes ahead keep a fast reader busy
HEAD_BYTES_MAX = 32 << 10
UPLOADS_MAX = 10_000  # remembered keys and open multipart uploads: a run makes a few dozen

LAST_MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"
LAST_MODIFIED_S = 1_767_225_600
_RANGE = re.compile(r"^bytes=(\d*)-(\d*)$")
_REASONS = {200: "OK", 204: "No Content", 206: "Partial Content", 304: "Not Modified"}


@dataclass
class Stats:
    requests: int = 0
    by_method: dict[str, int] = field(default_factory=dict)
    gets_of_objects: int = 0
    body_bytes_sent: int = 0
    body_bytes_received: int = 0
    uploads_completed: int = 0
    mismatches: int = 0


@dataclass(slots=True)
class Request:
    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]


def azure_headers(etag: str, size: int) -> list[tuple[str, str]]:
    """What Azure Blob Storage says beside of a blob that the gateway wrote."""
    record = {
        "etag": etag.strip('"'),
        "size": size,
        "at": LAST_MODIFIED_S,
        "parts": f"{size}",
        "upload": "0" * 48,
    }
    return [
        ("Server", "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0"),
        ("x-ms-request-id", "5a0c6b5e-001e-0039-0c5d-6d0d0a000000"),
        ("x-ms-version", "2023-11-03"),
        ("x-ms-creation-time", LAST_MODIFIED),
        ("x-ms-blob-type", "BlockBlob"),
        ("x-ms-lease-status", "unlocked"),
        ("x-ms-lease-state", "available"),
        ("x-ms-server-encrypted", "true"),
        ("x-ms-meta-s3gateway", json.dumps(record, separators=(",", ":"))),
        ("Date", LAST_MODIFIED),
    ]


class Truth:
    """What the origin remembers: counters, uploaded sizes, open uploads (id → part sizes)."""

    def __init__(self) -> None:
        self.stats = Stats()
        self.uploaded: dict[tuple[str, str], int] = {}
        self.parts: dict[str, dict[int, int]] = {}
        self._ids = 0

    def new_upload(self) -> str:
        self._ids += 1
        upload_id = f"upload-{self._ids}"
        if len(self.parts) < UPLOADS_MAX:
            self.parts[upload_id] = {}
        return upload_id

    def size_of(self, bucket: str, key: str) -> int | None:
        return self.uploaded.get((bucket, key), pattern.size_of(key))

    def store(self, bucket: str, key: str, size: int) -> None:
        if len(self.uploaded) < UPLOADS_MAX:
            self.uploaded[bucket, key] = size
        self.stats.uploads_completed += 1


def etag_of(key: str, size: int) -> str:
    return '"' + hashlib.sha256(f"{key}|{size}".encode()).hexdigest()[:32] + '-1"'


def parse_range(value: str | None, size: int) -> tuple[int, int] | None:
    """(start, stop) of a satisfiable range; the whole object for none or one that is not understood; None:
    416.
    """
    found = _RANGE.match(value or "")
    if not found or found.group(0) == "bytes=-":
        return 0, size
    first, last = found.groups()
    if not first:
        suffix = min(int(last), size)
        return (size - suffix, size) if suffix else None
    start, stop = int(first), min(int(last) + 1 if last else size, size)
    return (start, stop) if start < size else None


class Upload:
    """Compares the payload with the pattern as it arrives. `offset`: where in the object it begins."""

    def __init__(self, truth: Truth, key: str, offset: int) -> None:
        self._truth = truth
        self._start = pattern.start_of(key)
        self._offset = offset
        self.size = 0
        self.right = True

    def feed(self, data: memoryview) -> None:
        if self.right and not pattern.matches(self._start, self._offset + self.size, data):
            self.right = False
            self._truth.stats.mismatches += 1
        self.size += len(data)
        self._truth.stats.body_bytes_received += len(data)


class OriginProtocol(asyncio.BufferedProtocol):
    """One connection: requests strictly in turn, the answer's body pumped as the transport drains."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._space = memoryview(bytearray(RECEIVE_BYTES))
        self._head = bytearray()  # received and not yet understood
        self._body: Body | None = None
        self._when_received: Callable[[], None] | None = None
        self._start = self._at = self._stop = 0  # of the answer's body
        self._paused = False
        self._transport: asyncio.Transport

    # — transport callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._transport.set_write_buffer_limits(high=BUFFER_HIGH, low=BUFFER_LOW)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._space

    def buffer_updated(self, nbytes: int) -> None:
        try:
            self._received(self._space[:nbytes])
        except (BodyError, ValueError) as error:
            self._error(400, "InvalidRequest", str(error))
            self._transport.close()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._pump()

    # — receiving

    def _received(self, data: memoryview) -> None:
        if self._body is not None:
            data = data[self._body.feed(data) :]
            self._body_progress()
        if len(data):
            self._head += data
            self._next_request()

    def _next_request(self) -> None:
        while self._body is None and self._at == self._stop:
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                if len(self._head) > HEAD_BYTES_MAX:
                    raise ValueError("head too long")
                return
            head = self._head[:end].decode("latin-1")
            rest = bytes(self._head[end + 4 :])
            self._head.clear()
            self._request(parse_head(head))
            if rest:
                self._received(memoryview(rest))

    def _body_progress(self) -> None:
        if self._body is not None and self._body.done and self._when_received is not None:
            self._body = None
            self._when_received()

    def _receive(
        self, request: Request, sink: Callable[[memoryview], None], then: Callable[[], None]
    ) -> None:
        self._body, self._when_received = body_of(request.headers, sink), then
        if request.headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._body_progress()

    # — answering

    def _request(self, request: Request) -> None:
        stats = self._truth.stats
        if request.bucket == "_":
            return self._control(request)
        stats.requests += 1
        stats.by_method[request.method] = stats.by_method.get(request.method, 0) + 1
        if request.method in ("GET", "HEAD"):
            return self._object(request) if request.key else self._bucket(request)
        if request.method == "PUT" and request.key:
            return self._put(request)
        if request.method == "POST" and request.key:
            return self._multipart(request)
        if request.method == "DELETE":
            return self._answer(204)
        return self._error(501, "NotImplemented", request.method)

    def _object(self, request: Request) -> None:
        size = self._truth.size_of(request.bucket, request.key)
        if size is None:
            return self._error(404, "NoSuchKey", request.key)
        etag = etag_of(request.key, size)
        wanted, unwanted = request.headers.get("if-match"), request.headers.get("if-none-match")
        if wanted not in (None, "*", etag):
            return self._error(412, "PreconditionFailed", request.key)
        headers = [("ETag", etag), ("Last-Modified", LAST_MODIFIED), ("Accept-Ranges", "bytes")]
        if unwanted in ("*", etag):
            return self._answer(304, headers)
        if "x-ms-version" in request.headers:
            headers += azure_headers(etag, size)
            request.headers.setdefault("range", request.headers.get("x-ms-range", ""))
        extent = parse_range(request.headers.get("range"), size)
        if extent is None:
            return self._error(416, "InvalidRange", request.key, [("Content-Range", f"bytes */{size}")])
        return self._send_object(request, extent, size, headers)

    def _send_object(
        self, request: Request, extent: tuple[int, int], size: int, headers: list[tuple[str, str]]
    ) -> None:
        start, stop = extent
        status = 206 if _RANGE.match(request.headers.get("range", "")) else 200
        if status == 206:
            headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{size}"))
        headers.append(("Content-Type", "application/octet-stream"))
        self._write_head(status, [*headers, ("Content-Length", str(stop - start))])
        if request.method == "GET":
            self._truth.stats.gets_of_objects += 1
            self._start, self._at, self._stop = pattern.start_of(request.key), start, stop
            self._pump()

    def _pump(self) -> None:
        while self._at < self._stop and not self._paused and not self._transport.is_closing():
            data = pattern.piece(self._start, self._at, min(self._stop - self._at, WRITE_BYTES))
            self._transport.write(data)
            self._at += len(data)
            self._truth.stats.body_bytes_sent += len(data)
        if self._at == self._stop and self._head:
            self._next_request()

    def _bucket(self, request: Request) -> None:
        names = sorted(key for bucket, key in self._truth.uploaded if bucket == request.bucket)
        names = [key for key in names if key.startswith(request.query.get("prefix", ""))]
        rows = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"
            f"{etag_of(key, size)}</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key in names
            for size in [self._truth.uploaded[request.bucket, key]]
        )
        body = (
            f"<ListBucketResult><Name>{request.bucket}</Name><KeyCount>{len(names)}</KeyCount><MaxKeys>1000</MaxKeys>"
            f"<IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
        )
        self._answer(200, body=body)

    def _put(self, request: Request) -> None:
        part = int(request.query.get("partNumber", "0"))
        offset = (part - 1) * (payload_length(request.headers) or 0) if part else 0
        upload = Upload(self._truth, request.key, offset)
        self._receive(request, upload.feed, lambda: self._put_received(request, upload, part))

    def _put_received(self, request: Request, upload: Upload, part: int) -> None:
        if not upload.right:
            return self._error(400, "BadDigest", request.key)
        if part:
            self._truth.parts.setdefault(request.query.get("uploadId", ""), {})[part] = upload.size
        else:
            self._truth.store(request.bucket, request.key, upload.size)
        return self._answer(200, [("ETag", etag_of(f"{request.key}#{part}", upload.size))])

    def _multipart(self, request: Request) -> None:
        ignored: Callable[[memoryview], None] = lambda data: None  # noqa: E731
        self._receive(request, ignored, lambda: self._multipart_received(request))

    def _multipart_received(self, request: Request) -> None:
        if "uploads" in request.query:
            body = (
                f"<InitiateMultipartUploadResult><Bucket>{request.bucket}</Bucket><Key>{request.key}</Key>"
                f"<UploadId>{self._truth.new_upload()}</UploadId></InitiateMultipartUploadResult>"
            )
            return self._answer(200, body=body)
        size = sum(self._truth.parts.pop(request.query.get("uploadId", ""), {}).values())
        self._truth.store(request.bucket, request.key, size)
        body = (
            f"<CompleteMultipartUploadResult><Bucket>{request.bucket}</Bucket>"
            f"<Key>{request.key}</Key><ETag>{etag_of(request.key, size)}</ETag>"
            "</CompleteMultipartUploadResult>"
        )
        return self._answer(200, body=body)

    def _control(self, request: Request) -> None:
        if request.key == "reset":
            self._truth.stats = Stats()
        self._answer(200, body=json.dumps(asdict(self._truth.stats)))

    def _error(
        self, status: int, code: str, resource: str, headers: list[tuple[str, str]] | None = None
    ) -> None:
        body = f"<Error><Code>{code}</Code><Message>{code}</Message><Resource>{resource}</Resource></Error>"
        self._answer(status, headers, body)

    def _answer(self, status: int, headers: list[tuple[str, str]] | None = None, body: str = "") -> None:
        payload = body.encode()
        length = [] if status in (204, 304) else [("Content-Length", str(len(payload)))]
        self._write_head(status, [*(headers or []), *length], payload)

    def _write_head(self, status: int, headers: list[tuple[str, str]], payload: bytes = b"") -> None:
        lines = [
            f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}",
            *(f"{name}: {value}" for name, value in headers),
        ]
        self._transport.write("\r\n".join([*lines, "Server: truth", "", ""]).encode("latin-1") + payload)


def parse_head(head: str) -> Request:
    request_line, *lines = head.split("\r\n")
    method, target, _ = request_line.split(" ", 2)
    path, _, raw_query = target.partition("?")
    bucket, _, key = unquote(path.lstrip("/")).partition("/")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Request(method, bucket, key, dict(parse_qsl(raw_query, keep_blank_values=True)), headers)


def main() -> None:
    arguments = argparse.ArgumentParser(prog="loadtest.origin")
    arguments.add_argument("--port", type=int, default=0)
    port = arguments.parse_args().port
    truth = Truth()
    serve_until_stdin_closes({"port": (port, lambda: OriginProtocol(truth))})


if __name__ == "__main__":
    main()
