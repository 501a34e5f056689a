"""What S3 does, as a dictionary: objects, uploads, what a write is answered, what a listing shows. Pure."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

DONE: Final = "done"

# Headers that come back as they were stored; x-amz-meta-* besides.
_KEPT: Final = frozenset(
    "cache-control content-disposition content-encoding content-language content-type expires".split()
)


def md5_tag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def tag_of_parts(parts: Sequence[bytes]) -> str:
    digests = b"".join(hashlib.md5(part, usedforsecurity=False).digest() for part in parts)
    return f'"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"'


def random_bytes(serial: int, size: int) -> bytes:
    """Alike in every run, and different for every serial number (as far as the size allows)."""
    return random.Random(serial).randbytes(size)


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in headers.items() if k in _KEPT or k.startswith("x-amz-meta-")}


@dataclass(frozen=True)
class Stored:
    """An object. `etag` None: the model cannot know it before somebody has looked."""

    data: bytes
    etag: str | None
    headers: Mapping[str, str] = field(default_factory=dict)

    def shows(self, headers: Mapping[str, str]) -> bool:
        """Whether an answer has the headers that were stored; a content type of its own where none was."""
        shown, wanted = kept_headers(headers), kept_headers(self.headers)
        if "content-type" not in wanted:
            shown.pop("content-type", None)
        return shown == wanted


@dataclass
class Upload:
    """`ended`: why it is gone, `completed` or `aborted`. `chosen`: the part numbers of its complete, `etag` what that
    was answered."""

    key: str
    upload_id: str
    headers: Mapping[str, str]
    parts: dict[int, bytes] = field(default_factory=dict)
    tags: dict[int, str] = field(default_factory=dict)
    ended: str = ""
    chosen: list[int] = field(default_factory=list)
    etag: str = ""


class Listing(NamedTuple):
    """Keys and common prefixes in byte order. `unsure`: a common prefix that `start_after` lies in without naming it:
    S3 shows it, some stores do not."""

    items: list[str]
    unsure: str | None


class Model:
    def __init__(self) -> None:
        self.objects: dict[str, Stored] = {}
        self.uploads: list[Upload] = []

    def write(self, key: str, if_match: str | None = None, if_none_match: str | None = None) -> str:
        """What a write with such conditions is answered: `done` or the kind of error."""
        now = self.objects.get(key)
        if if_match is not None:
            if now is None:
                return "NotFound"
            if if_match not in ("*", now.etag):
                return "ConditionFailed"
        return "ConditionFailed" if if_none_match is not None and now is not None else DONE

    def read(self, key: str, start: int, stop: int | None, if_match: str | None) -> set[str]:
        """What a read is answered. A condition comes before the range, which not every store knows."""
        now = self.objects.get(key)
        if now is None:
            return {"NotFound"}
        answers = set()
        if if_match is not None and if_match != now.etag:
            answers.add("Changed")
        if start >= len(now.data) and (start or stop is not None):
            answers.add("RangeNotSatisfiable")
        return answers or {DONE}

    def complete(
        self, upload: Upload, numbers: Sequence[int], tags: Sequence[str], part_min: int
    ) -> set[str]:
        """All that is wrong with a complete; the store may name any of it."""
        wrong = set()
        if not numbers:
            return {"MalformedXML"}
        if any(later <= earlier for earlier, later in pairwise(numbers)):
            wrong.add("InvalidPartOrder")
        if any(upload.tags.get(number) != tag for number, tag in zip(numbers, tags, strict=True)):
            wrong.add("InvalidPart")
        if any(number > 10_000 for number in numbers):
            wrong.add("InvalidArgument")
        if any(len(upload.parts.get(number, b"")) < part_min for number in sorted(numbers)[:-1]):
            wrong.add("EntityTooSmall")
        return wrong or {DONE}

    def listing(self, prefix: str, delimiter: str, start_after: str) -> Listing:
        return listed(self.objects, prefix, delimiter, start_after)

    def open_uploads(self) -> list[Upload]:
        return [upload for upload in self.uploads if not upload.ended]


def group_of(key: str, prefix: str, delimiter: str) -> str | None:
    at = key.find(delimiter, len(prefix)) if delimiter else -1
    return None if at < 0 else key[: at + len(delimiter)]


def listed(keys: Iterator[str] | Mapping[str, object], prefix: str, delimiter: str, after: str) -> Listing:
    passed = None
    if delimiter and after.startswith(prefix) and after.endswith(delimiter):
        passed = group_of(after, prefix, delimiter)
    items: list[str] = []
    unsure = None
    for key in sorted(keys, key=str.encode):
        if not key.startswith(prefix) or key.encode() <= after.encode():
            continue
        group = group_of(key, prefix, delimiter)
        if group is not None and (group == passed or items[-1:] == [group]):
            continue
        items.append(group or key)
        if group is not None and after.startswith(group):
            unsure = group
    return Listing(items, unsure)
