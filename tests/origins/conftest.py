"""One contract for every origin: each test runs over a directory and over every S3 server at hand. `needs` (see
`tests/stores.py`) leaves out what that server itself does not do as S3 does it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.config.schema import OriginConfig
from gateway.model import Conditions, ObjectMeta, Remote, WriteResult
from gateway.origins.base import Origin, PutBody
from gateway.origins.factory import make_origin
from tests import stores
from tests.origins.bodies import body, read

BUCKET = "contract"
KINDS = ("file", "moto", "rclone", "localstack", "gcs", "azure")


class Counts:
    """An Observer that remembers."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.bytes = {"in": 0, "out": 0}

    def request(self, origin: str, op: str, status: str) -> None:
        assert origin == "lake"
        self.requests.append((op, status))

    def moved(self, origin: str, direction: str, count: int) -> None:
        self.bytes[direction] += count


@dataclass
class Cloud:
    """An origin under test. `key` is of this test alone; others start with it."""

    origin: Origin
    faithful: frozenset[str]
    kind: str
    counts: Counts
    key: str

    def at(self, suffix: str = "") -> Remote:
        return Remote(BUCKET, self.key + suffix)

    async def put(self, data: bytes, suffix: str = "", conditions: Conditions | None = None) -> WriteResult:
        return await self.origin.put(self.at(suffix), body(data), conditions or Conditions())

    async def put_key(self, key: str, data: bytes) -> WriteResult:
        return await self.origin.put(Remote(BUCKET, key), PutBody(len(data), body(data).chunks), Conditions())

    async def get(self, suffix: str = "") -> bytes:
        return (await read(self.origin, self.at(suffix), 0, None))[1]

    async def head(self, suffix: str = "") -> ObjectMeta:
        return await self.origin.head(self.at(suffix))


def _settings(kind: str, request: pytest.FixtureRequest) -> tuple[dict[str, object], frozenset[str]]:
    if kind == "file":
        root: Path = request.getfixturevalue("tmp_path") / "origin"
        (root / BUCKET).mkdir(parents=True)
        return {"name": "lake", "type": "file", "root": str(root)}, stores.DIRECTORY
    server: stores.S3Server | stores.Azurite = request.getfixturevalue(kind)
    server.make_buckets(BUCKET)
    return server.as_origin("lake"), server.faithful


@pytest.fixture(params=KINDS)
async def cloud(request: pytest.FixtureRequest, key: str) -> AsyncIterator[Cloud]:
    settings, faithful = _settings(request.param, request)
    for mark in request.node.iter_markers("needs"):
        if missing := sorted(set(mark.args) - faithful):
            pytest.skip(f"{request.param} does not do {', '.join(missing)} as S3 does")
    counts = Counts()
    origin = make_origin(OriginConfig(**settings, deadline=5), counts)
    yield Cloud(origin, faithful, request.param, counts, key)
    await origin.close()
