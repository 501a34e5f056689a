"""Sizes and times survive being written and read again; what is neither is refused with a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.units import format_duration, format_size, parse_duration, parse_rate, parse_size


@given(st.integers(0, 2**62) | st.builds(lambda n, e: n << e, st.integers(0, 2000), st.integers(0, 50)))
def test_sizes_round_trip(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(
    st.integers(0, 10**9).map(float)
    | st.integers(0, 10**6).map(lambda ms: ms / 1000)
    | st.builds(lambda n, unit: float(n * unit), st.integers(0, 10**4), st.sampled_from([60, 3600, 86400]))
)
def test_durations_round_trip(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-9, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1MiB", 2**20),
        ("1.5 GiB", 3 * 2**29),
        ("0", 0),
        (" 7B ", 7),
        ("2TB", 2 * 10**12),
        (4096, 4096),
        ("1kB", 1000),
    ],
)
def test_sizes_as_people_write_them(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "1mib", "MiB", "-1", -1, True, 1.5, None, "1 MiB/s", "1e3", "0x10", "1" * 30, "٣MiB\n", [1]]
)
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30.0), ("2 min", 120.0), ("1h", 3600.0), (1.5, 1.5), ("7d", 604800.0)],
)
def test_durations_as_people_write_them(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "30", "s", "-1s", -1, True, "1 week", None, 1e12, float("nan"), float("inf")]
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_an_empty_rate_is_no_limit() -> None:
    assert parse_rate("") is None
    assert parse_rate(0) is None
    assert parse_rate("10MiB/s") == parse_rate("10 MiB") == 10 * 2**20
