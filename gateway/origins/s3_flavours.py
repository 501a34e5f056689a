"""S3-compatible stores by name, and what of S3 each of them lacks. `auto` is S3 itself: everything.

A row says only what code here decides on. Where a store lacks `trailers`, a client's trailing checksum has been
verified against the body by this gateway before the last byte goes out; the object is then stored without that
checksum, and a later read does not return it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gateway.errors import NotFound, Unsupported
from gateway.origins.base import Capabilities

_S3 = Capabilities(
    forward=True,
    versions=True,
    conditional_writes=True,
    trailers=True,
    checksums=True,
    batch_delete=True,
)


@dataclass(frozen=True, slots=True)
class Flavour:
    """clean_keys     keys are paths of a file system there, without empty, `.` or `..` segments (a slash at the end
                      makes an empty one): writing such a key is refused, and there is none to read
    copies_parts      UploadPartCopy works
    any_delimiter     listings take any delimiter, not the slash alone
    """

    capabilities: Capabilities = _S3
    clean_keys: bool = False
    copies_parts: bool = True
    any_delimiter: bool = True

    def holds(self, key: str) -> bool:
        """Whether an object of this key can exist there; if not, the key might name another one's object. The empty
        key is the bucket itself."""
        return not (self.clean_keys and key and _UNCLEAN.search(key))

    def require_held(self, key: str) -> None:
        """For reads. Raises NotFound."""
        if not self.holds(key):
            raise NotFound("The key does not exist.")

    def require_holdable(self, key: str) -> None:
        """For writes. Raises Unsupported."""
        if not self.holds(key):
            raise Unsupported("This origin keeps keys as paths: it cannot hold empty, '.' or '..' segments.")


_UNCLEAN = re.compile(r"(?:^|/)(?:\.{0,2})(?:/|$)")

FLAVOURS: Final[dict[str, Flavour]] = {
    "auto": Flavour(),
    "aws": Flavour(),
    "minio": Flavour(),
    # RGW before Tentacle: no trailers, no checksums, no conditions on completes. A newer one is `auto`.
    "ceph": Flavour(Capabilities(forward=True, versions=True, batch_delete=True)),
    # Cloudflare R2 has no object versions, and has long refused trailers and some checksums.
    "r2": Flavour(Capabilities(forward=True, conditional_writes=True, batch_delete=True)),
    # `rclone serve s3`: ignores If-Match and If-None-Match on writes, keeps neither versions nor checksums, stores
    # `aws-chunked` as the content's encoding, and answers UploadPartCopy with an empty part.
    "rclone": Flavour(
        Capabilities(forward=True, batch_delete=True),
        clean_keys=True,
        copies_parts=False,
        any_delimiter=False,
    ),
}


def flavour_of(name: str) -> Flavour:
    """Raises Unsupported, naming the known ones."""
    try:
        return FLAVOURS[name]
    except KeyError:
        raise Unsupported(f"Unknown flavour {name!r}: one of {', '.join(FLAVOURS)}.") from None
