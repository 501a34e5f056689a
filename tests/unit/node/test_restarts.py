"""A worker that served is always replaced; one that cannot start ends the node instead of looping."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.node.restarts import DELAY_S_MAX, STARTS_FAILED_MAX, WINDOW_S, RestartPolicy


def test_one_that_served_long_is_replaced_at_once() -> None:
    policy = RestartPolicy()
    assert [policy.died(now, served_s=60.0) for now in (100.0, 160.0, 220.0)] == [0, 0, 0]


def test_quick_deaths_are_spaced_out_and_forgotten_after_a_long_life() -> None:
    policy = RestartPolicy()
    delays = [policy.died(float(now), served_s=0.5) for now in range(8)]
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, DELAY_S_MAX, DELAY_S_MAX]
    policy.died(100.0, served_s=60.0)
    assert policy.died(101.0, served_s=0.5) == 0.1


def test_the_fifth_start_that_fails_within_a_minute_is_the_last() -> None:
    policy = RestartPolicy()
    delays = [policy.died(float(now), served_s=None) for now in range(STARTS_FAILED_MAX)]
    assert None not in delays[:-1]
    assert delays[-1] is None


@given(st.lists(st.floats(WINDOW_S / (STARTS_FAILED_MAX - 1) + 0.1, 1000), max_size=50))
def test_starts_that_fail_now_and_then_are_tried_for_ever(gaps: list[float]) -> None:
    policy, now = RestartPolicy(), 0.0
    for gap in gaps:
        now += gap
        assert policy.died(now, served_s=None) is not None


@given(st.lists(st.floats(0, 100), max_size=100))
def test_one_that_becomes_ready_is_never_given_up(lives: list[float]) -> None:
    policy, now = RestartPolicy(), 0.0
    for served_s in lives:
        now += served_s
        delay = policy.died(now, served_s=served_s)
        assert delay is not None
        assert 0 <= delay <= DELAY_S_MAX
