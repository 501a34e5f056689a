"""The digests of S3: MD5, the SHAs, the CRCs and xxHash in one incremental shape, their headers and base64
forms, and how the digests of parts become the digest of a whole.

CRCs come from awscrt, which uses the CPU's instructions (several GB/s). hashlib and awscrt both release the
GIL on large buffers, so the digests of a body can run in a thread.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from awscrt import checksums as crt

Bytes = bytes | bytearray | memoryview

# Response and request header of each checksum that S3 stores (Content-MD5 is apart: never stored).
HEADER_PREFIX: Final = "x-amz-checksum-"
SIZES: Final[Mapping[str, int]] = {
    "crc32": 4,
    "crc32c": 4,
    "crc64nvme": 8,
    "md5": 16,
    "sha1": 20,
    "sha256": 32,
    "sha512": 64,
    "xxhash64": 8,
    "xxhash3": 8,
    "xxhash128": 16,
}
HEADERS: Final[Mapping[str, str]] = {HEADER_PREFIX + name: name for name in SIZES}


class Digest(Protocol):
    def update(self, data: Bytes, /) -> object: ...

    def digest(self) -> bytes: ...


class _Crc:
    __slots__ = ("_size", "_step", "_value")

    def __init__(self, step: Callable[[Bytes, int], int], size: int) -> None:
        self._step = step
        self._size = size
        self._value = 0

    def update(self, data: Bytes) -> None:
        self._value = self._step(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


class _XxHash:
    """awscrt's xxHash, whose `finalize` may be asked for only once."""

    __slots__ = ("_hash", "_value")

    def __init__(self, new: Callable[[], crt.XXHash]) -> None:
        self._hash = new()
        self._value: bytes | None = None

    def update(self, data: Bytes) -> None:
        self._hash.update(data)

    def digest(self) -> bytes:
        if self._value is None:
            self._value = self._hash.finalize()
        return self._value


_NEW: Final[Mapping[str, Callable[[], Digest]]] = {
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
    "crc32": lambda: _Crc(crt.crc32, 4),
    "crc32c": lambda: _Crc(crt.crc32c, 4),
    "crc64nvme": lambda: _Crc(crt.crc64nvme, 8),
    "xxhash64": lambda: _XxHash(crt.XXHash.new_xxhash64),
    "xxhash3": lambda: _XxHash(crt.XXHash.new_xxhash3_64),
    "xxhash128": lambda: _XxHash(crt.XXHash.new_xxhash3_128),
}
_COMBINE: Final[Mapping[str, Callable[[int, int, int], int]]] = {
    "crc32": crt.combine_crc32,
    "crc32c": crt.combine_crc32c,
    "crc64nvme": crt.combine_crc64nvme,
}


def new_digest(name: str) -> Digest:
    """An incremental digest: one of SIZES. Raises KeyError for any other name."""
    return _NEW[name]()


class Digests:
    """Several digests over one stream, each computed once."""

    def __init__(self, names: Iterable[str]) -> None:
        self._digests = {name: new_digest(name) for name in dict.fromkeys(names)}

    def __bool__(self) -> bool:
        return bool(self._digests)

    def update(self, data: Bytes) -> None:
        for digest in self._digests.values():
            digest.update(data)

    def digest(self, name: str) -> bytes:
        return self._digests[name].digest()


def compute(name: str, data: Bytes) -> bytes:
    digest = new_digest(name)
    digest.update(data)
    return digest.digest()


def encode(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def decode(text: str, name: str) -> bytes | None:
    """The digest in base64 as a header has it; None unless it is exactly that."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return value if len(value) == SIZES[name] and encode(value) == text else None


def composite(name: str, digests: Sequence[bytes]) -> str:
    """The COMPOSITE checksum of a multipart object as its header has it: the digest of the parts' digests,
    `-`, their number."""
    return f"{encode(compute(name, b''.join(digests)))}-{len(digests)}"


def full_object(name: str, parts: Sequence[tuple[bytes, int]]) -> str:
    """The FULL_OBJECT checksum of the concatenation from each part's (digest, length); CRCs only (else
    KeyError)."""
    combine = _COMBINE[name]
    value = 0
    for digest, length in parts:
        value = combine(value, int.from_bytes(digest, "big"), length)
    return encode(value.to_bytes(SIZES[name], "big"))
