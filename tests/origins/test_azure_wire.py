"""What Azure, or what stands in its place, can answer, and that it becomes the right error; what is sent to it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.config.schema import OriginConfig
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
from gateway.model import Conditions, Remote
from gateway.origins import azure_copy, azure_credentials, azure_meta
from gateway.origins.azure import AzureOrigin
from gateway.origins.factory import make_origin
from tests.origins.bodies import body, read
from tests.origins.hostile import Hell, Step, answer, hell

HERE = Remote("bucket", "key")
RANGE_2_4 = "Content-Range: bytes 2-4/10"
SAS = "sv=2023&sig=se%2Bcret"
EMPTY = "<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>"


@asynccontextmanager
async def azure_at(place: Hell, **settings: object) -> AsyncIterator[AzureOrigin]:
    endpoint = f"http://127.0.0.1:{place.port}"
    keys = {"access_key": "account", "secret_key": "c2VjcmV0"}
    config = {"name": "lake", "type": "azure", "endpoint": endpoint, "deadline": 0.5, **keys, **settings}
    origin = make_origin(OriginConfig(**config))
    assert isinstance(origin, AzureOrigin)
    try:
        yield origin
    finally:
        await origin.close()


def error(status: int, code: str, *headers: str) -> bytes:
    document = f"\ufeff<?xml version='1.0' encoding='utf-8'?><Error><Code>{code}</Code></Error>"
    named = [f"x-ms-error-code: {code}"] if code else []
    return answer(status, document.encode(), "x-ms-request-id: 1", *named, *headers)


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (error(503, "ServerBusy"), Throttled),
        (error(429, "TooManyRequests"), Throttled),
        (answer(503), Throttled),
        (error(500, "InternalError"), Unreachable),
        (error(500, "OperationTimedOut"), Unreachable),
        (error(403, "AuthenticationFailed"), OriginDenied),
        (error(403, "AuthorizationPermissionMismatch"), OriginDenied),
        (error(401, "NoAuthenticationInformation"), OriginDenied),
        (error(404, "BlobNotFound"), NotFound),
        (error(404, "ContainerNotFound"), NoSuchBucket),
        (error(409, "ContainerBeingDeleted"), NoSuchBucket),
        (answer(404), NotFound),
        (answer(404, b"<html>nginx</html>"), Unreachable),
        (error(412, "ConditionNotMet"), Changed),
        (error(416, "InvalidRange", "Content-Range: bytes */10"), RangeNotSatisfiable),
        (error(409, "BlobArchived"), Refused),
        (error(400, "InvalidUri"), Unsupported),
        (error(400, "InvalidHeaderValue"), Refused),
        (error(501, "NotImplemented"), Unsupported),
        (answer(302, b"", "Location: http://169.254.169.254/"), Unsupported),
        (answer(200, b"0123456789"), Unreachable),
        (answer(206, b"012", "Content-Range: bytes 0-2/10"), Unreachable),
        (answer(206, b"23", RANGE_2_4), Unreachable),
        (answer(206, b"234", RANGE_2_4, "x-ms-copy-status: pending"), Throttled),
    ],
)
async def test_errors_by_kind(step: bytes, kind: type[GatewayError]) -> None:
    async with hell(*[step] * 20) as place, azure_at(place) as origin:
        with pytest.raises(kind) as raised:
            await read(origin, HERE, 2, 5)
        assert type(raised.value) is kind


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (error(409, "BlobAlreadyExists"), ConditionFailed),
        (error(412, "ConditionNotMet"), ConditionFailed),
        (error(412, "LeaseIdMissing"), Refused),
        (error(400, "Md5Mismatch"), Refused),
        (error(409, "BlobImmutableDueToPolicy"), Refused),
    ],
)
async def test_errors_of_writes(step: bytes, kind: type[GatewayError]) -> None:
    async with hell(step) as place, azure_at(place) as origin:
        with pytest.raises(kind):
            await origin.put(HERE, body(b"x"), Conditions())
        assert len(place.requests) == 1


async def test_a_body_is_sent_once_whatever_the_answer() -> None:
    for step in (error(500, "InternalError"), error(503, "ServerBusy"), Step(reset=True)):
        for data in (b"x", bytes(2_000_000)):
            async with hell(step) as place, azure_at(place) as origin:
                with pytest.raises((Unreachable, Throttled)):
                    await origin.put(HERE, body(data), Conditions())
                assert len(place.requests) == 1


BUSY = error(503, "ServerBusy")


async def test_a_throttled_request_behind_a_body_is_sent_again() -> None:
    """What was uploaded before it would be lost."""
    async with hell(answer(201), BUSY, answer(201)) as place, azure_at(place) as origin:
        await origin.put(HERE, body(bytes(2_000_000)), Conditions())
        block, *lists = place.requests
        assert "blockid=" in block
        assert ["comp=blocklist" in head for head in lists] == [True, True]
        assert place.bodies[1] == place.bodies[2]
    async with hell(BUSY, answer(201)) as place, azure_at(place) as origin:
        upload_id, _ = await origin.create_upload(HERE, {})
        assert all(f"uploads/{upload_id}" in head for head in place.requests)
    raw = {"key": HERE.key, "headers": {}, "algorithm": None, "kind": None}
    marker = answer(200, b"", f"x-ms-meta-{azure_meta.NAME}: {azure_meta.pack(raw)}")
    async with hell(marker, answer(201), BUSY, answer(201)) as place, azure_at(place) as origin:
        await origin.put_part(HERE, upload_id, 1, body(b"part"))
        assert place.bodies[1:] == [b"part", b".", b"."]


@pytest.mark.parametrize("step", [error(500, "InternalError"), Step(reset=True)])
async def test_what_may_have_been_carried_out_is_not_sent_again(step: bytes | Step) -> None:
    async with hell(answer(201), step) as place, azure_at(place) as origin:
        with pytest.raises(Unreachable):
            await origin.put(HERE, body(bytes(2_000_000)), Conditions())
        assert len(place.requests) == 2


async def test_another_s3_etag_is_noticed() -> None:
    async with hell(answer(206, b"234", RANGE_2_4)) as place, azure_at(place) as origin:
        with pytest.raises(Changed):
            await read(origin, HERE, 2, 5, '"another"')
        assert "if-match" not in place.requests[0].lower()


async def test_a_copy_that_takes_its_time_is_waited_for() -> None:
    source = answer(200, b"", "x-ms-blob-type: BlockBlob")
    begun = answer(202, b"", "x-ms-copy-status: pending")
    done = answer(200, b"", "x-ms-copy-status: success")
    async with hell(source, begun, done) as place, azure_at(place) as origin:
        await origin.copy(HERE, Remote("bucket", "copy"), {})
        assert [head.split(" ")[0] for head in place.requests] == ["HEAD", "PUT", "HEAD"]
    failed = answer(200, b"", "x-ms-copy-status: failed")
    async with hell(source, begun, failed) as place, azure_at(place) as origin:
        with pytest.raises(Unreachable, match="failed"):
            await origin.copy(HERE, Remote("bucket", "copy"), {})


async def test_a_copy_that_does_not_end_is_an_error_of_the_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure_copy, "BULK_S", 0.0)
    async with hell(Step(hang=True)) as place, azure_at(place) as origin:
        with pytest.raises(Unreachable, match="not ended"):
            await azure_copy._finished(origin._client, HERE)


REPLACE = {"x-amz-metadata-directive": "REPLACE", "content-type": "c/d"}


async def test_what_a_copy_leaves_behind_does_not_hide_how_it_ended() -> None:
    source, copied = answer(200, b"", "x-ms-blob-type: BlockBlob"), answer(202)
    denied = error(403, "AuthorizationPermissionMismatch")
    async with hell(source, copied, answer(200), copied, denied) as place, azure_at(place) as origin:
        assert await origin.copy(HERE, Remote("bucket", "copy"), REPLACE)
        assert [head.split(" ")[0] for head in place.requests] == ["HEAD", "PUT", "PUT", "PUT", "DELETE"]
    refused = error(400, "InvalidHeaderValue")
    async with hell(source, copied, refused, denied) as place, azure_at(place) as origin:
        with pytest.raises(Refused):
            await origin.copy(HERE, Remote("bucket", "copy"), REPLACE)
        assert place.requests[-1].startswith("DELETE")


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html></html>",
        b"<EnumerationResults><Blobs><Blob><Name>a</Name>",
        b"<EnumerationResults><Blobs><Blob><Name>a</Name></Blob></Blobs></EnumerationResults>",
        b"<EnumerationResults><Blobs><BlobPrefix></BlobPrefix></Blobs></EnumerationResults>",
    ],
)
async def test_half_a_listing_is_no_listing(document: bytes) -> None:
    async with hell(*[answer(200, document)] * 20) as place, azure_at(place) as origin:
        with pytest.raises(Unreachable):
            await origin.list("bucket")


def _page(*names: str, marker: str = "", name: str = "<Name>") -> bytes:
    properties = (
        "<Properties><Last-Modified>Thu, 01 Jan 2026 00:00:00 GMT</Last-Modified><Etag>0x1</Etag>"
        "<Content-Length>1</Content-Length><BlobType>BlockBlob</BlobType></Properties>"
    )
    blobs = "".join([f"<Blob>{name}{key}</Name>{properties}</Blob>" for key in names])
    text = f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
    return answer(200, b"\xef\xbb\xbf" + text.encode())


async def test_a_listing_out_of_order_ends_in_an_error() -> None:
    async with hell(_page("b", marker="m"), _page("a")) as place, azure_at(place) as origin:
        with pytest.raises(Unsupported, match="byte order"):
            await origin.list("bucket")
    async with hell(_page("b", marker="m"), _page("a")) as place, azure_at(place) as origin:
        assert (await origin.list("bucket", max_keys=1)).next_after == "b"
        with pytest.raises(Unsupported, match="byte order"):
            await origin.list("bucket", start_after="b")


async def test_a_marker_that_comes_again_ends_in_an_error() -> None:
    async with hell(*[_page(marker="m")] * 3) as place, azure_at(place) as origin:
        with pytest.raises(Unreachable, match="does not get on"):
            await origin.list("bucket")


async def test_a_name_that_xml_cannot_hold_is_decoded() -> None:
    page = _page("a%EF%BF%BE+b", name="<Name Encoded='true'>")
    async with hell(page) as place, azure_at(place) as origin:
        assert [entry.key for entry in (await origin.list("bucket")).entries] == ["a\ufffe+b"]


async def test_the_next_page_begins_at_the_remembered_marker() -> None:
    async with (
        hell(_page("a", marker="m+1"), _page("b"), _page("a", "b", "c")) as place,
        azure_at(place) as origin,
    ):
        page = await origin.list("bucket", max_keys=1)
        assert page.next_after == "a"
        assert [e.key for e in (await origin.list("bucket", start_after="a")).entries] == ["b"]
        assert [e.key for e in (await origin.list("bucket", start_after="b")).entries] == ["c"]
        assert "marker=m%2B1" in place.requests[1]
        assert "marker" not in place.requests[2]


async def test_a_sas_is_in_every_url_and_in_no_error() -> None:
    steps = [answer(403, b"", "x-ms-error-code: AuthorizationFailure"), answer(200, EMPTY.encode())]
    async with (
        hell(*steps) as place,
        azure_at(place, secret_key="", session_token=f"?{SAS}") as origin,
    ):
        with pytest.raises(OriginDenied) as raised:
            await origin.head(HERE)
        assert "cret" not in str(raised.value)
        await origin.list("bucket")
        assert f"HEAD /bucket/key?{SAS} " in place.requests[0]
        assert f"&{SAS} " in place.requests[1]
        assert not any("authorization" in head.lower() for head in place.requests)


async def test_without_a_key_tokens_of_the_chain_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    class Chain:
        closed = False

        async def get_token(self, *scopes: str) -> Any:
            return SimpleNamespace(token="from-the-chain", expires_on=int(time.time()) + 3600)

        async def close(self) -> None:
            self.closed = True

    made = Chain()
    monkeypatch.setattr(azure_credentials, "chain", lambda: made)
    async with hell(answer(200)) as place:
        async with azure_at(place, secret_key="") as origin:
            await origin.head(HERE)
        assert "authorization: bearer from-the-chain" in place.requests[0].lower()
    assert made.closed


async def test_the_chain_is_azure_identitys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no identity at all."""
    for name in (
        "AZURE_CLIENT_ID",
        "AZURE_CLIENT_SECRET",
        "AZURE_TENANT_ID",
        "IDENTITY_ENDPOINT",
        "MSI_ENDPOINT",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    async with hell() as place, azure_at(place, secret_key="") as origin:
        with pytest.raises(OriginDenied, match="azure-identity found none"):
            await origin.head(HERE)
        assert place.requests == []
