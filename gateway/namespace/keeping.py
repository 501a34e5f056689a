"""What the rules say of what is in the cache: which blocks are pinned, count against a quota, or leave after a time.
Pure.

The cache knows objects by where they live, the rules by the names under which they are shown; one object may be shown
under several. So a cache key is translated back into all its names, and the strictest of their rules decides: pinned
if any rule pins, gone at the shortest `ttl`, and counted against every quota that any of its names falls under.

In the cache's index blocks carry *tags*: `PIN`, and one for each rule with a quota. A quota's tag stands for the set of
keys that it bounds, which depends on the mounts, on the rule and on those before it; when any of these changes, the
tag does, and with it the fingerprint, by which the store notices that what is cached has to be counted anew. A quota's
size is not part of it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final, NamedTuple

from gateway.namespace.mounts import Mounts, split_cache_key
from gateway.namespace.rules import IMMUTABLE, Rules

PIN: Final = 1
# Of blocks that were committed by a worker with other rules than the index was last told of (in the midst of a
# reload): to be looked at again.
UNSURE: Final = 2
# Stripes of one object ask one behind the other, and an eviction goes through a segment's objects: some 1 MB.
_REMEMBERED_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Quota:
    """`rule`: the glob that it was written for."""

    tag: int
    rule: str
    bytes: int


class Kept(NamedTuple):
    tags: tuple[int, ...]
    ttl_s: float


NOTHING_SAID: Final = Kept((), IMMUTABLE)


class Keeping:
    """An immutable snapshot, like the mounts and rules it is made of. Threads may use it."""

    def __init__(self, mounts: Mounts, rules: Rules) -> None:
        self._mounts = mounts
        self._rules = rules
        self.quotas: dict[int, Quota] = {}
        self._tags: dict[int, int] = {}  # id of a rule → its quota's tag
        self.fingerprint = 0
        said: list[object] = [[m.path, m.data, m.remote_path] for m in mounts.all()]
        for rule in rules.rules:
            said.append([rule.match, rule.pin, rule.quota is not None])
            if rule.quota is not None:
                tag = _hash(said)
                self.quotas[tag] = Quota(tag, rule.match, rule.quota)
                self._tags[id(rule)] = tag
            if rule.pin or rule.quota is not None:
                self.fingerprint = _hash(said)
        self.has_pins = any(rule.pin for rule in rules.rules)
        self.has_ttl = any(rule.ttl_s < IMMUTABLE for rule in rules.rules)
        self._silent = not (self.fingerprint or self.has_ttl)
        self._remembered: dict[bytes, Kept] = {}

    def of(self, key: bytes) -> Kept:
        """What holds for a cache key. Some 5 µs, less when it was asked for lately."""
        if self._silent:
            return NOTHING_SAID
        kept = self._remembered.get(key)
        if kept is None:
            if len(self._remembered) >= _REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[key] = kept = self._find(key)
        return kept

    def _find(self, key: bytes) -> Kept:
        names = self._mounts.showing(*split_cache_key(key))
        found = [self._rules.match(*name) for name in names]
        tags = {self._tags[id(rule)] for rule in found if rule.quota is not None}
        if any(rule.pin for rule in found):
            tags.add(PIN)
        return Kept(tuple(sorted(tags)), min((rule.ttl_s for rule in found), default=IMMUTABLE))


def _hash(said: list[object]) -> int:
    """Never a tag of the above, nor 0."""
    return int.from_bytes(hashlib.blake2b(json.dumps(said).encode(), digest_size=8).digest(), "big") | 1 << 63


NO_RULES: Final = Keeping(Mounts(()), Rules(()))

__all__ = ["NO_RULES", "PIN", "UNSURE", "Keeping", "Kept", "Quota"]
