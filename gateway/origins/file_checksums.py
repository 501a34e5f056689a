"""Checksums of a multipart object from those of its parts (S3: "Checking object integrity", multipart). Pure.

COMPOSITE is the digest over the parts' digests, with the number of parts behind it; FULL_OBJECT is the
checksum of the whole, which for CRCs follows from the parts' checksums and lengths without reading a byte.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Sequence

from awscrt import checksums as crt

from gateway.errors import Refused

HEADER = "x-amz-checksum-"


def _crc(call: Callable[[bytes], int], length: int) -> Callable[[bytes], bytes]:
    return lambda data: call(data).to_bytes(length, "big")


_DIGESTS: dict[str, Callable[[bytes], bytes]] = {
    "CRC32": _crc(zlib.crc32, 4),
    "CRC32C": _crc(crt.crc32c, 4),
    "SHA1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
}
_COMBINE: dict[str, tuple[Callable[[int, int, int], int], int]] = {
    "CRC32": (crt.combine_crc32, 4),
    "CRC32C": (crt.combine_crc32c, 4),
    "CRC64NVME": (crt.combine_crc64nvme, 8),
}


def type_of(algorithm: str, asked: str | None) -> str:
    """The checksum type of an upload; raises Refused for a pair that S3 does not have either."""
    kind = asked or ("FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE")
    if algorithm not in (_COMBINE if kind == "FULL_OBJECT" else _DIGESTS):
        raise Refused(400, "InvalidRequest", f"{kind} checksums do not exist for {algorithm}.")
    return kind


def of_parts(algorithm: str, kind: str, parts: Sequence[tuple[str | None, int]]) -> str | None:
    """The object's checksum from (checksum, size) of its parts; None when a part has none."""
    try:
        values = [
            (base64.b64decode(value, validate=True), size) for value, size in parts if value is not None
        ]
    except ValueError:
        return None
    if not values or len(values) != len(parts):
        return None
    if kind == "COMPOSITE":
        joined = _DIGESTS[algorithm](b"".join(value for value, _ in values))
        return f"{base64.b64encode(joined).decode()}-{len(values)}"
    combine, length = _COMBINE[algorithm]
    total = 0
    for value, size in values:
        total = combine(total, int.from_bytes(value, "big"), size)
    return base64.b64encode(total.to_bytes(length, "big")).decode()
