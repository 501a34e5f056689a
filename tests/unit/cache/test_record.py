from __future__ import annotations

import os
from pathlib import Path

from awscrt.checksums import crc32c
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.entry import (
    ABSENT,
    LEAD_UNIT,
    OBJECT,
    TOMBSTONE,
    Entry,
    Extent,
    decode_entry,
    decode_extent,
    encode_entry,
    encode_extent,
    index_key,
    stored_key,
)
from gateway.cache.record import (
    ALIGN,
    decode_header,
    decode_meta,
    encode_header,
    encode_meta,
    payload_at,
    record_end,
    walk,
)

keys = st.binary(min_size=1, max_size=1100)
u64 = st.integers(0, 2**64 - 1)
u32 = st.integers(0, 2**32 - 1)
entries = st.builds(
    Entry,
    keys,
    u64,
    st.sampled_from([OBJECT, ABSENT, TOMBSTONE]),
    u64,
    st.floats(allow_nan=False),
    st.text(max_size=80),
    st.integers(-(2**62), 2**62),
    st.binary(max_size=500),
    st.binary(max_size=200),
    u64,
    u64,
    u32,
    u64,
)
extents = st.builds(
    Extent,
    u64,
    u32,
    u32,
    u32,
    st.integers(0, 65535),
    st.integers(0, 65535).map(lambda units: units * LEAD_UNIT),
)


def record(segment: int, slot: int, data: bytes, key: bytes = b"o\0b/k") -> bytes:
    meta = encode_meta(key, b"entry")
    header = encode_header(
        crc=crc32c(data),
        slot=slot,
        meta=meta,
        length=len(data),
        block=3,
        version=9,
        segment=segment,
    )
    front = header.ljust(payload_at(0, len(meta), len(data)), b"\0")
    return (front + data).ljust(record_end(0, len(meta), len(data)), b"\0")


@given(entries)
def test_an_entry_reads_back_as_it_was_put(entry: Entry) -> None:
    again = decode_entry(entry.key, encode_entry(entry))
    assert again is not None
    assert all(getattr(again, name) == getattr(entry, name) for name in Entry.__slots__)
    assert stored_key(index_key(entry.key), encode_entry(entry)) == entry.key


@given(entries, st.data())
def test_a_damaged_entry_is_not_there(entry: Entry, data: st.DataObject) -> None:
    value = bytearray(encode_entry(entry))
    at = data.draw(st.integers(0, len(value) - 1))
    value[at] ^= data.draw(st.integers(1, 255))
    assert decode_entry(entry.key, bytes(value)) is None
    assert decode_entry(entry.key, bytes(value[:at])) is None


@given(keys, keys)
def test_keys_fit_lmdb_and_stay_different(one: bytes, other: bytes) -> None:
    assert len(index_key(one)) <= 511
    assert (index_key(one) == index_key(other)) == (one == other)


def test_a_long_keys_entry_does_not_answer_for_another_key() -> None:
    key = b"k" * 900
    value = encode_entry(Entry(key, 1, OBJECT, 1, 0.0, "", 0, b"", b""))
    assert decode_entry(b"k" * 899 + b"j", value) is None


@given(extents, u64, u32)
def test_an_extent_belongs_to_its_version_and_block(extent: Extent, version: int, block: int) -> None:
    value = encode_extent(extent, version, block)
    assert decode_extent(value, version, block) == extent
    if version < 2**63 and block < 2**31:
        assert decode_extent(value, version + 1, block) is None
        assert decode_extent(value, version, block + 1) is None


@given(extents, u64, u32, st.integers(0, 25), st.integers(0, 7))
def test_a_flipped_bit_in_an_extent_is_noticed(
    extent: Extent, version: int, block: int, at: int, bit: int
) -> None:
    value = bytearray(encode_extent(extent, version, block))
    value[at] ^= 1 << bit
    assert decode_extent(bytes(value), version, block) is None


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_record(data: bytes) -> None:
    assert decode_header(data, 0, 7) is None


@given(st.integers(0, 47 + 12), st.integers(0, 7))
def test_a_flipped_bit_in_a_header_is_noticed(at: int, bit: int) -> None:
    whole = record(7, 0, b"payload")
    good = decode_header(whole, 0, 7)
    assert good is not None
    flipped = bytearray(whole)
    flipped[at] ^= 1 << bit
    header = decode_header(bytes(flipped), 0, 7)
    # Four bytes say nothing, and a wrong payload CRC is found out with the payload.
    assert header is None or header.payload_crc != good.payload_crc or 4 <= at < 8


def test_a_scan_ends_at_the_torn_tail(tmp_path: Path) -> None:
    parts = [record(7, 0, b"a" * 100), record(7, 1, b"b" * 5000), record(7, 2, b"c" * 10)]
    torn = record(7, 3, b"d" * 1000)[:-200]
    path = tmp_path / "s"
    path.write_bytes(b"".join(parts) + torn)
    fd = os.open(path, os.O_RDONLY)
    found = list(walk(fd, 7))
    os.close(fd)
    assert [h.slot for h in found] == [0, 1, 2]
    assert all(h.offset % ALIGN == 0 for h in found)
    assert decode_meta(found[0].meta) == (b"o\0b/k", b"entry")


def test_a_record_inside_a_payload_is_never_taken_for_one(tmp_path: Path) -> None:
    """Clients choose payloads: a forged record in one must not get another key's bytes into the index."""
    forged = record(7, 5, b"evil", key=b"o\0victim/k")
    outer = record(7, 0, b"\0" * (ALIGN - 48 - 14 % ALIGN) + forged * 3)
    path = tmp_path / "s"
    path.write_bytes(outer + b"\xff" * 64 + forged)
    fd = os.open(path, os.O_RDONLY)
    assert [h.slot for h in walk(fd, 7)] == [0]
    os.close(fd)


def test_a_segment_under_another_name_has_no_records(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_bytes(record(7, 0, b"a"))
    fd = os.open(path, os.O_RDONLY)
    assert list(walk(fd, 8)) == []
    os.close(fd)
