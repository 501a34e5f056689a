"""The few kinds of failure that engines report. `origins/` maps cloud errors onto them at its boundary and
`s3/errors.py` maps them onto S3 codes; nothing in between inspects a cloud's own exceptions.

Each kind says whether trying again can help (`retry_helps`), which is all that a caller may decide on.
"""

from __future__ import annotations


class GatewayError(Exception):
    """Base of everything this package raises on purpose. The text is safe to show to a client."""

    retry_helps = False


class NotFound(GatewayError):
    """No such key (or version) at the origin. Worth a negative entry."""


class NoSuchBucket(GatewayError):
    """No mount, or no remote bucket behind it."""


class Changed(GatewayError):
    """`If-Match` failed at the origin: the object is no longer the version that was asked for."""


class ConditionFailed(GatewayError):
    """A client's own condition on a write was not met (S3: 412 PreconditionFailed)."""


class RangeNotSatisfiable(GatewayError):
    """The range starts at or past the end. `size` is the object's size when the origin told it."""

    def __init__(self, message: str, size: int | None = None) -> None:
        super().__init__(message)
        self.size = size


class OriginDenied(GatewayError):
    """The origin refused the gateway's own credentials. Never cached, never retried."""


class BudgetSpent(GatewayError):
    """The origin's budget of this month is spent, and by its config it gives out no more data. The text is one
    sentence for the client: which origin, and until when."""


class Refused(GatewayError):
    """The origin answered with an S3 error that the client should see as it is (NoSuchUpload, InvalidPart, …)."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Throttled(GatewayError):
    """The origin asked to slow down (503 SlowDown, 429), or more is asked of it than it may be asked in time.
    `retry_after_s`: when it may be tried again, if that is known."""

    retry_helps = True

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unreachable(GatewayError):
    """Connection refused, reset, cut short, timed out, or a 5xx that is not throttling."""

    retry_helps = True


class Unsupported(GatewayError):
    """This origin cannot do what was asked. The text is one sentence for the client."""


class StoreFull(GatewayError):
    """No room for a block and nothing may be evicted, or the disk is full: the read goes on uncached."""


class Corrupt(GatewayError):
    """A block or record on disk failed its check. It is dropped, counted and fetched again, never served."""

    retry_helps = True


class Superseded(GatewayError):
    """A write finished, or a newer answer came, after this answer was asked for: ask the origin again."""

    retry_helps = True


class UnknownPlace(GatewayError):
    """No origin of this worker has the key's data, any more or yet: a reload is under way."""

    retry_helps = True
