"""The index: one LMDB environment that all workers of a node share. This file opens it and reads it;
`changes.py` has what a write transaction does, `writer.py` the only thread that begins one.

    objects   key (≤ 511 bytes, `entry.index_key`)
                  → entry
    blocks    version u64 BE, block u32 BE
                  → extent
    contents  segment u64 BE, slot u16 BE: what eviction deletes
                  → version u64, block u32, tags (u8 count, u64 each), index key
    tagged    tag u64 BE, segment u64 BE, slot u16 BE: the blocks that carry a tag (`tags.py`), oldest first
                  → version u64, block u32, length u32
    segments  segment u64 BE
                  → state u8, worker u8, bytes u64 (reserved or, sealed, real)
    recent    sequence u64 BE: entries that may have no block, oldest first
                  → index key
    meta      name
                  → u64

It is derived data: never synced, dropped when it fails a check and rebuilt from the segments (`rebuild.py`).
A read transaction costs half a microsecond and lives for one call without an await, so it never pins old
pages. Everything is copied out of the map, so nothing outlives its transaction.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, Final, NamedTuple

import lmdb
import structlog

from gateway.cache.entry import (
    TOMBSTONE,
    Entry,
    Extent,
    block_key,
    decode_entry,
    decode_extent,
    index_key,
)
from gateway.cache.shared import SharedPage

log = structlog.get_logger()

# Readers: one slot per thread that is reading at one instant; far above 4 per worker on the largest machines.
MAX_READERS: Final = 1024
# py-lmdb carries two engines whose files do not understand each other. 0.9 is the one with the long record.
ENGINE: Final = 0
MAP_BYTES_MIN: Final = 64 << 20
PAGE: Final = 4096

ACTIVE, SEALED, EVICTING, UNSCANNED = 1, 2, 3, 4
_SEGMENT_KEY = struct.Struct(">Q")
_SEGMENT = struct.Struct("<BBQ")
_SLOT_KEY = struct.Struct(">QH")
_CONTENT = struct.Struct("<QIB")
_TAG = struct.Struct("<Q")
_TAG_KEY = struct.Struct(">QQH")
_TAGGED = struct.Struct("<QII")
_NUMBER = struct.Struct("<Q")
segment_key = _SEGMENT_KEY.pack
slot_key = _SLOT_KEY.pack
tag_key = _TAG_KEY.pack
split_tag_key = _TAG_KEY.unpack
encode_tagged = _TAGGED.pack
decode_tagged = _TAGGED.unpack


class SegmentRow(NamedTuple):
    """state: ACTIVE (one worker appends), SEALED, EVICTING (rows and file are going), UNSCANNED (found on
    disk after the index was lost; its records are not indexed yet)."""

    state: int
    worker: int
    bytes: int


def encode_segment(row: SegmentRow) -> bytes:
    return _SEGMENT.pack(*row)


def decode_segment(value: bytes) -> SegmentRow:
    return SegmentRow(*_SEGMENT.unpack(value))


class Content(NamedTuple):
    """What a slot of a segment holds. `key` is the index key."""

    version: int
    block: int
    tags: tuple[int, ...]
    key: bytes


def encode_content(content: Content) -> bytes:
    version, block, tags, key = content
    return _CONTENT.pack(version, block, len(tags)) + b"".join(map(_TAG.pack, tags)) + key


def decode_content(value: bytes) -> Content:
    version, block, count = _CONTENT.unpack_from(value)
    if not count:
        return Content(version, block, (), value[_CONTENT.size :])
    end = _CONTENT.size + count * _TAG.size
    tags = tuple(tag for (tag,) in _TAG.iter_unpack(value[_CONTENT.size : end]))
    return Content(version, block, tags, value[end:])


def tag_sum(tag: int) -> bytes:
    """Name of the number of bytes that carry a tag."""
    return b"tag" + _SEGMENT_KEY.pack(tag)


def read_number(txn: Any, meta: Any, name: bytes) -> int:
    value = txn.get(name, None, meta)
    return 0 if value is None else int(_NUMBER.unpack(value)[0])


def write_number(txn: Any, meta: Any, name: bytes, value: int) -> None:
    txn.put(name, _NUMBER.pack(value), db=meta)


def add_number(txn: Any, meta: Any, name: bytes, change: int) -> None:
    """A sum that is not there when it is 0."""
    value = read_number(txn, meta, name) + change
    if value > 0:
        write_number(txn, meta, name, value)
    else:
        txn.delete(name, db=meta)


class Index:
    """One process's view of the environment. LMDB forbids opening it twice in a process."""

    def __init__(self, directory: Path, map_bytes: int, shared: SharedPage) -> None:
        self.path = directory
        self.shared = shared
        self._shared_words = shared.words
        self.map_bytes = max(map_bytes, MAP_BYTES_MIN) // PAGE * PAGE
        self.corrupt_rows = 0
        self.broken = False
        self.env = lmdb.open(
            os.fspath(directory),
            map_size=self.map_bytes,
            max_dbs=8,
            max_readers=MAX_READERS,
            max_spare_txns=8,
            sync=False,
            metasync=False,
            writemap=False,
            readahead=False,
            lib_version=ENGINE,
        )
        self.objects = self.env.open_db(b"objects")
        self.blocks = self.env.open_db(b"blocks")
        self.contents = self.env.open_db(b"contents")
        self.tagged = self.env.open_db(b"tagged")
        self.segments = self.env.open_db(b"segments")
        self.recent = self.env.open_db(b"recent")
        self.meta = self.env.open_db(b"meta")
        with self.env.begin() as txn:
            self.generation = read_number(txn, self.meta, b"generation")
        self._begin = self.env.begin

    def close(self) -> None:
        self.env.close()

    def entry(self, key: bytes) -> Entry | None:
        """The entry, None for unknown keys and for tombstones."""
        return self.lookup(key, 0, -1)[0]

    def lookup(self, key: bytes, first: int, last: int) -> tuple[Entry | None, list[Extent | None]]:
        """The entry and, of its version, the extents of blocks first…last (None where missing), in one
        transaction. Without an entry the list is empty."""
        extents: list[Extent | None] = []
        try:
            txn = self._begin(self.objects)
            try:
                entry = self.read_entry(txn, key)
                if entry is None or entry.state == TOMBSTONE:
                    return None, extents
                version, blocks = entry.version, self.blocks
                for block in range(first, last + 1):
                    value = txn.get(block_key(version, block), None, blocks)
                    extents.append(None if value is None else self._extent(value, version, block))
            finally:
                txn.abort()
        except lmdb.Error as error:
            self.report(error)
            return None, []
        return entry, extents

    def block(self, version: int, block: int) -> Extent | None:
        try:
            txn = self._begin(self.blocks)
            try:
                value = txn.get(block_key(version, block))
            finally:
                txn.abort()
        except lmdb.Error as error:
            self.report(error)
            return None
        return None if value is None else self._extent(value, version, block)

    def read_entry(self, txn: Any, key: bytes) -> Entry | None:
        """The entry as stored, tombstones included; stamps of an earlier boot read as zero."""
        value = txn.get(index_key(key), None, self.objects)
        if value is None:
            return None
        entry = decode_entry(key, value)
        if entry is None:
            self.corrupt_rows += 1
            return None
        if entry.generation != self.generation:
            entry.asked_ns = entry.invalidated_ns = 0
            entry.generation = self.generation
        distrust_ns = self._shared_words[0]
        if distrust_ns and entry.asked_ns <= distrust_ns:
            entry.validated_at = 0.0
        return entry

    def _extent(self, value: bytes, version: int, block: int) -> Extent | None:
        extent = decode_extent(value, version, block)
        if extent is None:
            self.corrupt_rows += 1
        return extent

    def segment_row(self, segment: int) -> SegmentRow | None:
        with self._begin(self.segments) as txn:
            value = txn.get(segment_key(segment))
        return None if value is None else decode_segment(value)

    def segment_rows(self) -> dict[int, SegmentRow]:
        with self._begin(self.segments) as txn:
            return {_SEGMENT_KEY.unpack(k)[0]: decode_segment(v) for k, v in txn.cursor().iternext()}

    def number(self, name: bytes) -> int:
        with self._begin(self.meta) as txn:
            return read_number(txn, self.meta, name)

    def tagged_bytes(self, tag: int) -> int:
        """Reads ask it too: a damaged index says 0 to them."""
        try:
            return self.number(tag_sum(tag))
        except lmdb.Error as error:
            self.report(error)
            return 0

    def file_bytes(self) -> int:
        """What the index takes on disk: LMDB's file only grows."""
        return (int(self.env.info()["last_pgno"]) + 1) * PAGE

    def used_bytes(self) -> int:
        """Segments (reserved) and index together: what `capacity` bounds."""
        return self.number(b"bytes") + self.file_bytes()

    def blocks_count(self) -> int:
        with self._begin(self.blocks) as txn:
            return int(txn.stat(self.blocks)["entries"])

    def report(self, error: Exception) -> None:
        """A damaged index answers nothing and is rebuilt at the next start; the reads go on uncached."""
        if not self.broken:
            self.broken = True
            log.error("cache index damaged, reads go on uncached until the next start", error=repr(error))
            (self.path / "suspect").touch()
