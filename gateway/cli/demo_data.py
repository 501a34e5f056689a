"""The demo's data set: tar shards of small samples, alike on every machine, and what they hash to."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from dataclasses import dataclass
from pathlib import Path

SAMPLE_BYTES = 96 << 10  # an image of ordinary size
SAMPLES_PER_SHARD = 256
SHARDS = 6
CHECKPOINT_BYTES = 16 << 20
SEED = 20260101


@dataclass(frozen=True)
class Shard:
    key: str
    size: int
    sha256: str


def write_shards(
    directory: Path, count: int = SHARDS, samples: int = SAMPLES_PER_SHARD, sample_bytes: int = SAMPLE_BYTES
) -> list[Shard]:
    """`train/shard-00000.tar` and so on under the directory, each a tar of `samples` files of random bytes."""
    made = []
    for number in range(count):
        key = f"train/shard-{number:05d}.tar"
        body = _tar(random.Random(SEED + number), number, samples, sample_bytes)
        path = directory / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        made.append(Shard(key, len(body), hashlib.sha256(body).hexdigest()))
    return made


def _tar(chance: random.Random, shard: int, samples: int, sample_bytes: int) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for number in range(samples):
            member = tarfile.TarInfo(f"{shard:05d}-{number:05d}.bin")
            member.size = sample_bytes
            tar.addfile(member, io.BytesIO(chance.randbytes(sample_bytes)))
    return whole.getvalue()


def checkpoint(size: int = CHECKPOINT_BYTES) -> bytes:
    return random.Random(SEED - 1).randbytes(size)
