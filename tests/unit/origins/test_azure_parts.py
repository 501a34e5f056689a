"""Names of keys and of blocks, the signature, and tokens."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import OriginDenied, Unreachable
from gateway.origins.azure_blocks import data_name, parts_of, receipt_name
from gateway.origins.azure_credentials import tokens_of
from gateway.origins.azure_dialect import signature, string_to_sign
from gateway.origins.azure_list import _goes_on
from gateway.origins.azure_names import HIDDEN, can_begin, holds, is_container
from gateway.origins.tokens import SOON_S
from gateway.s3.checksums import encode
from gateway.s3.object_headers import http_date

MD5 = bytes(range(16))


@pytest.mark.parametrize("key", ["a", "a//b", "/a", "dir/", "a+b %2F", "..a/.b", "a..b", "é€𝄞", "k" * 1024])
def test_keys_that_are_held(key: str) -> None:
    assert holds(key)


@pytest.mark.parametrize(
    "key", [".", "..", "a/./b", "../a", "a.", "a./b", "a\\b", "\x00", "\x85", "\uffff", HIDDEN]
)
def test_keys_that_are_not(key: str) -> None:
    assert not holds(key)


@given(st.text(st.sampled_from("a./\\\x01")), st.text(st.sampled_from("a./\\\x01")))
def test_a_prefix_of_a_key_is_none_that_cannot_be(begin: str, end: str) -> None:
    assert can_begin(begin) or not holds(begin + end)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("abc", True),
        ("a-1-b", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("ab", False),
        ("-ab", False),
        ("ab-", False),
    ],
)
def test_containers(name: str, expected: bool) -> None:
    assert is_container(name) is expected


# Blocks

SHA = {"x-amz-checksum-sha256": encode(bytes(range(32)))}
CRC = {"x-amz-checksum-crc32": encode(b"1234")}


def _part(
    number: int, attempt: int, at: float, *sizes: int, checksums: dict[str, str] | None = None
) -> list[tuple[str, int]]:
    data = [(data_name(number, attempt, index), size) for index, size in enumerate(sizes)]
    return [*data, (receipt_name(number, attempt, at, MD5, len(sizes), checksums or {}), 1)]


def test_all_names_of_blocks_are_as_long() -> None:
    names = [name for name, _ in _part(10_000, 2**32 - 1, time.time(), 1, 2, checksums=SHA)]
    assert {len(name) for name in names} == {88}
    assert len(set(names)) == 3


@pytest.mark.parametrize("checksums", [{}, SHA, CRC])
def test_a_part_is_its_blocks_in_order(checksums: dict[str, str]) -> None:
    blocks = _part(7, 5, 1234.5, 100, 20, checksums=checksums)
    part = parts_of(blocks[::-1])[7]
    assert (part.size, part.etag, part.at, part.checksums) == (120, f'"{MD5.hex()}"', 1234.5, checksums)
    assert part.blocks == (blocks[0][0], blocks[1][0])


def test_a_part_of_no_bytes() -> None:
    assert parts_of(_part(1, 5, 1.0))[1].size == 0


def test_what_is_not_whole_is_no_part() -> None:
    blocks = _part(1, 5, 1.0, 100, 20)
    for missing in range(3):
        assert parts_of(blocks[:missing] + blocks[missing + 1 :]) == {}
    assert parts_of([("AAAA", 1), ("not base64", 1), ("", 1)]) == {}


def test_the_latest_attempt_counts_if_it_is_whole() -> None:
    first, second = _part(1, 9, 1.0, 10), _part(1, 5, 2.0, 20)
    assert parts_of(first + second)[1].size == 20
    assert parts_of(first + second[:1])[1].size == 10
    assert parts_of(first + second[1:])[1].size == 10


def test_an_upload_keeps_the_checksum_that_fits() -> None:
    both = {"x-amz-checksum-sha512": encode(bytes(64)), **CRC}
    assert parts_of(_part(1, 5, 1.0, 10, checksums=both))[1].checksums == CRC


# Order


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([], False),
        (["a", "b"], False),
        (["a\U0001f600"], True),
        (["a\U0001f600", "a\U0001f601"], True),
        (["a\U0001f600", "ab"], True),
        (["a\U0001f600", "a\uff21"], True),
        (["a\U0001f600", "b"], False),
    ],
)
def test_when_keys_to_come_may_belong_before_these(keys: list[str], expected: bool) -> None:
    """In UTF-16 order, in which `ab` comes before the pair of surrogates."""
    assert _goes_on(keys) is expected


# Signature and tokens


def test_the_signature_is_the_sdks() -> None:
    from azure.core.pipeline import PipelineContext, PipelineRequest
    from azure.core.pipeline.transport import HttpRequest
    from azure.storage.blob._shared.authentication import SharedKeyCredentialPolicy

    headers = {
        "x-ms-date": "Thu, 01 Jan 2026 00:00:00 GMT",
        "x-ms-version": "2023-11-03",
        "x-ms-blob-type": "BlockBlob",
        "x-ms-blob-content-type": "a/b",
        "x-ms-meta-s3gateway": "{}",
        "x-ms-meta-a1": "one two",
        "x-ms-meta-ab": "x",
        "x-ms-copy-source": "http://h/c/k",
        "x-ms-source-if-match": '"e"',
        "content-md5": "bWQ1",
        "if-match": '"e"',
    }
    query = "blockid=a%2Fb%2B%3D&comp=block"
    request = HttpRequest("PUT", f"https://h/c/a%2Fb%20c?{query}", headers={**headers, "content-length": "5"})
    policy = SharedKeyCredentialPolicy("account", "c2VjcmV0")
    policy.on_request(PipelineRequest(request, PipelineContext(None)))
    text = string_to_sign("PUT", "/c/a%2Fb%20c", query, headers, 5, "account")
    assert request.headers["Authorization"] == f"SharedKey account:{signature('c2VjcmV0', text)}"


def test_dates_are_the_protocols_in_any_locale() -> None:
    assert http_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert http_date(1_767_225_599) == "Wed, 31 Dec 2025 23:59:59 GMT"


class Chain:
    """Gives tokens that live so long; fails when told to."""

    def __init__(self, life_s: float) -> None:
        self.life_s = life_s
        self.asked = 0
        self.error: Exception | None = None
        self.closed = False

    async def get_token(self, *scopes: str) -> Any:
        assert scopes == ("https://storage.azure.com/.default",)
        self.asked += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return SimpleNamespace(token=f"token-{self.asked}", expires_on=int(time.time() + self.life_s))

    async def close(self) -> None:
        self.closed = True


async def test_one_token_is_fetched_for_all() -> None:
    chain = Chain(3600)
    tokens = tokens_of("lake", chain)
    found = await asyncio.gather(*(tokens.get() for _ in range(10)))
    assert {keys.token for keys in found} == {"token-1"}
    assert "token-1" not in repr(found)
    await tokens.close()
    assert chain.closed


async def test_a_token_is_used_while_the_chain_fails_and_until_it_ends() -> None:
    chain = Chain(SOON_S - 10)
    tokens = tokens_of("lake", chain)
    assert (await tokens.get()).token == "token-1"
    chain.error = OSError("no answer")
    assert [(await tokens.get()).token for _ in range(3)] == ["token-1"] * 3
    await tokens.close()


async def test_an_endpoint_of_identities_that_fails_is_asked_once_for_all_who_wait() -> None:
    chain = Chain(3600)
    chain.error = OSError("no answer")
    tokens = tokens_of("lake", chain)
    found = await asyncio.gather(*(tokens.get() for _ in range(10)), return_exceptions=True)
    assert [type(one) for one in found] == [Unreachable] * 10
    assert chain.asked == 1
    await tokens.close()


class CredentialUnavailableError(Exception):
    pass


async def test_a_chain_that_has_nothing_and_one_that_does_not_answer() -> None:
    chain = Chain(-10)
    tokens = tokens_of("lake", chain)
    chain.error = CredentialUnavailableError("secret text")
    with pytest.raises(OriginDenied, match="azure-identity found none") as raised:
        await tokens.get()
    assert "secret" not in str(raised.value)
    chain.error = OSError("secret text")
    with pytest.raises(Unreachable, match="OSError") as unreachable:
        await tokens.get()
    assert "secret" not in str(unreachable.value)
    await tokens.close()
