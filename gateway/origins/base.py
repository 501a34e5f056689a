"""The Origin protocol: what a cloud must do, and its obligations. `tests/origins/` is its contract suite;
every implementation passes it whole, or declares the missing thing in `Capabilities` and raises
`Unsupported`.

Obligations of every method:
  * keys are exact: `a//b`, `dir/`, `./x`, `a+b`, 1,024 bytes of UTF-8 come back as they went in, or are
    refused with `Unsupported`; no two keys share an object;
  * errors are the kinds of `gateway.errors`, nothing else (CancelledError aside);
  * idempotent calls (head, get before its first byte, list, delete, abort) retry by themselves with backoff
    and jitter inside the per-request deadline; calls that consume a body never do;
  * every try passes `Limits.enter` before it takes a connection, and what fetches object data asks
    `Limits.require_budget` before that (`Wire.send` and `Observed` do both);
  * a `put` whose body iterator raises, or ends short of `length`, leaves nothing visible;
  * cancellation releases the connection and leaves nothing visible.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from gateway.errors import GatewayError, Unsupported
from gateway.model import (
    BucketEntry,
    Conditions,
    ListPage,
    ObjectMeta,
    Part,
    PartPage,
    Remote,
    ToDelete,
    UploadPage,
    VersionEntry,
    VersionPage,
    WriteResult,
)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this origin can do beyond the least common denominator. `forward`: speaks S3, so any other S3 call
    can be re-signed and passed on; `forwards_only`: without that, the names of the calls that can be. `versions`:
    object versions exist. `conditional_writes`: If-Match and If-None-Match on put and complete are atomic there (or
    refused on one of them). `trailers`: accepts aws-chunked with a checksum trailer. `checksums`: stores and returns
    x-amz-checksum-*. `batch_delete`: it is a `DeletesMany`. `conditional_deletes`: If-Match on deletes is atomic there;
    stores that do not know it delete all the same."""

    forward: bool = False
    versions: bool = False
    conditional_writes: bool = False
    trailers: bool = False
    checksums: bool = False
    batch_delete: bool = False
    conditional_deletes: bool = False
    forwards_only: frozenset[str] = frozenset()

    def forwards(self, call_name: str) -> bool:
        return self.forward or call_name in self.forwards_only


# What moves is told of at least this often, so that a budget is not overrun by one huge body.
COUNTED_BYTES: Final = 4 << 20


class Observer(Protocol):
    """Told of what an origin is asked and what moves, for metrics. Called often: must be cheap and never raise.

    op      head | get | put | delete | list | multipart | copy | forward
    status  the HTTP status ("200"; its S3 equivalent where the origin does not speak HTTP), or "error" when there
            was no answer. Every try of a retried call counts.
    """

    def request(self, origin: str, op: str, status: str) -> None: ...

    def moved(self, origin: str, direction: str, count: int) -> None:
        """`count` bytes of bodies "in" from the origin or "out" to it."""


class Unobserved:
    """An Observer for tools and tests that do not count."""

    def request(self, origin: str, op: str, status: str) -> None:
        pass

    def moved(self, origin: str, direction: str, count: int) -> None:
        pass


class Reading(Protocol):
    """An open ranged read. `meta.size` is the whole object's size, [start, stop) is what `chunks` will
    deliver: exactly stop - start bytes, or an error (`Unreachable` when the body is cut short)."""

    meta: ObjectMeta
    start: int
    stop: int

    def chunks(self) -> AsyncIterator[bytes]: ...


@dataclass(slots=True)
class PutBody:
    """A request body on its way to an origin. `chunks` yields exactly `length` bytes and raises instead of
    yielding its *last* chunk when any digest or signature of the client fails, so a torn or forged body never
    completes at the origin.

    headers         to store or to honour, names in lower case: content-type, cache-control, …, x-amz-meta-*,
                    x-amz-storage-class, x-amz-tagging, x-amz-acl, x-amz-server-side-encryption*, and the
                    client's declared x-amz-checksum-*, content-md5
    sha256          the payload's hex digest when the client declared it in its signature, else None
    trailer         (checksum header name, function giving its value once `chunks` is exhausted), or None
    """

    length: int
    chunks: AsyncIterator[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)
    sha256: str | None = None
    trailer: tuple[str, Callable[[], str]] | None = None


@dataclass(slots=True)
class ForwardRequest:
    """Any S3 call to be re-signed for the origin. `query` is the raw query string without its `?`, already
    without signature parameters; `headers` are end-to-end headers without authentication, lower case."""

    method: str
    remote: Remote
    query: str
    headers: Mapping[str, str]
    body: PutBody | None = None


class ForwardResponse(Protocol):
    """The origin's answer as it came; `headers` are end-to-end only, names in lower case."""

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncIterator[bytes]: ...


class Origin(Protocol):
    """One configured cloud. `key == ""` in a Remote means the bucket itself."""

    name: str
    capabilities: Capabilities

    async def head(self, remote: Remote) -> ObjectMeta:
        """Raises NotFound. Checksums included where the origin stores them."""

    def get(
        self, remote: Remote, start: int, stop: int | None, *, if_match: str | None = None
    ) -> AbstractAsyncContextManager[Reading]:
        """Bytes [start, stop), clamped to the object; `stop=None` with `start=0` reads the whole object
        without a Range header, so that stored checksums come back. Raises NotFound, Changed (If-Match
        failed), RangeNotSatisfiable (start at or past the end, which includes every range of an empty
        object)."""

    async def put(self, remote: Remote, body: PutBody, conditions: Conditions) -> WriteResult:
        """Raises ConditionFailed; NotFound for If-Match on a missing key."""

    async def delete(self, remote: Remote, *, version_id: str | None = None) -> Mapping[str, str]:
        """Deleting a missing key succeeds. Returns response headers (x-amz-version-id,
        x-amz-delete-marker)."""

    async def copy(
        self, source: Remote, target: Remote, headers: Mapping[str, str], *, source_version: str | None = None
    ) -> WriteResult:
        """Server-side copy. `headers`: x-amz-metadata-directive, x-amz-copy-source-if-*, new metadata, …"""

    async def list(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        start_after: str = "",
        max_keys: int = 1000,
    ) -> ListPage:
        """Keys > start_after in UTF-8 byte order; a common prefix counts as one key. Also skips the common
        prefix that `start_after` names or lies under when it ends with the delimiter."""

    async def list_versions(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        version_id_marker: str = "",
        max_keys: int = 1000,
    ) -> VersionPage: ...

    async def create_upload(
        self, remote: Remote, headers: Mapping[str, str]
    ) -> tuple[str, Mapping[str, str]]:
        """Upload id and response headers (x-amz-checksum-algorithm, …)."""

    async def put_part(self, remote: Remote, upload_id: str, number: int, body: PutBody) -> WriteResult: ...

    async def copy_part(
        self,
        source: Remote,
        target: Remote,
        upload_id: str,
        number: int,
        headers: Mapping[str, str],
        *,
        source_version: str | None = None,
    ) -> WriteResult:
        """`headers`: x-amz-copy-source-range, x-amz-copy-source-if-*."""

    async def complete_upload(
        self,
        remote: Remote,
        upload_id: str,
        parts: Sequence[Part],
        headers: Mapping[str, str],
        conditions: Conditions,
    ) -> WriteResult:
        """Idempotent: a retried complete of a finished upload answers as the first did, where the origin
        allows. Raises Refused with InvalidPart, InvalidPartOrder, EntityTooSmall, NoSuchUpload."""

    async def abort_upload(self, remote: Remote, upload_id: str) -> None: ...

    async def list_parts(
        self, remote: Remote, upload_id: str, after: int = 0, max_parts: int = 1000
    ) -> PartPage: ...

    async def list_uploads(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        upload_id_marker: str = "",
        max_uploads: int = 1000,
    ) -> UploadPage: ...

    async def head_bucket(self, bucket: str) -> Mapping[str, str]:
        """Raises NoSuchBucket. Returns response headers worth passing on (x-amz-bucket-region)."""

    async def buckets(self) -> Sequence[BucketEntry]: ...

    def forward(self, request: ForwardRequest) -> AbstractAsyncContextManager[ForwardResponse]:
        """Only what `capabilities.forwards`; else raises Unsupported."""

    async def close(self) -> None: ...


@runtime_checkable
class DeletesMany(Protocol):
    """What an origin with `capabilities.batch_delete` can do beside."""

    async def delete_many(
        self, bucket: str, doomed: Sequence[ToDelete]
    ) -> Sequence[Mapping[str, str] | GatewayError]:
        """At most 1,000 in one request, each with its response headers, as `delete` has them, or its error. Raises
        what met the request as a whole, Unsupported where keys cannot be sent so."""


@runtime_checkable
class MakesBuckets(Protocol):
    """What an origin can do beside that does not forward these calls."""

    async def create_bucket(self, bucket: str) -> None:
        """Raises Refused with S3's code: InvalidBucketName, BucketAlreadyOwnedByYou."""

    async def delete_bucket(self, bucket: str) -> None:
        """Raises NoSuchBucket, Refused (BucketNotEmpty)."""


@runtime_checkable
class Mirrored(Protocol):
    """What an origin can do beside that stands for places at others (`mirror.py`). Places are named by the origin
    they are at and the address there."""

    async def find(self, remote: Remote) -> tuple[str, Remote]:
        """The place that has the object now. Raises NotFound."""

    def home(self, remote: Remote) -> tuple[str, Remote]:
        """Where it is written."""

    async def judge(self, remote: Remote, conditions: Conditions) -> Conditions:
        """What of a write's conditions is left for `home` to check, when all that the other places can say of them
        has been asked. Raises ConditionFailed, NotFound."""

    def sources(self) -> Sequence[Origin]:
        """All that data may be read from."""

    async def sources_of(self, remote: Remote, etag: str) -> Sequence[Origin]:
        """Those that a read of this version may ask for data. Raises what origins raise."""


def null_versions(page: ListPage) -> VersionPage:
    """A listing of an origin without versions: every object as its one version "null", as S3 shows a bucket that never
    had any."""
    entries = tuple(
        VersionEntry(
            entry.key,
            "null",
            True,
            entry.last_modified,
            size=entry.size,
            etag=entry.etag,
            storage_class=entry.storage_class,
            owner_id=entry.owner_id,
        )
        for entry in page.entries
    )
    return VersionPage(entries, page.common_prefixes, page.next_after, page.next_after and "null")


def refuse_dates(conditions: Conditions) -> None:
    """Of a write. Raises Unsupported."""
    if conditions.if_modified_since is not None or conditions.if_unmodified_since is not None:
        raise Unsupported("S3 has no write that depends on a date.")
