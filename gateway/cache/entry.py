"""The values of the index: what is known of an object, and where a block lies.

An `objects` value is one packed head, then etag, wire, checksum_wire and, for keys that LMDB cannot hold, the
full key. Its first four bytes are a CRC-32C of the rest; a value that fails it is treated as not there.
A `blocks` value is 26 bytes; its check covers the version and block it was stored under, too.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final, NamedTuple

from awscrt.checksums import crc32c

from gateway.errors import StoreFull

OBJECT: Final = 1
ABSENT: Final = 2
TOMBSTONE: Final = 3

_HEAD = struct.Struct("<IBHHHIIQQddqQQQ")
_HEAD_SIZE = _HEAD.size
_CHECK = struct.Struct("<I")
_EXTENT = struct.Struct("<QIIIHHH")
_BLOCK_KEY = struct.Struct(">QI")
EXTENT_SIZE = _EXTENT.size
LEAD_UNIT: Final = 64
block_key = _BLOCK_KEY.pack

# LMDB's limit is 511. Longer keys become 447 bytes of prefix and 64 of digest, a length no other key has.
_KEY_MAX: Final = 480
_KEY_PREFIX: Final = 447


def index_key(key: bytes) -> bytes:
    if len(key) <= _KEY_MAX:
        return key
    return key[:_KEY_PREFIX] + hashlib.blake2b(key).digest()


class Entry:
    """What the cache knows of one object. Times: `validated_at` wall seconds, `asked_ns` and `invalidated_ns`
    CLOCK_MONOTONIC of boot `generation`. `wire` and `checksum_wire` are opaque here. `fetched_at`: wall seconds when
    the first bytes of this version were asked for; revalidating changes it as little as the version.

    validated_at is 0.0 when the origin has to be asked before the first use, whatever the rule says.
    """

    __slots__ = (
        "asked_ns",
        "checksum_wire",
        "etag",
        "fetched_at",
        "generation",
        "invalidated_ns",
        "key",
        "last_modified",
        "queued",
        "size",
        "state",
        "validated_at",
        "version",
        "wire",
    )

    def __init__(
        self,
        key: bytes,
        version: int,
        state: int,
        size: int,
        validated_at: float,
        etag: str,
        last_modified: int,
        wire: bytes,
        checksum_wire: bytes,
        asked_ns: int = 0,
        invalidated_ns: int = 0,
        generation: int = 0,
        queued: int = 0,
        fetched_at: float = 0.0,
    ) -> None:
        self.key = key
        self.version = version
        self.state = state
        self.size = size
        self.validated_at = validated_at
        self.etag = etag
        self.last_modified = last_modified
        self.wire = wire
        self.checksum_wire = checksum_wire
        self.asked_ns = asked_ns
        self.invalidated_ns = invalidated_ns
        self.generation = generation
        self.queued = queued
        self.fetched_at = fetched_at

    def __repr__(self) -> str:
        kind = {OBJECT: "object", ABSENT: "absent", TOMBSTONE: "tombstone"}.get(self.state, "?")
        return f"<Entry {kind} {self.key!r} v{self.version} {self.size} B {self.etag}>"

    def same_object(self, etag: str, size: int, last_modified: int) -> bool:
        return (
            self.state == OBJECT
            and self.etag == etag
            and self.size == size
            and self.last_modified == last_modified
        )


def encode_entry(entry: Entry) -> bytes:
    etag = entry.etag.encode("utf-8", "surrogateescape")
    tail = entry.key if len(entry.key) > _KEY_MAX else b""
    if len(etag) > 0xFFFF or len(entry.checksum_wire) > 0xFFFF or len(tail) > 0xFFFF:
        raise StoreFull("the object's headers are too long to be cached")
    head = _HEAD.pack(
        0,
        entry.state,
        len(etag),
        len(entry.checksum_wire),
        len(tail),
        len(entry.wire),
        entry.generation,
        entry.version,
        entry.size,
        entry.validated_at,
        entry.fetched_at,
        entry.last_modified,
        entry.asked_ns,
        entry.invalidated_ns,
        entry.queued,
    )
    body = b"".join((head[4:], etag, entry.wire, entry.checksum_wire, tail))
    return _CHECK.pack(crc32c(body)) + body


def decode_entry(key: bytes, value: bytes) -> Entry | None:
    """None when the value is damaged or belongs to another (long) key."""
    if len(value) < _HEAD_SIZE:
        return None
    (
        check,
        state,
        etag_length,
        sums_length,
        key_length,
        wire_length,
        generation,
        version,
        size,
        validated_at,
        fetched_at,
        last_modified,
        asked_ns,
        invalidated_ns,
        queued,
    ) = _HEAD.unpack_from(value)
    if crc32c(value[4:]) != check:
        return None
    etag_end = _HEAD_SIZE + etag_length
    wire_end = etag_end + wire_length
    sums_end = wire_end + sums_length
    if key_length and value[sums_end:] != key:
        return None
    return Entry(
        key,
        version,
        state,
        size,
        validated_at,
        value[_HEAD_SIZE:etag_end].decode("utf-8", "surrogateescape"),
        last_modified,
        value[etag_end:wire_end],
        value[wire_end:sums_end],
        asked_ns,
        invalidated_ns,
        generation,
        queued,
        fetched_at,
    )


def stored_key(key: bytes, value: bytes) -> bytes:
    """The cache key of the entry under an index key: that key itself, or what a long key's value ends
    with."""
    if len(key) <= _KEY_MAX or len(value) < _HEAD_SIZE:
        return key
    return value[len(value) - int(_HEAD.unpack_from(value)[4]) :]


class Extent(NamedTuple):
    """Where one block's payload lies: `offset` is the payload's, `lead` bytes (of `LEAD_UNIT`s) before it the record
    starts."""

    segment: int
    offset: int
    length: int
    crc: int
    slot: int
    lead: int

    @property
    def taken(self) -> int:
        """Bytes of disk: of a long lead all but the header's page is a hole, as good as always."""
        return self.length + min(self.lead, 4096)


_new_extent = tuple.__new__


def _seed(version: int, block: int) -> int:
    return (version ^ (version >> 32) ^ (block * 0x9E3779B1)) & 0xFFFFFFFF


def encode_extent(extent: Extent, version: int, block: int) -> bytes:
    fields = (*extent[:5], extent.lead // LEAD_UNIT)
    check = crc32c(_EXTENT.pack(*fields, 0)[:-2], _seed(version, block)) & 0xFFFF
    return _EXTENT.pack(*fields, check)


def decode_extent(value: bytes, version: int, block: int) -> Extent | None:
    if len(value) != EXTENT_SIZE:
        return None
    segment, offset, length, crc, slot, lead, check = _EXTENT.unpack(value)
    if crc32c(value[:-2], _seed(version, block)) & 0xFFFF != check:
        return None
    extent: Extent = _new_extent(Extent, (segment, offset, length, crc, slot, lead * LEAD_UNIT))
    return extent
