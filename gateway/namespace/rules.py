"""Rules: how entries of the namespace are kept. The first rule whose glob matches `bucket/key` applies; the default
rule after all of them: fresh for 60 s, cached, written through. Immutable snapshots, like mounts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.namespace.globs import compile_path_glob

STRICT = 0.0
IMMUTABLE = float("inf")


@dataclass(frozen=True, slots=True)
class Rule:
    """`fresh_s`: for how long an entry is served without asking the origin; `STRICT` asks each time, `IMMUTABLE`
    never again.

    ttl_s        so long after it was fetched an object leaves the cache; infinite: only to make room
    pin          its blocks are not evicted (`cache/tags.py` has the bound)
    quota        bytes of cache that all objects under the rule may take together; None: no bound of their own
    read_ahead   bytes fetched ahead of a sequential reader at most, rounded up to blocks; 0: none; None: a stripe
    """

    match: str = "**"
    fresh_s: float = 60.0
    cache: bool = True
    ttl_s: float = IMMUTABLE
    pin: bool = False
    quota: int | None = None
    read_ahead: int | None = None


DEFAULT_RULE = Rule()


class Rules:
    """Per bucket, the rules that could match there are found once, so a bucket that one rule covers whole costs a
    dictionary lookup. At most 4,096 buckets are remembered: their names come from clients."""

    REMEMBERED_MAX = 4096

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._compiled = [(compile_path_glob(rule.match).match, rule) for rule in self.rules]
        self._whole: dict[str, Rule | None] = {}

    def match(self, bucket: str, key: str) -> Rule:
        try:
            whole = self._whole[bucket]
        except KeyError:
            whole = self._remember(bucket)
        if whole is not None:
            return whole
        text = f"{bucket}/{key}"
        for matches, rule in self._compiled:
            if matches(text) is not None:
                return rule
        return DEFAULT_RULE

    def _remember(self, bucket: str) -> Rule | None:
        if len(self._whole) >= self.REMEMBERED_MAX:
            self._whole.clear()
        self._whole[bucket] = whole = self._rule_of_whole(bucket)
        return whole

    def _rule_of_whole(self, bucket: str) -> Rule | None:
        """The one rule that every key of `bucket` falls under, or None when it depends on the key."""
        for rule in self.rules:
            pattern = rule.match
            if pattern in ("**", f"{bucket}/**"):
                return rule
            named, slash, _ = pattern.partition("/")
            if not slash or named == bucket or any(wild in named for wild in "*?"):
                return None
        return DEFAULT_RULE
