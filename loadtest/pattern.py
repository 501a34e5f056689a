"""Objects that nobody stores: the bytes of an object follow from its key and size.

One tape of pseudo-random bytes, PERIOD long (a prime just above 1 MiB, so no block or part size divides it),
is repeated for ever; a key's bytes are that stream from a start that its SHA-256 picks. A wrong key, a wrong
offset, a block of another object, a cut or a doubled piece all show as different bytes.

A key names its object's size: `<anything/><size>/<name>`, for example `hits/4096/000017`.
"""

from __future__ import annotations

import hashlib
import re

PERIOD = 1_048_583
SPAN = 1 << 20  # every slice of up to this many bytes lies contiguously on the doubled tape

_TAPE = hashlib.shake_256(b"loadtest").digest(PERIOD)
TAPE = _TAPE + _TAPE[:SPAN]
VIEW = memoryview(TAPE)

_KEY = re.compile(r"(?:^|/)(\d{1,13})/[^/]+$")


def key_for(prefix: str, size: int, number: int) -> str:
    return f"{prefix}/{size}/{number:06d}"


def size_of(key: str) -> int | None:
    """The size that a key names; None: there is no such object."""
    found = _KEY.search(key)
    return int(found.group(1)) if found else None


def start_of(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % PERIOD


def piece(start: int, offset: int, length: int) -> memoryview:
    """Up to SPAN bytes of the object whose tape begins at `start`, from `offset` on."""
    at = (start + offset) % PERIOD
    return VIEW[at : at + min(length, SPAN)]


def matches(start: int, offset: int, data: memoryview) -> bool:
    """Whether `data` (any length) is what the object holds at `offset`."""
    done = 0
    while done < len(data):
        part = data[done : done + SPAN]
        if not TAPE.startswith(part, (start + offset + done) % PERIOD):
            return False
        done += len(part)
    return True
