"""Ranges and preconditions as tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import Conditions
from gateway.s3.conditions import (
    check,
    check_copy,
    check_write,
    parse_conditions,
    parse_copy_conditions,
    parse_http_date,
)
from gateway.s3.errors import S3Error
from gateway.s3.object_headers import http_date
from gateway.s3.ranges import parse_copy_range, parse_range


@pytest.mark.parametrize(
    ("value", "size", "found"),
    [
        (None, 10, None),
        ("bytes=0-0", 10, (0, 1)),
        ("bytes=2-5", 10, (2, 6)),
        ("bytes=2-", 10, (2, 10)),
        ("bytes=-3", 10, (7, 10)),
        ("bytes=-30", 10, (0, 10)),
        ("bytes=0-8388607", 10, (0, 10)),
        ("bytes=9-9", 10, (9, 10)),
        ("Bytes=1-2", 10, (1, 3)),
        ("bytes=10-", 10, "416"),
        ("bytes=10-12", 10, "416"),
        ("bytes=-0", 10, "416"),
        ("bytes=0-0", 0, "416"),
        ("bytes=-1", 0, "416"),
        ("bytes=0-", 0, "416"),
        ("bytes=5-2", 10, None),
        ("bytes=-", 10, None),
        ("bytes=", 10, None),
        ("bytes=a-b", 10, None),
        ("bytes=0-1,3-4", 10, None),
        ("items=0-1", 10, None),
        ("bytes=+1-2", 10, None),
        ("bytes=1-2-3", 10, None),
        ("bytes=٣-٤", 10, None),
        ("bytes=" + "9" * 21 + "-", 10, None),
        ("bytes=" + "9" * 20 + "-", 10, "416"),
        ("", 10, None),
    ],
)
def test_a_range_is_clamped_refused_or_ignored(
    value: str | None, size: int, found: tuple[int, int] | str | None
) -> None:
    if found == "416":
        with pytest.raises(S3Error) as caught:
            parse_range(value, size)
        assert (caught.value.status, caught.value.code) == (416, "InvalidRange")
        assert ("Content-Range", f"bytes */{size}") in caught.value.headers
    else:
        assert parse_range(value, size) == found


@given(st.text(max_size=30), st.integers(0, 1 << 40))
def test_no_text_makes_a_range_outside_the_object(value: str, size: int) -> None:
    try:
        found = parse_range("bytes=" + value, size)
    except S3Error:
        return
    assert found is None or 0 <= found[0] < found[1] <= size


@pytest.mark.parametrize(
    "value", ["bytes=0-", "bytes=-1", "0-1", "bytes=2-1", "bytes=0-10", "bytes=0-1,3-4", "bytes=0-1 "]
)
def test_a_copy_range_must_lie_inside_its_source(value: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse_copy_range(value, 10)
    assert caught.value.code == "InvalidArgument"
    assert parse_copy_range("bytes=0-9", 10) == (0, 10)


TAG, TIME = '"tag"', 1_700_000_000


@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        (Conditions(), None),
        (Conditions(if_match=TAG), None),
        (Conditions(if_match="tag"), None),
        (Conditions(if_match="*"), None),
        (Conditions(if_match='"x", "tag"'), None),
        (Conditions(if_match='"x"'), 412),
        (Conditions(if_match='W/"tag"'), 412),
        (Conditions(if_none_match=TAG), 304),
        (Conditions(if_none_match='W/"tag"'), 304),
        (Conditions(if_none_match="*"), 304),
        (Conditions(if_none_match='"x"'), None),
        (Conditions(if_modified_since=TIME), 304),
        (Conditions(if_modified_since=TIME - 1), None),
        (Conditions(if_unmodified_since=TIME), None),
        (Conditions(if_unmodified_since=TIME - 1), 412),
        (
            Conditions(if_match=TAG, if_unmodified_since=TIME - 1),
            None,
        ),  # RFC 9110 §13.2.2: If-Match silences it
        (Conditions(if_none_match='"x"', if_modified_since=TIME), None),
        (Conditions(if_match='"x"', if_none_match=TAG), 412),
        (Conditions(if_match=TAG, if_none_match=TAG), 304),
    ],
)
def test_reads(conditions: Conditions, status: int | None) -> None:
    assert check(conditions, TAG, TIME) == status
    if status is None:
        check_copy(conditions, TAG, TIME)
    else:
        with pytest.raises(S3Error) as caught:
            check_copy(conditions, TAG, TIME)
        assert caught.value.status == 412


@pytest.mark.parametrize(
    ("conditions", "etag", "code"),
    [
        (Conditions(), None, ""),
        (Conditions(if_none_match="*"), None, ""),
        (Conditions(if_none_match="*"), TAG, "PreconditionFailed"),
        (Conditions(if_none_match='"x"'), TAG, ""),
        (Conditions(if_match=TAG), TAG, ""),
        (Conditions(if_match='"x"'), TAG, "PreconditionFailed"),
        (Conditions(if_match=TAG), None, "NoSuchKey"),
        (Conditions(if_match="*"), None, "NoSuchKey"),
    ],
)
def test_writes(conditions: Conditions, etag: str | None, code: str) -> None:
    if not code:
        check_write(conditions, etag)
        return
    with pytest.raises(S3Error) as caught:
        check_write(conditions, etag)
    assert caught.value.code == code


@given(st.integers(0, 253402300799))
def test_a_date_that_we_send_is_read_back(seconds: int) -> None:
    assert parse_http_date(http_date(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
        ("Sun Nov  6 08:49:37 1994", 784111777),
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 25:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 CET", None),
        ("Sun, 06 Nov 0000 08:49:37 GMT", None),
        ("1994-11-06T08:49:37Z", None),
        ("", None),
    ],
)
def test_dates_of_all_three_forms(text: str, seconds: int | None) -> None:
    assert parse_http_date(text) == seconds


def test_headers_become_conditions_and_bad_dates_are_as_absent() -> None:
    date = http_date(TIME)
    headers = {"if-match": "a", "if-none-match": "b", "if-modified-since": date, "if-unmodified-since": "x"}
    assert parse_conditions(headers) == Conditions("a", "b", TIME, None)
    prefixed = {f"x-amz-copy-source-{name}": value for name, value in headers.items()}
    assert parse_copy_conditions(prefixed) == Conditions("a", "b", TIME, None)
    assert not parse_conditions(prefixed)
