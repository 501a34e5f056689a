"""Bodies on their way through the front: hashed as they pass, and held back at their end until everything that may
refuse the write has been asked."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web
from awscrt import checksums as crt

from gateway.cli.emulators.gcs_checks import Expected, Refusal

PIECE_BYTES = 256 << 10


class Body:
    """`chunks` gives the body of `request` and raises Refusal at its end where a digest is wrong or `before_the_end`
    objects: whoever sends it on keeps the last piece back until the end has come."""

    def __init__(
        self,
        request: web.BaseRequest,
        expected: Expected,
        before_the_end: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._request = request
        self._expected = expected
        self._before_the_end = before_the_end
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = None if expected.sha256 is None else hashlib.sha256()
        self.crc32c = 0
        self.size = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        while piece := await self._request.content.read(PIECE_BYTES):
            self._take(piece)
            yield piece
        self._judge()
        if self._before_the_end is not None:
            await self._before_the_end()

    def _take(self, piece: bytes) -> None:
        self.size += len(piece)
        self._md5.update(piece)
        self.crc32c = crt.crc32c(piece, self.crc32c)
        if self._sha256 is not None:
            self._sha256.update(piece)

    def _judge(self) -> None:
        wrong = (
            (self._expected.md5, self._md5.digest(), "MD5"),
            (self._expected.crc32c, self.crc32c.to_bytes(4, "big"), "CRC-32C"),
            (self._expected.sha256, self._sha256 and self._sha256.digest(), "SHA-256"),
        )
        for expected, found, name in wrong:
            if expected is not None and expected != found:
                raise Refusal(400, "BadDigest", f"The {name} you specified did not match what we computed.")

    @property
    def crc32c_text(self) -> str:
        return base64.b64encode(self.crc32c.to_bytes(4, "big")).decode()

    @property
    def md5_text(self) -> str:
        return base64.b64encode(self._md5.digest()).decode()
