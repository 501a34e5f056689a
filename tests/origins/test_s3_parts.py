"""The pieces of the S3 origin that need no server: endpoints, flavours, credentials, framing, addresses."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.config.schema import OriginConfig
from gateway.errors import GatewayError, OriginDenied, Unsupported
from gateway.origins.factory import make_origin
from gateway.origins.limits import Limits
from gateway.origins.s3_body import FRAME_BYTES, framed_length
from gateway.origins.s3_client import Client
from gateway.origins.s3_credentials import DefaultChain
from gateway.origins.s3_endpoint import endpoint_of
from gateway.origins.s3_flavours import FLAVOURS, flavour_of
from gateway.origins.s3_http import Call, forbidden
from gateway.origins.s3_list import passed_group


@pytest.mark.parametrize(
    ("url", "bucket", "key", "expected"),
    [
        ("", "b", "a//b", ("b.s3.eu-west-1.amazonaws.com", "/a//b")),
        ("", "b.c", "k", ("s3.eu-west-1.amazonaws.com", "/b.c/k")),
        ("", "", "", ("s3.eu-west-1.amazonaws.com", "/")),
        ("http://h:9000", "b", "./x+y é", ("h:9000", "/b/./x%2By%20%C3%A9")),
        ("http://h:80/", "b", "", ("h", "/b")),
        ("https://h:443/base/", "b", "k", ("h", "/base/b/k")),
        ("http://[::1]:9000", "b", "k", ("[::1]:9000", "/b/k")),
    ],
)
def test_where_a_request_goes(url: str, bucket: str, key: str, expected: tuple[str, str]) -> None:
    assert endpoint_of(url, "eu-west-1").locate(bucket, key) == expected


@pytest.mark.parametrize("url", ["ftp://h", "h:9000", "http://", "http://u:p@h", "http://h/?x"])
def test_endpoints_that_are_none(url: str) -> None:
    with pytest.raises(Unsupported):
        endpoint_of(url, "us-east-1")


def test_unknown_flavours_and_types_are_named() -> None:
    with pytest.raises(Unsupported, match="auto, aws"):
        flavour_of("wasabi-ish")
    with pytest.raises(Unsupported, match="tape"):
        make_origin(OriginConfig(name="x", type="tape"))


@pytest.mark.parametrize(
    ("flavour", "endpoint", "expected"),
    [
        ("auto", "", True),
        ("auto", "https://s3.eu-west-1.amazonaws.com", True),
        ("auto", "https://bucket.vpce-1a2b.s3.eu-west-1.vpce.amazonaws.com:443", True),
        ("auto", "https://s3.cn-north-1.amazonaws.com.cn", True),
        ("auto", "http://minio:9000", False),
        ("auto", "https://amazonaws.com.example", False),
        ("auto", "https://notamazonaws.com", False),
        ("aws", "http://proxy:9000", True),
        ("minio", "http://minio:9000", False),
    ],
)
def test_who_is_trusted_to_check_conditions_on_deletes(flavour: str, endpoint: str, expected: bool) -> None:
    """A store that does not know them deletes all the same; AWS, and what is said to be it, knows them."""
    config = OriginConfig.model_validate(
        {"name": "x", "type": "s3", "flavour": flavour, "endpoint": endpoint, "region": "eu-west-1"}
    )
    assert make_origin(config).capabilities.conditional_deletes is expected


@pytest.mark.parametrize("key", ["a//b", "./x", "a/..", "dir/", "/a", "..", "a/./b"])
def test_keys_that_a_file_system_would_fold_are_refused(key: str) -> None:
    assert not FLAVOURS["rclone"].holds(key)
    assert FLAVOURS["auto"].holds(key)


@pytest.mark.parametrize("key", ["a", "a/b", ".a", "a./b", "...", "a/..b/c"])
def test_other_keys_are_not(key: str) -> None:
    assert FLAVOURS["rclone"].holds(key)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("169.254.169.254", True),
        ("::ffff:169.254.170.2", True),
        ("64:ff9b::a9fe:a9fe", True),
        ("fe80::1%eth0", True),
        ("fd00:ec2::254", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("fd00:ec2::1", False),
    ],
)
def test_forbidden_addresses(address: str, expected: bool) -> None:
    assert forbidden(address) is expected


@pytest.mark.parametrize("length", [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 5 * FRAME_BYTES + 7])
def test_framed_length(length: int) -> None:
    wire = b""
    left = length
    while left:
        count = min(left, FRAME_BYTES)
        wire += b"%x\r\n" % count + b"x" * count + b"\r\n"
        left -= count
    wire += b"0\r\nx-amz-checksum-crc64nvme:AAAAAAAAAAA=\r\n\r\n"
    assert framed_length(length, "x-amz-checksum-crc64nvme") == len(wire)


def test_a_trailer_of_unknown_length_is_refused() -> None:
    with pytest.raises(Unsupported):
        framed_length(1, "x-amz-checksum-other")


@pytest.mark.parametrize(
    ("prefix", "delimiter", "after", "expected"),
    [
        ("", "/", "a/", "a/"),
        ("", "/", "a/b/", "a/"),
        ("", "/", "a/b", None),
        ("a/", "/", "a/", None),
        ("a/", "/", "a/b/", "a/b/"),
        ("b", "/", "a/", None),
        ("", "", "a/", None),
    ],
)
def test_the_common_prefix_that_a_page_has_passed(
    prefix: str, delimiter: str, after: str, expected: str | None
) -> None:
    assert passed_group(prefix, delimiter, after) == expected


def _without_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


async def test_the_default_chain_reads_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _without_credentials(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    assert await DefaultChain("lake").get() == ("AKENV", "secret", "token")


async def test_the_default_chain_reads_the_shared_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _without_credentials(monkeypatch, tmp_path)
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = AKFILE\naws_secret_access_key = s\n"
    )
    assert (await DefaultChain("lake").get()).access_key == "AKFILE"


async def test_no_credentials_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _without_credentials(monkeypatch, tmp_path)
    with pytest.raises(OriginDenied, match="No credentials for origin lake"):
        await DefaultChain("lake").get()


class _Slow:
    """An answer to any call, which is not there at once."""

    status = 200

    async def send(self, call: Call) -> Any:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return self

    async def read(self, bytes_max: int) -> bytes:
        return b""

    def close(self) -> None:
        pass


async def test_a_call_that_may_outlast_the_deadline_is_not_cut_there() -> None:
    wire: Any = _Slow()
    client = Client("lake", wire, Limits("lake", 1, 0.0), FLAVOURS["auto"])
    await client.finished(Call("copy", "PUT", "bucket", "key", answer_s=60.0))
    with pytest.raises(GatewayError):
        await client.finished(Call("copy", "PUT", "bucket", "key"))
