"""The one door: who asks, for what, and whether they may. Nothing behind it (mounts, cache, origins) is looked at
for a request that did not pass, so an answer cannot tell a stranger what exists.

Order: the address is decoded, presigned headers are put back, the operation is named, the signature is checked, an
operation that is not supported is refused, the identity's rights are checked by names alone, then the mount is
looked up, and a read-only one refuses what changes something.

Both ways in go through `admit`: `handle` of the application, and the hot path through `admit_read`. Only for reads
without a query the hot path takes the same steps in two halves (`signer_of`, `admit_signed`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.errors import GatewayError, NoSuchBucket
from gateway.frontend.exchange import Exchange, RequestHead
from gateway.namespace.mounts import Target
from gateway.objects.context import View
from gateway.s3.address import Address, CopySource, parse_address, parse_copy_source
from gateway.s3.authentication import Authenticated
from gateway.s3.errors import S3Error
from gateway.s3.operations import Operation, classify, hoist

if TYPE_CHECKING:
    from gateway.telemetry.requests import RequestRecord

READ_METHODS: Final = frozenset({"GET", "HEAD"})
_READS: Final = frozenset({"GetObject", "HeadObject"})
# Each of its keys is authorized, resolved and refused by itself (handlers/deleting.py).
_BY_KEY: Final = "DeleteObjects"
_LISTINGS: Final = frozenset({"ListObjects", "ListObjectsV2", "ListObjectVersions", "ListMultipartUploads"})

# Rights that headers of a write ask for on top of its own action, as in S3: else whoever may put an object could
# publish it or lock it.
_STORING: Final = frozenset({"PutObject", "CopyObject", "CreateMultipartUpload"})
_OBJECT_HEADER_ACTIONS: Final = {
    "x-amz-acl": "s3:PutObjectAcl",
    "x-amz-tagging": "s3:PutObjectTagging",
    "x-amz-object-lock-mode": "s3:PutObjectRetention",
    "x-amz-object-lock-retain-until-date": "s3:PutObjectRetention",
    "x-amz-object-lock-legal-hold": "s3:PutObjectLegalHold",
}
_BUCKET_HEADER_ACTIONS: Final = {
    "x-amz-acl": "s3:PutBucketAcl",
    "x-amz-bucket-object-lock-enabled": "s3:PutBucketObjectLockConfiguration",
    "x-amz-object-ownership": "s3:PutBucketOwnershipControls",
}


class Admitted(NamedTuple):
    """What the door found out. `headers`: with those that a presigned URL carries in its query. `target` is None
    for the service and for DeleteObjects. `source`: of a copy, allowed to this identity but not yet resolved."""

    headers: Mapping[str, str]
    address: Address
    operation: Operation
    auth: Authenticated
    target: Target | None
    source: CopySource | None


@dataclass(slots=True)
class Request:
    """One authenticated, authorized request on its way to its handler."""

    exchange: Exchange
    head: RequestHead
    headers: Mapping[str, str]
    address: Address
    operation: Operation
    auth: Authenticated
    view: View
    target: Target | None
    source: CopySource | None = None

    @property
    def the_target(self) -> Target:
        """The mount's answer for the bucket or key; every operation on one has it."""
        if self.target is None:
            raise GatewayError(f"{self.operation.name} names no bucket.")
        return self.target


def admit_read(
    head: RequestHead, view: View, domain: str, now: float
) -> tuple[str, Operation, Address, Target] | None:
    """For the hot path: a GetObject or HeadObject that passed the door, with the access key that signed it. None for
    everything else, refusals too: `handle` judges those again and answers them. Never raises S3 errors."""
    if head.method not in READ_METHODS:
        return None
    try:
        admitted = admit(head, view, domain, now)
    except GatewayError:
        return None
    if admitted.operation.name not in _READS or admitted.target is None:
        return None
    return admitted.auth.access_key, admitted.operation, admitted.address, admitted.target


def signer_of(head: RequestHead, view: View, now: float) -> str | None:
    """`admit_read` in two halves, for a read without a query, of which the second can be remembered. Whose valid
    signature a GET or HEAD carries; None for refusals."""
    verifier = view.verifier
    access_key = None if head.shape is None else verifier.verify_alike(head, now)
    if access_key is None:
        headers = head.headers
        try:
            access_key = verifier.verify(head.method, head.target, "", headers, now).access_key
        except GatewayError:
            return None
        if head.shape is not None:
            verifier.learn_alike(head, headers)
    return access_key


def admit_signed(
    head: RequestHead, view: View, domain: str, access_key: str
) -> tuple[Operation, Target] | None:
    """The other half: what a target without a query names, if its signer may read it. It holds for everybody of the
    same rights under this very view, with the same method and Host."""
    try:
        address = parse_address(head.target, "", head.headers.get("host", "") if domain else "", domain)
        operation = classify(head.method, address, {})
        if operation.name not in _READS or not view.access.allowed(
            access_key, operation.action, address.bucket, address.key
        ):
            return None
        return operation, view.mounts.resolve(address.bucket, address.key)
    except GatewayError:
        return None


def admit(
    head: RequestHead, view: View, domain: str, now: float, record: RequestRecord | None = None
) -> Admitted:
    """Raises S3Error for what is malformed, forged or forbidden; NoSuchBucket and NotFound for an allowed name
    without a mount. `now`: seconds since the epoch. `record` learns the operation and the identity as soon as they
    are known. Costs little more than the signature."""
    raw_path, _, raw_query = head.target.partition("?")
    address = parse_address(raw_path, raw_query, head.headers.get("host", ""), domain)
    headers = hoist(head.headers, address)
    operation = classify(head.method, address, headers)
    if record is not None:
        record.op = operation.name
    auth = view.verifier.verify(head.method, raw_path, raw_query, head.headers, now)
    if record is not None:
        record.identity = view.access.name_of(auth.access_key)
    if operation.refused is not None:
        raise operation.refusal()
    source = None
    if operation.mutates:
        source = _authorize_write(view, auth, operation, address, headers)
    elif not view.access.allowed(
        auth.access_key, operation.action, address.bucket, _scope(operation, address)
    ):
        raise _denied(view, auth, address.bucket)
    target = _resolve(view, operation, address)
    return Admitted(headers, address, operation, auth, target, source)


def _denied(view: View, auth: Authenticated, bucket: str, message: str | None = None) -> GatewayError:
    """AccessDenied, also for a bucket that no mount shows: a stranger must not learn which there are. Whoever may
    list all buckets is told that there is none."""
    knows = bucket and not view.mounts.of_bucket(bucket)
    if knows and view.access.allowed(auth.access_key, "s3:ListAllMyBuckets", ""):
        return NoSuchBucket("The specified bucket does not exist")
    return S3Error("AccessDenied", message)


def _scope(operation: Operation, address: Address) -> str:
    """The key that rights are asked for: a listing's is its prefix, so a tenant of `data/team/*` may list that."""
    if operation.name in _LISTINGS:
        return address.get("prefix") or ""
    return address.key


def _authorize_write(
    view: View, auth: Authenticated, operation: Operation, address: Address, headers: Mapping[str, str]
) -> CopySource | None:
    if operation.name != _BY_KEY:
        for action in (operation.action, *_header_actions(operation, headers)):
            if not view.access.allowed(auth.access_key, action, address.bucket, address.key):
                denied = f"This identity is not allowed {action} here."
                raise _denied(view, auth, address.bucket, denied)
    if operation.name not in ("CopyObject", "UploadPartCopy"):
        return None
    source = parse_copy_source(headers["x-amz-copy-source"])
    action = "s3:GetObject" if source.version_id is None else "s3:GetObjectVersion"
    if not view.access.allowed(auth.access_key, action, source.bucket, source.key):
        denied = f"This identity is not allowed {action} on the copy source."
        raise _denied(view, auth, source.bucket, denied)
    return source


def _header_actions(operation: Operation, headers: Mapping[str, str]) -> Iterator[str]:
    if operation.name in _STORING:
        table, grants = _OBJECT_HEADER_ACTIONS, "s3:PutObjectAcl"
    elif operation.name == "CreateBucket":
        table, grants = _BUCKET_HEADER_ACTIONS, "s3:PutBucketAcl"
    else:
        if headers.get("x-amz-bypass-governance-retention", "").lower() == "true":
            yield "s3:BypassGovernanceRetention"
        return
    for name, value in headers.items():
        # `private` is what an object is without the header, and some clients always send it.
        if name in table and not (name == "x-amz-acl" and value == "private"):
            yield table[name]
        elif name.startswith("x-amz-grant-"):
            yield grants


def _resolve(view: View, operation: Operation, address: Address) -> Target | None:
    if not address.bucket or operation.name == _BY_KEY:
        return None
    try:
        target = view.mounts.resolve(address.bucket, address.key)
    except NoSuchBucket:
        if operation.name == "CreateBucket":
            raise S3Error(
                "AccessDenied", "No mount of this gateway shows a bucket of this name: add a mount first."
            ) from None
        raise
    if operation.mutates and target.mount.read_only:
        raise read_only(target)
    return target


def read_only(target: Target) -> S3Error:
    return S3Error("AccessDenied", f"The mount of {target.mount.path or target.bucket} is read-only.")
