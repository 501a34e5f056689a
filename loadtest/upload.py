"""Uploads: lanes that each send their puts one after another, all lanes at once, bytes straight from the
pattern's tape.

Payloads are UNSIGNED-PAYLOAD, what the CRT and polars send: hashing gigabytes would make the generator the
subject. That the bytes arrived right is checked at the other end, where the origin compares them with the
pattern.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from loadtest import pattern
from loadtest.client import HOST, LoadError
from loadtest.peers import BUCKET
from loadtest.signing import EMPTY_SHA256, UNSIGNED, Signer

PIECE_BYTES = 256 << 10
ANSWER_BYTES_MAX = 64 << 10
_UPLOAD_ID = re.compile(rb"<UploadId>([^<]+)</UploadId>")
_ETAG = re.compile(rb"(?i)\r\netag: *([^\r]+)")


class Put(NamedTuple):
    """One request with a body: `length` bytes of `key` from `offset`."""

    wire: bytes
    key: str
    offset: int
    length: int


class Lane:
    """One connection that sends its puts in turn. `etags`: one for each that was answered."""

    def __init__(self, port: int, puts: Sequence[Put]) -> None:
        self.sock = socket.create_connection((HOST, port), timeout=30)
        self.sock.setblocking(False)
        self._puts = deque(puts)
        self._out = memoryview(b"")
        self._answer = b""
        self._sent = 0
        self.etags: list[str] = []
        self._begin()

    @property
    def done(self) -> bool:
        return not self._puts

    @property
    def sending(self) -> bool:
        return not self.done and (bool(self._out) or self._sent < self._puts[0].length)

    def _begin(self) -> None:
        self._sent = 0
        self._answer = b""
        self._out = memoryview(self._puts[0].wire if self._puts else b"")

    def write(self) -> None:
        """Sends until the socket is full or the body is out."""
        put = self._puts[0]
        start = pattern.start_of(put.key)
        with contextlib.suppress(BlockingIOError):
            while self.sending:
                if not self._out:
                    self._out = pattern.piece(
                        start, put.offset + self._sent, min(put.length - self._sent, PIECE_BYTES)
                    )
                    self._sent += len(self._out)
                self._out = self._out[self.sock.send(self._out) :]

    def read(self) -> None:
        data = self.sock.recv(ANSWER_BYTES_MAX)
        self._answer += data
        if not data or not self._answer.startswith(b"HTTP/1.1 200"):
            raise LoadError(f"PUT {self._puts[0].key}: {self._answer[:800].decode('latin-1') or 'closed'}")
        if b"\r\n\r\n" in self._answer:
            found = _ETAG.search(self._answer)
            self.etags.append(found.group(1).decode() if found else "")
            self._puts.popleft()
            self._begin()


def run_lanes(
    port: int, lanes: Sequence[Sequence[Put]], *, seconds_max: float
) -> tuple[float, list[list[str]]]:
    """All lanes at once; returns (seconds, the ETags of each lane)."""
    began = time.monotonic()
    running = [Lane(port, puts) for puts in lanes]
    by_fd = {lane.sock.fileno(): lane for lane in running}
    poller = select.poll()
    for descriptor in by_fd:
        poller.register(descriptor, select.POLLIN | select.POLLOUT)
    while not all(lane.done for lane in running):
        if time.monotonic() > began + seconds_max:
            raise LoadError(f"uploads were not done in {seconds_max:.0f} s")
        for descriptor, events in poller.poll(1000):
            lane = by_fd[descriptor]
            if events & ~select.POLLOUT and not lane.done:
                lane.read()
            elif lane.sending:
                lane.write()
            wanted = select.POLLIN | (select.POLLOUT if lane.sending else 0)
            poller.modify(descriptor, wanted)
    for lane in running:
        lane.sock.close()
    return time.monotonic() - began, [lane.etags for lane in running]


def whole(signer: Signer, key: str, size: int) -> Put:
    head = signer.head("PUT", f"/{BUCKET}/{key}", payload=UNSIGNED, length=size)
    return Put(head, key, 0, size)


def parts(signer: Signer, key: str, size: int, part_size: int, upload_id: str) -> list[Put]:
    """The parts of an upload; `part_size` divides `size`, so that the origin knows where a part belongs."""
    assert size % part_size == 0
    puts = []
    for number in range(size // part_size):
        query = {"partNumber": str(number + 1), "uploadId": upload_id}
        head = signer.head("PUT", f"/{BUCKET}/{key}", query=query, payload=UNSIGNED, length=part_size)
        puts.append(Put(head, key, number * part_size, part_size))
    return puts


def ask(port: int, wire: bytes) -> bytes:
    """One small request on a connection of its own; the whole answer, which must be a 200."""
    with socket.create_connection((HOST, port), timeout=120) as sock:
        sock.sendall(wire)
        answer = b""
        while b"\r\n\r\n" not in answer or not _complete(answer):
            data = sock.recv(ANSWER_BYTES_MAX)
            if not data:
                break
            answer += data
    if not answer.startswith(b"HTTP/1.1 200") or b"<Error>" in answer:
        raise LoadError(f"{wire[:80]!r}: {answer[:800].decode('latin-1')}")
    return answer


def _complete(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return len(body) >= int(length.group(1)) if length else body.endswith((b"0\r\n\r\n", b"Result>"))


def create(port: int, signer: Signer, key: str) -> str:
    wire = signer.head("POST", f"/{BUCKET}/{key}", query={"uploads": ""}, payload=EMPTY_SHA256, length=0)
    found = _UPLOAD_ID.search(ask(port, wire))
    if found is None:
        raise LoadError(f"no UploadId for {key}")
    return found.group(1).decode()


def complete(port: int, signer: Signer, key: str, upload_id: str, etags: Sequence[str]) -> None:
    listed = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        for number, etag in enumerate(etags, 1)
    )
    body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    query = {"uploadId": upload_id}
    wire = signer.head("POST", f"/{BUCKET}/{key}", query=query, payload=UNSIGNED, length=len(body))
    ask(port, wire + body)
