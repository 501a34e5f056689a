"""SigV4 (https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html) in bulk.

Requests are signed before a run, each on its own: no two have the same path and second, so a server cannot
answer one from the memory of another. The heads are of the size and shape that boto3 sends. A signature is
good for 15 minutes either way.
"""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

REGION = "us-east-1"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"
SKEW_S_MAX = 600  # how far back a request may be dated: well inside the 15 minutes

_UNSIGNED_HEAD = (
    "Accept-Encoding: identity\r\n"
    "User-Agent: Boto3/1.43.117 md/Botocore#1.43.117 ua/2.1 os/linux#6.1 md/arch#x86_64 lang/python#3.11 "
    "cfg/retry-mode#legacy\r\n"
    "amz-sdk-invocation-id: {number}\r\n"
    "amz-sdk-request: attempt=1\r\n"
)


@dataclass(frozen=True, slots=True)
class Keys:
    access_key: str
    secret_key: str


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


class Signer:
    """Signs for one endpoint (`host`: "127.0.0.1:9000") with one key pair."""

    def __init__(self, keys: Keys, host: str) -> None:
        self._keys = keys
        self._host = host
        self._day = ""
        self._day_key = b""
        self._now = int(time.time())
        self._back = 0

    def redate(self) -> None:
        """Dates the requests that follow one second earlier than the last ones, from now on again after
        SKEW_S_MAX.
        """
        self._back += 1
        if self._back > SKEW_S_MAX:
            self._back, self._now = 0, int(time.time())

    def head(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        payload: str = EMPTY_SHA256,
        length: int | None = None,
    ) -> bytes:
        """A whole request head. `path` unescaped; `headers` are sent and, the x-amz-* among them and range,
        signed.
        """
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._now - self._back))
        extra = {name.lower(): value for name, value in (headers or {}).items()}
        signed = {"host": self._host, "x-amz-content-sha256": payload, "x-amz-date": stamp, **extra}
        target, raw_query = quote(path, safe="/-_.~"), self._query(query or {})
        signature, names = self._sign(method, target, raw_query, signed, stamp)
        scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
        lines = [f"{method} {target}{'?' + raw_query if raw_query else ''} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in signed.items()]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        lines.append(
            f"Authorization: AWS4-HMAC-SHA256 Credential={self._keys.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )
        unsigned = _UNSIGNED_HEAD.format(number=uuid.uuid4())
        return ("\r\n".join(lines) + "\r\n" + unsigned + "\r\n").encode("latin-1")

    def _query(self, query: Mapping[str, str]) -> str:
        pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query.items())
        return "&".join(f"{name}={value}" for name, value in pairs)

    def _sign(
        self, method: str, target: str, raw_query: str, signed: Mapping[str, str], stamp: str
    ) -> tuple[str, str]:
        names = ";".join(sorted(signed))
        listed = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        canonical = f"{method}\n{target}\n{raw_query}\n{listed}\n{names}\n{signed['x-amz-content-sha256']}"
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashed}"
        return _mac(self._key_of(stamp[:8]), text).hex(), names

    def _key_of(self, day: str) -> bytes:
        if day != self._day:
            key = _mac(b"AWS4" + self._keys.secret_key.encode(), day)
            for part in (REGION, "s3", "aws4_request"):
                key = _mac(key, part)
            self._day, self._day_key = day, key
        return self._day_key
