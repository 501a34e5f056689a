"""What an origin can do wrong, and that none of it becomes wrong bytes, a wrong object or a hanging request."""

from __future__ import annotations

import asyncio
import hashlib
import time

import pytest

from gateway.errors import (
    Changed,
    ConditionFailed,
    GatewayError,
    NoSuchBucket,
    NotFound,
    OriginDenied,
    RangeNotSatisfiable,
    Refused,
    Throttled,
    Unreachable,
    Unsupported,
)
from gateway.model import Conditions, Part, Remote, ToDelete
from gateway.origins.base import ForwardRequest, PutBody
from gateway.origins.s3_body import JOINED_BYTES_MAX
from tests.origins.bodies import TornError, body, pieces, read, torn
from tests.origins.conftest import Counts
from tests.origins.hostile import ETAG, Step, answer, error, hell, origin_at

HERE = Remote("bucket", "key")
TEN = b"0123456789"
COPIED = b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>"
RANGE_2_4 = "Content-Range: bytes 2-4/10"


async def _read_2_4(step: Step | bytes, if_match: str | None = None) -> bytes:
    """Bytes [2, 5) of a place that answers so, whatever the number of tries."""
    async with hell(*[step] * 20) as place, origin_at(place, deadline=0.3) as origin:
        return (await read(origin, HERE, 2, 5, if_match))[1]


async def test_a_right_range_is_taken() -> None:
    assert await _read_2_4(answer(206, b"234", RANGE_2_4)) == b"234"


@pytest.mark.parametrize(
    "wrong",
    [
        answer(200, TEN),
        answer(206, b"012", "Content-Range: bytes 0-2/10"),
        answer(206, b"23", "Content-Range: bytes 2-3/10"),
        answer(206, b"2345", "Content-Range: bytes 2-5/10"),
        answer(206, b"234", "Content-Range: bytes 2-4/*"),
        answer(206, b"234"),
        answer(206, b"23", RANGE_2_4),
        answer(206, b"2345", RANGE_2_4),
        answer(206, b"234", RANGE_2_4, etag=""),
        b"HTTP/1.1 206 X\r\nContent-Range: bytes 2-4/10\r\nContent-Length: 3\r\n\r\n234",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 206 X\r\nContent-Range: bytes 2-4/10\r\nX: a\0b\r\nContent-Length: 3\r\n\r\n234",
        b"HTTP/1.1 206 X\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n234",
    ],
)
async def test_a_wrong_answer_to_a_range_is_no_answer(wrong: bytes) -> None:
    with pytest.raises(Unreachable):
        await _read_2_4(wrong)


@pytest.mark.parametrize("cut", [Step(close=True), Step(reset=True)])
async def test_a_body_cut_short_is_noticed(cut: Step) -> None:
    cut = Step(answer(206, b"2", RANGE_2_4, length=3), cut.close, cut.reset)
    async with hell(cut) as place, origin_at(place) as origin:
        async with origin.get(HERE, 2, 5) as reading:
            chunks = reading.chunks()
            assert await anext(chunks) == b"2"
            with pytest.raises(Unreachable):
                await anext(chunks)
        assert len(place.requests) == 1  # behind its first byte, a read is the reader's to repeat


async def test_chunked_bodies_are_counted_too() -> None:
    head = answer(206, b"", RANGE_2_4).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    assert await _read_2_4(head + b"3\r\n234\r\n0\r\n\r\n") == b"234"
    for framed in (b"2\r\n23\r\n0\r\n\r\n", b"4\r\n2345\r\n0\r\n\r\n", b"zz\r\n", b"3\r\n234XX0\r\n\r\n"):
        with pytest.raises(Unreachable):
            await _read_2_4(head + framed)


async def test_another_version_is_noticed_even_if_the_origin_ignores_if_match() -> None:
    with pytest.raises(Changed):
        await _read_2_4(answer(206, b"234", RANGE_2_4), '"another"')


async def test_a_failure_is_tried_again() -> None:
    good = answer(206, b"234", RANGE_2_4)
    tries = (error(500, "InternalError"), Step(reset=True), error(502, ""), good)
    counts = Counts()
    async with hell(*tries) as place, origin_at(place, counts) as origin:
        assert (await read(origin, HERE, 2, 5))[1] == b"234"
    statuses = [status for _, status in counts.requests]
    assert statuses[-1] == "206"
    assert "500" in statuses
    assert "502" in statuses
    assert counts.bytes["in"] >= 3


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (error(503, "SlowDown"), Throttled),
        (error(429, "TooManyRequests"), Throttled),
        (answer(503), Throttled),
        (error(500, "InternalError"), Unreachable),
        (error(403, "AccessDenied"), OriginDenied),
        (error(403, "InvalidObjectState"), Refused),
        (error(400, "ExpiredToken"), OriginDenied),
        (error(404, "NoSuchKey"), NotFound),
        (error(404, "NoSuchBucket"), NoSuchBucket),
        (answer(404), NotFound),
        (answer(404, b"<html>nginx</html>"), Unreachable),
        (error(412, "PreconditionFailed"), Changed),
        (error(416, "InvalidRange", "Content-Range: bytes */10"), RangeNotSatisfiable),
        (error(501, "NotImplemented"), Unsupported),
        (error(405, "MethodNotAllowed"), Refused),
    ],
)
async def test_errors_by_kind(step: bytes, kind: type[GatewayError]) -> None:
    with pytest.raises(kind) as raised:
        await _read_2_4(step)
    assert type(raised.value) is kind
    if isinstance(raised.value, RangeNotSatisfiable):
        assert raised.value.size == 10


async def test_throttling_halves_the_requests_at_once_and_successes_bring_them_back() -> None:
    good = answer(206, b"234", RANGE_2_4)
    async with (
        hell(error(503, "SlowDown"), good, *[good] * 8) as place,
        origin_at(place, connections_max=8) as origin,
    ):
        gate = origin._client.limits.gate
        assert gate.aimd.limit == 8
        for _ in range(5):
            await read(origin, HERE, 2, 5)
        assert gate.aimd.limit == 5
        assert gate.inside == 0


async def test_retry_after_beyond_the_deadline_is_handed_on() -> None:
    began = time.monotonic()
    with pytest.raises(Throttled) as raised:
        await _read_2_4(error(503, "SlowDown", "Retry-After: 30"))
    assert raised.value.retry_after_s == 30
    assert time.monotonic() - began < 0.3


async def test_an_answer_that_does_not_come_ends_with_the_deadline() -> None:
    for step in (Step(hang=True), Step(b"HTTP/1.1 206 OK\r\nContent-", hang=True)):
        async with hell(step) as place, origin_at(place, deadline=0.2) as origin:
            with pytest.raises(Unreachable):
                await origin.head(HERE)


async def test_a_body_that_stops_ends_too() -> None:
    step = Step(answer(206, b"2", RANGE_2_4, length=3), hang=True)
    async with hell(step) as place, origin_at(place, deadline=0.2) as origin:
        with pytest.raises(Unreachable):
            await read(origin, HERE, 2, 5)
        assert origin._client.limits.gate.inside == 0


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html>",
        b"<html></html>",
        b"<ListBucketResult><Contents><Key>a</Key>",
        b'<!DOCTYPE x [<!ENTITY a "b">]><ListBucketResult></ListBucketResult>',
        b"<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b"\xff\xfe<",
    ],
)
async def test_half_a_listing_is_no_listing(document: bytes) -> None:
    async with hell(*[answer(200, document)] * 20) as place, origin_at(place, deadline=0.2) as origin:
        with pytest.raises(Unreachable):
            await origin.list("bucket")


def _listing(*keys: str, more: bool, groups: tuple[str, ...] = ()) -> Step:
    contents = "".join(f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in keys)
    prefixes = "".join(f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>" for name in groups)
    flag = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
    document = f"<ListBucketResult>{flag}{contents}{prefixes}</ListBucketResult>"
    return Step(answer(200, document.encode()))


@pytest.mark.parametrize(("keys", "groups"), [(("a", "é", "b"), ()), (("a",), ("é/", "b/"))])
async def test_a_page_out_of_byte_order_is_sorted_or_refused(
    keys: tuple[str, ...], groups: tuple[str, ...]
) -> None:
    """Sorted when it is the whole; but what comes after its greatest key is not the rest."""
    whole = _listing(*keys, more=False, groups=groups)
    async with hell(whole, _listing(*keys, more=True, groups=groups)) as place, origin_at(place) as origin:
        page = await origin.list("bucket", "", "/")
        assert [entry.key for entry in page.entries] == sorted(keys)
        assert list(page.common_prefixes) == sorted(groups)
        with pytest.raises(Unsupported, match="byte order"):
            await origin.list("bucket", "", "/")


@pytest.mark.parametrize("again", ["b", "a"])
async def test_a_page_that_shows_only_what_was_passed_ends_the_listing_with_an_error(again: str) -> None:
    steps = [_listing(again, more=True)] * 20
    async with hell(*steps) as place, origin_at(place, deadline=0.2) as origin:
        with pytest.raises(Unreachable, match="does not get on"):
            await origin.list("bucket", start_after="b")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed_and_name_the_region(status: int) -> None:
    step = answer(
        status,
        b"<Error><Code>PermanentRedirect</Code></Error>",
        "Location: http://169.254.169.254/latest/meta-data/",
        "x-amz-bucket-region: eu-west-3",
    )
    async with hell(step) as place, origin_at(place) as origin:
        with pytest.raises(Unsupported, match="region eu-west-3"):
            await read(origin, HERE, 0, None)
        assert len(place.requests) == 1


async def test_a_head_signed_for_another_region_names_the_right_one() -> None:
    step = answer(400, b"", "x-amz-bucket-region: eu-west-3")
    async with hell(step) as place, origin_at(place) as origin:
        with pytest.raises(Unsupported, match="region eu-west-3"):
            await origin.head(HERE)


async def test_an_error_before_the_body_was_sent_is_told_at_once() -> None:
    """And the client's body is let go."""
    let_go = asyncio.Event()

    async def endless():  # type: ignore[no-untyped-def]
        try:
            yield bytes(100_000)
            yield bytes(100_000)
            await asyncio.Event().wait()
            yield bytes(100_000)
        finally:
            let_go.set()

    async def refuse(head: str, reader: asyncio.StreamReader) -> bytes:
        return b""

    async with hell(Step(error(403, "AccessDenied"), close=True)) as place, origin_at(place) as origin:
        place._body = refuse  # type: ignore[method-assign]
        with pytest.raises(OriginDenied):
            await origin.put(HERE, PutBody(300_000, endless()), Conditions())
        await let_go.wait()


async def test_a_small_body_leaves_with_its_head_in_one_piece() -> None:
    """So a refusal, and the reset of an origin that leaves the rest unread, cannot come between."""
    lengths: list[int] = []

    async def pieces():  # type: ignore[no-untyped-def]
        for _ in range(1000):
            yield b"piece"
            await asyncio.sleep(0)

    async def whole(head: str, reader: asyncio.StreamReader) -> bytes:
        lengths.append(len(reader._buffer))  # type: ignore[attr-defined]
        return await reader.readexactly(5000)

    async with hell(answer(200, b"", 'ETag: "e"')) as place, origin_at(place) as origin:
        place._body = whole  # type: ignore[method-assign]
        await origin.put(HERE, PutBody(5000, pieces()), Conditions())
        assert lengths == [5000]


@pytest.mark.parametrize("address", ["169.254.169.254", "[fd00:ec2::254]", "[::ffff:169.254.169.254]"])
async def test_link_local_endpoints_are_refused(address: str) -> None:
    async with hell() as place, origin_at(place, endpoint=f"http://{address}:1/") as origin:
        with pytest.raises(OriginDenied, match="link-local"):
            await origin.head(HERE)


async def test_a_success_with_an_error_inside_is_an_error() -> None:
    inside = b" \n<Error><Code>InternalError</Code><Message>sorry</Message></Error>"
    async with hell(*[answer(200, inside)] * 20) as place, origin_at(place, deadline=0.2) as origin:
        with pytest.raises(Unreachable):
            await origin.copy(HERE, HERE, {})
        with pytest.raises(Unreachable):
            await origin.complete_upload(HERE, "id", [Part(1, ETAG)], {}, Conditions())


async def test_a_complete_whose_answer_was_lost_succeeds() -> None:
    """The first try had completed the upload; the second finds none, and the object that these parts make."""
    digest = hashlib.md5(bytes.fromhex(ETAG.strip('"')), usedforsecurity=False).hexdigest()
    made = f'"{digest}-1"'
    tries = (Step(close=True), error(404, "NoSuchUpload"), answer(200, etag=made))
    async with hell(*tries) as place, origin_at(place) as origin:
        with pytest.raises(Refused, match="because"):  # another object lies there
            await origin.complete_upload(HERE, "id", [Part(1, '"' + "1" * 32 + '"')], {}, Conditions())
        place.will(Step(close=True), error(404, "NoSuchUpload"), answer(200, etag=made))
        result = await origin.complete_upload(HERE, "id", [Part(1, ETAG)], {}, Conditions())
        assert result.etag == made


async def test_a_body_is_sent_once_whatever_the_answer() -> None:
    for step in (error(500, "InternalError"), error(503, "SlowDown"), Step(reset=True)):
        async with hell(step) as place, origin_at(place) as origin:
            with pytest.raises((Unreachable, Throttled)):
                await origin.put(HERE, body(TEN), Conditions())
            assert len(place.requests) == 1


@pytest.mark.parametrize("size", [10_000, JOINED_BYTES_MAX * 4], ids=["joined", "in pieces"])
async def test_a_body_cut_off_never_reaches_its_announced_length(size: int) -> None:
    data = bytes(size)
    for bad in (torn(data), torn(data, at_the_end=True), PutBody(size + 1, pieces(data))):
        async with hell() as place, origin_at(place) as origin:
            with pytest.raises((TornError, Refused)):
                await origin.put(HERE, bad, Conditions())
            if size <= JOINED_BYTES_MAX:
                assert not place.requests  # it is judged before any of it leaves
            else:
                await place.served.wait()
                assert 0 < len(place.bodies[0]) < size


async def test_a_success_before_the_body_was_read_is_none() -> None:
    gate = asyncio.Event()

    piece = bytes(JOINED_BYTES_MAX)

    async def slow():  # type: ignore[no-untyped-def]
        yield piece
        yield piece
        await gate.wait()
        yield piece

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(200))
        await writer.drain()
        await reader.read()
        writer.close()

    async with hell() as place:
        place.serve = serve  # type: ignore[method-assign]
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        place.port = server.sockets[0].getsockname()[1]
        async with origin_at(place) as origin:
            with pytest.raises(Unreachable):
                await origin.put(HERE, PutBody(3 * len(piece), slow()), Conditions())
        server.close()
        await server.wait_closed()


async def test_a_put_survives_a_connection_that_was_closed_while_idle() -> None:
    async with hell(Step(answer(200), close=True), answer(200)) as place, origin_at(place) as origin:
        await origin.put(HERE, body(TEN), Conditions())
        await place.served.wait()
        await origin.put(HERE, body(TEN), Conditions())
        assert place.bodies == [TEN, TEN]


async def test_each_of_many_deletes_ends_as_the_answer_says_and_what_it_passes_over_is_unknown() -> None:
    document = (
        "<DeleteResult><Deleted><Key>a</Key><DeleteMarker>true</DeleteMarker>"
        "<DeleteMarkerVersionId>m</DeleteMarkerVersionId></Deleted>"
        "<Deleted><Key>b</Key><VersionId>2</VersionId></Deleted>"
        "<Error><Key>b</Key><VersionId>1</VersionId><Code>AccessDenied</Code></Error>"
        "<Error><Key>c</Key><Code>NoSuchKey</Code></Error><Error><Key>d</Key><Code>NoSuchKey</Code></Error>"
        "<Error><Key>e</Key><Code>InternalError</Code></Error><Error><Key>f</Key><Code>PreconditionFailed</Code></Error>"
        "<Deleted><Key>z</Key></Deleted></DeleteResult>"
    )
    doomed = [
        ToDelete("a"),
        ToDelete("b", "1"),
        ToDelete("b", "2"),
        ToDelete("c"),
        ToDelete("d", None, '"t"'),
        ToDelete("e"),
        ToDelete("f", None, '"t"'),
        ToDelete("g"),
    ]
    async with hell(answer(200, document.encode())) as place, origin_at(place) as origin:
        outcomes = await origin.delete_many("bucket", doomed)
        assert outcomes[0] == {"x-amz-delete-marker": "true", "x-amz-version-id": "m"}
        assert outcomes[2:4] == [{"x-amz-version-id": "2"}, {}]
        failed = [type(outcome) for outcome in (outcomes[1], *outcomes[4:])]
        assert failed == [OriginDenied, NotFound, Unreachable, ConditionFailed, Unreachable]
        assert place.requests[0].startswith("POST /bucket?delete= HTTP/1.1\r\n")
        assert b"<Object><Key>b</Key><VersionId>1</VersionId></Object>" in place.bodies[0]
        assert b"<Object><Key>d</Key><ETag>&quot;t&quot;</ETag></Object>" in place.bodies[0]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (answer(200, b"<html/>"), Unreachable),
        (answer(200, b"<Error><Code>AccessDenied</Code></Error>"), OriginDenied),
        (error(501, "NotImplemented"), Unsupported),
        (error(404, "NoSuchBucket"), NoSuchBucket),
    ],
)
async def test_many_deletes_that_fail_as_a_whole(said: bytes, kind: type[GatewayError]) -> None:
    async with hell(*[said] * 10) as place, origin_at(place) as origin:
        with pytest.raises(kind):
            await origin.delete_many("bucket", [ToDelete("a")])


async def test_a_copy_and_an_empty_body_are_not_repeated_either() -> None:
    """aiohttp would repeat them on a connection that breaks."""
    for _ in range(2):
        async with hell(answer(200), Step(close=True)) as place, origin_at(place) as origin:
            await origin.put(HERE, body(b""), Conditions())
            with pytest.raises(Unreachable):
                await origin.put(HERE, body(b""), Conditions())
            assert len(place.requests) == 2
        async with hell(answer(200, COPIED), Step(close=True)) as place, origin_at(place) as origin:
            await origin.copy(HERE, HERE, {})
            with pytest.raises(Unreachable):
                await origin.copy(HERE, HERE, {})
            assert len(place.requests) == 2


async def test_no_header_can_start_another() -> None:
    async with hell() as place, origin_at(place) as origin:
        for name, value in (("x-amz-meta-a", "1\r\nx: y"), ("x-amz-meta-a\r\nx", "1"), ("a", "\0")):
            with pytest.raises(Refused):
                await origin.put(HERE, body(TEN, {name: value}), Conditions())
        assert not place.requests


async def test_forward_passes_on_what_comes() -> None:
    step = answer(418, b"<Tagging/>", "x-amz-new-thing: 1", "Connection: keep-alive")
    async with hell(step) as place, origin_at(place) as origin:
        request = ForwardRequest(
            "PUT",
            HERE,
            "tagging=",
            {"x-amz-a": "b", "authorization": "theirs", "connection": "x"},
            body(TEN),
        )
        async with origin.forward(request) as response:
            assert response.status == 418
            assert response.headers["x-amz-new-thing"] == "1"
            assert "connection" not in response.headers
            assert b"".join([piece async for piece in response.chunks()]) == b"<Tagging/>"
        head = place.requests[0]
        assert head.startswith("PUT /bucket/key?tagging= HTTP/1.1\r\n")
        assert "theirs" not in head
        assert "x-amz-a: b" in head
        assert place.bodies == [TEN]


async def test_requests_wait_for_their_turn_and_a_cancelled_one_leaves_the_line() -> None:
    good = answer(206, b"234", RANGE_2_4)
    async with hell(Step(hang=True), good) as place, origin_at(place, connections_max=1) as origin:
        first = asyncio.ensure_future(read(origin, HERE, 2, 5))
        await place.served.wait()
        second = asyncio.ensure_future(read(origin, HERE, 2, 5))
        third = asyncio.ensure_future(read(origin, HERE, 2, 5))
        while len(origin._client.limits.gate._line) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        second.cancel()
        first.cancel()
        assert (await third)[1] == b"234"
        await asyncio.gather(first, second, return_exceptions=True)
        assert origin._client.limits.gate.inside == 0
        assert len(place.requests) == 2
