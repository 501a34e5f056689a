"""Who may ask the admin listener.

    listener      token set   then
    ------------- ----------- ------------------------------------------------------------------
    on loopback   no          anybody on this machine, under a name of this machine (Host header):
                              a page that a browser loaded elsewhere and whose name now resolves to
                              127.0.0.1 (DNS rebinding) sends that name, and is refused
    on loopback   yes         the same, with the token
    elsewhere     yes         who has the token
    elsewhere     no          nobody (and the config check says so)

The token comes as `Authorization: Bearer TOKEN`, or as the password of Basic authentication, which browsers ask for:
it never has to stand in a URL. `/health/*` is open to all: probes of load balancers carry no secrets, and it says
little. No CORS header is ever sent, so no other site's page can read an answer.

What changes something is refused when a browser says that another site's page sent it (`Sec-Fetch-Site`, `Origin`):
a form there could post to a listener on loopback, and would carry a Basic password along. Programs send neither.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Final

from gateway.config.schema import Address, is_loopback

OPEN: Final = ("/health/live", "/health/ready")
READING: Final = ("GET", "HEAD")


class Guard:
    def __init__(self, listen: Address, token: str) -> None:
        self._token = token.encode()
        self._loopback = listen.loopback
        self._host = listen.host.lower()

    def host_allowed(self, host: str | None) -> bool:
        """`host`: the Host header."""
        if not self._loopback:
            return True
        if host is None:
            return False
        name = host_name(host)
        return is_loopback(name) or name == self._host

    def admitted(self, path: str, authorization: str | None) -> bool:
        """`authorization`: the header as it was sent."""
        if path in OPEN:
            return True
        if not self._token:
            return self._loopback
        # Bytes, because compare_digest refuses text beyond ASCII; of equal cost for every wrong token.
        given = presented(authorization or "").encode("utf-8", "surrogateescape")
        return hmac.compare_digest(given, self._token)


def of_another_site(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a page of another origin made the browser ask for a change (Fetch Metadata, and RFC 6454 for browsers
    that do not send it). `headers`: by names in any case."""
    if method in READING:
        return False
    if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return True
    origin = headers.get("Origin")
    return origin is not None and origin.partition("://")[2].lower() != headers.get("Host", "").lower()


def host_name(host: str) -> str:
    """Without the port, in lower case."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def presented(authorization: str) -> str:
    """The token in an Authorization header; empty when there is none."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return ""


__all__ = ["Guard", "host_name", "of_another_site", "presented"]
