"""What the checks of `gateway doctor` work with: an endpoint, a prefix of their own, stock boto3, and signed requests
of any shape for what boto3 sends only over HTTPS.

A check is a function that takes the `Lab` and returns when all was as S3 does it. It raises `Failed` with what was
expected, or `Skipped` with why it could not be tried. `@check(name)` puts it into `CHECKS`, which run in that order.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import boto3
import botocore.session
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session

TIMEOUT_S: Final = 30
Call = Callable[..., Any]


class Failed(Exception):
    """The endpoint does not do as S3 does; the text says what was expected and what came."""


class Skipped(Exception):
    """The check could not be tried; the text says why."""


@dataclass(frozen=True)
class Check:
    name: str
    run: Callable[[Lab], None]


CHECKS: list[Check] = []


def check(name: str) -> Callable[[Callable[[Lab], None]], Callable[[Lab], None]]:
    def register(run: Callable[[Lab], None]) -> Callable[[Lab], None]:
        CHECKS.append(Check(name, run))
        return run

    return register


def expect(holds: object, otherwise: str) -> None:
    if not holds:
        raise Failed(otherwise)


def same(got: object, wanted: object, what: str) -> None:
    """Failed with both, each cut to what fits a line."""
    if got != wanted:
        raise Failed(f"{what}: expected {_short(wanted)}, got {_short(got)}")


def _short(value: object) -> str:
    text = repr(value)
    if isinstance(value, bytes) and len(value) > 40:
        return f"{len(value)} bytes beginning {value[:20]!r}"
    return text if len(text) <= 120 else text[:117] + "…"


@dataclass(frozen=True)
class Account:
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    session_token: str | None = field(default=None, repr=False)


class Lab:
    """One run against one endpoint. Everything it writes lies under `prefix`, which no other run has."""

    def __init__(self, endpoint: str, bucket: str, account: Account, prefix: str = "") -> None:
        self.endpoint, self.bucket, self.account = endpoint.rstrip("/"), bucket, account
        self.prefix = f"{prefix}gateway-doctor-{secrets.token_hex(8)}/"
        self._clients: list[Any] = []
        self._http = URLLib3Session(verify=os.environ.get("AWS_CA_BUNDLE", True), timeout=TIMEOUT_S)
        self.s3 = self.client()

    def client(self, access_key: str = "", secret_key: str = "", **config: Any) -> Any:
        """Stock boto3 in path style, closed with the lab. It tries everything once: a retry would hide an error."""
        settings = Config(
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            connect_timeout=5,
            read_timeout=TIMEOUT_S,
            **config,
        )
        client = boto3.Session(botocore_session=_bare_session()).client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=access_key or self.account.access_key,
            aws_secret_access_key=secret_key or self.account.secret_key,
            aws_session_token=None if access_key else self.account.session_token,
            region_name=self.account.region,
            config=settings,
        )
        self._clients.append(client)
        return client

    def close(self) -> None:
        while self._clients:
            self._clients.pop().close()
        self._http.close()

    # objects

    def key(self, name: str) -> str:
        return self.prefix + name

    def at(self, name: str) -> dict[str, str]:
        """The arguments that name an object of this run."""
        return {"Bucket": self.bucket, "Key": self.key(name)}

    def put(self, name: str, body: bytes = b"", **options: Any) -> Any:
        return self.s3.put_object(**self.at(name), Body=body, **options)

    def get(self, name: str, **options: Any) -> bytes:
        body = self.s3.get_object(**self.at(name), **options)["Body"]
        try:
            return bytes(body.read())
        finally:
            body.close()

    def names(self, prefix: str = "") -> list[str]:
        """Names of this run's objects, as listed page by page."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.key(prefix))
        return [
            entry["Key"].removeprefix(self.prefix) for page in pages for entry in page.get("Contents", ())
        ]

    def gone(self, name: str) -> None:
        refused("404", self.s3.head_object, **self.at(name))

    # requests of any shape

    def url(self, name: str) -> str:
        return f"{self.endpoint}/{self.bucket}/{quote(self.key(name))}"

    def send(
        self, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the answer to a request that is sent as it is."""
        answer = self._http.send(AWSRequest(method, url, headers, body).prepare())
        return answer.status_code, answer.headers, answer.content

    def send_with_trailer(
        self, name: str, body: bytes, headers: Mapping[str, str], trailer: str, value: str
    ) -> tuple[int, bytes]:
        """PUT in aws-chunked framing, unsigned payload, with a checksum in the trailer, as SDKs do over HTTPS."""
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        framed = chunk + b"0\r\n" + f"{trailer}:{value}\r\n\r\n".encode()
        told = {
            "Content-Encoding": "aws-chunked",
            "X-Amz-Trailer": trailer,
            "X-Amz-Decoded-Content-Length": str(len(body)),
            "Content-Length": str(len(framed)),
            **headers,
        }
        request = AWSRequest("PUT", self.url(name), told, framed)
        request.context["checksum"] = {"request_algorithm": {"in": "trailer"}}
        keys = Credentials(self.account.access_key, self.account.secret_key, self.account.session_token)
        S3SigV4Auth(keys, "s3", self.account.region).add_auth(request)
        answer = self._http.send(request.prepare())
        return answer.status_code, answer.content


def _bare_session() -> Any:
    """A session that reads no profile and no config file: what is checked is the endpoint."""
    session = botocore.session.Session(session_vars={"profile": (None, None, None, None)})
    session.set_config_variable("config_file", os.devnull)
    session.set_config_variable("credentials_file", os.devnull)
    return session


def refused(codes: str, call: Call, **arguments: Any) -> ClientError:
    """Calls, and expects one of the S3 codes (or statuses, for answers without a body), separated by spaces."""
    try:
        call(**arguments)
    except ClientError as error:
        got = error.response["Error"]["Code"]
        status = str(error.response["ResponseMetadata"]["HTTPStatusCode"])
        if got not in codes.split() and status not in codes.split():
            raise Failed(f"expected {' or '.join(codes.split())}, got {got} (status {status})") from None
        return error
    raise Failed(f"expected {' or '.join(codes.split())}, but it was taken")
