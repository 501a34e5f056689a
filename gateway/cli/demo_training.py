"""The demo's training job: a loop that reads tar shards through stock boto3, and one that saves a checkpoint.

Two loader threads stream shards and cut them into batches; the step loop takes a batch and "computes" on it. The
compute step is a sleep, because on the machines this is about it is a GPU that works and a CPU that waits.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import queue
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.cli.demo_data import Shard

LOADERS = 2
BATCH_SAMPLES = 16
STEP_S = 0.004
BATCHES_AHEAD = 8  # 12 MiB of prefetched samples: enough to bridge one shard's opening
READ_BYTES = 1 << 20
STALLED_S = 60.0  # no batch for so long: the job is stuck, not slow


class DemoError(Exception):
    """The demo cannot go on; the text is the one line that the user sees."""


@dataclass(frozen=True)
class Epoch:
    """What one pass over the data set took. `waiting` is the share of it that the step loop had no batch."""

    seconds: float
    count: int
    waiting: float

    @property
    def mib_per_s(self) -> float:
        return self.count / 2**20 / self.seconds


class Body(Protocol):
    def read(self, amount: int) -> bytes: ...
    def close(self) -> None: ...


class Hashing:
    """Passes a body on and hashes what passes; what tarfile leaves unread is read by `digest`."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._hash = hashlib.sha256()

    def read(self, amount: int) -> bytes:
        data = self._body.read(amount)
        self._hash.update(data)
        return data

    def digest(self) -> str:
        while self.read(READ_BYTES):
            pass
        return self._hash.hexdigest()


def samples_of(client: Any, bucket: str, shard: Shard) -> Iterator[bytes]:
    """The shard's samples as they arrive. DemoError at its end if it was not the shard that was written."""
    body = client.get_object(Bucket=bucket, Key=shard.key)["Body"]
    stream = Hashing(body)
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=READ_BYTES) as tar:  # type: ignore[call-overload]
            for member in tar:
                yield tar.extractfile(member).read()
        if stream.digest() != shard.sha256:
            raise DemoError(f"{shard.key}: the bytes that came are not those that were written")
    finally:
        body.close()


class Loaders:
    """Threads that fill a bounded queue with batches. Iterating gives them and adds up the time spent waiting;
    the first error of a loader is raised there."""

    def __init__(self, client: Any, bucket: str, shards: Sequence[Shard], count: int = LOADERS) -> None:
        self._client, self._bucket = client, bucket
        self._shards: queue.SimpleQueue[Shard] = queue.SimpleQueue()
        for shard in shards:
            self._shards.put(shard)
        self._batches: queue.Queue[list[bytes] | Exception | None] = queue.Queue(BATCHES_AHEAD)
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._load, daemon=True) for _ in range(count)]
        self.waited_s = 0.0

    def __iter__(self) -> Iterator[list[bytes]]:
        for thread in self._threads:
            thread.start()
        working = len(self._threads)
        while working:
            batch = self._next()
            if batch is None:
                working -= 1
            elif isinstance(batch, Exception):
                raise batch
            else:
                yield batch

    def close(self) -> None:
        self._stopped.set()

    def _next(self) -> list[bytes] | Exception | None:
        began = time.perf_counter()
        try:
            return self._batches.get(timeout=STALLED_S)
        except queue.Empty:
            raise DemoError(f"no data came for {STALLED_S:.0f} s") from None
        finally:
            self.waited_s += time.perf_counter() - began

    def _load(self) -> None:
        try:
            for batch in self._cut():
                self._put(batch)
                if self._stopped.is_set():
                    return
            self._put(None)
        except Exception as error:
            self._put(error)

    def _put(self, item: list[bytes] | Exception | None) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._batches.put(item, timeout=0.2)
                return

    def _cut(self) -> Iterator[list[bytes]]:
        batch: list[bytes] = []
        while True:
            try:
                shard = self._shards.get_nowait()
            except queue.Empty:
                break
            for sample in samples_of(self._client, self._bucket, shard):
                batch.append(sample)
                if len(batch) == BATCH_SAMPLES:
                    yield batch
                    batch = []
        if batch:
            yield batch


def epoch(
    client: Any,
    bucket: str,
    shards: Sequence[Shard],
    advanced: Callable[[int], object] = lambda count: None,
    step_s: float = STEP_S,
) -> Epoch:
    """One pass over the shards; `advanced` is told the bytes of each batch. Raises DemoError or what boto3 raised."""
    loaders = Loaders(client, bucket, shards)
    began = time.perf_counter()
    try:
        for batch in loaders:
            time.sleep(step_s)
            advanced(sum(map(len, batch)))
    finally:
        loaders.close()
    seconds = time.perf_counter() - began
    return Epoch(seconds, sum(shard.size for shard in shards), loaders.waited_s / seconds)


def save_and_restore(client: Any, bucket: str, key: str, state: bytes) -> tuple[float, float]:
    """Seconds to write the state as a multipart upload, and to read it back. DemoError if it came back changed."""
    from boto3.s3.transfer import TransferConfig

    transfer = TransferConfig(
        multipart_threshold=5 << 20, multipart_chunksize=5 << 20, preferred_transfer_client="classic"
    )
    began = time.perf_counter()
    client.upload_fileobj(io.BytesIO(state), bucket, key, Config=transfer)
    written = time.perf_counter()
    back = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    restored = time.perf_counter()
    if back != state:
        raise DemoError(f"{key}: the checkpoint that came back is not the one that was saved")
    return written - began, restored - written
