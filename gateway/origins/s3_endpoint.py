"""Where an S3 request goes: host and path of a bucket or key, exactly as they are signed and sent.

A configured endpoint is addressed in path style, which compatible stores understand, except for those that know
buckets by host name alone (`Flavour.by_host`). Without one it is AWS: https and virtual-host style, except for buckets
whose dots no wildcard certificate covers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from gateway.errors import NoSuchBucket, Unsupported
from gateway.s3.text import uri_encode

_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ADDRESS: Final = re.compile(r"[0-9.]+|.*:.*")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`virtual`: buckets are names below `host`. `by_host`: and no bucket can be had otherwise."""

    scheme: str
    host: str
    base: str = ""
    virtual: bool = False
    by_host: bool = False

    def locate(self, bucket: str, key: str) -> tuple[str, str]:
        """(host as in the Host header, percent-encoded path). Raises NoSuchBucket for what cannot be a bucket there."""
        if not bucket:
            return self.host, f"{self.base}/"
        if self.by_host and not _LABEL.fullmatch(bucket):
            raise NoSuchBucket("This origin knows buckets as host names, and this cannot be one.")
        if self.virtual and "." not in bucket:
            return f"{bucket}.{self.host}", f"/{uri_encode(key)}"
        path = f"{self.base}/{uri_encode(bucket)}"
        return self.host, f"{path}/{uri_encode(key)}" if key else path


def endpoint_of(url: str, region: str, *, by_host: bool = False) -> Endpoint:
    """Raises Unsupported for what is not http:// or https:// with a host, and with `by_host` for a host that can have
    no names below it."""
    if not url:
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        return Endpoint("https", f"s3.{region}.{suffix}", virtual=True)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise Unsupported("An endpoint is a URL such as https://s3.example.com:9000.")
    if parts.username is not None:
        raise Unsupported("Keys are configured as access_key and secret_key, not in the endpoint's URL.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if parts.port is not None and parts.port != {"http": 80, "https": 443}[parts.scheme]:
        host = f"{host}:{parts.port}"
    base = parts.path.rstrip("/")
    if by_host and (base or _ADDRESS.fullmatch(parts.hostname)):
        raise Unsupported(
            "This store knows buckets as names below its endpoint's: that is a host name, without a path."
        )
    return Endpoint(parts.scheme, host, base, by_host, by_host)
