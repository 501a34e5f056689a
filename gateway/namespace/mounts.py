"""Mounts: which remote bucket and key at which origin a virtual bucket and key stand for.

A mount's virtual side is a whole bucket, a prefix of one (`bucket/prefix`), or `*`: every bucket of the origin under
its own name. The longest prefix wins; a bucket that has a mount of its own never falls back to `*`. A `Mounts` is an
immutable snapshot: a request resolves once and keeps the `Target` it got.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from gateway.errors import NoSuchBucket, NotFound
from gateway.model import Remote

EVERY_BUCKET = "*"


@dataclass(frozen=True, slots=True)
class Mount:
    """`bucket` is `*` for a mount of every bucket, whose `remote_bucket` is then empty. Prefixes are empty or end
    with `/`; keys under `prefix` live under `remote_prefix`. `place` stands for the origin in cache keys
    (`origins/places.py`); empty: its name does. `mirror`: with mirrors, what the cache keys of all its places begin
    with (`namespace/mirrors.py`)."""

    bucket: str
    origin: str
    remote_bucket: str
    prefix: str = ""
    remote_prefix: str = ""
    read_only: bool = False
    place: str = ""
    mirror: tuple[str, ...] = ()

    @classmethod
    def parse(
        cls,
        path: str,
        origin: str,
        remote: str,
        read_only: bool = False,
        place: str = "",
        mirror: tuple[str, ...] = (),
    ) -> Mount:
        """From the config's `path` and `remote`, each `bucket` or `bucket/prefix`."""
        bucket, _, prefix = path.partition("/")
        remote_bucket, _, remote_prefix = remote.partition("/")
        prefixes = as_prefix(prefix), as_prefix(remote_prefix)
        return cls(bucket, origin, remote_bucket, *prefixes, read_only, place, mirror)

    @property
    def data(self) -> str:
        """What cache keys begin with."""
        return self.place or self.origin

    @property
    def path(self) -> str:
        return f"{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def remote_path(self) -> str:
        return f"{self.remote_bucket}/{self.remote_prefix}".rstrip("/")

    def remote_bucket_of(self, bucket: str) -> str:
        return bucket if self.bucket == EVERY_BUCKET else self.remote_bucket

    def to_remote(self, key: str) -> str:
        """The remote key of a virtual key that starts with `prefix`."""
        return self.remote_prefix + key[len(self.prefix) :]

    def to_virtual(self, remote_key: str) -> str:
        """The virtual key of a remote key that starts with `remote_prefix`."""
        return self.prefix + remote_key[len(self.remote_prefix) :]


def as_prefix(text: str) -> str:
    stripped = text.strip("/")
    return f"{stripped}/" if stripped else ""


class Target(NamedTuple):
    """Where one request's bucket and key live. `cache_key` is by where the data lives, so two mounts of one remote
    share cached blocks, and equal bucket names at two origins never meet."""

    bucket: str
    key: str
    mount: Mount
    origin: str
    remote: Remote
    cache_key: bytes


def cache_key_of(place: str, remote: Remote) -> bytes:
    """NUL cannot occur in a place, nor `/` in a bucket's name: the parts cannot run into each other."""
    return f"{place}\0{remote.bucket}/{remote.key}".encode()


def split_cache_key(key: bytes) -> tuple[str, Remote]:
    """The inverse: place and remote. A key that the index has cut short need not end with a whole character."""
    place, _, rest = key.decode("utf-8", "surrogateescape").partition("\0")
    bucket, _, remote_key = rest.partition("/")
    return place, Remote(bucket, remote_key)


class Mounts:
    """Resolving costs under a microsecond. At most 4,096 names under a `*` mount are remembered: bucket names
    come from clients."""

    REMEMBERED_MAX = 4096

    def __init__(self, mounts: Iterable[Mount]) -> None:
        self._every: Mount | None = None
        by_bucket: dict[str, list[Mount]] = {}
        for mount in mounts:
            if mount.bucket == EVERY_BUCKET:
                self._every = mount
            else:
                by_bucket.setdefault(mount.bucket, []).append(mount)
        self._by_bucket: Mapping[str, tuple[Mount, ...]] = {
            bucket: tuple(sorted(found, key=lambda mount: -len(mount.prefix)))
            for bucket, found in by_bucket.items()
        }
        whole = {bucket: found[0] for bucket, found in self._by_bucket.items() if not found[0].prefix}
        self._plain = {
            bucket: (mount, mount.origin, mount.remote_bucket, f"{mount.data}\0{mount.remote_bucket}/")
            for bucket, mount in whole.items()
            if not mount.remote_prefix
        }
        self._remembered_floor = len(self._plain)
        self._by_remote: dict[tuple[str, str], list[Mount]] = {}
        for mount in self.all():
            if mount is not self._every:
                self._by_remote.setdefault((mount.data, mount.remote_bucket), []).append(mount)

    def resolve(self, bucket: str, key: str) -> Target:
        """Key `""` is the bucket itself. Raises NoSuchBucket when no mount shows this bucket, and NotFound when
        the bucket's mounts are at prefixes and `key` is under none of them."""
        plain = self._plain.get(bucket)
        if plain is None:
            return self._resolve_slowly(bucket, key)
        mount, origin, remote_bucket, start = plain
        return Target(bucket, key, mount, origin, Remote(remote_bucket, key), (start + key).encode())

    def _resolve_slowly(self, bucket: str, key: str) -> Target:
        mounts = self._by_bucket.get(bucket)
        if mounts is None:
            self._remember(bucket)
            return self.resolve(bucket, key)
        mount = next((mount for mount in mounts if key.startswith(mount.prefix)), None)
        if mount is None:
            if key:
                raise NotFound(f"No mount of bucket {bucket} holds this key.")
            mount = mounts[-1]
            remote = Remote(mount.remote_bucket, "")
        else:
            remote = Remote(mount.remote_bucket, mount.to_remote(key) if key else "")
        return Target(bucket, key, mount, mount.origin, remote, cache_key_of(mount.data, remote))

    def _remember(self, bucket: str) -> None:
        every = self._every
        if every is None or not bucket:
            raise NoSuchBucket("The specified bucket does not exist")
        if len(self._plain) >= self._remembered_floor + self.REMEMBERED_MAX:
            for name in [name for name in self._plain if name not in self._by_bucket]:
                del self._plain[name]
        self._plain[bucket] = (every, every.origin, bucket, f"{every.data}\0{bucket}/")

    def showing(self, place: str, remote: Remote) -> list[tuple[str, str]]:
        """The inverse of `resolve`: every virtual bucket and key that shows a remote object. Empty when none does: what
        is called like a mount's path itself has no name in a bucket."""
        found = []
        for mount in self._by_remote.get((place, remote.bucket), ()):
            if remote.key.startswith(mount.remote_prefix):
                key = mount.to_virtual(remote.key)
                if (
                    key
                    and next(m for m in self._by_bucket[mount.bucket] if key.startswith(m.prefix)) is mount
                ):
                    found.append((mount.bucket, key))
        every = self._every
        if every is not None and every.data == place and remote.bucket not in self._by_bucket:
            found.append((remote.bucket, remote.key))
        return found

    def buckets(self) -> list[str]:
        """The buckets that have mounts of their own, in order. Those under `*` are the origin's to list."""
        return sorted(self._by_bucket)

    def of_bucket(self, bucket: str) -> tuple[Mount, ...]:
        """Longest prefix first; empty when nothing shows this bucket."""
        return self._by_bucket.get(bucket) or ((self._every,) if self._every is not None else ())

    @property
    def every(self) -> Mount | None:
        """The mount of every bucket, where new buckets are made; None when all mounts are named."""
        return self._every

    def all(self) -> list[Mount]:
        named = [mount for bucket in self.buckets() for mount in self._by_bucket[bucket]]
        return named + ([self._every] if self._every is not None else [])
