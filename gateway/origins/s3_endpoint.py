"""Where an S3 request goes: host and path of a bucket or key, exactly as they are signed and sent.

A configured endpoint is addressed in path style, which every compatible store understands. Without one it is AWS:
https and virtual-host style, except for buckets whose dots no wildcard certificate covers.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.errors import Unsupported
from gateway.s3.text import uri_encode


@dataclass(frozen=True, slots=True)
class Endpoint:
    scheme: str
    host: str
    base: str = ""
    virtual: bool = False

    def locate(self, bucket: str, key: str) -> tuple[str, str]:
        """(host as in the Host header, percent-encoded path)."""
        if not bucket:
            return self.host, f"{self.base}/"
        if self.virtual and "." not in bucket:
            return f"{bucket}.{self.host}", f"/{uri_encode(key)}"
        path = f"{self.base}/{uri_encode(bucket)}"
        return self.host, f"{path}/{uri_encode(key)}" if key else path


def endpoint_of(url: str, region: str) -> Endpoint:
    """Raises Unsupported for what is not http:// or https:// with a host."""
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
    return Endpoint(parts.scheme, host, parts.path.rstrip("/"))
