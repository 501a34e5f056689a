"""Request bodies as the origin receives them: plain, HTTP chunked, aws-chunked, or the last inside the
second.

Chunk signatures and trailers are not checked: the origin compares the payload itself with the pattern.
"""

from __future__ import annotations

from collections.abc import Callable

LINE_BYTES_MAX = 16 << 10  # a chunk line or the trailers: far more than any client sends

Feed = Callable[[memoryview], None]


class BodyError(Exception):
    """The body cannot be read: answer 400 and close."""


class Plain:
    """`length` bytes as they are. Feeding returns how many of the bytes belonged to the body."""

    def __init__(self, length: int, sink: Feed) -> None:
        self._left = length
        self._sink = sink

    @property
    def done(self) -> bool:
        return self._left == 0

    def feed(self, data: memoryview) -> int:
        taken = min(self._left, len(data))
        if taken:
            self._sink(data[:taken])
            self._left -= taken
        return taken


class Chunked:
    """`size[;extension] CRLF data CRLF … 0 CRLF trailers CRLF`: HTTP's framing, and aws-chunked's alike."""

    def __init__(self, sink: Feed) -> None:
        self._sink = sink
        self._line = bytearray()
        self._left = 0  # data bytes left of this chunk
        self._after_data = False
        self._in_trailers = False
        self.done = False

    def feed(self, data: memoryview) -> int:
        at = 0
        while at < len(data) and not self.done:
            if self._left:
                piece = data[at : at + self._left]
                self._sink(piece)
                self._left -= len(piece)
                self._after_data = self._left == 0
                at += len(piece)
            else:
                at += self._feed_line(data[at : at + LINE_BYTES_MAX])
        return at

    def _feed_line(self, data: memoryview) -> int:
        raw = bytes(data)
        end = raw.find(b"\n")
        taken = len(raw) if end < 0 else end + 1
        self._line += raw[:taken]
        if len(self._line) > LINE_BYTES_MAX:
            raise BodyError("chunk line too long")
        if end >= 0:
            line = bytes(self._line).strip()
            self._line.clear()
            self._on_line(line)
        return taken

    def _on_line(self, line: bytes) -> None:
        if self._in_trailers:
            self.done = not line
        elif self._after_data:
            if line:
                raise BodyError("no line end after a chunk")
            self._after_data = False
        else:
            try:
                self._left = int(line.split(b";", 1)[0], 16)
            except ValueError:
                raise BodyError(f"not a chunk size: {line[:40]!r}") from None
            self._in_trailers = self._left == 0


Body = Plain | Chunked


def body_of(headers: dict[str, str], sink: Feed) -> Body:
    """The decoder for a request with these headers (names in lower case)."""
    inner = sink
    aws_chunked = headers.get("x-amz-content-sha256", "").startswith("STREAMING-")
    if aws_chunked or "aws-chunked" in headers.get("content-encoding", ""):
        framed = Chunked(sink)

        def unframe(data: memoryview) -> None:
            framed.feed(data)

        inner = unframe
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return Chunked(inner)
    return Plain(int(headers.get("content-length", "0")), inner)


def payload_length(headers: dict[str, str]) -> int | None:
    """Payload bytes as announced; None: not said ahead."""
    said = headers.get("x-amz-decoded-content-length") or headers.get("content-length")
    return int(said) if said else None
