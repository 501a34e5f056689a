"""The first rule whose glob matches applies; what is remembered of a bucket never differs from trying them all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.namespace.globs import compile_path_glob
from gateway.namespace.rules import DEFAULT_RULE, Rule, Rules


def test_the_first_match_wins_and_the_default_is_last() -> None:
    rules = Rules([Rule("data/hot/**", 1.0), Rule("data/**", 2.0), Rule("**/x", 3.0)])
    assert rules.match("data", "hot/k").fresh_s == 1.0
    assert rules.match("data", "k").fresh_s == 2.0
    assert rules.match("other", "a/x").fresh_s == 3.0
    assert rules.match("other", "k") is DEFAULT_RULE
    assert rules.match("database", "k") is DEFAULT_RULE


def compiles(pattern: str) -> bool:
    try:
        compile_path_glob(pattern)
    except ValueError:
        return False
    return True


patterns = st.text("ab/*?", min_size=1, max_size=6).filter(compiles) | st.sampled_from(
    ["**", "a/**", "ab/**", "*/**"]
)


@given(st.lists(patterns, max_size=4), st.lists(st.tuples(st.sampled_from(["a", "ab", "b"]), st.text("ab/"))))
def test_a_remembered_bucket_answers_as_every_rule_in_turn(
    patterns: list[str], asked: list[tuple[str, str]]
) -> None:
    listed = [Rule(pattern, float(number)) for number, pattern in enumerate(patterns)]
    rules = Rules(listed)
    for bucket, key in asked:
        text = f"{bucket}/{key}"
        found = (rule for rule in listed if compile_path_glob(rule.match).match(text))
        assert rules.match(bucket, key) is next(found, DEFAULT_RULE)


def test_bucket_names_that_clients_make_up_are_remembered_within_a_bound() -> None:
    rules = Rules([Rule("data/**", 2.0)])
    for number in range(Rules.REMEMBERED_MAX + 10):
        rules.match(f"b{number}", "k")
    assert len(rules._whole) <= Rules.REMEMBERED_MAX
    assert rules.match("data", "k").fresh_s == 2.0
