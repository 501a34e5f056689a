"""The rules of everything that shows an object decide how it is kept, the strictest of them; and only what changes
which keys a quota bounds makes the store count anew."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import NoSuchBucket, NotFound
from gateway.model import Remote
from gateway.namespace.keeping import NO_RULES, PIN, UNSURE, Keeping
from gateway.namespace.mounts import Mount, Mounts, cache_key_of
from gateway.namespace.rules import IMMUTABLE, Rule, Rules

MOUNTS = [
    Mount.parse("data", "o", "lake"),
    Mount.parse("data/hot", "o", "fast/x"),
    Mount.parse("view", "o", "lake/set"),
    Mount.parse("*", "p", ""),
]


def keeping(*rules: Rule, mounts: list[Mount] | None = None) -> Keeping:
    return Keeping(Mounts(MOUNTS if mounts is None else mounts), Rules(rules))


def key(path: str, origin: str = "o") -> bytes:
    bucket, _, name = path.partition("/")
    return cache_key_of(origin, Remote(bucket, name))


paths = st.text("ab/", max_size=4)
mounts = st.lists(
    st.builds(
        Mount.parse,
        st.sampled_from(["one", "one/a", "one/a/b", "two", "two/b"]),
        st.sampled_from(["o", "p"]),
        st.sampled_from(["r", "r/a", "r/a/b", "s"]),
    ),
    max_size=5,
    unique_by=lambda mount: mount.path,
)


@given(mounts, st.booleans(), st.sampled_from(["o", "p"]), st.sampled_from(["r", "s", "one"]), paths)
def test_what_shows_an_object_is_what_resolves_to_it(
    found: list[Mount], every: bool, origin: str, bucket: str, name: str
) -> None:
    table = Mounts([*found, *([Mount.parse("*", "o", "")] if every else [])])
    remote = Remote(bucket, name)
    shown = table.showing(origin, remote)
    for virtual in shown:
        target = table.resolve(*virtual)
        assert (target.origin, target.remote) == (origin, remote)
    candidates = {(m.bucket, m.to_virtual(name)) for m in found if name.startswith(m.remote_prefix)}
    for virtual in candidates | {(bucket, name)}:
        try:
            target = table.resolve(*virtual)
        except (NotFound, NoSuchBucket):
            continue
        if virtual[1] and (target.origin, target.remote) == (origin, remote):
            assert virtual in shown


def test_pinned_if_any_name_is_and_gone_at_the_shortest_time() -> None:
    found = keeping(Rule("data/set/**", ttl_s=60.0), Rule("view/**", pin=True, ttl_s=20.0), Rule("data/**"))
    assert found.of(key("lake/set/k")) == ((PIN,), 20.0)  # data/set/k and view/k
    assert found.of(key("lake/k")) == ((), IMMUTABLE)
    assert found.of(key("elsewhere/k")) == ((), IMMUTABLE)


def test_a_deeper_mount_takes_keys_away_from_the_rules_of_the_one_above() -> None:
    found = keeping(Rule("data/hot/**", pin=True))
    assert found.of(key("lake/hot/k")).tags == ()  # shown nowhere: data/hot is another mount
    assert found.of(key("fast/x/k")).tags == (PIN,)


def test_a_mount_of_every_bucket_shows_those_without_one_of_their_own() -> None:
    found = keeping(Rule("**", pin=True))
    assert found.of(key("any/k", "p")).tags == (PIN,)
    assert found.of(key("data/k", "p")).tags == ()


def test_an_object_counts_against_every_quota_that_shows_it() -> None:
    found = keeping(Rule("view/**", quota=5), Rule("data/**", quota=7, pin=True))
    both, one = found.of(key("lake/set/k")).tags, found.of(key("lake/k")).tags
    assert sorted(found.quotas[tag].rule for tag in both if tag != PIN) == ["data/**", "view/**"]
    assert [found.quotas[tag].bytes for tag in one if tag != PIN] == [7]
    assert PIN in both
    assert PIN in one
    assert not {PIN, UNSURE, 0} & set(found.quotas)


def test_without_rules_nothing_is_said() -> None:
    assert NO_RULES.of(key("lake/k")) == ((), IMMUTABLE)
    plain = keeping(Rule("data/**", 5.0, read_ahead=0))
    assert (plain.fingerprint, plain.has_pins, plain.has_ttl) == (0, False, False)
    assert keeping(Rule("data/**", ttl_s=5.0)).fingerprint == 0  # times are in the entries, not in tags


BASE: list[dict[str, Any]] = [{"match": "data/a/**"}, {"match": "data/**", "quota": 5, "pin": True}]


@pytest.mark.parametrize(
    "change",
    [
        lambda rules, mounts: rules[0].update(fresh_s=1.0, ttl_s=3.0, read_ahead=0),
        lambda rules, mounts: rules[1].update(quota=50),
        lambda rules, mounts: rules.append({"match": "**"}),
    ],
)
def test_what_changes_no_tag_of_any_key_is_not_counted_anew(change: Any) -> None:
    rules, mounts = [dict(rule) for rule in BASE], list(MOUNTS)
    before = keeping(*(Rule(**rule) for rule in rules), mounts=mounts)
    change(rules, mounts)
    after = keeping(*(Rule(**rule) for rule in rules), mounts=mounts)
    assert set(after.quotas) == set(before.quotas)
    assert after.fingerprint == before.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        lambda rules, mounts: rules[0].update(match="data/b/**"),
        lambda rules, mounts: rules.pop(0),
        lambda rules, mounts: rules[1].update(match="data/*"),
        lambda rules, mounts: mounts.pop(1),
        lambda rules, mounts: mounts.__setitem__(0, Mount.parse("data", "o", "lake", place="moved")),
    ],
)
def test_what_may_change_which_keys_a_quota_bounds_makes_another_of_it(change: Any) -> None:
    rules, mounts = [dict(rule) for rule in BASE], list(MOUNTS)
    before = keeping(*(Rule(**rule) for rule in rules), mounts=mounts)
    change(rules, mounts)
    after = keeping(*(Rule(**rule) for rule in rules), mounts=mounts)
    assert not set(after.quotas) & set(before.quotas)
    assert after.fingerprint != before.fingerprint
