"""Messages between supervisor and worker arrive whole, bounded, or not at all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.node import control
from gateway.node.control import LINE_BYTES_MAX, Channel, ControlError, decode, encode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    channel = await Channel.over(ours)
    theirs.setblocking(False)
    yield channel, theirs
    channel.close()
    theirs.close()
    await asyncio.sleep(0)  # the transport closes its socket in the loop's next turn


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_a_message_is_one_line_and_comes_back(message: dict[str, Any]) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1
    assert decode(line) == message


@pytest.mark.parametrize("line", [b"\n", b"[1]\n", b"nonsense\n", b"\xff\n", b"[" * 100_000 + b"\n"])
def test_what_is_no_object_is_refused(line: bytes) -> None:
    with pytest.raises(ControlError):
        decode(line)


def test_a_message_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(ControlError):
        encode({"config": "x" * LINE_BYTES_MAX})


async def test_messages_keep_their_borders(pair: tuple[Channel, socket.socket]) -> None:
    channel, peer = pair
    loop = asyncio.get_running_loop()
    for part in (b'{"a":1}\n{"b"', b":2", b"}\n"):
        await loop.sock_sendall(peer, part)
    assert [await channel.receive(), await channel.receive()] == [{"a": 1}, {"b": 2}]


async def test_the_end_of_the_peer_is_none_even_inside_a_message(pair: tuple[Channel, socket.socket]) -> None:
    channel, peer = pair
    await asyncio.get_running_loop().sock_sendall(peer, b'{"a":1')
    peer.close()
    assert await channel.receive() is None


async def test_a_line_without_end_is_refused(
    pair: tuple[Channel, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "LINE_BYTES_MAX", 1000)
    ours, theirs = socket.socketpair()
    with theirs:
        channel = await Channel.over(ours)
        theirs.sendall(b"x" * 5000)
        with pytest.raises(ControlError):
            await channel.receive()
        channel.close()
        await asyncio.sleep(0)


async def test_reports_to_a_peer_that_does_not_read_are_dropped(pair: tuple[Channel, socket.socket]) -> None:
    channel, _ = pair
    sent = [channel.report({"metrics": "x" * 100_000}) for _ in range(40)]
    assert sent[0]
    assert not sent[-1]


async def test_orders_are_kept_for_a_peer_that_does_not_read_yet(
    pair: tuple[Channel, socket.socket],
) -> None:
    channel, peer = pair
    for number in range(40):
        channel.order({"prepare": number, "config": "x" * 100_000})
    assert not channel.report({"status": {}})
    other = await Channel.over(peer.dup())
    heard = [await other.receive() for _ in range(40)]
    assert [message["prepare"] for message in heard if message] == [*range(40)]
    other.close()


async def test_sending_to_a_peer_that_is_gone_raises_nothing(pair: tuple[Channel, socket.socket]) -> None:
    channel, peer = pair
    peer.close()
    for _ in range(3):
        await channel.send({"ready": True})
    assert await channel.receive() is None
