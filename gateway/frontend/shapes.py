"""Signed reads that differ from one before only where all of them do: in the target, the date, the signature, the
range, and the number an SDK gives each call.

All other bytes of such a head have been judged already, line by line (`head.parse_head`). So they are compared with
those, as a whole, and only the few values are looked at. That costs a third of judging them again, and whatever
follows from the other bytes (what the hot path makes of the headers, how the canonical request begins) is looked up
by their shape.

Pure: no socket, no clock.
"""

from __future__ import annotations

import re
from itertools import pairwise
from struct import Struct
from typing import Final

from gateway.frontend.exchange import RequestHead
from gateway.frontend.head import TARGET_BYTES_MAX
from gateway.frontend.traits import Traits

# Of a server; full, they are forgotten.
SHAPES_MAX: Final = 256
# A connection learns no more: the lengths of one client's ranges make some ten shapes, and a client that has a new one
# for each request (a proxy that numbers them) shall not pay for learning it, which takes 20 µs.
LESSONS_MAX: Final = 16
# Headers longer than this are parsed. Those of SDKs take less than a third.
BYTES_MAX: Final = 2 << 10

_VERSION: Final = b" HTTP/1.1\r\n"
_LINE: Final = re.compile(rb"(GET|HEAD) (/[!-~]*)")
_LINE_BYTES_MAX: Final = TARGET_BYTES_MAX - len(_VERSION)
# Nothing in a value can end a line or be taken for the blanks around it: `_MARKS`, letters and digits.
_MARKS: Final = b"-=,"
_VALUES: Final = re.compile(
    rb"\r\n(?i:x-amz-date: *(?P<date>[0-9TZ]{16})"
    rb"|range: *(?P<range>bytes=[0-9,-]{1,64})"
    rb"|amz-sdk-invocation-id: *(?P<number>[0-9a-z-]{1,64})"
    rb"|authorization: *AWS4-HMAC-SHA256 [ -~]*Signature=(?P<signature>[0-9a-f]{64}))(?=\r\n)"
)
_NAMES: Final = {
    "date": "x-amz-date",
    "range": "range",
    "number": "amz-sdk-invocation-id",
    "signature": "authorization",
}


class Shape:
    """What follows the target of all these heads: `_fixed` bytes, and between them values of fixed lengths. Equal
    shapes of a server are one object.

    date_at, signature_at, range_at   where those are among the values; `range_at` -1: none
    """

    __slots__ = (
        "_fixed",
        "_headers",
        "_names",
        "_unpack",
        "date_at",
        "length",
        "range_at",
        "signature_at",
        "traits",
    )

    def __init__(
        self, names: list[str], sizes: list[int], fixed: tuple[bytes, ...], headers: dict[str, str]
    ) -> None:
        """`sizes` of fixed bytes and values in turn; `headers` of one of these heads, its signature taken off."""
        layout = Struct("".join(f"{size}s" for size in sizes))
        self.length = layout.size
        self._unpack = layout.unpack_from
        self._fixed = fixed
        self._names = names
        self._headers = headers
        self.date_at = names.index("x-amz-date")
        self.signature_at = names.index("authorization")
        self.range_at = names.index("range") if "range" in names else -1
        self.traits = Traits.of(headers)

    def headers(self, values: tuple[bytes, ...]) -> dict[str, str]:
        headers = self._headers.copy()
        for name, value in zip(self._names, values, strict=True):
            text = value.decode("ascii")
            headers[name] = headers[name] + text if name == "authorization" else text
        return headers

    def read(self, raw: bytes, at: int) -> RequestHead | None:
        """The head that `raw` is, if what follows the target at `at` has this shape, else None."""
        parts = self._unpack(raw, at)
        if parts[::2] != self._fixed:
            return None
        values = parts[1::2]
        line = _LINE.fullmatch(raw, 0, at)
        if line is None or at > _LINE_BYTES_MAX or not b"".join(values).translate(None, _MARKS).isalnum():
            return None
        method, target = line.groups()
        return RequestHead(method.decode("ascii"), target.decode("ascii"), None, 0, True, True, self, values)


class Shapes:
    """Those of all connections of a server."""

    def __init__(self) -> None:
        self._known: dict[tuple[tuple[int, ...], tuple[bytes, ...]], Shape] = {}

    def learn(self, own: dict[int, Shape], raw: bytes, head: RequestHead) -> None:
        """`head` was parsed from `raw`: if it is a signed read with nothing unusual about its connection, its shape
        becomes one of the connection's `own`, by their lengths."""
        at = raw.find(_VERSION)
        if head.method not in ("GET", "HEAD") or head.length != 0 or not head.keep_alive or at < 0:
            return
        shape = self._shape(raw, at, head) if len(raw) - at <= BYTES_MAX else None
        if shape is not None:
            own[shape.length] = shape

    def _shape(self, raw: bytes, at: int, head: RequestHead) -> Shape | None:
        names: list[str] = []
        cuts = [at]
        for found in _VALUES.finditer(raw, at):
            kind = found.lastgroup
            assert kind is not None
            names.append(_NAMES[kind])
            cuts += found.span(kind)
        if "x-amz-date" not in names or "authorization" not in names:
            return None
        cuts.append(len(raw))
        sizes = [stop - start for start, stop in pairwise(cuts)]
        parts = Struct("".join(f"{size}s" for size in sizes)).unpack_from(raw, at)
        key = tuple(sizes), parts[::2]
        shape = known = self._known.get(key)
        if shape is None:
            headers = head.headers.copy()
            headers["authorization"] = headers["authorization"][:-64]
            shape = Shape(names, sizes, parts[::2], headers)
        # Two readings of a head are one too many: a line that comes twice, say, is left to the parser.
        read = shape.read(raw, at)
        if read is None or read.headers != head.headers:
            return None
        if known is None:
            if len(self._known) >= SHAPES_MAX:
                self._known.clear()
            self._known[key] = shape
        return shape


def recognise(own: dict[int, Shape], raw: bytes) -> RequestHead | None:
    """The head that `raw` is, up to and including the empty line and nothing behind it, if it has one of the shapes;
    a third of what parsing takes. None: it has to be parsed."""
    at = raw.find(_VERSION)
    shape = own.get(len(raw) - at)
    return None if shape is None or at < 0 else shape.read(raw, at)
