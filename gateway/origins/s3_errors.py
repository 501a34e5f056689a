"""S3 errors of an origin as our kinds, by code where there is one, else by status (HEAD has no body, and some
stores send none).

A 404 without a body is taken for a missing key: whether the bucket is missing too makes no difference to whoever
asked for a key. A 404 with a body that is not S3's says that something else answers at the endpoint.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gateway.errors import (
    Changed,
    ConditionFailed,
    GatewayError,
    NoSuchBucket,
    NotFound,
    OriginDenied,
    RangeNotSatisfiable,
    Refused,
    Throttled,
    Unreachable,
    Unsupported,
)
from gateway.origins import s3_xml
from gateway.origins.s3_http import Answer, Call

ERROR_BYTES_MAX: Final = 64 << 10
_MESSAGE_CHARACTERS_MAX: Final = 300

# About the gateway's own keys and clock; the client can do nothing about them.
_DENIED: Final = frozenset(
    """
    AccessDenied AccountProblem AllAccessDisabled AuthenticationRequired AuthorizationHeaderMalformed ExpiredToken
    InvalidAccessKeyId InvalidSecurity InvalidToken NotSignedUp RequestTimeTooSkewed SignatureDoesNotMatch
    TokenRefreshRequired
    """.split()
)
_THROTTLED: Final = frozenset(
    """
    BandwidthLimitExceeded EC2ThrottledException RequestLimitExceeded RequestThrottled RequestThrottledException
    ServiceUnavailable SlowDown Throttling ThrottlingException ThrottledException TooManyRequests
    TooManyRequestsException
    """.split()
)
_UNREACHABLE: Final = frozenset(["InternalError", "RequestTimeout", "RequestTimeoutException", "ServerBusy"])
_MISSING: Final = frozenset(["NoSuchKey", "NoSuchVersion", "NotFound"])
_REDIRECTS: Final = frozenset(
    ["IllegalLocationConstraintException", "PermanentRedirect", "Redirect", "TemporaryRedirect"]
)
_SIZE = re.compile(r"bytes \*/(\d{1,19})")


async def error_of(origin: str, call: Call, answer: Answer) -> GatewayError:
    """The error that an answer with an unexpected status is. Reads at most `ERROR_BYTES_MAX` of it."""
    body = b"" if call.method == "HEAD" else await answer.read(ERROR_BYTES_MAX)
    details = _details(body)
    if body.strip() and not details and answer.status == 404:
        return Unreachable(f"What answers at origin {origin} does not speak S3.")
    return kind_of(origin, call, answer.status, answer.headers, details)


def kind_of(
    origin: str, call: Call, status: int, headers: Mapping[str, str], details: Mapping[str, str]
) -> GatewayError:
    """`details`: the texts of the error document; empty without one. A `status` of 200 is an error document in
    the body of a success (CopyObject, CompleteMultipartUpload)."""
    code = details.get("Code", "")
    message = _shown(details.get("Message", "")) or code or f"The origin answered {status}."
    region = details.get("Region") or headers.get("x-amz-bucket-region")
    if status in (301, 302, 303, 307, 308) or code in _REDIRECTS:
        return Unsupported(_elsewhere(origin, call, region, details.get("Endpoint")))
    if region and (code == "AuthorizationHeaderMalformed" or (status == 400 and not code)):
        return Unsupported(_elsewhere(origin, call, region, None))
    if code in _THROTTLED or status == 429 or (status == 503 and not code):
        return Throttled(f"The origin {origin} asked to slow down.", retry_after_s(headers))
    if code in _UNREACHABLE or (status >= 500 and status != 501):
        return Unreachable(f"The origin {origin} answered {status} {code}".rstrip() + ".")
    if code in _DENIED or (not code and status in (401, 403)):
        return OriginDenied(f"The origin {origin} does not allow this gateway to do that ({code or status}).")
    return _of_the_object(call, status, code, message, headers, details)


def _of_the_object(
    call: Call, status: int, code: str, message: str, headers: Mapping[str, str], details: Mapping[str, str]
) -> GatewayError:
    if code == "NoSuchBucket" or (status == 404 and not code and not call.key):
        return NoSuchBucket("The bucket does not exist at the origin.")
    if code in _MISSING or (status == 404 and not code):
        return NotFound("The key does not exist.")
    if code == "PreconditionFailed" or status == 412:
        if call.op in ("get", "head"):
            return Changed("The object is no longer the version that was asked for.")
        return ConditionFailed("At least one of the preconditions does not hold.")
    if code == "InvalidRange" or (status == 416 and not code):
        return RangeNotSatisfiable("The range cannot be satisfied.", _size(headers, details))
    if code == "NotImplemented" or status == 501:
        return Unsupported(message)
    return Refused(status if status >= 400 else 400, code or "InvalidRequest", message)


def _size(headers: Mapping[str, str], details: Mapping[str, str]) -> int | None:
    if found := _SIZE.fullmatch(headers.get("content-range", "")):
        return int(found[1])
    text = details.get("ActualObjectSize", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The wait that an answer asks for, in seconds; a date is passed over."""
    for name, unit_s in (("x-amz-retry-after", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "")
        if text.isascii() and text.isdigit() and len(text) < 10:
            return int(text) * unit_s
    return None


def _elsewhere(origin: str, call: Call, region: str | None, endpoint: str | None) -> str:
    bucket = f"The bucket {call.bucket!r} of origin {origin}"
    if region:
        return f"{bucket} is in region {_shown(region)}: set that as the origin's region."
    where = f" at {_shown(endpoint)}" if endpoint else " at another endpoint"
    return f"{bucket} must be addressed{where}; redirects are not followed."


def _details(body: bytes) -> dict[str, str]:
    if not body.strip():
        return {}
    try:
        root = s3_xml.parse(body, own_key=True)
    except Unreachable:
        return {}
    if s3_xml.local(root) == "ErrorResponse":  # IAM-style, as some stores wrap it
        return next((s3_xml.fields(node) for node in s3_xml.children(root, "Error")), {})
    return s3_xml.fields(root) if s3_xml.local(root) == "Error" else {}


def _shown(text: str) -> str:
    """An origin's text, fit to be shown: short, printable."""
    return "".join(c if c.isprintable() else " " for c in text.strip())[:_MESSAGE_CHARACTERS_MAX]
