"""The hot path answers hits, and only hits that this identity may have, of what is current now."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from gateway.access.policy import Access
from gateway.aio import Threads
from gateway.config.schema import IdentityConfig, Statement
from gateway.frontend import hot
from gateway.frontend.exchange import RequestHead
from gateway.frontend.head import parse_head
from gateway.frontend.hot import HotPath
from gateway.namespace.mounts import Mount, Mounts
from gateway.namespace.rules import Rule, Rules
from gateway.objects.context import Services, View
from gateway.objects.revalidate import Wanted
from gateway.s3.signer import EMPTY_SHA256, Credentials, sign
from gateway.telemetry.requests import RequestRecord
from tests.unit.cache.harness import MIB
from tests.unit.reading.harness import Bench, bench, data_of, two_workers

HOST = "127.0.0.1:9000"


@dataclass
class Answers:
    """A connection that keeps what it is told to answer."""

    base_headers: bytes = b"Date: now\r\nx-amz-request-id: "
    record: RequestRecord = field(default_factory=lambda: RequestRecord("ID", "peer", "GET", "/"))
    head: bytes = b""
    body: bytes = b""

    def answer(self, data: bytes, body_length: int) -> None:
        at = len(data) - body_length
        self.head, self.body = data[:at], data[at:]

    def answer_files(self, head: bytes, slices: Any) -> None:
        import os

        self.head = head
        self.body = b"".join(os.pread(source.fd, length, offset) for source, offset, length in slices)


def identity(name: str, *resources: str) -> IdentityConfig:
    allow = (Statement(actions=("s3:*",), resources=resources),)
    return IdentityConfig(name=name, access_key=name, secret_key="secret-of-" + name, allow=allow)  # type: ignore[arg-type]


def view_of(*identities: IdentityConfig, fresh_s: float = 60.0) -> View:
    mounts = Mounts([Mount.parse("data", "o", "bucket")])
    return View(mounts, Rules([Rule("data/**", fresh_s)]), Access.of(identities))


def request(
    key: str, who: str = "alice", method: str = "GET", headers: Mapping[str, str] | None = None
) -> RequestHead:
    sent = sign(
        method,
        HOST,
        f"/data/{key}",
        "",
        headers or {},
        EMPTY_SHA256,
        Credentials(who, "secret-of-" + who),
        "us-east-1",
        time.time(),
    )
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return parse_head(f"{method} /data/{key} HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n".encode())


def services(b: Bench, view: View) -> Services:
    return Services(view, b.reads.origins, b.reads.store, Threads("digests", 1), b.tasks, "", b.reads)


class Door:
    def __init__(self, b: Bench, view: View | None = None) -> None:
        self.services = services(b, view or view_of(identity("alice", "data/*"), identity("bob", "other/*")))
        self.hot = HotPath(self.services)

    def get(self, key: str, **options: Any) -> Answers | None:
        connection = Answers()
        return connection if self.hot.answer(connection, request(key, **options)) else None  # type: ignore[arg-type]


@asynccontextmanager
async def warm(directory: Path, size: int = 5000) -> AsyncIterator[tuple[Bench, Door]]:
    async with bench(directory) as b:
        b.origin.put("k", data_of(1, size))
        await b.read("k")
        await b.entry("k", Wanted(checksums=True))
        await b.settled()
        yield b, Door(b)


async def test_a_hit_is_answered_again_and_again(tmp_path: Path) -> None:
    async with warm(tmp_path) as (_, door):
        for _ in range(3):
            answer = door.get("k")
            assert answer is not None
            assert answer.body == data_of(1, 5000)
            assert answer.head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"Content-Length: 5000\r\n" in answer.head
            assert b"x-amz-checksum" not in answer.head


async def test_a_large_object_comes_block_by_block(tmp_path: Path) -> None:
    size = 3 * MIB + 77
    async with warm(tmp_path, size) as (_, door):
        for start, stop in ((0, size), (MIB - 5, MIB + 5), (3 * MIB + 76, size), (100, 3 * MIB)):
            answer = door.get("k", headers={"range": f"bytes={start}-{stop - 1}"})
            assert answer is not None
            assert answer.body == data_of(1, size)[start:stop]
            assert b"Content-Range: bytes %d-%d/%d\r\n" % (start, stop - 1, size) in answer.head


async def test_checksums_come_with_whole_objects_when_asked_for(tmp_path: Path) -> None:
    async with warm(tmp_path) as (_, door):
        whole = door.get("k", headers={"x-amz-checksum-mode": "ENABLED"})
        part = door.get("k", headers={"x-amz-checksum-mode": "ENABLED", "range": "bytes=0-10"})
        assert whole is not None
        assert part is not None
        assert b"x-amz-checksum-crc32: AAAAAA==\r\n" in whole.head
        assert b"x-amz-checksum-crc32" not in part.head


async def test_head_has_the_length_and_no_body(tmp_path: Path) -> None:
    async with warm(tmp_path) as (_, door):
        answer = door.get("k", method="HEAD")
        assert answer is not None
        assert answer.body == b""
        assert b"Content-Length: 5000\r\n" in answer.head


async def test_what_is_forgotten_is_not_answered_any_more(tmp_path: Path) -> None:
    async with warm(tmp_path) as (b, door):
        assert door.get("k") is not None
        await b.reads.store.forget(b.key("k"))
        assert door.get("k") is None


async def test_what_another_worker_forgets_is_not_answered_any_more(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as (one, two):
        one.origin.put("k", b"old")
        await one.read("k")
        await one.settled()
        await two.settled()
        door = Door(one)
        answer = door.get("k")
        assert answer is not None
        assert answer.body == b"old"
        one.origin.put("k", b"new")
        await two.reads.store.forget(two.key("k"))
        assert door.get("k") is None
        assert await two.read("k") == b"new"
        await one.settled()
        await two.settled()
        answer = door.get("k")
        assert answer is not None
        assert answer.body == b"new"


async def test_others_are_never_answered_from_what_was_learned_for_one(tmp_path: Path) -> None:
    async with warm(tmp_path) as (_, door):
        assert door.get("k") is not None
        assert door.get("k", who="bob") is None
        assert door.get("k", who="nobody") is None
        assert door.get("k") is not None


async def test_a_hit_that_is_nobodys_target_yet_is_judged_like_any_other(tmp_path: Path) -> None:
    """The first request for a target has no shortcut past signature or rights."""
    async with warm(tmp_path) as (_, door):
        assert door.get("k", who="bob") is None
        assert door.get("k", who="nobody") is None
        head = request("k")
        head.headers["authorization"] = head.headers["authorization"][:-1] + "g"
        assert not door.hot.answer(Answers(), head)  # type: ignore[arg-type]
        assert door.hot._known == {}
        assert door.get("k") is not None


async def test_what_is_remembered_is_bounded_and_forgotten_little_by_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot, "KNOWN_MAX", 8)
    keys = [f"k{number}" for number in range(30)]
    async with bench(tmp_path) as b:
        for number, key in enumerate(keys):
            b.origin.put(key, data_of(number, 100))
            await b.read(key)
        await b.settled()
        door, left = Door(b), []
        for number, key in enumerate(keys * 2):
            answer = door.get(key)
            assert answer is not None
            assert answer.body == data_of(number % 30, 100)
            left.append(len(door.hot._forgotten))
            assert len(door.hot._known) + left[-1] <= 8 + 1
        assert max(left) == 8
        assert min(after - before for before, after in pairwise(left)) == -2
        door.hot.adopt(door.services)
        assert not door.hot._known
        assert not door.hot._forgotten


async def test_a_new_view_counts_at_once(tmp_path: Path) -> None:
    async with warm(tmp_path) as (_, door):
        assert door.get("k") is not None
        door.hot.adopt(replace(door.services, view=view_of(identity("alice", "other/*"))))
        assert door.get("k") is None
        door.hot.adopt(door.services)
        assert door.get("k") is not None


async def test_a_strict_rule_is_never_hot(tmp_path: Path) -> None:
    async with warm(tmp_path) as (b, _):
        assert Door(b, view_of(identity("alice", "data/*"), fresh_s=0.0)).get("k") is None


async def test_conditions_are_judged_on_every_hit(tmp_path: Path) -> None:
    async with warm(tmp_path) as (_, door):
        assert door.get("k", headers={"if-match": '"v1"'}) is not None
        assert door.get("k", headers={"if-match": '"v2"'}) is None
        assert door.get("k", headers={"if-none-match": '"v1"'}) is None
        assert door.get("k", headers={"if-none-match": '"v2"'}) is not None


async def test_headers_that_the_cache_knows_nothing_of_are_left_to_the_handlers(tmp_path: Path) -> None:
    async with warm(tmp_path) as (_, door):
        for name in ("x-amz-expected-bucket-owner", "x-amz-request-payer", "if-range"):
            assert door.get("k", headers={name: "x"}) is None


def presigned(query: str = "") -> RequestHead:
    boto = BotoCredentials("alice", "secret-of-alice")
    asked = AWSRequest("GET", f"http://{HOST}/data/k{query}")
    S3SigV4QueryAuth(boto, "s3", "us-east-1", 60).add_auth(asked)
    target = asked.url.removeprefix(f"http://{HOST}")
    return parse_head(f"GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())


async def test_a_presigned_url_is_hot_unless_its_query_stands_for_headers(tmp_path: Path) -> None:
    async with warm(tmp_path) as (_, door):
        for query, hot_too in (
            ("", True),
            ("?x-id=GetObject", True),
            ("?x-amz-checksum-mode=ENABLED", False),
            ("?x-amz-expected-bucket-owner=123456789012", False),
            ("?X-Amz-Server-Side-Encryption-Customer-Algorithm=AES256", False),
            ("?response-content-type=a%2Fb", False),
        ):
            assert door.hot.answer(Answers(), presigned(query)) == hot_too, query  # type: ignore[arg-type]


async def test_a_damaged_small_block_is_not_sent(tmp_path: Path) -> None:
    async with warm(tmp_path) as (b, door):
        _, extents = b.reads.store.lookup(b.key("k"), 0, 0)
        extent = extents[0]
        assert extent is not None
        segment = b.reads.store.segment(extent.segment)
        assert segment is not None
        import os

        os.pwrite(segment.fd, b"\xff\xff", extent.offset + 10)
        assert door.get("k") is None
