"""What the headers of a GetObject or HeadObject mean to the hot path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

_CONDITIONS: Final = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since"})
# Headers that change nothing about what a hit's answer is, or that the hot path heeds. Any other name sends the
# request to the handlers.
_PLAIN: Final = _CONDITIONS | frozenset(
    "accept accept-encoding accept-language amz-sdk-invocation-id amz-sdk-request authorization cache-control"
    " connection content-length content-type date host pragma priority range te user-agent x-amz-api-version"
    " x-amz-checksum-mode x-amz-content-sha256 x-amz-date x-amz-user-agent x-amzn-trace-id x-forwarded-for"
    " x-forwarded-host x-forwarded-proto x-real-ip".split()
)
_CHOOSING: Final = _CONDITIONS | {"range"}


class Traits(NamedTuple):
    """plain        the hot path may answer
    whole        neither range nor condition
    conditional  a condition
    sums         the object's checksums are asked for
    """

    plain: bool
    whole: bool
    conditional: bool
    sums: bool

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Traits:
        return cls(
            _PLAIN.issuperset(headers),
            _CHOOSING.isdisjoint(headers),
            not _CONDITIONS.isdisjoint(headers),
            "x-amz-checksum-mode" in headers and headers["x-amz-checksum-mode"].lower() == "enabled",
        )
