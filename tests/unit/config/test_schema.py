"""What one key alone means."""

from __future__ import annotations

import pytest

from gateway.config.schema import Address, is_loopback


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("localhost", True)]
    + [("LocalHost", True)]
    + [(host, False) for host in ("", "0.0.0.0", "::", "10.0.0.1", "127.evil.example", "localhost.x")],
)
def test_loopback_is_what_the_address_says(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    assert Address(host, 9001).loopback is loopback
