"""How the workers of a node ask each other, so that a miss is fetched once per node.

Every stripe has one owner worker (a hash of key and stripe), every key's question "which version is current?" the
owner of its first stripe. A worker that is not the owner asks it over a Unix socket and then reads the blocks from
the segments that both have open: names cross, and data only of a block that a reader waits for before it is whole.

    <data_dir>/run/worker-<n>.sock      JSON lines, of which some announce so many bytes behind them;
                                        one connection per pair of workers, many questions at once

    → {"id": 7, "do": "blocks", "key": …, "version": …, "first": …, "last": …}
    ← {"id": 7, "block": 3, "extent": […]}        per block, as they end; "extent": null – it was not kept
    ← {"id": 7, "block": 3, "error": […]}
    → {"id": 9, "do": "watch", "key": …, "version": …, "block": 3, "start": …, "stop": …}
    ← {"id": 9, "at": …, "bytes": 65536} ␤ bytes    as they come from the origin
    ← {"id": 9, "end": true}                        the block is not being filled (any more)
    → {"id": 8, "do": "current", "key": …, "first": …, "last": …, "checksums": true}
    ← {"id": 8, "version": …}                     it is in the index now
    ← {"id": …, "direct": true}                   not worth keeping: read it yourself
    ← {"id": …, "error": […]}
    ← {"id": …, "gone": true}                     too many questions, or of something that is not known here

Bounds: a line is at most `LINE_BYTES_MAX` (a key of 1,024 bytes, escaped, is far below); `QUESTIONS_MAX` at once on
a connection, the asking side goes its own way beyond that. A worker that does not answer (dead, restarting), or
cannot, raises `Gone`, and the asker does the work itself: one fetch too many, never a failed read. The directory is
0700: whoever can write there could as well write the segments.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import structlog
from awscrt.checksums import crc32c

import gateway.errors
from gateway.aio import Tasks
from gateway.errors import GatewayError, RangeNotSatisfiable, Refused, Throttled

LINE_BYTES_MAX: Final = 64 << 10
QUESTIONS_MAX: Final = 1024
# A local connect either succeeds at once or there is nobody; a full backlog is as good as nobody.
CONNECT_S: Final = 1.0

Message = dict[str, Any]
Answer = Callable[[Message], AsyncIterator[Message]]
log = structlog.get_logger()


class Gone(Exception):
    """The neighbour does not answer, or cannot: do it yourself."""


def owner_of(key: bytes, stripe: int, workers: int) -> int:
    return int(crc32c(key, stripe & 0xFFFFFFFF)) % workers


def socket_path(directory: Path, slot: int) -> Path:
    return directory / f"worker-{slot}.sock"


class Neighbours:
    """One worker's ear and mouth. `answer` makes the messages that reply to a question, in order."""

    def __init__(self, directory: Path, slot: int, workers: int, answer: Answer) -> None:
        self.slot = slot
        self.workers = workers
        self._directory = directory
        self._answer = answer
        self._tasks = Tasks()
        self._server: asyncio.Server | None = None
        self._links: dict[int, _Link] = {}
        self._connecting: dict[int, asyncio.Lock] = {}
        self._dir_fd = -1

    async def start(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Through /proc the path stays below the 108 bytes of a socket address, whatever data_dir is.
        self._dir_fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        socket_path(self._directory, self.slot).unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._accept, str(self._short(self.slot)), limit=LINE_BYTES_MAX
        )

    def _short(self, slot: int) -> Path:
        return socket_path(Path(f"/proc/self/fd/{self._dir_fd}"), slot)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._tasks.close()
        for link in self._links.values():
            link.close()
        if self._dir_fd >= 0:
            os.close(self._dir_fd)
            self._dir_fd = -1

    def owner(self, key: bytes, stripe: int) -> int | None:
        """The slot of another worker that owns the stripe, None when it is this one."""
        slot = owner_of(key, stripe, self.workers)
        return None if slot == self.slot else slot

    async def ask(self, slot: int, question: Message) -> AsyncIterator[Message]:
        """The replies, which end when the caller has seen enough. Raises Gone."""
        link = await self._link(slot)
        number, replies = link.open()
        try:
            link.send({"id": number, **question})
            while True:
                reply = await replies.get()
                if reply is None:
                    raise Gone
                yield reply
        finally:
            link.replies.pop(number, None)

    async def _link(self, slot: int) -> _Link:
        async with self._connecting.setdefault(slot, asyncio.Lock()):
            link = self._links.get(slot)
            if link is None or link.closed:
                try:
                    async with asyncio.timeout(CONNECT_S):
                        reader, writer = await asyncio.open_unix_connection(
                            str(self._short(slot)), limit=LINE_BYTES_MAX
                        )
                except (OSError, TimeoutError) as error:
                    raise Gone from error
                link = self._links[slot] = _Link(writer)
                self._tasks.spawn(link.listen(reader), "neighbour")
            return link

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._tasks.spawn(self._serve(reader, writer), "serve a neighbour")
        task.add_done_callback(lambda _: writer.close())  # also of one that is cancelled before it began

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One asking worker. Its questions are answered side by side."""
        answering = Tasks()
        try:
            while line := await reader.readline():
                question = json.loads(line)
                if len(answering) >= QUESTIONS_MAX:
                    _write(writer, {"id": question["id"], "gone": True})
                    continue
                answering.spawn(self._reply(question, writer), "answer a neighbour")
        except (OSError, ValueError):
            log.warning("a neighbour's connection broke")
        finally:
            await answering.close()

    async def _reply(self, question: Message, writer: asyncio.StreamWriter) -> None:
        number = question["id"]
        try:
            async for reply in self._answer(question):
                data = reply.pop("data", None)
                if data is None:
                    _write(writer, {"id": number, **reply})
                else:
                    _write(writer, {"id": number, **reply, "bytes": len(data)}, data)
                    await writer.drain()
        except OSError:
            pass  # the asker is gone
        except GatewayError as error:
            _write(writer, {"id": number, "error": encode_error(error)})
        except Gone:
            _write(writer, {"id": number, "gone": True})
        except Exception as error:
            log.error("a neighbour's question failed", error=repr(error), exc_info=error)
            _write(writer, {"id": number, "gone": True})


class _Link:
    """The asking end of a connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.replies: dict[int, asyncio.Queue[Message | None]] = {}
        self.closed = False
        self._writer = writer
        self._number = 0

    def open(self) -> tuple[int, asyncio.Queue[Message | None]]:
        if self.closed or len(self.replies) >= QUESTIONS_MAX:
            raise Gone
        self._number += 1
        # At most a stripe's blocks and one end, or one block's bytes.
        replies: asyncio.Queue[Message | None] = asyncio.Queue()
        self.replies[self._number] = replies
        return self._number, replies

    def send(self, message: Message) -> None:
        _write(self._writer, message)

    async def listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                reply = json.loads(line)
                if size := reply.pop("bytes", 0):
                    reply["data"] = await reader.readexactly(size)
                waiting = self.replies.get(reply["id"])
                if waiting is not None:
                    waiting.put_nowait(None if "gone" in reply else reply)
        except (OSError, ValueError, asyncio.IncompleteReadError):
            log.warning("a neighbour's answers broke off")
        finally:
            self.close()

    def close(self) -> None:
        self.closed = True
        for waiting in self.replies.values():
            waiting.put_nowait(None)
        self._writer.close()


def _write(writer: asyncio.StreamWriter, message: Message, data: bytes | memoryview = b"") -> None:
    if not writer.is_closing():
        with contextlib.suppress(OSError):
            writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
            if data:
                writer.write(data)


def encode_error(error: GatewayError) -> list[Any]:
    details: Message = {}
    if isinstance(error, RangeNotSatisfiable):
        details["size"] = error.size
    elif isinstance(error, Throttled):
        details["retry_after_s"] = error.retry_after_s
    elif isinstance(error, Refused):
        details |= {"status": error.status, "code": error.code}
    return [type(error).__name__, str(error), details]


def decode_error(wire: list[Any]) -> GatewayError:
    name, text, details = wire
    kind = getattr(gateway.errors, name, GatewayError)
    if kind is RangeNotSatisfiable:
        return RangeNotSatisfiable(text, details["size"])
    if kind is Throttled:
        return Throttled(text, details["retry_after_s"])
    if kind is Refused:
        return Refused(details["status"], details["code"], text)
    error: GatewayError = kind(text)
    return error
