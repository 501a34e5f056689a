"""Mistakes in `[[mounts]]`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

from gateway.config.check_origins import NAME, twice
from gateway.config.mistakes import Mistake
from gateway.config.schema import Config, MountConfig
from gateway.namespace.mirrors import MirrorPlace
from gateway.namespace.mounts import EVERY_BUCKET, Mount
from gateway.s3.address import check_bucket
from gateway.s3.errors import S3Error

_CONTAINER: Final = re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


def mount_mistakes(config: Config) -> Iterator[Mistake]:
    known = {origin.name for origin in config.origins}
    # With a wrong name among the origins, a mount's origin may well be that one: one mistake, one line.
    certain = known if all(NAME.fullmatch(name) for name in known) else None
    azure = {origin.name for origin in config.origins if origin.type == "azure"}
    for number, mount in enumerate(config.mounts):
        for name, text in (
            *_of_mount(mount),
            *_of_containers(mount, azure),
            *_of_origin(mount.origin, certain),
            *_of_mirror(mount, certain),
        ):
            yield Mistake(f"mounts[{number}].{name}", text)
    paths = (Mount.parse(mount.path, "", "").path for mount in config.mounts)
    for number, first in twice(paths):
        text = f'"{config.mounts[number].path}" is the path of mounts[{first}] already'
        yield Mistake(f"mounts[{number}].path", text)


def _of_origin(name: str, known: Collection[str] | None) -> Iterator[tuple[str, str]]:
    if not name:
        yield "origin", "must be written: the name of one of [[origins]]"
    elif known is not None and name not in known:
        yield "origin", _unknown(name, known)


def _unknown(name: str, known: Collection[str]) -> str:
    return f'there is no origin "{name}"; known: {", ".join(sorted(known)) or "none"}'


def _of_mirror(mount: MountConfig, known: Collection[str] | None) -> Iterator[tuple[str, str]]:
    if not mount.mirror:
        return
    if mount.path == EVERY_BUCKET:
        yield "mirror", 'cannot be had with path "*": a mirror is of one bucket or prefix'
        return
    places = [(MirrorPlace.parse(f"{mount.origin}:{mount.remote}"), "remote")]
    for number, text in enumerate(mount.mirror):
        name = f"mirror[{number}]"
        if why := _place_mistake(text, known):
            yield name, why
            continue
        place = MirrorPlace.parse(text)
        for other, where in places:
            if _overlap(place, other):
                yield name, f"is, or lies in, or holds what {where} names: one place can be read once only"
                break
        places.append((place, name))


def _place_mistake(text: str, known: Collection[str] | None) -> str:
    try:
        place = MirrorPlace.parse(text)
    except ValueError:
        return "must be ORIGIN:BUCKET or ORIGIN:BUCKET/PREFIX"
    if known is not None and place.origin not in known:
        return _unknown(place.origin, known)
    return _bucket_mistake(text.partition(":")[2])


def _overlap(one: MirrorPlace, other: MirrorPlace) -> bool:
    if (one.origin, one.bucket) != (other.origin, other.bucket):
        return False
    return one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix)


def _of_mount(mount: MountConfig) -> Iterator[tuple[str, str]]:
    if mount.path == EVERY_BUCKET:
        if mount.remote:
            yield "remote", 'must be empty for path "*": every bucket keeps its own name'
        return
    if not mount.path:
        yield "path", 'must be written: a bucket, bucket/prefix, or "*" for every bucket of the origin'
    elif why := _bucket_mistake(mount.path):
        yield "path", why
    if not mount.remote:
        yield "remote", "must be written: the origin's bucket, or bucket/prefix"
    elif why := _bucket_mistake(mount.remote):
        yield "remote", why


def _of_containers(mount: MountConfig, azure: Collection[str]) -> Iterator[tuple[str, str]]:
    """Azure's rules for names are the narrower ones."""
    mirrors = ((f"mirror[{number}]", *text.partition(":")[::2]) for number, text in enumerate(mount.mirror))
    for name, origin, path in (("remote", mount.origin, mount.remote), *mirrors):
        bucket = path.partition("/")[0]
        if origin in azure and path and not _bucket_mistake(path) and not _CONTAINER.fullmatch(bucket):
            yield (
                name,
                f'"{bucket}" cannot be the name of a container (3 to 63 lower-case letters, digits and single dashes)',
            )


def _bucket_mistake(path: str) -> str:
    bucket = path.partition("/")[0]
    if "*" in path or "?" in path:
        return 'takes no wildcards but a lone "*"'
    if "\0" in path:
        return "must not hold a NUL"
    try:
        check_bucket(bucket)
    except S3Error:
        return f'"{bucket}" cannot be the name of a bucket (3 to 63 letters, digits, dots, dashes or underscores)'
    return ""
