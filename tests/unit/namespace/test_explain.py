"""What is explained is what happens: mount, rule and rights as requests find them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from gateway.app import view_of
from gateway.config.schema import (
    Config,
    IdentityConfig,
    MountConfig,
    OriginConfig,
    RuleConfig,
    Statement,
)
from gateway.errors import NoSuchBucket, NotFound
from gateway.namespace.explain import IDENTITIES_MAX, explain

SECRET = "never/shown"
HIDDEN = SecretStr(SECRET)


def mount(path: str, origin: str, remote: str, **more: Any) -> MountConfig:
    return MountConfig(path=path, origin=origin, remote=remote, **more)


def who(name: str, *statements: tuple[str, str], deny: str = "") -> IdentityConfig:
    allow = tuple(Statement(actions=(action,), resources=(resource,)) for action, resource in statements)
    denied = (Statement(actions=("*",), resources=(deny,)),) if deny else ()
    return IdentityConfig(name=name, access_key=name, secret_key=HIDDEN, allow=allow, deny=denied)


CONFIG = Config(
    origins=(
        OriginConfig(name="aws", type="s3", access_key="A", secret_key=HIDDEN),
        OriginConfig(name="nas", type="file", root="/srv"),
    ),
    mounts=(
        mount("*", "nas", ""),
        mount("joint", "aws", "corp/base"),
        mount("joint/hot", "nas", "fast", read_only=True),
        mount("joint/hot/er", "nas", "faster/x", mirror=("aws:old/y", "aws:older")),
        mount("split/left", "aws", "left"),
        mount("split/right", "nas", "right/sub"),
    ),
    rules=(
        RuleConfig(match="joint/hot/*.bin", cache=False),
        RuleConfig(match="joint/hot/**", consistency="immutable", ttl=3600.0, quota=2**30, pin=True),
        RuleConfig(match="joint/**", read_ahead=4 * 2**20),
        RuleConfig(match="joint/hot/er/**", consistency="strict"),
    ),
    identities=(
        who("all", ("*", "*")),
        who("reader", ("s3:GetObject", "joint/*"), deny="joint/hot/er/*"),
        who("nobody"),
    ),
)


def won(answer: dict[str, Any]) -> list[str]:
    return [one["path"] for one in answer["mounts"] if one["wins"]]


def test_candidates_come_in_the_order_in_which_they_are_tried_and_say_why() -> None:
    answer = explain(CONFIG, "joint", "hot/k")
    assert [(one["path"], one["wins"], one["why"]) for one in answer["mounts"]] == [
        ("joint/hot/er", False, "the key does not begin with hot/er/"),
        ("joint/hot", True, "the longest prefix that the key begins with: hot/"),
        ("joint", False, "a longer prefix is tried before it"),
        ("*", False, "the bucket has mounts of its own"),
    ]
    assert answer["place"] == {"origin": "nas", "type": "file", "bucket": "fast", "key": "k"}
    assert answer["effective"]["read_only"] is True


def test_a_bucket_that_no_mount_names_is_the_one_of_every_buckets() -> None:
    answer = explain(CONFIG, "other", "a/k")
    assert [(one["path"], one["why"]) for one in answer["mounts"]] == [("*", "no mount names this bucket")]
    assert answer["place"] == {"origin": "nas", "type": "file", "bucket": "other", "key": "a/k"}


def test_what_no_mount_holds_has_no_place() -> None:
    answer = explain(CONFIG, "split", "middle/k")
    assert (answer["place"], won(answer), answer["mirrors"]) == (None, [], [])
    assert answer["mounts"][0]["why"].startswith("the key does not begin with")
    assert explain(Config(), "none", "k")["mounts"] == []


def test_a_bucket_itself() -> None:
    answer = explain(CONFIG, "split", "")
    assert won(answer) == ["split/left"]
    assert answer["place"]["key"] == ""
    assert {one["why"] for one in answer["mounts"]} >= {
        "stands for the bucket itself",
        "holds only what is under right/",
    }


def test_mirrors_are_read_in_their_order() -> None:
    answer = explain(CONFIG, "joint", "hot/er/a/k")
    assert answer["place"] == {"origin": "nas", "type": "file", "bucket": "faster", "key": "x/a/k"}
    assert answer["mirrors"] == [
        {"origin": "aws", "type": "s3", "bucket": "old", "key": "y/a/k"},
        {"origin": "aws", "type": "s3", "bucket": "older", "key": "a/k"},
    ]


def test_the_first_rule_that_matches_applies() -> None:
    answer = explain(CONFIG, "joint", "hot/er/k")
    assert [(rule["number"], rule["matches"], rule["applies"], rule["why"]) for rule in answer["rules"]] == [
        (1, False, False, "does not match"),
        (2, True, True, "the first that matches"),
        (3, True, False, "a rule before it matches"),
        (4, True, False, "a rule before it matches"),
        (0, True, False, "a rule before it matches"),
    ]
    effective = answer["effective"]
    assert (effective["consistency"], effective["pin"], effective["cache"]) == ("immutable", True, True)
    assert (effective["ttl"], effective["quota"]) == ("1h", "1GiB")
    assert effective["read_ahead"] == "16MiB"  # a stripe, where no rule says otherwise
    assert explain(CONFIG, "joint", "k")["effective"]["read_ahead"] == "4MiB"


def test_behind_all_rules_is_the_default() -> None:
    answer = explain(CONFIG, "other", "k")
    assert answer["rules"][-1]["applies"]
    assert answer["rules"][-1]["why"] == "no rule matches"
    assert answer["effective"]["consistency"] == "60s"


def test_who_may() -> None:
    answer = explain(CONFIG, "joint", "k")
    assert (answer["readers"], answer["writers"]) == (["all", "reader"], ["all"])
    assert explain(CONFIG, "joint", "hot/er/k")["readers"] == ["all"]


def test_too_many_identities_are_not_tried() -> None:
    many = tuple(who(f"i{number}") for number in range(IDENTITIES_MAX + 1))
    answer = explain(CONFIG.model_copy(update={"identities": many}), "joint", "k")
    assert (answer["readers"], answer["writers"]) == (None, None)


def test_no_secret_is_in_it() -> None:
    assert SECRET not in json.dumps(explain(CONFIG, "joint", "hot/er/k"))


buckets = st.sampled_from(["joint", "split", "other"])
keys = st.text("hoterleftright/k.bin", max_size=12) | st.sampled_from(["hot/k.bin", "hot/er/k", "left/x"])


@given(buckets, keys)
@pytest.mark.parametrize("every", [True, False])
def test_it_is_what_requests_find(every: bool, bucket: str, key: str) -> None:
    config = CONFIG if every else CONFIG.model_copy(update={"mounts": CONFIG.mounts[1:]})
    view, answer = view_of(config), explain(config, bucket, key)
    try:
        target = view.mounts.resolve(bucket, key)
    except (NoSuchBucket, NotFound):
        assert answer["place"] is None
        assert won(answer) == []
        return
    assert won(answer) == [target.mount.path]
    assert (answer["place"]["bucket"], answer["place"]["key"]) == target.remote
    rule = view.rules.match(bucket, key)
    applies = next(one for one in answer["rules"] if one["applies"])
    assert applies["match"] == rule.match
    assert answer["effective"]["cache"] == rule.cache
    allowed = [
        one for one in ("all", "reader", "nobody") if view.access.allowed(one, "s3:GetObject", bucket, key)
    ]
    assert answer["readers"] == allowed
