"""Google Cloud Storage on the wire: its XML API is S3's with other names for most headers, and refuses a request that
mixes both. Calls are signed with an HMAC key (GOOG4-HMAC-SHA256) or carry an OAuth token.

    out   x-amz-meta-*, x-amz-acl, x-amz-copy-source*, …   → x-goog-…
          x-amz-checksum-*                                  left out: the gateway has verified them
          expires                                           kept as metadata: Google has no such header
          what has no counterpart (tags, object locks, …)   refused, never dropped silently
    in    x-goog-meta-*       → x-amz-meta-*
          x-goog-generation   → x-amz-version-id            every object has one, versioned bucket or not
          x-goog-hash: crc32c → x-amz-checksum-crc32c       the full object's; readers keep it for whole reads only

`accept-encoding: gzip` on reads of objects keeps Google from inflating what is stored compressed ("Decompressive
transcoding"). It is not signed, because Google's front end changes it. Documents are asked for as they are.

Source: Cloud Storage documentation, "HTTP headers and query string parameters for XML API", "Simple migration".
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from gateway.errors import Unsupported
from gateway.origins.s3_credentials import CredentialSource
from gateway.origins.s3_dialect import UNSIGNED_HEADERS
from gateway.s3.checksums import HEADER_PREFIX
from gateway.s3.signer import GOOGLE, Credentials, sign

if TYPE_CHECKING:
    from gateway.origins.s3_http import Call

ENDPOINT: Final = "https://storage.googleapis.com"
# Google takes any location in the scope of a signature; it serves every bucket from one endpoint.
_LOCATION: Final = "auto"
_OF_OBJECTS: Final = {**UNSIGNED_HEADERS, "accept-encoding": "gzip"}
_OBJECT_OPS: Final = frozenset({"get", "head", "forward"})

_META: Final = ("x-amz-meta-", "x-goog-meta-")
_EXPIRES: Final = "x-goog-meta-gateway-expires"
_RENAMED: Final = {
    "x-amz-acl": "x-goog-acl",
    "x-amz-metadata-directive": "x-goog-metadata-directive",
    **{
        f"x-amz-copy-source{end}": f"x-goog-copy-source{end}"
        for end in ("", "-if-match", "-if-none-match", "-if-modified-since", "-if-unmodified-since")
    },
}
# About tags, of which there are none to copy, and about accounts, which are not Amazon's here.
_LEFT_OUT: Final = frozenset(
    """
    x-amz-tagging-directive x-amz-expected-bucket-owner x-amz-source-expected-bucket-owner x-amz-mp-object-size
    x-amz-sdk-checksum-algorithm
    """.split()
)
# Amazon's names for what Google sells under others. Reads give back Google's, of which none needs a restore.
_CLASSES: Final = {
    "STANDARD": "STANDARD",
    "NEARLINE": "NEARLINE",
    "COLDLINE": "COLDLINE",
    "ARCHIVE": "ARCHIVE",
    "REDUCED_REDUNDANCY": "STANDARD",
    "STANDARD_IA": "NEARLINE",
    "ONEZONE_IA": "NEARLINE",
    "GLACIER_IR": "COLDLINE",
    "GLACIER": "ARCHIVE",
    "DEEP_ARCHIVE": "ARCHIVE",
}
# Earlier names of STANDARD, which S3 does not show in headers.
_USUAL_CLASSES: Final = frozenset({"STANDARD", "MULTI_REGIONAL", "REGIONAL", "DURABLE_REDUCED_AVAILABILITY"})
_CRC32C = re.compile(r"(?:^|,)\s*crc32c=([A-Za-z0-9+/]{6}==)\s*(?:,|$)")


class Google:
    """A `Dialect`. Keys with an access key sign; keys without one are an OAuth token."""

    def __init__(self, credentials: CredentialSource) -> None:
        self._credentials = credentials

    async def keys(self) -> Credentials:
        return await self._credentials.get()

    def unsigned(self, call: Call) -> Mapping[str, str]:
        of_object = call.key and call.method in ("GET", "HEAD") and call.op in _OBJECT_OPS
        return _OF_OBJECTS if of_object else UNSIGNED_HEADERS

    def signed(self, call: Call, host: str, path: str, keys: Credentials) -> Mapping[str, str]:
        headers = outgoing(call.headers)
        if not keys.access_key:
            return {**headers, "authorization": f"Bearer {keys.token}"}
        return sign(
            call.method,
            host,
            path,
            call.query,
            headers,
            call.payload_hash,
            keys,
            _LOCATION,
            time.time(),
            GOOGLE,
        )

    def received(self, headers: dict[str, str]) -> dict[str, str]:
        return incoming(headers)


def outgoing(headers: Mapping[str, str]) -> dict[str, str]:
    """A call's headers in Google's names. Raises Unsupported for one that says what Google cannot do."""
    sent: dict[str, str] = {}
    for name, value in headers.items():
        if not name.startswith("x-amz-"):
            sent[_EXPIRES if name == "expires" else name] = value
        elif name.startswith(_META[0]):
            sent[_meta_name(name)] = value
        elif (renamed := _RENAMED.get(name)) is not None:
            sent[renamed] = value
        elif name == "x-amz-storage-class":
            sent["x-goog-storage-class"] = _class_of(value)
        elif not _means_nothing(name, value):
            raise Unsupported(f"Google Cloud Storage has nothing like {name}.")
    return sent


def _meta_name(name: str) -> str:
    renamed = _META[1] + name[len(_META[0]) :]
    if renamed == _EXPIRES:
        raise Unsupported(f"This origin keeps Expires as {name}: it cannot be set by that name.")
    return renamed


def _class_of(name: str) -> str:
    if name not in _CLASSES:
        raise Unsupported(f"Google Cloud Storage has no storage class like {name[:64]!r}.")
    return _CLASSES[name]


def _means_nothing(name: str, value: str) -> bool:
    """Whether a header may be left out without changing what becomes of the object."""
    if name.startswith(HEADER_PREFIX) or name in _LEFT_OUT:
        return True
    if name == "x-amz-server-side-encryption":  # Google encrypts everything so
        return value == "AES256"
    return name == "x-amz-tagging" and not value


def incoming(headers: Mapping[str, str]) -> dict[str, str]:
    """An answer's headers in S3's names; those that S3 has no name for are left out."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        if not name.startswith("x-goog-"):
            found[name] = value
        elif name == _EXPIRES:
            found["expires"] = value
        elif name.startswith(_META[1]):
            found[_META[0] + name[len(_META[1]) :]] = value
        elif name == "x-goog-generation":
            found["x-amz-version-id"] = value
        elif name == "x-goog-storage-class":
            if value not in _USUAL_CLASSES:
                found["x-amz-storage-class"] = value
        elif name == "x-goog-hash" and (crc := _CRC32C.search(value)):
            found[HEADER_PREFIX + "crc32c"] = crc[1]
            found[HEADER_PREFIX + "type"] = "FULL_OBJECT"
    return found


def declared_hash(headers: Mapping[str, str]) -> dict[str, str]:
    """What a client's declared CRC-32C is for Google, which then refuses a body that has another. (Content-MD5 goes
    out as it is.)"""
    crc = headers.get(HEADER_PREFIX + "crc32c")
    return {} if crc is None else {"x-goog-hash": f"crc32c={crc}"}
