"""Mistakes in `[[origins]]` and `[[mounts]]`."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import urlsplit

from gateway.config.mistakes import Mistake
from gateway.config.schema import Config, MountConfig, OriginConfig
from gateway.namespace.mounts import EVERY_BUCKET, Mount
from gateway.s3.address import check_bucket
from gateway.s3.errors import S3Error

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
NAME_TEXT: Final = (
    "must be up to 63 letters, digits, dots, dashes or underscores (it is seen in logs and metrics)"
)
_S3_ONLY: Final = ("endpoint", "access_key", "secret_key", "session_token")


def twice(names: Iterable[str]) -> Iterator[tuple[int, int]]:
    """(entry, the earlier entry of the same name), both from 0; entries without a name do not count."""
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        if name and (first := seen.setdefault(name, number)) != number:
            yield number, first


def origin_mistakes(config: Config) -> Iterator[Mistake]:
    for number, origin in enumerate(config.origins):
        for name, text in _of_origin(origin):
            yield Mistake(f"origins[{number}].{name}", text)
    for number, first in twice(origin.name for origin in config.origins):
        text = f'"{config.origins[number].name}" is also the name of origins[{first}]'
        yield Mistake(f"origins[{number}].name", text)


def _of_origin(origin: OriginConfig) -> Iterator[tuple[str, str]]:
    if not origin.name:
        yield "name", "must be written; mounts name the origin by it"
    elif not NAME.fullmatch(origin.name):
        yield "name", NAME_TEXT
    if origin.deadline <= 0:
        yield "deadline", "must be more than 0"
    if origin.type == "file":
        yield from _of_file(origin)
    elif origin.type == "s3":
        yield from _of_s3(origin)
    elif origin.type in ("gcs", "azure"):
        yield "type", f'"{origin.type}" is not in this version; "s3" and "file" are'
    else:
        yield "type", 'must be "s3" or "file"'


def _of_file(origin: OriginConfig) -> Iterator[tuple[str, str]]:
    if not origin.root:
        yield (
            "root",
            'must be written: the directory whose sub-directories are the buckets of this "file" origin',
        )
    elif not os.path.isdir(origin.root):  # never made here: it may be a NAS that is not mounted yet
        yield "root", f"{origin.root} is not a directory on this machine"
    for name in _S3_ONLY:
        value = getattr(origin, name)
        if value if isinstance(value, str) else value.get_secret_value():
            yield name, 'is of no use to an origin of type "file"'


def _of_s3(origin: OriginConfig) -> Iterator[tuple[str, str]]:
    if origin.root:
        yield "root", 'is of no use to an origin of type "s3"'
    if not origin.region:
        yield "region", "must not be empty"
    if origin.endpoint and (why := _endpoint_mistake(origin)):
        yield "endpoint", why
    secret = bool(origin.secret_key.get_secret_value())
    if bool(origin.access_key) != secret:
        missing, given = ("access_key", "secret_key") if secret else ("secret_key", "access_key")
        yield (
            missing,
            f"is needed together with {given}; without both, the cloud's own chain of credentials is asked",
        )
    if origin.session_token.get_secret_value() and not secret:
        yield "session_token", "is of no use without access_key and secret_key"


def _endpoint_mistake(origin: OriginConfig) -> str:
    try:
        url = urlsplit(origin.endpoint)
        host, _ = url.hostname, url.port
    except ValueError:
        return "is not a URL"
    if url.scheme not in ("http", "https") or not host:
        return "must be a URL with http:// or https:// and a host; leave it empty for AWS itself"
    if url.username is not None or url.password is not None:
        return "must hold no user or password: use access_key and secret_key_env"
    if url.path not in ("", "/") or url.query or url.fragment:
        return "must end after the host and port: the bucket is named by the mount"
    if not origin.allow_link_local and _link_local(host):
        return (
            "is a link-local address, where clouds hand out credentials; set allow_link_local if it is meant"
        )
    return ""


def _link_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_link_local
    except ValueError:
        return False


def mount_mistakes(config: Config) -> Iterator[Mistake]:
    known = {origin.name for origin in config.origins}
    # With a wrong name among the origins, a mount's origin may well be that one: one mistake, one line.
    certain = all(NAME.fullmatch(name) for name in known)
    for number, mount in enumerate(config.mounts):
        for name, text in _of_mount(mount):
            yield Mistake(f"mounts[{number}].{name}", text)
        if not mount.origin:
            yield Mistake(f"mounts[{number}].origin", "must be written: the name of one of [[origins]]")
        elif mount.origin not in known and certain:
            names = ", ".join(sorted(known)) or "none"
            text = f'there is no origin "{mount.origin}"; known: {names}'
            yield Mistake(f"mounts[{number}].origin", text)
    paths = (Mount.parse(mount.path, "", "").path for mount in config.mounts)
    for number, first in twice(paths):
        text = f'"{config.mounts[number].path}" is the path of mounts[{first}] already'
        yield Mistake(f"mounts[{number}].path", text)


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
