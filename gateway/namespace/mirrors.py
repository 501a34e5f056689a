"""Mounts with mirrors: how their further places are written, and which cache keys stand for the same data. Pure.

Such a mount caches under a name of its own, while other mounts may show the same remote objects under theirs. A write
through any of them therefore has to be forgotten under all those names: `Echoes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from gateway.namespace.mounts import Mount, as_prefix


class MirrorPlace(NamedTuple):
    """`prefix` is empty or ends with `/`."""

    origin: str
    bucket: str
    prefix: str

    @classmethod
    def parse(cls, text: str) -> MirrorPlace:
        """From `ORIGIN:BUCKET` or `ORIGIN:BUCKET/PREFIX`. Raises ValueError for what has no colon."""
        origin, colon, path = text.partition(":")
        if not colon:
            raise ValueError(f"{text!r} is not ORIGIN:BUCKET or ORIGIN:BUCKET/PREFIX")
        bucket, _, prefix = path.partition("/")
        return cls(origin, bucket, as_prefix(prefix))

    def key_start(self, data: str) -> str:
        """What the cache keys of its objects begin with; `data` as `Mount.data`."""
        return f"{data}\0{self.bucket}/{self.prefix}"


def mirror_name(path: str) -> str:
    """The origin that stands for all places of the mount at `path`. No configured origin has a colon in its name."""
    return f"mirror:{path}"


class Echoes:
    """The further cache keys that one object may have."""

    def __init__(self, mounts: Iterable[Mount]) -> None:
        self._mirrors: Sequence[tuple[bytes, Sequence[bytes]]] = [
            (_start(mount).encode(), [start.encode() for start in mount.mirror])
            for mount in mounts
            if mount.mirror
        ]

    def of(self, key: bytes) -> set[bytes]:
        """All but `key` itself. Empty, and free, without mirrors."""
        if not self._mirrors:
            return set()
        places = {key}
        for start, below in self._mirrors:
            if key.startswith(start):
                places.update(one + key[len(start) :] for one in below)
        return (places | set(self._above(places))) - {key}

    def _above(self, places: Iterable[bytes]) -> Iterator[bytes]:
        for place in places:
            for start, below in self._mirrors:
                yield from (start + place[len(one) :] for one in below if place.startswith(one))


def _start(mount: Mount) -> str:
    return f"{mount.data}\0{mount.remote_bucket}/{mount.remote_prefix}"
