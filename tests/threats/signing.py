"""Signatures made from the published description alone, so that the gateway's own code is not its judge; and every
step open to be done wrongly. Source: S3 API Reference, "Authenticating Requests (AWS Signature Version 4)"."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote

from tests.gateway_process import REGION, secret_of

UNSIGNED: Final = "UNSIGNED-PAYLOAD"
CHUNKED_UNSIGNED: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
CHUNKED_SIGNED: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"


@dataclass(frozen=True, repr=False)
class Call:
    """A request as it will be sent; `headers` in lower case and in order."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    def __repr__(self) -> str:
        return f"<{self.method} {self.target.partition('?')[0]}>"

    def but(self, **headers: str | None) -> Call:
        """With other headers (`_` stands for `-`), None for none."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        merged = {**self.headers, **named}
        return replace(self, headers={name: value for name, value in merged.items() if value is not None})

    def head(self) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        return f"{self.method} {self.target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")

    def wire(self) -> bytes:
        return self.head() + self.body

    @property
    def signature(self) -> str:
        return self.headers["authorization"].rpartition("Signature=")[2]


@dataclass(frozen=True)
class Signer:
    """Signs for one identity of `tests.gateway_process.identity`. `clock` and the fields may be replaced to sign
    something that is wrong by itself."""

    name: str
    host: str
    secret: str = ""
    access_key: str = ""
    service: str = "s3"
    day: str = ""
    clock: Callable[[], float] = time.time

    def key(self, day: str) -> bytes:
        made = b"AWS4" + (self.secret or secret_of(self.name)).encode()
        for step in (day, REGION, self.service, "aws4_request"):
            made = digest(made, step)
        return made

    def stamp(self) -> tuple[str, str]:
        """The date and the scope."""
        date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self.clock()))
        return date, f"{self.day or date[:8]}/{REGION}/{self.service}/aws4_request"

    def credential(self, scope: str) -> str:
        return f"{self.access_key or f'AK{self.name.upper()}'}/{scope}"

    def call(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        payload: str | None = None,
        signed: Sequence[str] | None = None,
        date: str | None = None,
    ) -> Call:
        """Signed in headers. `payload`: instead of the body's digest; `signed`: instead of all header names;
        `date`: instead of now's."""
        now, scope = self.stamp()
        date = now if date is None else date
        payload = hashlib.sha256(body).hexdigest() if payload is None else payload
        sent = {"host": self.host, **(headers or {}), "x-amz-date": date, "x-amz-content-sha256": payload}
        names = sorted(sent) if signed is None else list(signed)
        path, _, query = target.partition("?")
        canonical = f"{method}\n{path}\n{canonical_query(query)}\n{block(sent, names)}{payload}"
        signature = self.sign(date, scope, canonical)
        sent["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.credential(scope)}, SignedHeaders={';'.join(names)}, "
            f"Signature={signature}"
        )
        if body and "transfer-encoding" not in sent:
            sent.setdefault("content-length", str(len(body)))
        return Call(method, target, sent, body)

    def sign(self, date: str, scope: str, canonical: str) -> str:
        hashed = hashlib.sha256(canonical.encode("latin-1")).hexdigest()
        return digest(self.key(scope[:8]), f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashed}").hex()

    def presigned(self, method: str, path: str, expires: str | None = "60", query: str = "") -> Call:
        """A SigV4 URL, only `host` signed. `query`: more parameters, in canonical form."""
        date, scope = self.stamp()
        given = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": self.credential(scope),
            "X-Amz-Date": date,
            "X-Amz-SignedHeaders": "host",
        } | ({} if expires is None else {"X-Amz-Expires": expires})
        pairs = [f"{name}={quote(value, safe='-_.~')}" for name, value in given.items()]
        whole = canonical_query("&".join([*pairs, *([query] if query else [])]))
        canonical = f"{method}\n{path}\n{whole}\n{block({'host': self.host}, ['host'])}{UNSIGNED}"
        signature = self.sign(date, scope, canonical)
        return Call(method, f"{path}?{whole}&X-Amz-Signature={signature}", {"host": self.host})

    def presigned_v2(self, method: str, path: str, expires: int) -> Call:
        message = f"{method}\n\n\n{expires}\n{path}"
        made = hmac.digest((self.secret or secret_of(self.name)).encode(), message.encode(), "sha1")
        signature = quote(base64.b64encode(made).decode(), safe="")
        query = f"AWSAccessKeyId=AK{self.name.upper()}&Expires={expires}&Signature={signature}"
        return Call(method, f"{path}?{query}", {"host": self.host})

    def chunked(self, target: str, chunks: Sequence[bytes], **headers: str) -> tuple[Call, list[bytes]]:
        """A PUT with a signature for each chunk: its head, and its chunks with the last, empty one."""
        more = {"x-amz-decoded-content-length": str(sum(map(len, chunks))), **headers}
        call = self.call("PUT", target, headers=more, payload=CHUNKED_SIGNED)
        date, scope = call.headers["x-amz-date"], self.stamp()[1]
        key, previous, framed = self.key(scope[:8]), call.signature, []
        for chunk in (*chunks, b""):
            hashes = f"{hashlib.sha256().hexdigest()}\n{hashlib.sha256(chunk).hexdigest()}"
            previous = digest(key, f"AWS4-HMAC-SHA256-PAYLOAD\n{date}\n{scope}\n{previous}\n{hashes}").hex()
            framed.append(f"{len(chunk):x};chunk-signature={previous}\r\n".encode() + chunk + b"\r\n")
        return call, framed

    def trailing(self, target: str, length: int, wire: bytes, trailer: str = "x-amz-checksum-crc32") -> Call:
        """A PUT of an unsigned aws-chunked body that announces a trailer."""
        headers = {"x-amz-decoded-content-length": str(length), "x-amz-trailer": trailer}
        call = self.call("PUT", target, headers=headers, payload=CHUNKED_UNSIGNED)
        return with_body(call, wire)


def with_body(call: Call, wire: bytes) -> Call:
    return replace(call.but(content_length=str(len(wire))), body=wire)


def digest(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode("latin-1"), "sha256")


def canonical_query(query: str) -> str:
    return "&".join(sorted(item if "=" in item else f"{item}=" for item in query.split("&") if item))


def block(headers: Mapping[str, str], names: Sequence[str]) -> str:
    """The canonical headers and their names. One that is absent counts as empty: a signer that lies."""
    lines = "".join(f"{name}:{' '.join(headers.get(name, '').split())}\n" for name in names)
    return f"{lines}\n{';'.join(names)}\n"
