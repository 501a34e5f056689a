"""S3-compatible stores by name, and what of S3 each of them lacks. `auto` is S3 itself: everything.

A row says only what code here decides on. Where a store lacks `trailers`, a client's trailing checksum has been
verified against the body by this gateway before the last byte goes out; the object is then stored without that
checksum, and a later read does not return it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gateway.errors import Unsupported
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
    """clean_keys    keys are paths of a file system there: empty, `.` and `..` segments would be folded away, so such
                     keys are refused; a trailing slash is one too
    copies_parts     UploadPartCopy works
    """

    capabilities: Capabilities = _S3
    clean_keys: bool = False
    copies_parts: bool = True

    def check_key(self, key: str) -> None:
        """Raises Unsupported for a key that would share an object with another one."""
        if self.clean_keys and key and _UNCLEAN.search(key):
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
    # aws-chunked framing as content, and answers UploadPartCopy with an empty part.
    "rclone": Flavour(Capabilities(forward=True, batch_delete=True), clean_keys=True, copies_parts=False),
}


def flavour_of(name: str) -> Flavour:
    """Raises Unsupported, naming the known ones."""
    try:
        return FLAVOURS[name]
    except KeyError:
        raise Unsupported(f"Unknown flavour {name!r}: one of {', '.join(FLAVOURS)}.") from None
