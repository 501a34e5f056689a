"""A port that is taken is one sentence at the start, not a crash loop or two nodes behind one port."""

from __future__ import annotations

import socket

import pytest

from gateway.config.schema import Address
from gateway.node.ports import PortUnusable, probe
from tests.processes import free_port


def test_a_free_port_stays_free() -> None:
    address = Address("127.0.0.1", free_port())
    probe("listen.s3", address)
    probe("listen.s3", address)


@pytest.mark.parametrize("host", ["127.0.0.1", "", "localhost", "0.0.0.0"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_taken_port_is_refused_even_where_it_is_shared(host: str, shared: bool) -> None:
    with socket.socket() as other:
        if shared:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = Address(host, other.getsockname()[1])
        with pytest.raises(PortUnusable, match=r"^listen\.s3: .* is in use by another process$"):
            probe("listen.s3", address)


@pytest.mark.parametrize(
    ("host", "reason"), [("192.0.2.1", "not an address of this machine"), ("no.invalid", "does not resolve")]
)
def test_a_foreign_address_is_refused(host: str, reason: str) -> None:
    with pytest.raises(PortUnusable, match=reason):
        probe("listen.admin", Address(host, free_port()))
