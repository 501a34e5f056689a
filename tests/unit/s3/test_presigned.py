"""URLs that botocore presigned, V4 and V2, are good for exactly what they were made for."""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.s3.errors import S3Error
from gateway.s3.sigv4 import Verifier

from .signing import ACCESS, HOST, SECRET, client, split, verify

# Stock boto3 presigns with V2 for a custom endpoint in us-east-1, with V4 elsewhere.
CLIENTS = {
    "v4": client("eu-west-3"),
    "v2": client("us-east-1"),
    "v4 asked for": client(signature_version="s3v4"),
}
KINDS = sorted(CLIENTS)
HEADERS = {"host": HOST}
keys = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


def presign(kind: str, call: str = "get_object", expires: int = 600, **parameters: Any) -> tuple[str, str]:
    given_parameters = {"Bucket": "bucket", "Key": "a b/é+c", **parameters}
    return split(CLIENTS[kind].generate_presigned_url(call, Params=given_parameters, ExpiresIn=expires))


def code_of(
    method: str, path: str, query: str, headers: dict[str, str] = HEADERS, now: float | None = None
) -> str:
    try:
        verify(method, path, query, headers, time.time() if now is None else now)
    except S3Error as error:
        return error.code
    return ""


def test_the_clients_sign_as_they_should() -> None:
    assert "Signature=" in presign("v2")[1]
    assert "X-Amz" not in presign("v2")[1]
    assert "X-Amz-Signature=" in presign("v4")[1]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(key=keys)
def test_a_url_for_any_key_is_accepted(kind: str, key: str) -> None:
    path, query = presign(kind, Key=key)
    found = verify("GET", path, query, HEADERS, time.time())
    assert (found.access_key, found.presigned) == (ACCESS, True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("call", "method", "parameters"),
    [
        ("get_object", "GET", {"VersionId": "v1", "ResponseContentType": "text/plain; charset=utf-8"}),
        ("put_object", "PUT", {}),
        ("head_object", "HEAD", {}),
        ("delete_object", "DELETE", {}),
        ("upload_part", "PUT", {"UploadId": "u", "PartNumber": 3}),
        ("create_multipart_upload", "POST", {}),
        ("list_parts", "GET", {"UploadId": "u"}),
        ("get_object_tagging", "GET", {}),
    ],
)
def test_each_call_is_accepted_for_its_own_method_only(
    kind: str, call: str, method: str, parameters: dict[str, Any]
) -> None:
    path, query = presign(kind, call, **parameters)
    assert code_of(method, path, query) == ""
    for other in {"GET", "PUT", "HEAD", "DELETE", "POST"} - {method}:
        assert code_of(other, path, query) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "added", ["versionId=2", "response-content-type=text%2Fhtml", "uploads", "acl", "x-amz-acl=public-read",
              "x-amz-copy-source=other%2Fkey", "partNumber=1&uploadId=u", "tagging",
              "attributes", "legal-hold", "annotation"]
)  # fmt: skip
def test_what_is_added_to_a_url_breaks_it(kind: str, added: str) -> None:
    path, query = presign(kind)
    for changed in (f"{query}&{added}", f"{added}&{query}"):
        assert code_of("GET", path, changed) in ("SignatureDoesNotMatch", "AccessDenied")


@pytest.mark.parametrize("kind", KINDS)
def test_an_unsigned_amz_header_breaks_it(kind: str) -> None:
    path, query = presign(kind, "put_object")
    for name in ("x-amz-acl", "x-amz-copy-source", "x-amz-meta-a"):
        assert code_of("PUT", path, query, {**HEADERS, name: "x"}) in (
            "SignatureDoesNotMatch",
            "AccessDenied",
        )


@pytest.mark.parametrize("kind", KINDS)
def test_it_ends(kind: str) -> None:
    path, query = presign(kind, expires=60)
    assert code_of("GET", path, query) == ""
    assert code_of("GET", path, query, now=time.time() + 70) == "AccessDenied"


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_changed_bit_is_refused(kind: str, data: st.DataObject) -> None:
    path, query = URLS[kind]
    whole = bytearray(f"{path}?{query}".encode())
    at = data.draw(st.integers(len("/b"), len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 6))
    changed = whole.decode("latin-1")
    if changed.count("?") != 1 or meaning(changed) == meaning(f"{path}?{query}"):
        return
    path, _, query = changed.partition("?")
    assert code_of("GET", path, query, now=NOW), changed


URLS = {kind: presign(kind) for kind in KINDS}
NOW = time.time()


def meaning(url: str) -> tuple[str, list[str]]:
    """Hex digits have no case, an `&` or `=` too many says nothing, order of parameters neither."""
    path, _, query = url.partition("?")
    upper = [re.sub("%[0-9a-fA-F]{2}", lambda m: m[0].upper(), text) for text in (path, query)]
    return upper[0], sorted(item for item in upper[1].split("&") if item)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("X-Amz-Expires", "0", "AuthorizationQueryParametersError"),
        ("X-Amz-Expires", None, "AuthorizationQueryParametersError"),
        ("X-Amz-Expires", "604801", "AuthorizationQueryParametersError"),
        ("X-Amz-Expires", "1e3", "AuthorizationQueryParametersError"),
        ("X-Amz-Expires", "-1", "AuthorizationQueryParametersError"),
        ("X-Amz-Credential", "garbage", "AuthorizationQueryParametersError"),
        ("X-Amz-Date", "today", "AuthorizationQueryParametersError"),
        ("X-Amz-Date", None, "AuthorizationQueryParametersError"),
        ("X-Amz-SignedHeaders", "range", "AccessDenied"),
        ("X-Amz-SignedHeaders", "Host", "AuthorizationQueryParametersError"),
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA1", "AuthorizationQueryParametersError"),
        ("X-Amz-Signature", None, "AuthorizationQueryParametersError"),
        ("X-Amz-Security-Token", "t", "InvalidToken"),
    ],
)
def test_parameters_that_make_no_sense(name: str, value: str | None, code: str) -> None:
    path, query = presign("v4")
    items = [item for item in query.split("&") if not item.startswith(name + "=")]
    if value is not None:
        items.append(f"{name}={quote(value, safe='')}")
    assert code_of("GET", path, "&".join(items)) == code


@pytest.mark.parametrize("query", [
    "AWSAccessKeyId=a&Signature=b", f"AWSAccessKeyId={ACCESS}&Expires=x&Signature=b",
    f"AWSAccessKeyId={ACCESS}&Expires=9999999999&Signature=b&Signature=c", "Expires=9999999999&Signature=b",
])  # fmt: skip
def test_v2_parameters_that_make_no_sense(query: str) -> None:
    assert code_of("GET", "/b/k", query) == "AccessDenied"


def test_v2_a_value_that_imitates_a_parameter_is_refused() -> None:
    """The V2 string to sign has values decoded: `a=1&versionId=2` and `a=1%26versionId=2` would sign alike."""
    path, query = presign("v2", VersionId="1", ResponseContentType="t")
    joined = query.replace("&versionId=1", "").replace(
        "response-content-type=t", "response-content-type=t%26versionId%3D1"
    )
    assert joined != query
    assert code_of("GET", path, joined) == "AccessDenied"


def test_v2_of_a_virtual_host_signs_the_bucket() -> None:
    path, query = presign("v2")
    verifier = Verifier({ACCESS: SECRET}.get, "gw.test")
    rest = path.removeprefix("/bucket")
    verifier.verify("GET", rest, query, {"host": "bucket.gw.test:9000"}, time.time())
    with pytest.raises(S3Error):
        verifier.verify("GET", rest, query, {"host": "other.gw.test:9000"}, time.time())
