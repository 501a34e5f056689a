"""What the front must remember because S3 has no word for it: generations, CRC-32Cs, and the parts of uploads.

A generation is told apart by what the store says of the object: its version id where the bucket keeps versions, else
its ETag. So an object that was written behind this front's back gets a generation when it is first seen; only one that
was replaced there by the same bytes keeps the one it had. Nothing outlives the process: a restart gives new
generations, as if everything had been rewritten.
"""

from __future__ import annotations

import asyncio
import base64
import time
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from awscrt import checksums as crt

from gateway.cli.emulators.gcs_checks import Refusal
from gateway.model import Part

# Parts but the last must have this much, as at Google.
PART_BYTES_MIN: Final = 5 << 20
# Of an object in a bucket without versions: an answer on its way may still speak of one that was just replaced.
REPLACED_MAX: Final = 16
Name = tuple[str, str]  # bucket, key


@dataclass(frozen=True, slots=True)
class Generation:
    """`version_id`: the store's, None in a bucket without versions. `md5`: base64, None for what was composed."""

    number: int
    etag: str
    version_id: str | None = None
    crc32c: str | None = None
    md5: str | None = None

    @property
    def hashes(self) -> str:
        """x-goog-hash."""
        pairs = (("crc32c", self.crc32c), ("md5", self.md5))
        return ",".join(f"{name}={value}" for name, value in pairs if value)


class Generations:
    def __init__(self) -> None:
        self._known: dict[Name, list[Generation]] = {}
        self._last = 0
        self._locks: weakref.WeakValueDictionary[Name, asyncio.Lock] = weakref.WeakValueDictionary()

    def lock(self, name: Name) -> asyncio.Lock:
        """Held from the check of a precondition until the change it guards is done and known here."""
        lock = self._locks.get(name)
        if lock is None:
            self._locks[name] = lock = asyncio.Lock()
        return lock

    def written(
        self,
        name: Name,
        etag: str,
        version_id: str | None,
        crc32c: str | None = None,
        md5: str | None = None,
    ) -> Generation:
        self._last = max(self._last + 1, time.time_ns() // 1000)
        made = Generation(self._last, etag, version_id, crc32c, md5)
        kept = self._known.get(name, [])
        if version_id is None:
            kept = [one for one in kept if one.version_id is None][-REPLACED_MAX:]
        self._known[name] = [*kept, made]
        return made

    def _find(self, name: Name, etag: str, version_id: str | None) -> Generation | None:
        """The newest such one: the same bytes may have been there before."""
        known = reversed(self._known.get(name, []))
        return next((one for one in known if (one.version_id, one.etag) == (version_id, etag)), None)

    def seen_locked(self, name: Name, etag: str, version_id: str | None) -> Generation:
        """The generation of what the store has shown, under the name's lock."""
        return self._find(name, etag, version_id) or self.written(name, etag, version_id)

    async def seen(self, name: Name, etag: str, version_id: str | None) -> Generation:
        """The same without the lock: what is not known may be about to be, by whoever is writing it."""
        if found := self._find(name, etag, version_id):
            return found
        async with self.lock(name):
            return self.seen_locked(name, etag, version_id)

    def of_number(self, name: Name, number: str) -> Generation:
        """Raises Refusal."""
        for one in self._known.get(name, []):
            if str(one.number) == number:
                return one
        raise Refusal(404, "NoSuchKey", f"No such object: {name[0]}/{name[1]}")

    def gone(self, name: Name, version_id: str | None = None) -> None:
        """The object of a bucket without versions, or that one version, is no more."""
        self._known[name] = [one for one in self._known.get(name, []) if one.version_id != version_id]


@dataclass(slots=True)
class PartSeen:
    etag: str
    size: int
    crc32c: int


@dataclass(slots=True)
class UploadSeen:
    name: Name
    parts: dict[int, PartSeen] = field(default_factory=dict)


class Uploads:
    def __init__(self, part_bytes_min: int) -> None:
        self._open: dict[str, UploadSeen] = {}
        self._part_bytes_min = part_bytes_min

    def begin(self, upload_id: str, name: Name) -> None:
        self._open[upload_id] = UploadSeen(name)

    def get(self, upload_id: str, name: Name) -> UploadSeen:
        """Raises Refusal."""
        upload = self._open.get(upload_id)
        if upload is None or upload.name != name:
            raise Refusal(404, "NoSuchUpload", "The requested upload was not found.")
        return upload

    def end(self, upload_id: str) -> None:
        del self._open[upload_id]

    def check(self, upload: UploadSeen, parts: Iterable[Part]) -> str:
        """The CRC-32C of the whole in base64. Raises Refusal for parts that do not make one."""
        chosen = []
        for part in parts:
            seen = upload.parts.get(part.number)
            if seen is None or seen.etag != part.etag:
                raise Refusal(400, "InvalidPart", f"part {part.number}")
            chosen.append(seen)
        if any(one.size < self._part_bytes_min for one in chosen[:-1]):
            raise Refusal(
                400, "EntityTooSmall", f"Parts but the last have {self._part_bytes_min} bytes or more."
            )
        whole = 0
        for one in chosen:
            whole = crt.combine_crc32c(whole, one.crc32c, one.size)
        return base64.b64encode(whole.to_bytes(4, "big")).decode()


def version_id_of(headers: Mapping[str, str]) -> str | None:
    found = headers.get("x-amz-version-id")
    return None if found in (None, "null") else found
