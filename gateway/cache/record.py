"""One record of a segment file: how a cached block lies on disk.

A segment is a sequence of records and nothing else. Every record starts at a multiple of 64 bytes, and so does its
payload; that of a large block starts at a multiple of 64 KiB, which makes sending it from the page cache cheaper by an
eighth (whole folios, whole pipes; 100 µs of CPU per MiB over loopback instead of 118). The pages in front of it are a
hole of the file and take no space.

    offset size
         0    4  magic b"GwR1"
         4    4  zero
         8    4  CRC-32C of the payload
        12    4  CRC-32C of bytes 16..48 and of the meta blob
        16    1  kind: 1 BLOCK
        17    1  format: 3
        18    2  slot: ordinal of the record in its segment, the index of its access byte
        20    4  length of the meta blob
        24    4  length of the payload
        28    4  block number inside the object
        32    8  version id
        40    8  segment id (a file that was renamed or copied does not parse)
        48    …  meta blob: u16 key length, the cache key, the object's entry (`entry.py`)
         …    …  zeros or a hole
         …    …  payload

A record is written whole, in the order of the offsets, so a scan can always walk on by the lengths and never has to
look for a magic number inside payloads (which clients choose). Nothing is synced: after a power cut a header may stand
before bytes that never reached the disk, which is why every block's CRC is checked again before it is first served
after a start. Offsets of records are never used twice.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from awscrt.checksums import crc32c

MAGIC = b"GwR1"
FORMAT = 3  # of this and of the entry in the meta blob
KIND_BLOCK = 1
ALIGN = 64
PAYLOAD_ALIGN = (
    64 << 10
)  # the largest that `Extent.lead` and the slack of a segment (`layout.py`) have room for
LARGE_BYTES = 256 << 10  # below, the gap would cost more of the segment than it is worth
HEADER_SIZE = 48
META_SIZE_MAX = (
    60_000  # key (1 KiB in S3) and headers (8 KiB in HTTP stacks) are far below; fits the index's u16
)

_FRONT = struct.Struct("<4sxxxxII")  # magic, payload CRC, header CRC
_FIXED = struct.Struct(
    "<BBHIIIQQ"
)  # kind, format, slot, meta length, payload length, block, version, segment
_KEY_LENGTH = struct.Struct("<H")


class Header(NamedTuple):
    """A record's header as read back. `offset` is the record's start, `meta` the key and entry blob."""

    offset: int
    payload_crc: int
    slot: int
    payload_length: int
    block: int
    version: int
    segment: int
    meta: bytes

    @property
    def payload_offset(self) -> int:
        return payload_at(self.offset, len(self.meta), self.payload_length)

    @property
    def end(self) -> int:
        return record_end(self.offset, len(self.meta), self.payload_length)


def payload_at(offset: int, meta_length: int, payload_length: int) -> int:
    """Where the payload of a record at `offset` begins."""
    align = PAYLOAD_ALIGN if payload_length >= LARGE_BYTES else ALIGN
    return _up(offset + HEADER_SIZE + meta_length, align)


def record_end(offset: int, meta_length: int, payload_length: int) -> int:
    return _up(payload_at(offset, meta_length, payload_length) + payload_length, ALIGN)


def _up(offset: int, align: int) -> int:
    return (offset + align - 1) // align * align


def encode_meta(key: bytes, entry: bytes) -> bytes:
    return _KEY_LENGTH.pack(len(key)) + key + entry


def decode_meta(meta: bytes) -> tuple[bytes, bytes]:
    """(cache key, entry value). The caller has checked the header's CRC, which covers the blob."""
    end = 2 + _KEY_LENGTH.unpack_from(meta)[0]
    return meta[2:end], meta[end:]


def encode_header(
    *, crc: int, slot: int, meta: bytes, length: int, block: int, version: int, segment: int
) -> bytes:
    fixed = _FIXED.pack(KIND_BLOCK, FORMAT, slot, len(meta), length, block, version, segment)
    return _FRONT.pack(MAGIC, crc, crc32c(meta, crc32c(fixed))) + fixed + meta


def decode_header(data: bytes | memoryview, offset: int, segment: int) -> Header | None:
    """The header in `data`, which starts at the record; None when it is not one of this segment's or was
    cut."""
    if len(data) < HEADER_SIZE:
        return None
    magic, payload_crc, check = _FRONT.unpack_from(data)
    kind, fmt, slot, meta_length, length, block, version, owner = _FIXED.unpack_from(data, 16)
    if magic != MAGIC or fmt != FORMAT or kind != KIND_BLOCK or owner != segment:
        return None
    if meta_length > META_SIZE_MAX or len(data) < HEADER_SIZE + meta_length:
        return None
    if crc32c(bytes(data[16 : HEADER_SIZE + meta_length])) != check:
        return None
    meta = bytes(data[HEADER_SIZE : HEADER_SIZE + meta_length])
    return Header(offset, payload_crc, slot, length, block, version, segment, meta)


def walk(fd: int, segment: int, disk_read: Callable[[], None] = lambda: None) -> Iterator[Header]:
    """Every record from the start up to the first that does not parse or ends past the file: the good
    part. `disk_read` is called before and after each read."""
    size = os.fstat(fd).st_size
    offset = 0
    while offset < size:
        disk_read()
        header = decode_header(os.pread(fd, 4096, offset), offset, segment)
        if header is None:  # a meta blob longer than the usual read, or the end of the good part
            header = decode_header(os.pread(fd, HEADER_SIZE + META_SIZE_MAX, offset), offset, segment)
        disk_read()
        if header is None or header.payload_offset + header.payload_length > size:
            return
        yield header
        offset = header.end
