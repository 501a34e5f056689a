"""HeadObject and GetObject: exactly the bytes that were asked for, of exactly that version, or an error.

Everything that an origin can get wrong is checked: that a ranged answer has its Content-Range (one that ignores Range
has none), its ETag against `if_match` (some stores ignore If-Match), and the number of bytes, both ways. A
read is retried until its first bytes are here; after that it is the reader's to go on behind what it has.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from types import TracebackType

from gateway.errors import Changed, RangeNotSatisfiable, Unreachable
from gateway.model import ObjectMeta, Remote
from gateway.origins.s3_client import Client
from gateway.origins.s3_http import Answer, Call
from gateway.origins.s3_meta import object_meta
from gateway.s3.conditions import matches

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")


async def head(client: Client, remote: Remote, query: str = "") -> ObjectMeta:
    """`query`: what names a version, where the store has a way to."""
    client.flavour.require_held(remote.key)
    call = Call("head", "HEAD", remote.bucket, remote.key, query, _asking_for_checksums(client))
    answer = await client.finished(call)
    if answer.length is None:
        raise Unreachable("The origin's answer has no Content-Length.")
    return object_meta(answer.headers, answer.length, whole=True)


def _asking_for_checksums(client: Client) -> dict[str, str]:
    return {"x-amz-checksum-mode": "ENABLED"} if client.flavour.capabilities.checksums else {}


class S3Reading:
    """A `Reading` and the context manager that opens it."""

    meta: ObjectMeta
    start: int
    stop: int

    def __init__(
        self,
        client: Client,
        remote: Remote,
        start: int,
        stop: int | None,
        if_match: str | None,
        query: str = "",
    ) -> None:
        self._client = client
        self._if_match = if_match
        self._asked = (start, stop)
        self._whole = start == 0 and stop is None
        self._call = Call("get", "GET", remote.bucket, remote.key, query, self._headers())
        self._answer: Answer | None = None
        self._first = b""

    def _headers(self) -> dict[str, str]:
        start, stop = self._asked
        headers = self._terms()
        if not self._whole:
            headers["range"] = f"bytes={start}-" if stop is None else f"bytes={start}-{stop - 1}"
        return headers

    def _terms(self) -> dict[str, str]:
        """What is asked beside the bytes."""
        headers = {} if self._if_match is None else {"if-match": self._if_match}
        return headers | _asking_for_checksums(self._client) if self._whole else headers

    async def __aenter__(self) -> S3Reading:
        start, stop = self._asked
        self._client.flavour.require_held(self._call.key)
        if stop is not None and stop <= start:
            raise RangeNotSatisfiable("The range is empty.")
        await self._client.retried(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._answer is not None:
            self._answer.close()

    async def _open(self) -> None:
        """One try, up to the first bytes of the body."""
        answer = await self._client.open(self._call, (200, 206))
        try:
            self._check(answer)
            self._first = await answer.piece()
        except BaseException:
            answer.close()
            raise
        self._answer = answer

    def _check(self, answer: Answer) -> None:
        if self._whole:
            if answer.status != 200 or answer.length is None:
                raise Unreachable("The origin did not answer with the whole object.")
            self.start, self.stop, size = 0, answer.length, answer.length
        else:
            self.start, self.stop, size = self._range(answer)
        self.meta = self._meta(answer, size)
        if self._if_match is not None and not matches(self._if_match, self.meta.etag, weak=False):
            raise Changed("The object is no longer the version that was asked for.")

    def _meta(self, answer: Answer, size: int) -> ObjectMeta:
        return object_meta(answer.headers, size, whole=self._whole)

    def _range(self, answer: Answer) -> tuple[int, int, int]:
        """(start, stop, size of the object)"""
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        if found is None and answer.status == 200 and answer.length == 0:  # S3 says 416, some stores do not
            raise RangeNotSatisfiable("The object is empty.", 0)
        if found is None:  # with a right Content-Range a 200 is as good as a 206: `rclone serve s3` sends it
            raise Unreachable("The origin did not answer with the range that was asked for.")
        first, last, size = map(int, found.groups())
        start, stop = self._asked
        expected = (start, size if stop is None else min(stop, size))
        if (first, last + 1) != expected or answer.length not in (None, last + 1 - first):
            raise Unreachable("The origin answered with another range.")
        return first, last + 1, size

    async def chunks(self) -> AsyncIterator[bytes]:
        answer, left = self._answer, self.stop - self.start
        if answer is None:
            raise Unreachable("The reading is not open.")
        piece, self._first = self._first, b""
        limits = self._client.limits
        while piece:
            left -= len(piece)
            if left < 0:
                raise Unreachable("The origin sent more than it announced.")
            if limits.paced:
                await limits.pace(len(piece))
            yield piece
            piece = await answer.piece()
        if left:
            raise Unreachable("The origin's answer was cut short.")
