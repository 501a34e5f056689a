"""A network of the run's own: loopback only, and with the congestion control that timings assume.

Loopback TCP uses the machine's congestion control too; under bbr its pacing timers change what a byte costs.
As root the harness moves into a fresh network namespace, where it can choose cubic without touching the
machine, where no port is taken, and from where no load can leave. Without the right to do so it stays where
it is and says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import socket
import struct
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_CONTROL = Path("/proc/sys/net/ipv4/tcp_congestion_control")
WANTED = ("cubic", "reno")  # without loss alike; a namespace may be allowed only some


def enter() -> bool:
    """Moves this process into its own network namespace; False: not permitted."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        return False
    _raise_loopback()
    for name in WANTED:
        with contextlib.suppress(OSError):
            _CONTROL.write_text(name)
            break
    return True


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(sock, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def congestion_control() -> str:
    try:
        return _CONTROL.read_text().strip()
    except OSError:
        return "unknown"
