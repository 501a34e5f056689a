"""Deny wins, nothing is allowed that no rule allows, and the memo never answers for another question."""

from __future__ import annotations

import re
import timeit
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access import policy
from gateway.access.policy import Access
from gateway.config.schema import IdentityConfig

READ = ["s3:GetObject", "s3:ListBucket"]
Rule = tuple[Sequence[str], Sequence[str]]


def identity(name: str, allow: Sequence[Rule] = (), deny: Sequence[Rule] = ()) -> IdentityConfig:
    def rules(pairs: Sequence[Rule]) -> list[dict[str, Sequence[str]]]:
        return [{"actions": actions, "resources": resources} for actions, resources in pairs]

    keys = {"name": name, "access_key": f"AK{name}", "secret_key": f"secret of {name}"}
    return IdentityConfig.model_validate({**keys, "allow": rules(allow), "deny": rules(deny)})


def access(allow: Sequence[Rule] = (), deny: Sequence[Rule] = ()) -> Access:
    return Access.of([identity("a", allow, deny)])


def allowed(access: Access, action: str, bucket: str, key: str = "") -> bool:
    first = access.allowed("AKa", action, bucket, key)
    assert access.allowed("AKa", action, bucket, key) is first, "the memo changed the answer"
    return first


def test_an_unknown_access_key_has_no_secret_and_no_rights() -> None:
    policy = access([(["*"], ["*"])])
    assert policy.secret_of("AKb") is None
    assert policy.name_of("AKb") == "-"
    assert not policy.allowed("AKb", "s3:GetObject", "data", "k")


def test_each_identity_has_its_own_secret_name_and_rights() -> None:
    policy = Access.of([identity("a", [(READ, ["data/*"])]), identity("b", [(READ, ["lake/*"])])])
    assert policy.secret_of("AKb") == "secret of b"
    assert policy.name_of("AKb") == "b"
    for key, bucket, answer in (
        ("AKa", "data", True),
        ("AKb", "data", False),
        ("AKa", "lake", False),
        ("AKb", "lake", True),
    ):
        assert policy.allowed(key, "s3:GetObject", bucket, "k") is answer


def test_secrets_are_not_in_what_a_debugger_or_log_prints() -> None:
    policy = access([(["*"], ["*"])])
    assert "secret" not in repr(vars(policy))


def test_without_a_rule_nothing_is_allowed() -> None:
    assert not allowed(access(), "s3:GetObject", "data", "k")
    assert not allowed(access([(READ, ["data/*"])]), "s3:PutObject", "data", "k")


@pytest.mark.parametrize("pattern", ["s3:GetObject", "S3:getobject", "s3:Get*", "s3:*", "*", "s3:Ge?Object"])
def test_actions_are_globs_whatever_their_case(pattern: str) -> None:
    assert allowed(access([([pattern], ["*"])]), "s3:GetObject", "data", "k")


@pytest.mark.parametrize("pattern", ["s3:GetObjectAcl", "s3:Get", "GetObject", "s3:Get?", ""])
def test_other_actions_do_not_match(pattern: str) -> None:
    assert not allowed(access([([pattern], ["*"])]), "s3:GetObject", "data", "k")


@pytest.mark.parametrize(
    ("resource", "bucket", "key", "answer"),
    [
        ("data/*", "data", "", True),  # the bucket itself: ListBucket, HeadBucket
        ("data/", "data", "", True),
        ("data", "data", "", True),
        ("data", "data", "k", False),
        ("data/*", "data2", "", False),
        ("data*", "data2", "k", True),
        ("dat?/*", "data", "a/b", True),
        ("data/team/*", "data", "", False),
        ("data/team/*", "data", "team/", True),
        ("data/team/*", "data", "te", False),
        ("data/team/*", "data", "team", False),
        ("data/*.tar", "data", "a/b.tar", True),
        ("data/*.tar", "data", "a/b.tar2", False),
        ("data/k", "data", "k", True),
        ("data/K", "data", "k", False),
        ("data/../vault/*", "vault", "k", False),
        ("*", "", "", True),
        ("**", "", "", True),
        ("data/*", "", "", False),
        ("?*", "", "", False),
    ],
)
def test_what_a_resource_covers(resource: str, bucket: str, key: str, answer: bool) -> None:
    assert allowed(access([(["s3:*"], [resource])]), "s3:ListBucket", bucket, key) is answer


def test_deny_wins_for_the_keys_it_names_and_no_others() -> None:
    policy = access([(["s3:*"], ["data/*"])], deny=[(["s3:*"], ["data/secret/*"])])
    assert allowed(policy, "s3:GetObject", "data", "open/k")
    assert not allowed(policy, "s3:GetObject", "data", "secret/k")
    assert allowed(policy, "s3:ListBucket", "data")


def test_deny_of_a_whole_bucket_or_of_the_service() -> None:
    policy = access([(["*"], ["*"])], deny=[(["s3:Delete*"], ["data/*"]), (["s3:ListAllMyBuckets"], ["*"])])
    assert not allowed(policy, "s3:DeleteObject", "data", "k")
    assert not allowed(policy, "s3:DeleteBucket", "data")
    assert allowed(policy, "s3:DeleteObject", "other", "k")
    assert not allowed(policy, "s3:ListAllMyBuckets", "")


# A small alphabet, so that patterns meet the names.
names = st.sampled_from(["a", "ab", "b", "a/b"])
keys = st.text("ab/", max_size=4)
patterns = st.text("ab/*?", min_size=1, max_size=6)
actions = st.lists(
    st.sampled_from(["s3:*", "*", "s3:GetObject", "s3:g*", "s3:PutObject"]), min_size=1, max_size=2
)
rules = st.lists(st.tuples(actions, st.lists(patterns, min_size=1, max_size=2)), max_size=3)


def naive_glob(pattern: str, text: str, flags: int = 0) -> bool:
    expression = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)
    return re.fullmatch(expression, text, re.DOTALL | flags) is not None


def naive(allow: Sequence[Rule], deny: Sequence[Rule], action: str, bucket: str, key: str) -> bool:
    def hit(rules: Sequence[Rule]) -> bool:
        texts = [f"{bucket}/{key}"] + ([bucket] if not key else [])
        return any(
            any(naive_glob(pattern, action, re.IGNORECASE) for pattern in actions)
            and any(naive_glob(pattern, text) for pattern in resources for text in texts)
            for actions, resources in rules
        )

    return hit(allow) and not hit(deny)


@given(
    rules,
    rules,
    st.sampled_from(["s3:GetObject", "s3:PutObject"]),
    st.lists(st.tuples(names, keys), max_size=6),
)
def test_decisions_are_those_of_trying_every_rule(
    allow: list[Rule], deny: list[Rule], action: str, asked: list[tuple[str, str]]
) -> None:
    policy = access(allow, deny)
    for bucket, key in asked:
        bucket = bucket.replace("/", "-")
        assert allowed(policy, action, bucket, key) is naive(allow, deny, action, bucket, key)


def test_what_clients_make_up_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "REMEMBERED_MAX", 50)
    access_ = access([(READ, ["data/*"])])
    for number in range(500):
        assert not access_.allowed("AKa", "s3:GetObject", f"bucket-{number}", "k")
        assert not access_.allowed(f"AK{number}", "s3:GetObject", "data", "k")
        assert len(access_._remembered) <= 50
    assert access_.allowed("AKa", "s3:GetObject", "data", "k")


def test_the_usual_decision_costs_less_than_a_microsecond() -> None:
    policy = Access.of([identity(str(number), [(["s3:*"], [f"data-{number}/*"])]) for number in range(64)])
    best = min(
        timeit.repeat(lambda: policy.allowed("AK7", "s3:GetObject", "data-7", "k"), number=10_000, repeat=5)
    )
    assert best / 10_000 < 1e-6
