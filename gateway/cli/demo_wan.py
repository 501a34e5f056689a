"""The far network of the demo: a TCP relay with a round trip time and a rate per connection.

    python -m gateway.cli.demo_wan TO_PORT RTT_MS RATE_MB

prints the port it listens on and ends when its standard input closes, so it cannot outlive the demo.

One direction of one connection: pieces leave one after another at the rate and arrive half a round trip after
they left. The first piece leaves a round trip late, for the TCP handshake that the relay itself answers at
once. Slow start and loss are left out, which makes this network kinder to a single stream than a real one.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

import uvloop

from gateway.aio import Tasks

HOST = "127.0.0.1"
PIECE_BYTES = 64 << 10
SPARE_PIECES = 16  # beyond what is in flight, so that a sender who waits for room never leaves a gap
EARLY_S = 0.0005  # pieces due within this go out together; timers are no finer than that


@dataclass(frozen=True)
class Network:
    """`rtt_s` seconds, `rate` bytes per second of one direction of one connection."""

    to_port: int
    rtt_s: float
    rate: float

    @property
    def pieces_max(self) -> int:
        return int(self.rate * self.rtt_s / 2 / PIECE_BYTES) + SPARE_PIECES


Queue = asyncio.Queue[tuple[float, bytes]]


async def _depart(network: Network, source: asyncio.StreamReader, queue: Queue, begins: float) -> None:
    """Gives every piece the time of its arrival. An empty piece is the end. The full queue holds the sender back."""
    loop = asyncio.get_running_loop()
    free = begins
    while True:
        try:
            data = await source.read(PIECE_BYTES)
        except OSError:
            data = b""
        free = max(free, loop.time()) + len(data) / network.rate
        await queue.put((free + network.rtt_s / 2, data))
        if not data:
            return


async def _arrive(queue: Queue, sink: asyncio.StreamWriter) -> None:
    """Writes every piece when it is due. Closing the sink ends the connection's other lane too."""
    loop = asyncio.get_running_loop()
    try:
        while True:
            due, data = await queue.get()
            if (early := due - loop.time()) > EARLY_S:
                await asyncio.sleep(early)
            if not data:
                return
            sink.write(data)
            await sink.drain()
    except OSError:
        return
    finally:
        sink.close()


class Relay:
    """Accepts on a port of its own choice and connects each connection through to the far side."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._tasks = Tasks()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accepted, HOST, 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._tasks.close()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begins = asyncio.get_running_loop().time() + self._network.rtt_s
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self._network.to_port)
        except OSError:
            writer.transport.abort()
            return
        self._tasks.spawn(self._lane(reader, far_writer, begins), "lane up")
        self._tasks.spawn(self._lane(far_reader, writer, begins), "lane down")

    async def _lane(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, begins: float) -> None:
        queue: Queue = asyncio.Queue(self._network.pieces_max)
        departing = self._tasks.spawn(_depart(self._network, source, queue, begins), "departures")
        try:
            await _arrive(queue, sink)
        finally:
            departing.cancel()


async def _serve(network: Network) -> None:
    relay = Relay(network)
    await relay.start()
    print(relay.port, flush=True)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.buffer.read)  # the parent never writes: this is its end
    await relay.close()


def main() -> None:
    to_port, rtt_ms, rate_mb = sys.argv[1:]
    uvloop.run(_serve(Network(int(to_port), float(rtt_ms) / 1e3, float(rate_mb) * 1e6)))


if __name__ == "__main__":
    main()
