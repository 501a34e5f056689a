"""Requests as botocore signs and encodes them, turned into what a server sees."""

from __future__ import annotations

import calendar
import time
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from gateway.s3.authentication import Authenticated
from gateway.s3.sigv4 import Verifier

ACCESS, SECRET, REGION, HOST = (
    "AKIDEXAMPLE",
    "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "eu-west-3",
    "gw.test:9000",
)
VERIFIER = Verifier({ACCESS: SECRET}.get)


def client(region: str = REGION, **config: Any) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://{HOST}",
        region_name=region,
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
        config=Config(s3={"addressing_style": "path"}, **config),
    )


def signed(method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> dict[str, str]:
    """The headers of a request, names in lower case, as botocore's own signer completes them. `path` and `query` are
    as on the wire."""
    url = f"http://{HOST}{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method=method, url=url, headers=headers, data=body)
    S3SigV4Auth(Credentials(ACCESS, SECRET), "s3", REGION).add_auth(request)
    return {"host": HOST, **{name.lower(): value for name, value in request.headers.items()}}


def signed_at(headers: dict[str, str]) -> float:
    return calendar.timegm(time.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ"))


def verify(
    method: str, path: str, query: str, headers: dict[str, str], now: float | None = None
) -> Authenticated:
    """By a verifier that has seen nothing yet."""
    at = signed_at(headers) if now is None else now
    return Verifier({ACCESS: SECRET}.get).verify(method, path, query, headers, at)


def split(url: str) -> tuple[str, str]:
    """Path and query of a URL as they would be sent."""
    parts = urlsplit(url)
    return parts.path, parts.query
