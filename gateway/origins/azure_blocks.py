"""The names of an upload's blocks, which carry all that S3 must know of its parts. Pure.

Azure keeps blocks by names of up to 64 bytes, all of one length, and lists them with their sizes. A part is

    data blocks    its bytes, in order
    one receipt    a block of one byte, staged when the part's last byte has been taken, never part of the object

so a part without a receipt, or without all of its data, is none. Uploading a part number again adds another attempt;
the latest receipt counts. 64 bytes, big-endian:

    kind 1 | number 2 | attempt 4 | index 1 | milliseconds 6 | md5 16 | data blocks 1 | algorithm 1 | checksum 32
    `D` or `R`        random, one per upload of the part       the rest is zero in data blocks
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.s3.checksums import HEADER_PREFIX, SIZES, decode, encode

_FORMAT: Final = struct.Struct(">cHIB6s16sBB32s")
_DATA: Final = b"D"
_RECEIPT: Final = b"R"
_CHECKSUM_BYTES_MAX: Final = 32
# Numbers are stored: new ones go at the end.
_ALGORITHMS: Final = (
    "",
    "crc32",
    "crc32c",
    "crc64nvme",
    "sha1",
    "sha256",
    "md5",
    "xxhash64",
    "xxhash3",
    "xxhash128",
)
# One byte counts a part's data blocks, and S3's largest part are 5 GiB.
DATA_BLOCK_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class StoredPart:
    """`at`: seconds since the epoch. `checksums`: response-header form. `blocks`: names of its data blocks."""

    number: int
    etag: str
    size: int
    at: float
    checksums: Mapping[str, str]
    blocks: tuple[str, ...]


def data_name(number: int, attempt: int, index: int) -> str:
    return _name(_FORMAT.pack(_DATA, number, attempt, index, b"", b"", 0, 0, b""))


def receipt_name(
    number: int, attempt: int, at: float, md5: bytes, count: int, checksums: Mapping[str, str]
) -> str:
    """Of several checksums the first that fits is kept: an upload has one algorithm."""
    algorithm, value = 0, b""
    for header, text in checksums.items():
        name = header.removeprefix(HEADER_PREFIX)
        found = decode(text, name) if name in _ALGORITHMS and name in SIZES else None
        if found is not None and len(found) <= _CHECKSUM_BYTES_MAX:
            algorithm, value = _ALGORITHMS.index(name), found
            break
    when = int(at * 1000).to_bytes(6, "big")
    return _name(_FORMAT.pack(_RECEIPT, number, attempt, 0, when, md5, count, algorithm, value))


def _name(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def parts_of(blocks: Iterable[tuple[str, int]]) -> dict[int, StoredPart]:
    """The parts that these blocks (name, size) make up, by number."""
    data: dict[tuple[int, int], dict[int, tuple[str, int]]] = {}
    receipts: list[tuple[bytes, int, int, bytes, int, int, bytes]] = []
    for name, size in blocks:
        try:
            kind, number, attempt, index, *rest = _FORMAT.unpack(base64.b64decode(name, validate=True))
        except (struct.error, binascii.Error, ValueError):
            continue
        if kind == _DATA:
            data.setdefault((number, attempt), {})[index] = (name, size)
        elif kind == _RECEIPT:
            when, md5, count, algorithm, value = rest
            receipts.append((when, number, attempt, md5, count, algorithm, value))
    found: dict[int, StoredPart] = {}
    for when, number, attempt, md5, count, algorithm, value in sorted(receipts):
        own = data.get((number, attempt), {})
        if sorted(own) != list(range(count)):
            continue
        found[number] = StoredPart(
            number,
            f'"{md5.hex()}"',
            sum(size for _, size in own.values()),
            int.from_bytes(when, "big") / 1000,
            _checksums(algorithm, value),
            tuple(own[index][0] for index in range(count)),
        )
    return found


def _checksums(algorithm: int, value: bytes) -> dict[str, str]:
    if not 0 < algorithm < len(_ALGORITHMS):
        return {}
    name = _ALGORITHMS[algorithm]
    return {HEADER_PREFIX + name: encode(value[: SIZES[name]])}
