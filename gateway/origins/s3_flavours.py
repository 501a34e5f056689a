"""S3-compatible stores by name, and what of S3 each of them lacks. `auto` is S3 itself: everything,
but for conditions on deletes at an endpoint that is not one of AWS.

A row says only what code here decides on. Where a store lacks `trailers`, a client's trailing checksum has been
verified against the body by this gateway before the last byte goes out; the object is then stored without that
checksum, and a later read does not return it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from gateway.errors import NotFound, Unsupported
from gateway.origins.base import Capabilities

_S3 = Capabilities(
    forward=True,
    versions=True,
    conditional_writes=True,
    trailers=True,
    checksums=True,
    batch_delete=True,
    conditional_deletes=True,
)


@dataclass(frozen=True, slots=True)
class Flavour:
    """clean_keys     keys are paths of a file system there, without empty, `.` or `..` segments (a slash at the end
                      makes an empty one): writing such a key is refused, and there is none to read
    copies_parts      UploadPartCopy works
    any_delimiter     listings take any delimiter, not the slash alone
    by_host           a bucket is addressed as a name below the endpoint's, never as a path
    copy_if           what stands before `if-match` and `if-none-match` when a copy's target has to meet them; None:
                      the store would pass over them
    """

    capabilities: Capabilities = _S3
    clean_keys: bool = False
    copies_parts: bool = True
    any_delimiter: bool = True
    by_host: bool = False
    copy_if: str | None = ""

    def holds(self, key: str) -> bool:
        """Whether an object of this key can exist there; if not, the key might name another one's object. The empty
        key is the bucket itself."""
        return not (self.clean_keys and key and _UNCLEAN.search(key))

    def holds_under(self, prefix: str) -> bool:
        """Whether a key can begin so there; what is listed under another prefix belongs to other keys."""
        above, slash, _ = prefix.rpartition("/")
        return not (self.clean_keys and slash and _UNCLEAN.search(above))

    def require_held(self, key: str) -> None:
        """For reads. Raises NotFound."""
        if not self.holds(key):
            raise NotFound("The key does not exist.")

    def require_holdable(self, key: str) -> None:
        """For writes. Raises Unsupported."""
        if not self.holds(key):
            raise Unsupported("This origin keeps keys as paths: it cannot hold empty, '.' or '..' segments.")


_UNCLEAN = re.compile(r"(?:^|/)(?:\.{0,2})(?:/|$)")

# What every compatible store has. Whoever has more, but does not say so in a place that lasts, loses little by it: a
# condition is refused instead of passed over, and checksums are verified here instead of there.
_PLAIN: Final = Flavour(Capabilities(forward=True, versions=True, batch_delete=True), copy_if=None)

FLAVOURS: Final[dict[str, Flavour]] = {
    "auto": Flavour(),
    "aws": Flavour(),
    # MinIO passes over If-Match on deletes.
    "minio": Flavour(replace(_S3, conditional_deletes=False)),
    # RGW before Tentacle: no trailers, no checksums, no conditions on completes. A newer one is `auto`. DigitalOcean
    # Spaces is a Ceph: docs.digitalocean.com/products/spaces/reference/s3-compatibility.
    "ceph": _PLAIN,
    "spaces": _PLAIN,
    # Cloudflare R2 has no object versions, and has long refused trailers and some checksums. Conditions on a copy's
    # target have names of their own: developers.cloudflare.com/r2/api/s3/conditional-operations.
    "r2": Flavour(
        Capabilities(forward=True, conditional_writes=True, batch_delete=True),
        copy_if="cf-copy-destination-",
    ),
    # Alibaba Cloud OSS knows buckets by host name only, and aws-chunked without trailers only
    # (alibabacloud.com/help/en/oss/user-guide/0017-00000804).
    "oss": replace(_PLAIN, by_host=True),
    # Backblaze B2 answers x-amz-checksum-* with 400, conditional writes with 501:
    # backblaze.com/docs/cloud-storage-s3-compatible-api, "unsupported features".
    "b2": _PLAIN,
    # Wasabi documents neither checksums nor conditions on writes (docs.wasabi.com/docs/rest-api-introduction).
    "wasabi": _PLAIN,
    # OVHcloud refused STREAMING-UNSIGNED-PAYLOAD-TRAILER and x-amz-sdk-checksum-algorithm:
    # github.com/ovh/public-cloud-roadmap/issues/781.
    "ovh": _PLAIN,
    # Scaleway: conditions on puts, completes and copies (scaleway.com/en/docs/object-storage/api-cli/
    # using-conditional-writes); checksums are not promised.
    "scaleway": Flavour(
        Capabilities(forward=True, versions=True, conditional_writes=True, batch_delete=True)
    ),
    # Tigris has conditions (tigrisdata.com/docs/objects/conditionals.md) and no versions (tigrisdata.com/docs/api/s3).
    "tigris": Flavour(Capabilities(forward=True, conditional_writes=True, batch_delete=True), copy_if=None),
    # `rclone serve s3`: ignores If-Match and If-None-Match on writes, keeps neither versions nor checksums, stores
    # `aws-chunked` as the content's encoding, and answers UploadPartCopy with an empty part.
    "rclone": Flavour(
        Capabilities(forward=True, batch_delete=True),
        copy_if=None,
        clean_keys=True,
        copies_parts=False,
        any_delimiter=False,
    ),
}


_AWS: Final = re.compile(r"(?:.+\.)?amazonaws\.com(?:\.cn)?")


def flavour_of(name: str, endpoint: str = "") -> Flavour:
    """`endpoint`: its URL; empty: AWS. Raises Unsupported, naming the known ones."""
    try:
        flavour = FLAVOURS[name]
    except KeyError:
        raise Unsupported(f"Unknown flavour {name!r}: one of {', '.join(FLAVOURS)}.") from None
    if name == "auto" and endpoint and not _AWS.fullmatch(urlsplit(endpoint).hostname or ""):
        # Stores that check conditions on writes may yet pass over them on deletes, and delete all the same.
        flavour = replace(flavour, capabilities=replace(flavour.capabilities, conditional_deletes=False))
    return flavour
