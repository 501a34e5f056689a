"""Clients that take their time: each is given a bound, and none holds a connection beyond it."""

from __future__ import annotations

import select
import time
from contextlib import ExitStack

from tests.threats.conftest import Front
from tests.threats.signing import CHUNKED_UNSIGNED, UNSIGNED, Call
from tests.threats.wire import Line

BYTE_EVERY_S = 0.2


def drip(lines: list[Line], byte: bytes, longest_s: float) -> float:
    """Sends each line a byte now and then until all have something to read; how long that took."""
    began = time.monotonic()
    waiting = list(lines)
    while waiting:
        assert time.monotonic() - began < longest_s
        ready = select.select([line.sock for line in waiting], [], [], BYTE_EVERY_S)[0]
        waiting = [line for line in waiting if line.sock not in ready]
        for line in waiting:
            line.send(byte)
    return time.monotonic() - began


def test_head_not_finished_in_time(front: Front) -> None:
    """A second here. A byte now and then gives nobody more time."""
    with ExitStack() as stack:
        lines = [stack.enter_context(front.line()) for _ in range(20)]
        for count, line in enumerate(lines):
            line.send((b"GET /anna/k HTTP/1.1\r\nHost: " + b"h" * count + b"\r\nx: ")[: 10 + 3 * count])
        drip(lines, b"x", 5)
        for line in lines:
            assert line.ended()


def test_body_slower_than_the_floor(front: Front, target: str) -> None:
    """A kilobyte per second, looked at over ten: every form of body at once."""
    upload = front.ask(front.anna.call("POST", f"{target}?uploads")).body
    upload_id = upload.partition(b"<UploadId>")[2].partition(b"<")[0].decode()
    coded = {
        "transfer-encoding": "chunked",
        "x-amz-decoded-content-length": "5000",
        "x-amz-trailer": "x-amz-checksum-crc32",
    }

    def plain(method: str, where: str, **headers: str) -> tuple[Call, bytes]:
        call = front.anna.call(method, where, headers=headers, payload=UNSIGNED)
        return call.but(content_length="5000"), b""

    calls = [
        plain("PUT", target),
        plain("PUT", f"{target}?partNumber=1&uploadId={upload_id}"),
        plain("POST", f"{target}?uploadId={upload_id}"),
        plain("POST", "/anna?delete", **{"content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}),
        (front.anna.presigned("PUT", target).but(content_length="5000"), b""),
        (front.anna.trailing(target, 5000, b"").but(content_length="6000"), b"1388\r\n"),
        (front.anna.call("PUT", target, headers=coded, payload=CHUNKED_UNSIGNED), b"1400\r\n1388\r\n"),
    ]
    with ExitStack() as stack:
        lines = [stack.enter_context(front.line()) for _ in calls]
        for line, (call, begin) in zip(lines, calls, strict=True):
            line.send(call.head() + begin)
        drip(lines, b"1", 14)
        for line in lines:
            assert line.answer().said == (400, "RequestTimeout")
            line.done_sending()
            assert line.ended()
    assert front.stored(target) == b"before"
