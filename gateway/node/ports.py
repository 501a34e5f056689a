"""Are the ports ours to listen on? Asked once, before any worker starts, so that the answer is one clear line.

Workers bind with SO_REUSEPORT, which would let two nodes of one user share a port without either noticing:
the probe binds without it.
"""

from __future__ import annotations

import errno
import socket
from typing import Final

from gateway.config.schema import Address
from gateway.errors import GatewayError


class PortUnusable(GatewayError):
    """The text names the config key, the address and the reason."""


_REASONS: Final = {
    errno.EADDRINUSE: "is in use by another process",
    errno.EACCES: "may not be bound by this user (ports below 1024 need a privilege)",
    errno.EPERM: "may not be bound by this user",
}
_ABSENT: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def probe(key: str, address: Address) -> None:
    """Binds and lets go. `key`: of the config, for the message. Raises PortUnusable."""
    try:
        found = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError):
        raise PortUnusable(f"{key}: the host name in {address} does not resolve") from None
    usable = 0
    for family, kind, protocol, _, where in found:
        try:
            _bind(family, kind, protocol, where)
            usable += 1
        except OSError as error:
            # A name (localhost) may stand for more addresses than this machine has.
            if error.errno not in _ABSENT:
                reason = _REASONS.get(error.errno or 0, error.strerror)
                raise PortUnusable(f"{key}: {address} {reason}") from None
    if not usable:
        raise PortUnusable(f"{key}: {address} is not an address of this machine")


def _bind(family: int, kind: int, protocol: int, where: object) -> None:
    with socket.socket(family, kind, protocol) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        trial.bind(where)  # type: ignore[arg-type]
        trial.listen(1)


__all__ = ["PortUnusable", "probe"]
