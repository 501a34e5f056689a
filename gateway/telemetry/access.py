"""Where access lines go: a thread of its own writes them, so that a slow disk or reader costs lines, not requests.

`write` only appends to a deque. The thread empties it every 250 ms, or sooner once 64 KiB wait. At most 4 MiB
wait (some 15,000 lines: a second or two of a worker at full speed); past that, and whatever the file refuses,
lines are dropped and counted.

Workers share stdout. A pipe keeps writes of up to PIPE_BUF bytes apart and nothing longer, so into a pipe
whole lines go in pieces of that size; files are opened for appending, where every write is on its own.
"""

from __future__ import annotations

import os
import select
import stat
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

FLUSH_S: Final = 0.25
FLUSH_CHARACTERS: Final = 64 << 10
WAITING_CHARACTERS_MAX: Final = 4 << 20
PIECE_BYTES: Final = 256 << 10
CLOSE_S: Final = 2.0


class AccessSink:
    """Owns `fd`, unless it is stdout. `write` from one thread only; `dropped` from any."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        mode = os.fstat(fd).st_mode
        shared = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
        self._piece_bytes = select.PIPE_BUF if shared else PIECE_BYTES
        self._lines: deque[str] = deque()
        # Characters and lines, each counted by one thread alone: `_put` and `_refused` by the writer's.
        self._put = self._taken = 0
        self._refused = self._lost = 0
        self._torn = False
        self._closing = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, where: str) -> AccessSink | None:
        """`stdout`, `off`, or a path that is appended to. Raises OSError."""
        if where == "off":
            return None
        if where == "stdout":
            return cls(1)
        return cls(os.open(where, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640))

    @property
    def dropped(self) -> int:
        """Lines that were not written."""
        return self._refused + self._lost

    def write(self, line: str) -> None:
        """Takes one line of ASCII with its end. Never waits, never raises."""
        waiting = self._put - self._taken
        if waiting >= FLUSH_CHARACTERS:
            if waiting > WAITING_CHARACTERS_MAX:
                self._refused += 1
                return
            if not self._wake.is_set():
                self._wake.set()
        self._put += len(line)
        self._lines.append(line)

    def close(self) -> None:
        """Writes what waits; gives up after CLOSE_S on a reader that does not read."""
        self._closing = True
        self._wake.set()
        self._thread.join(CLOSE_S)
        if self._fd > 2 and not self._thread.is_alive():
            os.close(self._fd)

    def _run(self) -> None:
        last = False
        while not last:
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            last = self._closing  # read before the lines, so that none is left behind
            for count, piece in pieces(self._take(), self._piece_bytes):
                self._lost += count - self._write(piece)

    def _take(self) -> Iterator[str]:
        try:
            while True:
                line = self._lines.popleft()
                yield line
                self._taken += len(line)
        except IndexError:
            return

    def _write(self, piece: bytes) -> int:
        """How many whole lines of the piece were written. A line that was cut in two (a disk that is full
        takes a part) is lost; the next piece starts on a line of its own."""
        data = b"\n" + piece if self._torn else piece
        done = 0
        try:
            while done < len(data):
                done += os.write(self._fd, data[done:])
        except OSError:  # full disk, broken pipe, a pipe that somebody made non-blocking
            pass
        if done:
            self._torn = not data.endswith(b"\n", 0, done)
        return data.count(b"\n", len(data) - len(piece), done) if done else 0


def pieces(lines: Iterable[str], piece_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines, joined up to `piece_bytes`, with their count; a longer line is a piece of its own."""
    waiting: list[str] = []
    size = 0
    for line in lines:
        if waiting and size + len(line) > piece_bytes:
            yield len(waiting), "".join(waiting).encode("ascii", "replace")
            waiting, size = [], 0
        waiting.append(line)
        size += len(line)
    if waiting:
        yield len(waiting), "".join(waiting).encode("ascii", "replace")


__all__ = ["AccessSink", "pieces"]
