"""Preconditions: RFC 9110 §13 in the order S3 applies them, for reads, copy sources and writes."""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

from gateway.model import Conditions
from gateway.s3.errors import S3Error

NONE = Conditions()

# Spelled out: `calendar.month_abbr` follows the locale.
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}
_IMF = re.compile(r"[A-Z][a-z]{2}, (\d{2}) ([A-Z][a-z]{2}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT", re.ASCII)
_RFC850 = re.compile(
    r"[A-Z][a-z]{5,8}, (\d{2})-([A-Z][a-z]{2})-(\d{2}) (\d{2}):(\d{2}):(\d{2}) GMT", re.ASCII
)
_ASCTIME = re.compile(r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) ([ \d]\d) (\d{2}):(\d{2}):(\d{2}) (\d{4})", re.ASCII)
_TAG = re.compile(r'(W/)?"([^"]*)"|([^",\s]+)')


def parse_conditions(headers: Mapping[str, str]) -> Conditions:
    """From `if-match`, `if-none-match`, `if-modified-since`, `if-unmodified-since`; a malformed date is as
    absent."""
    return _parse(headers, "")


def parse_copy_conditions(headers: Mapping[str, str]) -> Conditions:
    """The same four about a copy's source (`x-amz-copy-source-if-*`)."""
    return _parse(headers, "x-amz-copy-source-")


def _parse(headers: Mapping[str, str], prefix: str) -> Conditions:
    match = headers.get(prefix + "if-match")
    none_match = headers.get(prefix + "if-none-match")
    modified = headers.get(prefix + "if-modified-since")
    unmodified = headers.get(prefix + "if-unmodified-since")
    if match is None and none_match is None and modified is None and unmodified is None:
        return NONE
    return Conditions(
        match,
        none_match,
        None if modified is None else parse_http_date(modified),
        None if unmodified is None else parse_http_date(unmodified),
    )


def check(conditions: Conditions, etag: str, last_modified: int) -> Literal[304, 412] | None:
    """For an existing object. A true If-Match silences If-Unmodified-Since, and any If-None-Match silences
    If-Modified-Since."""
    if conditions.if_match is not None:
        if not matches(conditions.if_match, etag, weak=False):
            return 412
    elif conditions.if_unmodified_since is not None and last_modified > conditions.if_unmodified_since:
        return 412
    if conditions.if_none_match is not None:
        return 304 if matches(conditions.if_none_match, etag, weak=True) else None
    if conditions.if_modified_since is not None and last_modified <= conditions.if_modified_since:
        return 304
    return None


def check_copy(conditions: Conditions, etag: str, last_modified: int) -> None:
    """For a copy's source: whatever would be 304 for a read is 412 here. Raises PreconditionFailed."""
    if check(conditions, etag, last_modified) is not None:
        raise S3Error("PreconditionFailed")


def check_write(conditions: Conditions, etag: str | None) -> None:
    """For the object about to be replaced; `etag` None when there is none.
    Raises NoSuchKey for If-Match on a missing key, else PreconditionFailed."""
    if conditions.if_match is not None:
        if etag is None:
            raise S3Error("NoSuchKey")
        if not matches(conditions.if_match, etag, weak=False):
            raise S3Error("PreconditionFailed", extra={"Condition": "If-Match"})
    if (
        conditions.if_none_match is not None
        and etag is not None
        and matches(conditions.if_none_match, etag, weak=True)
    ):
        raise S3Error("PreconditionFailed", extra={"Condition": "If-None-Match"})


def matches(wire: str, etag: str, *, weak: bool) -> bool:
    """Whether the list of tags `wire` names `etag`. `*` names anything; tags without quotes are taken as S3
    takes them. With `weak=False` (strong comparison) a tag marked `W/` names nothing."""
    if wire == etag:
        return weak or not etag.startswith("W/")
    if wire.strip() == "*":
        return True
    bare = etag.removeprefix("W/").strip('"')
    if not weak and etag.startswith("W/"):
        return False
    return any(
        (found[2] if found[3] is None else found[3]) == bare and (weak or not found[1])
        for found in _TAG.finditer(wire)
    )


@lru_cache(1024)  # the same Last-Modified comes back thousands of times in a training job
def parse_http_date(value: str) -> int | None:
    """Seconds since the epoch from any of the three forms of RFC 9110 §5.6.7, None when it is none of
    them."""
    value = value.strip()
    if found := _IMF.fullmatch(value):
        day, month, year, *clock = found.groups()
    elif found := _ASCTIME.fullmatch(value):
        month, day, *clock, year = found.groups()
    elif found := _RFC850.fullmatch(value):
        day, month, short, *clock = found.groups()
        year = ("19" if int(short) >= 70 else "20") + short
    else:
        return None
    hour, minute, second = map(int, clock)
    number = _MONTHS.get(month)
    if number is None or hour > 23 or minute > 59 or second > 60:
        return None
    if int(year) < 1 or not 1 <= int(day) <= calendar.monthrange(int(year), number)[1]:
        return None
    return calendar.timegm((int(year), number, int(day), hour, minute, second))
