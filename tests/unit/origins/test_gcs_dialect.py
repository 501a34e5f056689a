"""Google's dialect without a server: names both ways, the signature, generations, keys."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from gateway.errors import NotFound, Refused, Unsupported
from gateway.origins.gcs_dialect import Google, declared_hash, incoming, outgoing
from gateway.origins.gcs_generations import generation_of
from gateway.origins.gcs_keys import GOOGLE as FLAVOUR
from gateway.origins.s3_credentials import FixedCredentials
from gateway.origins.s3_http import Call
from gateway.s3.signer import EMPTY_SHA256, GOOGLE, Credentials, sign


def test_requests_say_everything_in_googles_names() -> None:
    sent = outgoing(
        {
            "content-type": "text/x",
            "content-md5": "m",
            "range": "bytes=0-1",
            "x-amz-meta-a": "1",
            "x-amz-acl": "private",
            "x-amz-storage-class": "STANDARD_IA",
            "x-amz-copy-source": "/b/k",
            "x-amz-copy-source-if-none-match": '"x"',
            "x-amz-metadata-directive": "REPLACE",
            "x-goog-if-generation-match": "0",
            "x-amz-server-side-encryption": "AES256",
            "x-amz-tagging": "",
            "x-amz-tagging-directive": "COPY",
            "x-amz-checksum-crc32": "AAAAAA==",
            "x-amz-checksum-mode": "ENABLED",
            "x-amz-sdk-checksum-algorithm": "CRC32",
            "x-amz-mp-object-size": "12",
        }
    )
    assert sent == {
        "content-type": "text/x",
        "content-md5": "m",
        "range": "bytes=0-1",
        "x-goog-meta-a": "1",
        "x-goog-acl": "private",
        "x-goog-storage-class": "NEARLINE",
        "x-goog-copy-source": "/b/k",
        "x-goog-copy-source-if-none-match": '"x"',
        "x-goog-metadata-directive": "REPLACE",
        "x-goog-if-generation-match": "0",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-amz-tagging", "a=1"),
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-customer-key", "k"),
        ("x-amz-storage-class", "INTELLIGENT_TIERING"),
        ("x-amz-object-lock-mode", "COMPLIANCE"),
        ("x-amz-website-redirect-location", "/x"),
        ("x-amz-grant-read", "id=1"),
        ("x-amz-request-payer", "requester"),
    ],
)
def test_what_google_has_no_word_for_is_refused_and_not_dropped(name: str, value: str) -> None:
    with pytest.raises(Unsupported, match=r"Google Cloud Storage .*\."):
        outgoing({name: value})


def test_expires_is_kept_as_metadata_that_no_client_sees_or_sets() -> None:
    date = "Thu, 01 Jan 2032 00:00:00 GMT"
    sent = outgoing({"expires": date, "x-amz-meta-expires": "other"})
    assert sent.keys() == {"x-goog-meta-gateway-expires", "x-goog-meta-expires"}
    assert incoming(sent) == {"expires": date, "x-amz-meta-expires": "other"}
    with pytest.raises(Unsupported):
        outgoing({"x-amz-meta-gateway-expires": date})


@pytest.mark.parametrize(
    ("hashes", "crc32c"),
    [
        ("crc32c=n03x6A==, md5=Ojk9c3dhfxgoKVVHYwFbHQ==", "n03x6A=="),
        ("md5=Ojk9c3dhfxgoKVVHYwFbHQ==,crc32c=n03x6A==", "n03x6A=="),
        ("crc32c=n03x6A==", "n03x6A=="),
        ("md5=Ojk9c3dhfxgoKVVHYwFbHQ==", None),
        ("crc32c=short", None),
    ],
)
def test_answers_are_heard_in_s3s_names(hashes: str, crc32c: str | None) -> None:
    found = incoming(
        {
            "etag": '"e"',
            "content-type": "text/x",
            "x-goog-meta-a": "1",
            "x-goog-generation": "1360887697105000",
            "x-goog-metageneration": "1",
            "x-goog-stored-content-length": "5",
            "x-goog-storage-class": "COLDLINE",
            "x-goog-hash": hashes,
        }
    )
    sums = {"x-amz-checksum-crc32c": crc32c, "x-amz-checksum-type": "FULL_OBJECT"} if crc32c else {}
    assert found == {
        "etag": '"e"',
        "content-type": "text/x",
        "x-amz-meta-a": "1",
        "x-amz-version-id": "1360887697105000",
        "x-amz-storage-class": "COLDLINE",
        **sums,
    }


def test_the_usual_class_is_not_shown() -> None:
    assert incoming({"x-goog-storage-class": "STANDARD"}) == {}
    assert incoming({"x-goog-storage-class": "REGIONAL"}) == {}


def test_a_declared_crc32c_is_googles_to_check() -> None:
    assert declared_hash({"x-amz-checksum-crc32c": "n03x6A=="}) == {"x-goog-hash": "crc32c=n03x6A=="}
    assert declared_hash({"x-amz-checksum-crc32": "AAAAAA=="}) == {}


def test_the_signature_is_the_documented_one() -> None:
    """Spelled out after "Signatures" and "Canonical requests"."""
    signed = sign(
        "GET",
        "storage.googleapis.com",
        "/bucket/a%2Bb",
        "generation=12",
        {"range": "bytes=0-9"},
        EMPTY_SHA256,
        Credentials("GOOG1EXAMPLE", "secret"),
        "auto",
        1_772_000_000,
        GOOGLE,
    )
    date, day = "20260225T061320Z", "20260225"
    canonical = (
        "GET\n/bucket/a%2Bb\ngeneration=12\nhost:storage.googleapis.com\nrange:bytes=0-9\n"
        f"x-goog-content-sha256:{EMPTY_SHA256}\nx-goog-date:{date}\n\n"
        f"host;range;x-goog-content-sha256;x-goog-date\n{EMPTY_SHA256}"
    )
    scope = f"{day}/auto/storage/goog4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = b"GOOG4secret"
    for step in (day, "auto", "storage", "goog4_request"):
        key = hmac.digest(key, step.encode(), "sha256")
    signature = hmac.digest(key, f"GOOG4-HMAC-SHA256\n{date}\n{scope}\n{digest}".encode(), "sha256").hex()
    assert signed["authorization"] == (
        f"GOOG4-HMAC-SHA256 Credential=GOOG1EXAMPLE/{scope}, "
        f"SignedHeaders=host;range;x-goog-content-sha256;x-goog-date, Signature={signature}"
    )
    assert not [name for name in signed if name.startswith("x-amz-")]


def _call(**changes: Any) -> Call:
    return Call(**{"op": "get", "method": "GET", "bucket": "b", "key": "k", **changes})


def test_objects_are_asked_for_as_they_are_stored_and_documents_are_not_packed() -> None:
    dialect = Google(FixedCredentials("id", "secret"))
    assert dialect.unsigned(_call())["accept-encoding"] == "gzip"
    assert dialect.unsigned(_call(op="head", method="HEAD"))["accept-encoding"] == "gzip"
    for call in (_call(op="list", key=""), _call(op="list"), _call(op="put", method="PUT")):
        assert dialect.unsigned(call)["accept-encoding"] == "identity"


def test_a_token_goes_out_without_a_signature() -> None:
    dialect = Google(FixedCredentials("id", "secret"))
    sent = dialect.signed(_call(headers={"range": "bytes=0-1"}), "h", "/b/k", Credentials("", "", "ya29.x"))
    assert sent == {"range": "bytes=0-1", "authorization": "Bearer ya29.x"}


@pytest.mark.parametrize(
    "key",
    [".", "..", "a\nb", "a\rb", ".well-known/acme-challenge/", ".well-known/acme-challenge/x", "\n"],
)
def test_keys_that_google_cannot_hold_are_refused_with_a_sentence(key: str) -> None:
    with pytest.raises(Unsupported, match=r"cannot hold"):
        FLAVOUR.require_holdable(key)
    with pytest.raises(NotFound):
        FLAVOUR.require_held(key)


@pytest.mark.parametrize(
    "key", ["a//b", "dir/", "./x", "../x", "a+b", "...", "k" * 1024, "x/.well-known/acme-challenge/x", ""]
)
def test_all_others_can_be(key: str) -> None:
    FLAVOUR.require_holdable(key)
    FLAVOUR.require_held(key)


def test_version_ids_are_generations() -> None:
    assert generation_of("1360887697105000") == "1360887697105000"
    assert generation_of("null") is None
    assert generation_of(None) is None
    for wrong in ("", "0", "-1", "١", "abc", "1&x=2", "9" * 20):
        with pytest.raises(Refused):
            generation_of(wrong)
