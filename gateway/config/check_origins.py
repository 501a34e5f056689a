"""Mistakes in `[[origins]]`."""

from __future__ import annotations

import base64
import importlib.util
import ipaddress
import os
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import urlsplit

from gateway.config.mistakes import Mistake
from gateway.config.schema import Config, OriginConfig, is_loopback

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
NAME_TEXT: Final = (
    "must be up to 63 letters, digits, dots, dashes or underscores (it is seen in logs and metrics)"
)
_ACCOUNT: Final = re.compile(r"[a-z0-9]{3,24}")
# By type, keys that only origins of other types have a use for.
_OF_NO_USE: Final = {
    "file": ("endpoint", "access_key", "secret_key", "session_token", "ca_file"),
    "s3": ("root",),
    "gcs": ("root", "flavour"),
    "azure": ("root", "flavour"),
}


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
    if origin.ca_file and origin.type != "file" and (why := _ca_mistake(origin.ca_file)):
        yield "ca_file", why
    for name in _OF_NO_USE.get(origin.type, ()):
        if getattr(origin, name) != OriginConfig.model_fields[name].default:
            yield name, f'is of no use to an origin of type "{origin.type}"'
    if origin.type == "file":
        yield from _of_file(origin)
    elif origin.type == "s3":
        yield from _of_s3(origin)
    elif origin.type == "gcs":
        yield from _of_gcs(origin)
    elif origin.type == "azure":
        yield from _of_azure(origin)
    else:
        yield "type", 'must be "s3", "gcs", "azure" or "file"'


def _ca_mistake(path: str) -> str:
    import ssl  # only whose endpoint has authorities of its own waits for it

    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        return f"{path} holds no certificates in PEM"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return ""


def _of_file(origin: OriginConfig) -> Iterator[tuple[str, str]]:
    if not origin.root:
        yield (
            "root",
            'must be written: the directory whose sub-directories are the buckets of this "file" origin',
        )
    elif not os.path.isdir(origin.root):  # never made here: it may be a NAS that is not mounted yet
        yield "root", f"{origin.root} is not a directory on this machine"


def _of_s3(origin: OriginConfig) -> Iterator[tuple[str, str]]:
    if not origin.region:
        yield "region", "must not be empty"
    if origin.endpoint and (why := _endpoint_mistake(origin)):
        yield "endpoint", why
    if not origin.endpoint and origin.flavour not in ("auto", "aws"):
        yield "endpoint", f'is needed with flavour "{origin.flavour}": without one it is AWS'
    secret = bool(origin.secret_key.get_secret_value())
    if bool(origin.access_key) != secret:
        missing, given = ("access_key", "secret_key") if secret else ("secret_key", "access_key")
        yield (
            missing,
            f"is needed together with {given}; without both, the cloud's own chain of credentials is asked",
        )
    if origin.session_token.get_secret_value() and not secret:
        yield "session_token", "is of no use without access_key and secret_key"


def _of_gcs(origin: OriginConfig) -> Iterator[tuple[str, str]]:
    secret, token = (bool(key.get_secret_value()) for key in (origin.secret_key, origin.session_token))
    if bool(origin.access_key) != secret:
        missing, given = ("access_key", "secret_key") if secret else ("secret_key", "access_key")
        yield missing, f"is needed together with {given}: an HMAC key has both"
    elif token and secret:
        yield "session_token", "is an OAuth token, and access_key and secret_key are an HMAC key: one of them"
    elif not token and not secret and not _installed("google.auth"):
        yield (
            "type",
            "without keys Google's own chain is asked, which needs: pip install 's3-training-gateway[gcs]'",
        )
    if origin.endpoint and (why := _endpoint_mistake(origin)):
        yield "endpoint", why
    elif not secret and _in_the_clear(origin.endpoint):
        yield "endpoint", "must be https://, or every request would show the OAuth token to the network"


def _of_azure(origin: OriginConfig) -> Iterator[tuple[str, str]]:
    key, sas = origin.secret_key.get_secret_value(), origin.session_token.get_secret_value()
    if not origin.access_key:
        if key or not origin.endpoint:
            yield "access_key", "must be written: the name of the storage account"
    elif not _ACCOUNT.fullmatch(origin.access_key):
        yield "access_key", "must be the name of a storage account: 3 to 24 lower-case letters and digits"
    if key and sas:
        yield "session_token", "is a SAS, and secret_key the account's key: one of them"
    elif key and not _is_base64(key):
        yield "secret_key", "must be a key of the storage account, which is base64"
    elif sas and "sig=" not in sas:
        yield "session_token", "must be a SAS: the part of its URL behind the question mark, with its sig="
    elif not key and not sas and not _installed("azure.identity.aio"):
        yield (
            "type",
            "without key or SAS azure-identity is asked, which needs: pip install 's3-training-gateway[azure]'",
        )
    if origin.endpoint and (why := _endpoint_mistake(origin)):
        yield "endpoint", why
    elif not key and _in_the_clear(origin.endpoint):
        yield "endpoint", "must be https://, or every request would show the token or SAS to the network"


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except ValueError:
        return False


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package above it
        return False


def _in_the_clear(endpoint: str) -> bool:
    url = urlsplit(endpoint)
    return url.scheme == "http" and not is_loopback(url.hostname or "")


def _endpoint_mistake(origin: OriginConfig) -> str:
    try:
        url = urlsplit(origin.endpoint)
        host, _ = url.hostname, url.port
    except ValueError:
        return "is not a URL"
    if url.scheme not in ("http", "https") or not host:
        return "must be a URL with http:// or https:// and a host; leave it empty for the cloud itself"
    if url.username is not None or url.password is not None:
        return "must hold no user or password: use access_key and secret_key_env"
    is_emulator = origin.type == "azure" and url.path.strip("/") == origin.access_key
    if (url.path not in ("", "/") and not is_emulator) or url.query or url.fragment:
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
