"""A copy from one origin to another arrives as the source has it, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway.errors import Changed, ConditionFailed, GatewayError, Refused, Unreachable, Unsupported
from gateway.model import Conditions, ObjectMeta, PartPage, Remote, WriteResult
from gateway.namespace.mounts import Mount
from gateway.objects.copies import COPY_SIZE_MAX, Source, copy_object, copy_part
from gateway.objects.streamed import RESUMES_MAX, proofs_of
from gateway.origins.base import Capabilities, ForwardRequest, PutBody
from gateway.s3.checksums import compute, encode
from tests.unit.objects.harness import running

BODY = bytes(range(256)) * 1200  # some pieces, two of them large enough for a thread
PIECE = 100_000
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
ALL = Capabilities(forward=True, conditional_writes=True, checksums=True)


def checksum(name: str, data: bytes = BODY) -> str:
    return encode(compute(name, data))


@dataclass
class Reading:
    meta: ObjectMeta
    start: int
    stop: int
    data: bytes
    breaks_after: int | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        for at in range(self.start, self.stop, PIECE):
            if self.breaks_after is not None and at >= self.start + self.breaks_after:
                raise Unreachable("cut")
            yield self.data[at : min(at + PIECE, self.stop)]


@dataclass
class SourceOrigin:
    """`breaks`: after how many bytes each GET in turn breaks off. `tags`: its answer to GetObjectTagging. `open_max`:
    of GETs at once."""

    meta: ObjectMeta
    data: bytes = BODY
    breaks: list[int] = field(default_factory=list)
    tags: bytes = b""
    name: str = "here"
    capabilities: Capabilities = ALL
    asked: list[tuple[int, int | None, str | None]] = field(default_factory=list)
    open: int = 0
    open_max: int = 0

    @asynccontextmanager
    async def get(
        self, remote: Remote, start: int, stop: int | None, *, if_match: str | None = None
    ) -> AsyncIterator[Reading]:
        self.asked.append((start, stop, if_match))
        if if_match is not None and if_match != self.meta.etag:
            raise Changed("another")
        end = self.meta.size if stop is None else min(stop, self.meta.size)
        whole = start == 0 and stop is None
        meta = self.meta if whole else replace(self.meta, checksums={})
        self.open += 1
        self.open_max = max(self.open_max, self.open)
        try:
            yield Reading(meta, start, end, self.data, self.breaks.pop(0) if self.breaks else None)
        finally:
            self.open -= 1

    @asynccontextmanager
    async def forward(self, request: ForwardRequest) -> AsyncIterator[Any]:
        assert (request.method, request.query) == ("GET", "tagging=")

        class Response:
            status, headers = 200, dict[str, str]()

            @staticmethod
            async def chunks() -> AsyncIterator[bytes]:
                yield self.tags

        yield Response


@dataclass
class Sink:
    """Keeps what it was sent whole; `got` is what came of a body that failed."""

    name: str = "there"
    capabilities: Capabilities = ALL
    algorithm: str | None = None
    stored: bytes | None = None
    got: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    trailer: dict[str, str] = field(default_factory=dict)

    async def put(self, remote: Remote, body: PutBody, conditions: Conditions) -> WriteResult:
        pieces = []
        async for piece in body.chunks:
            self.got += len(piece)
            pieces.append(piece)
        self.stored, self.headers = b"".join(pieces), body.headers
        assert len(self.stored) == body.length
        if body.trailer is not None:
            self.trailer = {body.trailer[0]: body.trailer[1]()}
        return WriteResult('"copied"')

    async def put_part(self, remote: Remote, upload_id: str, number: int, body: PutBody) -> WriteResult:
        return await self.put(remote, body, Conditions())

    async def list_parts(self, remote: Remote, upload_id: str, after: int, max_parts: int) -> PartPage:
        return PartPage((), checksum_algorithm=self.algorithm)


MOUNTS = (Mount("a", "here", "r"), Mount("b", "there", "r"))


def meta_of(
    etag: str = f'"{MD5}"',
    checksums: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    size: int = len(BODY),
) -> ObjectMeta:
    return ObjectMeta(size, etag, 100, headers or {}, checksums or {})


async def copied(
    origin: SourceOrigin, sink: Sink, headers: Mapping[str, str] | None = None, source: Source | None = None
) -> Sink:
    async with running(origin, sink, mounts=MOUNTS) as (services, view, _):
        found = source or Source(view.mounts.resolve("a", "k"))
        await copy_object(services, found, view.mounts.resolve("b", "k"), headers or {}, Conditions())
    return sink


FULL = {"x-amz-checksum-crc32": checksum("crc32"), "x-amz-checksum-type": "FULL_OBJECT"}
COMPOSITE = {"x-amz-checksum-sha256": checksum("sha256") + "-3", "x-amz-checksum-type": "COMPOSITE"}
KMS = {"x-amz-server-side-encryption": "aws:kms"}
CUSTOMER = {"x-amz-server-side-encryption-customer-algorithm": "AES256"}


@pytest.mark.parametrize(
    ("meta", "whole", "names"),
    [
        (meta_of(checksums=FULL), True, ["crc32"]),
        (meta_of(checksums={"x-amz-checksum-sha1": checksum("sha1")}), True, ["sha1"]),
        (meta_of(checksums=COMPOSITE), True, ["md5"]),
        (meta_of(checksums={"x-amz-checksum-crc32": "no base64"}), True, ["md5"]),
        (meta_of(), True, ["md5"]),
        (meta_of(headers={"x-amz-server-side-encryption": "AES256"}), True, ["md5"]),
        (meta_of(f'"{MD5}-1"'), True, []),
        (meta_of('"0x8DD"'), True, []),
        (meta_of(headers=KMS), True, []),
        (meta_of(headers=CUSTOMER), True, []),
        (meta_of(headers=KMS, checksums=FULL), True, ["crc32"]),
        (meta_of(checksums=FULL), False, []),
    ],
)
def test_what_proves_an_object(meta: ObjectMeta, whole: bool, names: list[str]) -> None:
    assert list(proofs_of(meta, whole=whole)) == names


@pytest.mark.parametrize("meta", [meta_of(checksums=FULL), meta_of()], ids=["checksum", "md5"])
@pytest.mark.parametrize("at", [0, PIECE, len(BODY) - 1], ids=["first", "middle", "last"])
async def test_wrong_bytes_never_become_an_object(meta: ObjectMeta, at: int) -> None:
    wrong = BODY[:at] + bytes([BODY[at] ^ 1]) + BODY[at + 1 :]
    sink = Sink()
    with pytest.raises(Unreachable):
        await copied(SourceOrigin(meta, wrong), sink)
    assert sink.stored is None
    assert sink.got < len(BODY)


async def test_what_cannot_be_proven_is_copied_all_the_same() -> None:
    sink = await copied(SourceOrigin(meta_of(f'"{MD5}-2"')), Sink())
    assert sink.stored == BODY


async def test_an_empty_object_is_copied_and_proven() -> None:
    empty = hashlib.md5(b"", usedforsecurity=False).hexdigest()
    assert (await copied(SourceOrigin(meta_of(f'"{empty}"', size=0), b""), Sink())).stored == b""
    sink = Sink()
    with pytest.raises(Unreachable):
        await copied(SourceOrigin(meta_of(size=0), b""), sink)
    assert sink.stored is None


async def test_a_checksum_goes_on_to_where_the_object_goes() -> None:
    sink = await copied(SourceOrigin(meta_of(checksums=FULL)), Sink())
    assert sink.headers["x-amz-checksum-crc32"] == checksum("crc32")
    sink = await copied(SourceOrigin(meta_of()), Sink())
    assert sink.headers["content-md5"] == checksum("md5")
    assert not any(name.startswith("x-amz-checksum") for name in sink.headers)


@pytest.mark.parametrize("meta", [meta_of(checksums=FULL), meta_of(), meta_of('"x-2"')])
async def test_the_checksum_that_is_asked_for_is_made(meta: ObjectMeta) -> None:
    sink = await copied(SourceOrigin(meta), Sink(), {"x-amz-checksum-algorithm": "SHA256"})
    assert sink.trailer == {"x-amz-checksum-sha256": checksum("sha256")}
    assert "x-amz-checksum-algorithm" not in sink.headers
    sink = await copied(SourceOrigin(meta_of(checksums=FULL)), Sink(), {"x-amz-checksum-algorithm": "CRC32"})
    assert (sink.trailer, sink.headers["x-amz-checksum-crc32"]) == ({}, checksum("crc32"))


async def test_an_unknown_checksum_is_refused() -> None:
    with pytest.raises(Refused, match="unsupported"):
        await copied(SourceOrigin(meta_of()), Sink(), {"x-amz-checksum-algorithm": "CRC8"})


async def test_a_body_that_breaks_off_goes_on_where_it_ended() -> None:
    origin = SourceOrigin(meta_of(), breaks=[PIECE, 0, 0, PIECE, 0])
    assert (await copied(origin, Sink())).stored == BODY
    etag = origin.meta.etag
    assert origin.asked[0] == (0, None, None)
    assert [start for start, _, match in origin.asked[1:] if match == etag] == [PIECE] * 3 + [2 * PIECE] * 2


async def test_a_copy_has_one_place_among_the_requests_of_its_source() -> None:
    """A second one, while the first is held, may never come where there are few."""
    whole, part = (SourceOrigin(meta_of(), breaks=[PIECE, 0]) for _ in range(2))
    await copied(whole, Sink())
    await part_of(part, Sink(), None)
    for origin in (whole, part):
        assert (len(origin.asked), origin.open_max, origin.open) == (3, 1, 0)


async def test_a_source_that_breaks_off_for_ever_is_given_up() -> None:
    origin = SourceOrigin(meta_of(), breaks=[0] * 50)
    sink = Sink()
    with pytest.raises(Unreachable):
        await copied(origin, sink)
    assert len(origin.asked) == RESUMES_MAX + 1
    assert sink.stored is None


async def test_a_source_that_changes_midway_is_no_mixture() -> None:
    origin, sink = SourceOrigin(meta_of(), breaks=[PIECE]), Sink()
    put = sink.put

    async def changing(remote: Remote, body: PutBody, conditions: Conditions) -> WriteResult:
        origin.meta, origin.data = meta_of('"another"'), BODY[::-1]
        return await put(remote, body, conditions)

    sink.put = changing  # type: ignore[method-assign]
    with pytest.raises(Changed):
        await copied(origin, sink)
    assert sink.stored is None


HEADERS = {
    "content-type": "text/x",
    "cache-control": "no-store",
    "x-amz-meta-a": "1",
    "x-amz-storage-class": "GLACIER",
    "x-amz-version-id": "v",
    "x-amz-server-side-encryption": "AES256",
    "x-amz-website-redirect-location": "/x",
    "x-amz-tagging-count": "2",
}
TAGS = (
    b'<Tagging xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><TagSet><Tag><Key>a b</Key><Value>1&amp;2</Value></Tag>'
    b"<Tag><Key>c</Key><Value></Value></Tag></TagSet></Tagging>"
)


def plain(sink: Sink) -> dict[str, str]:
    return {name: value for name, value in sink.headers.items() if name != "content-md5"}


async def test_metadata_and_tags_come_along_or_are_replaced_as_told() -> None:
    def origin() -> SourceOrigin:
        return SourceOrigin(meta_of(headers=HEADERS), tags=TAGS)

    kept = {"content-type": "text/x", "cache-control": "no-store", "x-amz-meta-a": "1"}
    asked = {
        "content-type": "text/new",
        "x-amz-meta-b": "2",
        "x-amz-tagging": "n=1",
        "x-amz-storage-class": "IA",
    }
    tags = {"x-amz-tagging": "a+b=1%262&c="}
    assert plain(await copied(origin(), Sink(), asked)) == kept | tags | {"x-amz-storage-class": "IA"}
    replaced = {**asked, "x-amz-metadata-directive": "REPLACE"}
    assert plain(await copied(origin(), Sink(), replaced)) == asked | tags
    retagged = {**asked, "x-amz-tagging-directive": "REPLACE"}
    assert plain(await copied(origin(), Sink(), retagged)) == kept | {
        "x-amz-tagging": "n=1",
        "x-amz-storage-class": "IA",
    }
    untagged = Sink(capabilities=Capabilities(checksums=True))  # keeps no tags at all
    assert plain(await copied(origin(), untagged)) == kept


async def test_tags_that_cannot_be_read_are_not_lost() -> None:
    sink = Sink()
    with pytest.raises(Unreachable):
        await copied(SourceOrigin(meta_of(headers=HEADERS), tags=b"<Tagging>"), sink)
    assert sink.stored is None


async def test_the_conditions_on_the_source_are_judged_before_a_byte_moves() -> None:
    async with running(SourceOrigin(meta_of()), sink := Sink(), mounts=MOUNTS) as (services, view, _):
        for conditions in (Conditions(if_match='"x"'), Conditions(if_none_match=f'"{MD5}"')):
            source = Source(view.mounts.resolve("a", "k"), None, conditions)
            with pytest.raises(ConditionFailed):
                await copy_object(services, source, view.mounts.resolve("b", "k"), {}, Conditions())
        version = Source(view.mounts.resolve("a", "k"), "v1")
        with pytest.raises(Unsupported):
            await copy_object(services, version, view.mounts.resolve("b", "k"), {}, Conditions())
    assert sink.got == 0


async def test_the_null_version_is_the_object_only_where_there_are_no_others() -> None:
    for has, stored in ((ALL, BODY), (replace(ALL, versions=True), None)):
        sink, origin = Sink(), SourceOrigin(meta_of(), capabilities=has)
        async with running(origin, sink, mounts=MOUNTS) as (services, view, _):
            source = Source(view.mounts.resolve("a", "k"), "null")
            target = view.mounts.resolve("b", "k")
            for copy in (
                copy_object(services, source, target, {}, Conditions()),
                copy_part(services, source, target, "id", 1, None, {}),
            ):
                sink.stored = None
                with nullcontext() if stored is not None else pytest.raises(Unsupported):
                    await copy
                assert sink.stored == stored


async def test_more_than_s3_copies_at_once_is_refused() -> None:
    sink = Sink()
    with pytest.raises(Refused) as error:
        await copied(SourceOrigin(meta_of(size=COPY_SIZE_MAX + 1)), sink)
    assert (error.value.code, sink.got) == ("InvalidRequest", 0)


async def part_of(
    origin: SourceOrigin, sink: Sink, byte_range: tuple[int, int] | None
) -> WriteResult | GatewayError:
    async with running(origin, sink, mounts=MOUNTS) as (services, view, _):
        source, target = Source(view.mounts.resolve("a", "k")), view.mounts.resolve("b", "k")
        return await copy_part(services, source, target, "id", 1, byte_range, {})


async def test_a_part_is_proven_where_it_is_the_whole_object() -> None:
    wrong = b"x" + BODY[1:]
    for byte_range in (None, (0, len(BODY))):
        sink = Sink()
        with pytest.raises(Unreachable):
            await part_of(SourceOrigin(meta_of(), wrong), sink, byte_range)
        assert sink.stored is None
    sink = Sink()
    await part_of(SourceOrigin(meta_of(), wrong), sink, (5, 100_005))
    assert sink.stored == BODY[5:100_005]


async def test_a_part_has_the_checksum_of_its_upload() -> None:
    sink = Sink(algorithm="CRC32")
    await part_of(SourceOrigin(meta_of(checksums=FULL)), sink, None)
    assert sink.headers["x-amz-checksum-crc32"] == checksum("crc32")
    sink = Sink(algorithm="CRC32")
    await part_of(SourceOrigin(meta_of(checksums=FULL)), sink, (0, 10))
    assert sink.trailer == {"x-amz-checksum-crc32": checksum("crc32", BODY[:10])}


async def test_a_range_outside_the_source_is_refused() -> None:
    with pytest.raises(Refused) as error:
        await part_of(SourceOrigin(meta_of()), Sink(), (5, len(BODY) + 1))
    assert error.value.code == "InvalidRange"


async def test_a_copy_takes_memory_for_a_few_pieces_only() -> None:
    """64 MiB through a destination that keeps nothing."""
    piece, count = bytes(256 << 10), 256
    held: list[int] = []

    class Endless(SourceOrigin):
        @asynccontextmanager
        async def get(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
            class Pieces:
                meta, start, stop = self.meta, 0, len(piece) * count

                @staticmethod
                async def chunks() -> AsyncIterator[bytes]:
                    for _ in range(count):
                        yield bytes(piece)[:-1] + b"\0"  # a copy of its own

            yield Pieces

    class Devouring(Sink):
        async def put(self, remote: Remote, body: PutBody, conditions: Conditions) -> WriteResult:
            async for _ in body.chunks:
                held.append(tracemalloc.get_traced_memory()[0])
                await asyncio.sleep(0)
            return WriteResult('"e"')

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        await copied(Endless(meta_of('"x-2"', size=len(piece) * count)), Devouring())
    finally:
        tracemalloc.stop()
    assert len(held) == count
    assert max(held) - before < 4 * len(piece)
