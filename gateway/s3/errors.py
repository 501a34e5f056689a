"""S3 errors: an exception with a code, the mapping of `gateway.errors` kinds onto codes, and the XML
document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.errors import (
    BudgetSpent,
    Changed,
    ConditionFailed,
    GatewayError,
    NoSuchBucket,
    NotFound,
    OriginDenied,
    RangeNotSatisfiable,
    Refused,
    StoreFull,
    Superseded,
    Throttled,
    UnknownPlace,
    Unreachable,
    Unsupported,
)
from gateway.s3.error_codes import CODES
from gateway.s3.text import xml_bytes, xml_visible

__all__ = ["CODES", "S3Error", "error_xml", "range_error", "retry_headers", "to_s3"]

RETRY_AFTER_S = 1.0
# A hint beyond a minute would outlive what any stock client waits for; it only makes the job look hung.
RETRY_AFTER_S_MAX = 60.0


class S3Error(GatewayError):
    """An answer that is an S3 error. `code` is normally a key of CODES; an origin's own code keeps its own
    `status`.

    headers  extra response headers;  extra  further elements of the XML document, in order
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        headers: Sequence[tuple[str, str]] = (),
        extra: Mapping[str, str] | None = None,
        status: int | None = None,
    ) -> None:
        default_status, default_message = CODES.get(code, (400, code))
        super().__init__(message or default_message)
        self.code = code
        self.status = status or default_status
        self.headers = tuple(headers)
        self.extra = dict(extra or {})
        self.retry_helps = self.status >= 500 and self.status != 501

    @property
    def message(self) -> str:
        return str(self)


# The rest of the kinds, which need no more than a code. Their texts are safe to show (gateway.errors).
_PLAIN: tuple[tuple[type[GatewayError], str], ...] = (
    (NotFound, "NoSuchKey"),
    (NoSuchBucket, "NoSuchBucket"),
    (Changed, "PreconditionFailed"),
    (ConditionFailed, "PreconditionFailed"),
    (OriginDenied, "AccessDenied"),
    (BudgetSpent, "AccessDenied"),
    (Unsupported, "NotImplemented"),
)


def to_s3(error: BaseException) -> S3Error:
    """The S3 error that a client sees for any failure. Whatever is not a GatewayError is InternalError
    without its text, which may hold anything."""
    if isinstance(error, S3Error):
        return error
    if isinstance(error, Refused):
        return S3Error(error.code, str(error), status=error.status)
    if isinstance(error, RangeNotSatisfiable):
        return range_error(error.size)
    if isinstance(error, Throttled):
        return S3Error("SlowDown", headers=retry_headers(error.retry_after_s))
    if isinstance(error, StoreFull):
        return S3Error("SlowDown", "No room at the moment; please try again.", headers=retry_headers())
    for kind, code in _PLAIN:
        if isinstance(error, kind):
            return S3Error(code, str(error) or None)
    if isinstance(error, Unreachable | Superseded | UnknownPlace):
        return S3Error("ServiceUnavailable", headers=retry_headers())
    return S3Error("InternalError")


def retry_headers(after_s: float | None = None) -> list[tuple[str, str]]:
    """Both hints: most clients read Retry-After (whole seconds), botocore only x-amz-retry-after
    (milliseconds)."""
    wait = min(max(RETRY_AFTER_S if after_s is None else after_s, 0.05), RETRY_AFTER_S_MAX)
    return [("Retry-After", str(max(1, round(wait)))), ("x-amz-retry-after", str(round(wait * 1000)))]


def range_error(size: int | None, requested: str = "") -> S3Error:
    """416 with `Content-Range: bytes */size` (RFC 9110 §14.4) where the size is known."""
    if size is None:
        return S3Error("InvalidRange")
    extra = {"RangeRequested": requested} if requested else {}
    extra["ActualObjectSize"] = str(size)
    return S3Error("InvalidRange", headers=[("Content-Range", f"bytes */{size}")], extra=extra)


def error_xml(error: S3Error, resource: str, request_id: str) -> bytes:
    """The error document. `resource` is the path or key as text; it may come from a hostile request."""
    extra = "".join(f"<{name}>{xml_visible(value)}</{name}>" for name, value in error.extra.items())
    return xml_bytes(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{xml_visible(error.code)}</Code><Message>{xml_visible(error.message)}</Message>{extra}"
        f"<Resource>{xml_visible(resource)}</Resource><RequestId>{xml_visible(request_id)}</RequestId></Error>"
    )
