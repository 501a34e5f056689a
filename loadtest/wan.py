"""A far network between two loopback sockets: round trip time and rate per connection, each byte counted.

    python -m loadtest.wan --to PORT [--rtt-ms 50] [--rate-mb 40] [--total-mb 0]

prints {"port": N, "control": M} on one line; any connection to `control` is told the counters as JSON.

The model of one direction of a connection, a lane: pieces leave one after another at `rate`, and arrive `rtt
/ 2` after they left. Connecting costs one round trip: the lanes begin that much later, because the relay
itself accepts at once. A lane holds what is in flight (rate × rtt / 2) and a little more, then the sender is
not read any further: TCP's own back pressure does the rest. Not modelled: slow start and loss, which makes
this WAN kinder to a single stream than a real one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import cast

from loadtest.serving import HOST, serve_until_stdin_closes

SLACK_BYTES = 1 << 20  # beyond what is in flight, so that a lane whose sender waits never runs dry
UNLIMITED_BYTES = 8 << 20  # what a lane without a rate may hold
EARLY_S = 0.0005  # pieces due within half a timer tick go out together
PIECE_BYTES = 64 << 10  # a larger piece is spread over time like packets would be


@dataclass
class Counters:
    connections: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass(frozen=True)
class Path:
    """The far network. `rate` and `total` in bytes per second, 0: unlimited."""

    to_port: int
    rtt_s: float
    rate: float
    total: float


class Pipe:
    """The rate that all connections share in one direction."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = 0.0

    def leave(self, ready: float, size: int) -> float:
        """When `size` bytes that are ready at `ready` have left."""
        if not self._rate:
            return ready
        self._free = max(self._free, ready) + size / self._rate
        return self._free


class Lane:
    """One direction of one connection. Lives between two `End`s: reads from `source`, writes to `sink`."""

    def __init__(self, path: Path, shared: Pipe, begins: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._delay = path.rtt_s / 2
        self._own = Pipe(path.rate)
        self._shared = shared
        self._begins = begins
        self._limit = path.rate * self._delay + SLACK_BYTES if path.rate else UNLIMITED_BYTES
        self._queue: deque[tuple[float, bytes | memoryview | None]] = deque()
        self._held = 0
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False  # reading from the source
        self.blocked = False  # writing to the sink
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None

    def push(self, data: bytes) -> None:
        view = memoryview(data)
        for at in range(0, len(view), PIECE_BYTES):
            piece = view[at : at + PIECE_BYTES]
            ready = max(self._loop.time(), self._begins)
            left = self._shared.leave(self._own.leave(ready, len(piece)), len(piece))
            self._queue.append((left + self._delay, piece))
        self._held += len(data)
        if self._held > self._limit and self.source is not None and not self._stopped:
            self._stopped = True
            self.source.pause_reading()
        self.release()

    def end(self) -> None:
        """The source has sent its last byte: tell the sink after it has arrived there."""
        last = self._queue[-1][0] if self._queue else self._loop.time() + self._delay
        self._queue.append((last, None))
        self.release()

    def release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue and not self.blocked and self.sink is not None:
            due, piece = self._queue[0]
            if due > self._loop.time() + EARLY_S:
                self._timer = self._loop.call_at(due, self.release)
                break
            self._queue.popleft()
            self._deliver(piece)
        if self._stopped and self._held <= self._limit - SLACK_BYTES // 2 and self.source is not None:
            self._stopped = False
            if not self.source.is_closing():
                self.source.resume_reading()

    def _deliver(self, piece: bytes | memoryview | None) -> None:
        assert self.sink is not None
        if self.sink.is_closing():
            return
        if piece is None:
            self.sink.close()
        else:
            self._held -= len(piece)
            self.sink.write(piece)

    def drop(self) -> None:
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()


class End(asyncio.Protocol):
    """One of a connection's two sockets: `out` is the lane that it feeds, `back` the lane that feeds it."""

    def __init__(self, count: Callable[[int], None], on_made: Callable[[End], None]) -> None:
        self._count = count
        self._on_made = on_made
        self.out: Lane | None = None
        self.back: Lane | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._on_made(self)

    def data_received(self, data: bytes) -> None:
        self._count(len(data))
        if self.out is not None:
            self.out.push(data)

    def pause_writing(self) -> None:
        if self.back is not None:
            self.back.blocked = True

    def resume_writing(self) -> None:
        if self.back is not None:
            self.back.blocked = False
            self.back.release()

    def connection_lost(self, error: Exception | None) -> None:
        if self.back is not None:
            self.back.drop()
        if self.out is not None:
            self.out.end()


class Relay:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._up, self._down = Pipe(path.total), Pipe(path.total)
        self._connecting: set[asyncio.Task[None]] = set()
        self.counters = Counters()

    def near_end(self) -> End:
        return End(self._count_up, self._accepted)

    def _count_up(self, size: int) -> None:
        self.counters.bytes_up += size

    def _count_down(self, size: int) -> None:
        self.counters.bytes_down += size

    def _accepted(self, near: End) -> None:
        self.counters.connections += 1
        begins = asyncio.get_running_loop().time() + self._path.rtt_s
        near.out, near.back = Lane(self._path, self._up, begins), Lane(self._path, self._down, begins)
        near.out.source = near.back.sink = near.transport
        task = asyncio.get_running_loop().create_task(self._connect(near), name="connect")
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, near: End) -> None:
        loop = asyncio.get_running_loop()
        assert near.out is not None
        assert near.back is not None
        try:
            _, far = await loop.create_connection(
                lambda: End(self._count_down, lambda end: None), HOST, self._path.to_port
            )
        except OSError:
            if near.transport is not None:
                near.transport.abort()
            return
        far.out, far.back = near.back, near.out
        near.out.sink = near.back.source = far.transport
        near.out.release()


class Control(asyncio.Protocol):
    """Says the counters to whoever connects."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writable = cast(asyncio.Transport, transport)
        writable.write(json.dumps(asdict(self._counters)).encode())
        writable.close()


def main() -> None:
    arguments = argparse.ArgumentParser(prog="loadtest.wan")
    arguments.add_argument("--to", type=int, required=True)
    arguments.add_argument("--rtt-ms", type=float, default=50)
    arguments.add_argument("--rate-mb", type=float, default=40)
    arguments.add_argument("--total-mb", type=float, default=0)
    given = arguments.parse_args()
    relay = Relay(Path(given.to, given.rtt_ms / 1000, given.rate_mb * 1e6, given.total_mb * 1e6))
    serve_until_stdin_closes({"port": (0, relay.near_end), "control": (0, lambda: Control(relay.counters))})


if __name__ == "__main__":
    main()
