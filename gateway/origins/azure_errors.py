"""Azure's errors as our kinds: by x-ms-error-code, which HEAD answers have too, else by the status."""

from __future__ import annotations

import re
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
from gateway.origins.s3_errors import ERROR_BYTES_MAX, retry_after_s
from gateway.origins.s3_http import Answer, Call

_NO_BUCKET: Final = frozenset("ContainerNotFound ContainerBeingDeleted ContainerDisabled".split())
_BUSY: Final = frozenset("ServerBusy PendingCopyOperation SystemInUse TooManyRequests".split())
_NAMES: Final = frozenset("InvalidInput InvalidResourceName InvalidUri OutOfRangeInput".split())
_LEASED: Final = frozenset(
    "LeaseIdMissing LeaseIdMismatchWithBlobOperation LeaseLost LeaseIdMismatchWithLeaseOperation".split()
)
# Code there → status, code and text here.
_REFUSED: Final = {
    "BlobArchived": (
        403,
        "InvalidObjectState",
        "The blob is archived: it must be brought to another tier first.",
    ),
    "BlobBeingRehydrated": (403, "InvalidObjectState", "The blob is on its way out of the archive."),
    "BlobImmutableDueToPolicy": (
        403,
        "AccessDenied",
        "A policy of the container keeps the blob from changing.",
    ),
    "Md5Mismatch": (400, "BadDigest", "The origin received other bytes than were sent."),
    "MetadataTooLarge": (400, "MetadataTooLarge", "The headers and metadata exceed Azure's 8 KiB."),
    "RequestBodyTooLarge": (400, "EntityTooLarge", "The body is larger than the origin takes."),
    "InvalidBlockList": (409, "InvalidBlockList", "Another write of this key came in between."),
    "InvalidBlobOrBlock": (
        409,
        "OperationAborted",
        "Another program's unfinished upload of this key is in the way; Azure forgets it within a week.",
    ),
}
_SIZE = re.compile(r"bytes \*/(\d{1,19})")


async def error_of(origin: str, call: Call, answer: Answer) -> GatewayError:
    """The error that an answer with an unexpected status is."""
    body = b"" if call.method == "HEAD" else await answer.read(ERROR_BYTES_MAX)
    code = answer.headers.get("x-ms-error-code", "")
    status = answer.status
    if status in (301, 302, 303, 307, 308):
        return Unsupported(f"The origin {origin} is at another endpoint; redirects are not followed.")
    if code in _BUSY or status == 429 or (status == 503 and not code):
        return Throttled(f"The origin {origin} asked to slow down.", retry_after_s(answer.headers))
    if not code and body.strip() and "x-ms-request-id" not in answer.headers:
        return Unreachable(f"What answers {status} at origin {origin} does not speak Azure Blob Storage.")
    if code == "ResourceNotFound" and not call.key:
        code = "ContainerNotFound"
    return _of_the_object(origin, call, answer, code)


def _of_the_object(origin: str, call: Call, answer: Answer, code: str) -> GatewayError:
    status = answer.status
    if code in _NO_BUCKET or (status == 404 and not call.key):
        return NoSuchBucket("The bucket does not exist at the origin.")
    if status == 404:
        return NotFound("The key does not exist.")
    if code in _REFUSED:
        return Refused(*_REFUSED[code])
    if code in _LEASED:
        return Refused(409, "OperationAborted", "Another program holds a lease on the blob.")
    if code == "BlobAlreadyExists" or status == 412:
        if call.op in ("get", "head"):
            return Changed("The object is no longer the version that was asked for.")
        return ConditionFailed("At least one of the preconditions does not hold.")
    if status == 416:
        found = _SIZE.fullmatch(answer.headers.get("content-range", ""))
        return RangeNotSatisfiable("The range cannot be satisfied.", int(found[1]) if found else None)
    if status in (401, 403):
        return OriginDenied(f"The origin {origin} does not allow this gateway to do that ({code or status}).")
    if code in _NAMES:
        if not call.key:
            return NoSuchBucket("The bucket does not exist at the origin.")
        return Unsupported(f"Azure does not take this name ({code}).")
    if status == 501 or code == "FeatureNotSupported":
        return Unsupported(f"The origin {origin} cannot do that ({code or status}).")
    if status >= 500:
        return Unreachable(f"The origin {origin} answered {status} {code}".rstrip() + ".")
    return Refused(
        status if status >= 400 else 400, "InvalidRequest", f"The origin answered {status} {code}."
    )
