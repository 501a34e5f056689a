"""Which data an `[[origins]]` entry stands for: the first part of every cache key. Pure.

A place is the origin's name and a digest of what decides which data a remote bucket and key mean there: type,
endpoint or directory, and for Azure the storage account. So an origin that gets another endpoint under its old name,
by a reload or between two starts, finds none of the blocks of what it was before; those are evicted in time.

Keys, limits, prices and flavour are not in it: who rotates a secret keeps the cache. Two accounts of one store
that see different data under one bucket name (tenants of Ceph) therefore need two names.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from os.path import abspath
from typing import Final

from gateway.config.schema import Config, MountConfig, OriginConfig
from gateway.namespace.mirrors import mirror_name

# 48 bits: only the places that one name ever had can be mistaken for each other.
DIGEST_BYTES: Final = 6


def place_of(origin: OriginConfig) -> str:
    """Holds no NUL. The digest's length is fixed, so no two names share a place."""
    return _named(origin.name, _where(origin))


def places_of(config: Config) -> dict[str, str]:
    """The place of everything that `factory.make_origins` makes, by its name. A mirror's data is decided by all the
    origins it reads from, in their order."""
    places = {origin.name: place_of(origin) for origin in config.origins}
    mirrors = {mirror_name(mount.path): _of_mirror(mount, places) for mount in config.mounts if mount.mirror}
    return places | mirrors


def _of_mirror(mount: MountConfig, places: Mapping[str, str]) -> str:
    names = ((text, text.partition(":")[0]) for text in mount.mirror)
    others = (f"{text} {places.get(name, name)}" for text, name in names)
    return _named(mirror_name(mount.path), places.get(mount.origin, mount.origin), mount.remote, *others)


def _named(name: str, *where: str) -> str:
    digest = blake2b("\0".join(where).encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES)
    return f"{name}~{digest.hexdigest()}"


def _where(origin: OriginConfig) -> str:
    if origin.type == "file":
        return f"file\n{abspath(origin.root)}"
    # Without an endpoint it is the cloud itself, whose parts (AWS in China) the region tells.
    endpoint = origin.endpoint.rstrip("/").lower() or f"region {origin.region}"
    account = origin.access_key if origin.type == "azure" else ""
    return f"{origin.type}\n{endpoint}\n{account}"


__all__ = ["place_of", "places_of"]
