"""S3-compatible stores by name: how each is addressed, and that it is sent nothing it would pass over."""

from __future__ import annotations

import socket
from typing import get_args

import pytest

from gateway.config.schema import OriginConfig
from gateway.errors import NoSuchBucket, Unsupported
from gateway.model import Conditions, Remote
from gateway.origins.s3_endpoint import endpoint_of
from gateway.origins.s3_flavours import FLAVOURS
from tests.origins.bodies import body
from tests.origins.hostile import ETAG, answer, hell, origin_at

COPIED = b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>"


def test_stores_that_know_buckets_by_host_name_alone() -> None:
    endpoint = endpoint_of("https://oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou", by_host=True)
    assert endpoint.locate("b-1", "a//b+") == ("b-1.oss-cn-hangzhou.aliyuncs.com", "/a//b%2B")
    assert endpoint.locate("b-1", "") == ("b-1.oss-cn-hangzhou.aliyuncs.com", "/")
    assert endpoint.locate("", "") == ("oss-cn-hangzhou.aliyuncs.com", "/")
    with_port = endpoint_of("http://localhost:9000", "x", by_host=True)
    assert with_port.locate("b", "k") == ("b.localhost:9000", "/k")


@pytest.mark.parametrize("bucket", ["a.b", "A", "a_b", "a/../b", "evil.example.com#", "-a", "a" * 64, "é"])
def test_what_is_no_host_name_is_no_bucket_there(bucket: str) -> None:
    """Least of all may a bucket's name lead a signed request to another host."""
    endpoint = endpoint_of("https://oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou", by_host=True)
    with pytest.raises(NoSuchBucket):
        endpoint.locate(bucket, "key")


@pytest.mark.parametrize("url", ["http://10.0.0.1:9000", "http://[::1]:9000", "https://h/base"])
def test_no_names_are_below_an_address_or_a_path(url: str) -> None:
    with pytest.raises(Unsupported, match="host name"):
        endpoint_of(url, "x", by_host=True)


def test_every_flavour_of_the_config_is_one_and_the_other_way_round() -> None:
    named = get_args(OriginConfig.model_fields["flavour"].annotation)
    assert list(named) == list(FLAVOURS)


@pytest.mark.parametrize("name", sorted(FLAVOURS))
async def test_a_condition_is_sent_as_the_store_knows_it_or_refused(name: str) -> None:
    """Never sent where it would be passed over: two writers would both believe that they had won."""
    flavour = FLAVOURS[name]
    async with hell(answer(200), answer(200, COPIED)) as place:
        settings = {"flavour": name}
        if flavour.by_host:
            settings["endpoint"] = f"http://localhost:{place.port}"
        async with origin_at(place, **settings) as origin:
            put = origin.put(Remote("b", "k"), body(b"x"), Conditions(if_none_match="*"))
            if flavour.capabilities.conditional_writes:
                await put
                assert "if-none-match: *" in place.requests.pop().lower()
            else:
                with pytest.raises(Unsupported, match="cannot check"):
                    await put
                place.steps.pop(0)
            copy = origin.copy(Remote("b", "k"), Remote("b", "l"), {"if-match": ETAG})
            if flavour.copy_if is None:
                with pytest.raises(Unsupported, match="cannot check"):
                    await copy
                assert not place.requests
            else:
                await copy
                assert f"\r\n{flavour.copy_if}if-match: {ETAG}" in place.requests[0].lower()


@pytest.mark.parametrize("name", sorted(FLAVOURS))
async def test_a_trailer_and_checksums_go_only_where_they_are_known(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flavour = FLAVOURS[name]
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *more, **named: resolve("127.0.0.1", *more, **named)
    )
    async with hell(answer(200)) as place:
        settings = {"flavour": name}
        if flavour.by_host:
            settings["endpoint"] = f"http://localhost:{place.port}"
        async with origin_at(place, **settings) as origin:
            sent = body(
                b"x",
                {"x-amz-sdk-checksum-algorithm": "CRC32"},
                trailer=("x-amz-checksum-crc32", lambda: "AAAAAA=="),
            )
            await origin.put(Remote("b", "k"), sent, Conditions())
        head = place.requests[0].lower()
        assert ("aws-chunked" in head) == flavour.capabilities.trailers
        assert ("checksum" in head) == (flavour.capabilities.trailers or flavour.capabilities.checksums)
        assert ("\r\nhost: b.localhost" in head) == flavour.by_host
