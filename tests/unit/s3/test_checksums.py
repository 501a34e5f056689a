"""Digests against other implementations and published values; how parts' digests make a whole's."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.s3 import checksums

# The check values of the CRC catalogue (reveng.sourceforge.io) and of the xxHash specification, for "123456789"
# and "" respectively.
KNOWN = [
    ("crc32", b"123456789", "cbf43926"),
    ("crc32c", b"123456789", "e3069283"),
    ("crc64nvme", b"123456789", "ae8b14860a799888"),
    ("crc64nvme", b"", "0000000000000000"),
    ("crc64nvme", bytes(32), "cf3473434d4ecf3b"),
    ("crc64nvme", b"\xff" * 32, "a0a06974c34d63c4"),
    ("xxhash64", b"", "ef46db3751d8e999"),
    ("xxhash3", b"", "2d06800538d394c2"),
    ("xxhash128", b"", "99aa06d3014798d86001c324468d497f"),
]


def crc64nvme(data: bytes) -> int:
    """Bit by bit, from the polynomial (NVM Command Set Specification 1.0d, 5.2.1.3.4)."""
    crc = (1 << 64) - 1
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x9A6C9329AC4BC9B5 if crc & 1 else 0)
    return crc ^ (1 << 64) - 1


REFERENCE = {
    "crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "crc64nvme": lambda data: crc64nvme(data).to_bytes(8, "big"),
    "md5": lambda data: hashlib.md5(data).digest(),
    "sha1": lambda data: hashlib.sha1(data).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "sha512": lambda data: hashlib.sha512(data).digest(),
}


@pytest.mark.parametrize(("name", "data", "value"), KNOWN)
def test_published_values(name: str, data: bytes, value: str) -> None:
    assert checksums.compute(name, data).hex() == value


@settings(deadline=None)
@given(st.sampled_from(sorted(REFERENCE)), st.lists(st.binary(max_size=100), max_size=5))
def test_other_implementations_agree_over_any_split(name: str, parts: list[bytes]) -> None:
    digest = checksums.new_digest(name)
    for part in parts:
        digest.update(memoryview(part))
    assert digest.digest() == REFERENCE[name](b"".join(parts))


@given(st.sampled_from(sorted(checksums.SIZES)), st.binary(max_size=200), st.integers(0, 200))
def test_a_split_changes_no_digest_and_it_may_be_asked_twice(name: str, data: bytes, at: int) -> None:
    digest = checksums.new_digest(name)
    digest.update(data[:at])
    digest.update(data[at:])
    assert digest.digest() == digest.digest() == checksums.compute(name, data)
    assert len(digest.digest()) == checksums.SIZES[name]


@given(
    st.sampled_from(["crc32", "crc32c", "crc64nvme"]),
    st.lists(st.binary(max_size=100), min_size=1, max_size=6),
)
def test_the_crcs_of_parts_combine_to_the_crc_of_the_whole(name: str, parts: list[bytes]) -> None:
    combined = checksums.full_object(name, [(checksums.compute(name, part), len(part)) for part in parts])
    assert combined == checksums.encode(checksums.compute(name, b"".join(parts)))


@pytest.mark.parametrize("name", ["sha256", "md5"])
def test_only_crcs_combine(name: str) -> None:
    with pytest.raises(KeyError):
        checksums.full_object(name, [(bytes(checksums.SIZES[name]), 1)])


def test_a_composite_is_the_digest_of_the_digests() -> None:
    digests = [hashlib.sha256(part).digest() for part in (b"one", b"two")]
    expected = base64.b64encode(hashlib.sha256(b"".join(digests)).digest()).decode()
    assert checksums.composite("sha256", digests) == f"{expected}-2"


@given(st.sampled_from(sorted(checksums.SIZES)), st.binary(max_size=70))
def test_a_header_is_read_back_only_in_its_one_spelling(name: str, value: bytes) -> None:
    text = checksums.encode(value)
    assert checksums.decode(text, name) == (value if len(value) == checksums.SIZES[name] else None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AAAA",
        "AAAAAA",
        "AAAAAA=",
        "AAAAAA===",
        "AAAAAB==",
        " AAAAAA==",
        "AAAAAA==\n",
        "AA-_AA==",
        "ÄAAAAA==",
        "AAAAAAAA",
    ],
)
def test_what_is_not_exactly_such_a_header_is_none(text: str) -> None:
    assert checksums.decode(text, "crc32") is None


def test_several_digests_over_one_stream() -> None:
    digests = checksums.Digests(["md5", "sha256", "md5"])
    digests.update(b"a")
    digests.update(b"b")
    assert digests.digest("md5") == hashlib.md5(b"ab").digest()
    assert digests
    assert not checksums.Digests([])
