"""Verification of presigned SigV4 URLs.

Everything but X-Amz-Signature itself is signed, so a URL made for GET is worth nothing for PUT, and an added
versionId or response-* breaks it. Malformed or missing parameters: 400 AuthorizationQueryParametersError;
expired: 403. Source: S3 API Reference, "Authenticating Requests: Using Query Parameters (AWS Signature
Version 4)".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from gateway.s3.authentication import (
    ALGORITHM,
    SKEW_S,
    UNSIGNED,
    Authenticated,
    Query,
    amz_date,
    candidates,
    check_all_signed,
    check_names,
    check_payload,
    parse_credential,
    raw_query_sorted,
    same,
    signing_key,
)
from gateway.s3.errors import S3Error
from gateway.s3.text import percent_decode_bytes

EXPIRES_S_MAX = 7 * 24 * 3600
_MALFORMED = "AuthorizationQueryParametersError"
_REQUIRED = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
)
_SECONDS = re.compile(r"[0-9]{1,7}")


def verify_presigned(
    method: str,
    raw_path: str,
    raw_query: str,
    query: Query,
    headers: Mapping[str, str],
    now: float,
    secret_of: Callable[[str], str | None],
) -> Authenticated:
    """Raises S3Error; see `Verifier.verify` for the arguments."""
    given = _parameters(query)
    access_key, day, region = _credential(given)
    names = check_names(given["X-Amz-SignedHeaders"], _MALFORMED)
    signed_at, expires = _times(given, day)
    if "X-Amz-Security-Token" in given:
        raise S3Error("InvalidToken")
    secret = secret_of(access_key)
    if secret is None:
        raise S3Error("InvalidAccessKeyId")
    if signed_at - now > SKEW_S:
        raise S3Error("AccessDenied", "The request is not valid yet.")
    if now > signed_at + expires:
        raise S3Error("AccessDenied", "The request has expired.", extra={"X-Amz-Expires": str(expires)})
    check_all_signed(headers, names)
    payload = headers.get("x-amz-content-sha256") or given.get("X-Amz-Content-Sha256") or UNSIGNED
    check_payload(payload)
    key = signing_key(secret, day, region)
    scope = f"{day}/{region}/s3/aws4_request"
    # Presigners hash UNSIGNED-PAYLOAD even where a digest is among the signed headers; the digest binds
    # either way.
    payloads = dict.fromkeys((payload, UNSIGNED))
    unsigned = "&".join([f"{name}={value}" for name, value in query.pairs if name != "X-Amz-Signature"])
    queries = dict.fromkeys((unsigned, raw_query_sorted(raw_query, without="X-Amz-Signature=")))
    date, signature = given["X-Amz-Date"], given["X-Amz-Signature"]
    try:
        made = candidates(key, method, raw_path, queries, names, headers, payloads, date, scope)
        good = any(same(one, signature) for one in made)
    except KeyError:
        raise S3Error("AccessDenied", "A signed header is missing.") from None
    if not good:
        raise S3Error("SignatureDoesNotMatch")
    return Authenticated(access_key, payload, signature, date, scope, key.key, True)


def _parameters(query: Query) -> dict[str, str]:
    """The decoded X-Amz-* parameters, each at most once."""
    given: dict[str, str] = {}
    for name, value in query.pairs:
        if name[:6] == "X-Amz-":
            if name in given:
                raise S3Error(_MALFORMED, f"{name} appears twice.")
            given[name] = percent_decode_bytes(value).decode("latin-1")
    for name in _REQUIRED:
        if not given.get(name):
            raise S3Error(_MALFORMED, f"{name} is missing.")
    if given["X-Amz-Algorithm"] != ALGORITHM:
        raise S3Error(_MALFORMED, f"X-Amz-Algorithm must be {ALGORITHM}.")
    return given


def _credential(given: Mapping[str, str]) -> tuple[str, str, str]:
    credential = parse_credential(given["X-Amz-Credential"])
    if credential is None:
        raise S3Error(_MALFORMED, "X-Amz-Credential must be KEY/YYYYMMDD/region/s3/aws4_request.")
    return credential


def _times(given: Mapping[str, str], day: str) -> tuple[int, int]:
    signed_at = amz_date(given["X-Amz-Date"])
    if signed_at is None:
        raise S3Error(_MALFORMED, "X-Amz-Date must be YYYYMMDD'T'HHMMSS'Z'.")
    if given["X-Amz-Date"][:8] != day:
        raise S3Error(_MALFORMED, "X-Amz-Credential and X-Amz-Date name different days.")
    expires = given["X-Amz-Expires"]
    if not _SECONDS.fullmatch(expires) or not 1 <= int(expires) <= EXPIRES_S_MAX:
        raise S3Error(_MALFORMED, f"X-Amz-Expires must be 1 to {EXPIRES_S_MAX} seconds.")
    return signed_at, int(expires)
