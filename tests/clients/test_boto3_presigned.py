"""Presigned URLs as stock boto3 makes them: SigV2 query strings for a custom endpoint in us-east-1, SigV4
when asked for."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.auth
import botocore.crt.auth
import pytest

from tests.targets import Target

pytestmark = pytest.mark.needs("presigned")


@pytest.fixture(params=["stock", "s3v4"])
def presigner(request: pytest.FixtureRequest, target: Target) -> Iterator[Any]:
    config = {} if request.param == "stock" else {"signature_version": "s3v4"}
    client = target.client(config=config)
    yield client
    client.close()


def fetch(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    headers.setdefault("content_type", "")
    sent = {name.replace("_", "-"): value for name, value in headers.items() if value}
    request = urllib.request.Request(url, data=body, method=method, headers=sent)
    if body is not None and "content-type" not in sent:
        request.add_unredirected_header("Content-Type", "")  # urllib would invent one, which SigV2 signs
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_stock_boto3_presigns_with_sigv2(target: Target) -> None:
    """If this changes, the suite no longer proves the old form."""
    client = target.client()
    url = client.generate_presigned_url("get_object", Params={"Bucket": "data", "Key": "x"})
    assert "AWSAccessKeyId=" in url
    assert "X-Amz-Signature" not in url
    client.close()


def test_a_presigned_get_reads(s3: Any, presigner: Any, key: str) -> None:
    name = f"{key}/a b+c&ü.bin"
    s3.put_object(Bucket="data", Key=name, Body=b"presigned bytes")
    url = presigner.generate_presigned_url("get_object", Params={"Bucket": "data", "Key": name})
    for _ in range(2):
        assert fetch(url) == (200, b"presigned bytes")
    assert fetch(url, Range="bytes=3-6") == (206, b"sign")


def test_a_presigned_head_is_a_head(s3: Any, presigner: Any, key: str) -> None:
    s3.put_object(Bucket="data", Key=key, Body=b"presigned bytes")
    url = presigner.generate_presigned_url("head_object", Params={"Bucket": "data", "Key": key})
    assert fetch(url, "HEAD") == (200, b"")


def test_a_presigned_put_writes(s3: Any, presigner: Any, key: str) -> None:
    url = presigner.generate_presigned_url(
        "put_object", Params={"Bucket": "data", "Key": key, "ContentType": "text/x-log"}
    )
    assert fetch(url, "PUT", b"uploaded", content_type="text/x-log")[0] == 200
    assert s3.get_object(Bucket="data", Key=key)["Body"].read() == b"uploaded"


@pytest.mark.needs("response_overrides")
def test_a_presigned_override_is_signed_and_applied(s3: Any, presigner: Any, key: str) -> None:
    s3.put_object(Bucket="data", Key=key, Body=b"x", ContentType="text/plain")
    params = {"Bucket": "data", "Key": key, "ResponseContentType": "image/x-mine"}
    url = presigner.generate_presigned_url("get_object", Params=params)
    with urllib.request.urlopen(url, timeout=20) as response:
        assert response.headers["Content-Type"] == "image/x-mine"


@pytest.mark.needs("signatures", "presigned_checks")
@pytest.mark.parametrize("change", ["method", "key", "override", "version", "signature"])
def test_a_changed_url_is_refused(s3: Any, presigner: Any, key: str, change: str) -> None:
    s3.put_object(Bucket="data", Key=key, Body=b"x")
    s3.put_object(Bucket="data", Key=f"{key}2", Body=b"not for you")
    url = presigner.generate_presigned_url("get_object", Params={"Bucket": "data", "Key": key})
    method = "PUT" if change == "method" else "GET"
    if change == "key":
        url = url.replace("?", "2?", 1)
    elif change == "override":
        url += "&response-content-type=text/html"
    elif change == "version":
        url += "&versionId=null"
    elif change == "signature":
        url = re.sub(r"(Signature=)(.)", lambda m: m[1] + ("A" if m[2] != "A" else "B"), url)
    status, answer = fetch(url, method, b"forged" if method == "PUT" else None)
    assert status == 403, answer
    assert b"not for you" not in answer
    assert s3.get_object(Bucket="data", Key=key)["Body"].read() == b"x"


@pytest.mark.needs("signatures", "presigned_checks", "v4_expiry")
def test_an_expired_url_is_refused(
    s3: Any, presigner: Any, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_object(Bucket="data", Key=key, Body=b"x")
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    stamp = hour_ago.timestamp()
    for signer in (botocore.auth, botocore.crt.auth):  # SigV4: from then on
        monkeypatch.setattr(signer, "get_current_datetime", lambda *_, **__: hour_ago)
    monkeypatch.setattr(botocore.auth.time, "time", lambda: stamp)  # SigV2: until when
    url = presigner.generate_presigned_url("get_object", Params={"Bucket": "data", "Key": key}, ExpiresIn=60)
    monkeypatch.undo()
    status, answer = fetch(url)
    assert status == 403, answer
    assert b"<Code>AccessDenied</Code>" in answer
