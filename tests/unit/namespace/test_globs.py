"""Globs mean what they say, and no key that a client makes up costs time without bound."""

from __future__ import annotations

import time
from functools import lru_cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.namespace.globs import compile_iam_glob, compile_path_glob


def iam(pattern: str, text: str) -> bool:
    """By the definition, one character at a time."""

    @lru_cache(None)
    def match(p: int, t: int) -> bool:
        if p == len(pattern):
            return t == len(text)
        if pattern[p] == "*":
            return match(p + 1, t) or (t < len(text) and match(p, t + 1))
        return t < len(text) and pattern[p] in ("?", text[t]) and match(p + 1, t + 1)

    return match(0, 0)


def path(pattern: str, text: str) -> bool:
    """By the definition; `/**/` stands for a single `/` as well."""

    @lru_cache(None)
    def match(p: int, t: int) -> bool:
        if p == len(pattern):
            return t == len(text)
        if pattern.startswith("**", p):
            end = p
            while end < len(pattern) and pattern[end] == "*":
                end += 1
            if pattern[end : end + 1] == "/" and p > 0 and pattern[p - 1] == "/" and match(end + 1, t):
                return True
            return match(end, t) or (t < len(text) and match(p, t + 1))
        if t < len(text) and pattern[p] == "*":
            return match(p + 1, t) or (text[t] != "/" and match(p, t + 1))
        if pattern[p] == "*":
            return match(p + 1, t)
        if t == len(text):
            return False
        return (pattern[p] == text[t] or (pattern[p] == "?" and text[t] != "/")) and match(p + 1, t + 1)

    return match(0, 0)


@given(st.text("ab/*?", max_size=8), st.text("ab/\n", max_size=8))
def test_iam_globs_match_by_definition(pattern: str, text: str) -> None:
    assert (compile_iam_glob(pattern).match(text) is not None) is iam(pattern, text)


@given(st.text("ab/*?", max_size=8), st.text("ab/", max_size=8))
@example("a/**/b", "a/b")
@example("a/**/b", "a/x/y/b")
@example("**/a", "b/a")
@example("a/**", "a/")
@example("a/**b**/a", "a/b/a")
def test_path_globs_match_by_definition(pattern: str, text: str) -> None:
    try:
        compiled = compile_path_glob(pattern)
    except ValueError:
        return
    assert (compiled.match(text) is not None) is path(pattern, text)


@pytest.mark.parametrize("pattern", ["data", "", "*", "/data/**"])
def test_a_pattern_that_matches_no_key_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="bucket/key"):
        compile_path_glob(pattern)


def test_regular_expression_characters_are_literal() -> None:
    assert compile_path_glob("b/a.(c)+[d]$").match("b/a.(c)+[d]$")
    assert not compile_path_glob("b/a.c").match("b/abc")
    assert compile_iam_glob("b/a|c").match("b/a|c")
    assert not compile_iam_glob("b/a|c").match("c")


@pytest.mark.parametrize(
    "pattern", ["*a" * 30 + "b", "a*" * 40 + "b", "*" * 60 + "b", "?*" * 25 + "b", "*a?" * 30 + "b"]
)
@pytest.mark.parametrize("text", ["a" * 1000, "a/" * 500, "ab" * 500 + "a"])
def test_hostile_keys_are_decided_within_50_ms(pattern: str, text: str) -> None:
    iam_glob = compile_iam_glob(f"d{pattern}")
    path_globs = [compile_path_glob(f"d/{pattern}"), compile_path_glob(f"d/{pattern.replace('*', '**')}")]
    began = time.process_time()
    iam_glob.match(f"d/{text}")
    for compiled in path_globs:
        compiled.match(f"d/{text}")
    assert time.process_time() - began < 0.05
