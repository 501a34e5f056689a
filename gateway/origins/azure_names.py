"""Which buckets and keys Azure can hold as they are, and the gateway's own blobs among them. Pure.

Rules of "Naming and Referencing Containers, Blobs, and Metadata" (Azure Storage REST API), and what the service does
beyond them: it takes `\\` for `/`, drops dots at the end of a segment and resolves `.` and `..`, so that two keys
would share one blob. Such keys are refused rather than escaped: an escape would be another program's plain name.
A key of 1,024 bytes always fits a name's 1,024 characters.

What the gateway keeps for itself lies in the same container, because a copy inside it moves no data:

    .s3-training-gateway/uploads/<id>   an open multipart upload: its key and headers, in metadata
    .s3-training-gateway/parts/<id>     its parts, as blocks
    .s3-training-gateway/copies/<id>    a copy on its way to its key with new metadata

As keys these names do not exist: they are not listed, not read, and cannot be written.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.errors import NoSuchBucket, NotFound, Unsupported
from gateway.model import Remote

HIDDEN: Final = ".s3-training-gateway/"
UPLOADS: Final = f"{HIDDEN}uploads/"
PARTS: Final = f"{HIDDEN}parts/"
COPIES: Final = f"{HIDDEN}copies/"

_SEGMENTS_MAX: Final = 254
_CONTAINER = re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_NOWHERE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\\\\]|\\./")


def is_container(bucket: str) -> bool:
    return _CONTAINER.fullmatch(bucket) is not None


def require_container(bucket: str) -> None:
    """Raises NoSuchBucket."""
    if not is_container(bucket):
        raise NoSuchBucket(
            "Azure has no container of this name: 3 to 63 lower-case letters, digits and single dashes."
        )


def holds(key: str) -> bool:
    return (
        can_begin(key)
        and not key.endswith(".")
        and not key.startswith(HIDDEN)
        and key.count("/") < _SEGMENTS_MAX
    )


def can_begin(prefix: str) -> bool:
    """Whether any key here can begin so."""
    return not _NOWHERE.search(prefix)


def require_readable(remote: Remote) -> None:
    """Raises NoSuchBucket, NotFound."""
    require_container(remote.bucket)
    if not holds(remote.key):
        raise NotFound("The key does not exist.")


def require_writable(remote: Remote) -> None:
    """Raises NoSuchBucket, Unsupported."""
    require_container(remote.bucket)
    if remote.key.startswith(HIDDEN):
        raise Unsupported(f"Keys that begin with {HIDDEN} are the gateway's own.")
    if not holds(remote.key):
        raise Unsupported(
            "Azure cannot hold this key exactly: no segment may end in a dot, there is no backslash and no control "
            f"character, and it has {_SEGMENTS_MAX} segments at most."
        )
