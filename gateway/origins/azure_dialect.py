"""Azure on the wire: which headers every request carries, and its authorization.

Shared Key is "Authorize with Shared Key" of the Storage REST API: an HMAC over the verb, twelve standard headers, the
x-ms-* headers in order, and the path and query as they are sent. The service orders x-ms-* names as Windows orders
words, where a dash counts for nothing and an underscore comes before digits; the names sent here are such that it
comes to the order of their bytes (`azure_meta.py` sees to the metadata).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from gateway.origins.azure_credentials import AccountKey, NoKeys
from gateway.origins.s3_body import Upload
from gateway.origins.s3_dialect import UNSIGNED_HEADERS
from gateway.origins.tokens import TokenSource
from gateway.s3.object_headers import http_date
from gateway.s3.signer import Credentials

if TYPE_CHECKING:
    from gateway.origins.s3_http import Call

# Blocks of 4,000 MiB, names percent-encoded in listings where XML cannot hold them, and the tier Cold.
API_VERSION: Final = "2023-11-03"
_STANDARD: Final = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)


class Azure:
    def __init__(self, credentials: AccountKey | NoKeys | TokenSource) -> None:
        self._credentials = credentials

    async def keys(self) -> Credentials:
        return await self._credentials.get()

    def unsigned(self, call: Call) -> Mapping[str, str]:
        return UNSIGNED_HEADERS

    def signed(self, call: Call, host: str, path: str, keys: Credentials) -> Mapping[str, str]:
        headers = {**call.headers, "x-ms-date": http_date(int(time.time())), "x-ms-version": API_VERSION}
        if keys.token is not None:
            headers["authorization"] = f"Bearer {keys.token}"
        elif keys.secret_key:
            text = string_to_sign(call.method, path, call.query, headers, _length_of(call), keys.access_key)
            headers["authorization"] = f"SharedKey {keys.access_key}:{signature(keys.secret_key, text)}"
        return headers

    def received(self, headers: dict[str, str]) -> dict[str, str]:
        return headers

    async def close(self) -> None:
        await self._credentials.close()


def _length_of(call: Call) -> int:
    if isinstance(call.body, Upload):
        return call.body.size or 0
    return len(call.body or b"")


def string_to_sign(
    method: str, path: str, query: str, headers: Mapping[str, str], length: int, account: str
) -> str:
    """path, query: as on the wire;  length: of the body, 0 when there is none"""
    given = {**headers, "content-length": str(length) if length else ""}
    standard = "\n".join([given.get(name, "") for name in _STANDARD])
    own = "".join(
        [f"{name}:{headers[name].strip()}\n" for name in sorted(headers) if name.startswith("x-ms-")]
    )
    return f"{method}\n{standard}\n{own}/{account}{path}{_parameters(query)}"


def _parameters(query: str) -> str:
    if not query:
        return ""
    pairs = [pair.partition("=")[::2] for pair in query.split("&")]
    return "".join([f"\n{unquote(name).lower()}:{unquote(value)}" for name, value in sorted(pairs)])


def signature(key: str, text: str) -> str:
    return base64.b64encode(hmac.digest(_key_bytes(key), text.encode(), hashlib.sha256)).decode()


@lru_cache(16)
def _key_bytes(key: str) -> bytes:
    return base64.b64decode(key)
