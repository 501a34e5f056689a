"""May this identity do this action on this bucket and key? Deny rules win; nothing is allowed that no rule allows.

Resources are globs over `bucket/key` in the dialect of IAM (`*` and `?` cross `/`). What a call names:

    call on                        a resource matches it by
    ------------------------------ ---------------------------------------------------------------
    an object                      `bucket/key`
    a bucket (no key)              `bucket` or `bucket/`, so `data/*` covers ListBucket on `data`
    a listing below a prefix       `bucket/prefix`, so `data/team/*` may list `team/` but not `te`
    the service (no bucket)        only `*`

Actions are globs over IAM action names, whatever their case. An `Access` never changes: a reload makes another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.config.schema import IdentityConfig, Statement
from gateway.namespace.globs import compile_iam_glob

# Bucket names come from clients, so what is remembered of them is bounded: 64 identities × 16 actions × 8 buckets,
# about a megabyte.
REMEMBERED_MAX: Final = 8192


@dataclass(frozen=True, slots=True)
class _Resource:
    """One resource pattern. `start`: its literal text before the first wildcard; `open`: it ends with `*`."""

    matcher: re.Pattern[str]
    start: str
    open: bool
    everything: bool

    @classmethod
    def of(cls, pattern: str) -> _Resource:
        start = re.split(r"[*?]", pattern, maxsplit=1)[0]
        return cls(compile_iam_glob(pattern), start, pattern.endswith("*"), not pattern.strip("*"))

    def covers(self, inside: str) -> bool:
        """Whether it matches every text that begins with `inside` (`bucket/`). What comes before its last `*` has
        matched within `inside` then, and that `*` takes whatever follows."""
        return self.open and self.matcher.match(inside) is not None

    def may_match(self, inside: str) -> bool:
        """False only when it can match neither the bucket nor anything that begins with `inside`."""
        return inside.startswith(self.start) or self.start.startswith(inside)

    def matches(self, bucket: str, key: str) -> bool:
        if self.matcher.match(f"{bucket}/{key}") is not None:
            return True
        return not key and self.matcher.match(bucket) is not None


@dataclass(frozen=True, slots=True)
class _Rule:
    actions: tuple[re.Pattern[str], ...]
    resources: tuple[_Resource, ...]

    @classmethod
    def of(cls, statement: Statement) -> _Rule:
        actions = tuple(compile_iam_glob(action, ignore_case=True) for action in statement.actions)
        return cls(actions, tuple(_Resource.of(resource) for resource in statement.resources))


@dataclass(frozen=True, slots=True)
class _ByKey:
    """What remains to be asked of each key once identity, action and bucket are known."""

    allow: tuple[_Resource, ...]
    deny: tuple[_Resource, ...]

    def allowed(self, bucket: str, key: str) -> bool:
        return any(resource.matches(bucket, key) for resource in self.allow) and not any(
            resource.matches(bucket, key) for resource in self.deny
        )


@dataclass(frozen=True, slots=True)
class _Identity:
    name: str
    secret_key: str
    allow: tuple[_Rule, ...]
    deny: tuple[_Rule, ...]

    @classmethod
    def of(cls, config: IdentityConfig) -> _Identity:
        secret = config.secret_key.get_secret_value()
        return cls(config.name, secret, tuple(map(_Rule.of, config.allow)), tuple(map(_Rule.of, config.deny)))

    def __repr__(self) -> str:
        return f"<identity {self.name}>"  # never the secret

    def decide(self, action: str, bucket: str) -> bool | _ByKey:
        allow, deny = _resources(self.allow, action), _resources(self.deny, action)
        if not bucket:
            return _any_everything(allow) and not _any_everything(deny)
        inside = f"{bucket}/"
        if any(resource.covers(inside) for resource in deny):
            return False
        allow = tuple(resource for resource in allow if resource.may_match(inside))
        deny = tuple(resource for resource in deny if resource.may_match(inside))
        if not allow:
            return False
        if not deny and any(resource.covers(inside) for resource in allow):
            return True
        return _ByKey(allow, deny)


def _resources(rules: Sequence[_Rule], action: str) -> tuple[_Resource, ...]:
    return tuple(
        resource
        for rule in rules
        if any(pattern.match(action) is not None for pattern in rule.actions)
        for resource in rule.resources
    )


def _any_everything(resources: Iterable[_Resource]) -> bool:
    return any(resource.everything for resource in resources)


class Access:
    """One immutable snapshot of all identities. A decision that depends on no key costs a dictionary lookup."""

    def __init__(self, identities: dict[str, _Identity]) -> None:
        self._identities = identities
        self._remembered: dict[tuple[str, str, str], bool | _ByKey] = {}

    @classmethod
    def of(cls, identities: Iterable[IdentityConfig]) -> Access:
        """From identities whose secrets are resolved (`config.load`). One access key has one identity."""
        return cls({identity.access_key: _Identity.of(identity) for identity in identities})

    def secret_of(self, access_key: str) -> str | None:
        identity = self._identities.get(access_key)
        return None if identity is None else identity.secret_key

    def name_of(self, access_key: str) -> str:
        """The identity's name for logs; `-` for a key that nobody has."""
        identity = self._identities.get(access_key)
        return "-" if identity is None else identity.name

    def allowed(self, access_key: str, action: str, bucket: str, key: str = "") -> bool:
        """`action` as IAM names it (`s3:GetObject`); `bucket` "" is the service, `key` "" the bucket itself, a
        listing passes its prefix as `key`. An unknown access key may do nothing."""
        decision = self._remembered.get((access_key, action, bucket))
        if decision is None:
            decision = self._decide(access_key, action, bucket)
        if decision is True or decision is False:
            return decision
        return decision.allowed(bucket, key)

    def _decide(self, access_key: str, action: str, bucket: str) -> bool | _ByKey:
        identity = self._identities.get(access_key)
        if identity is None:
            return False
        if len(self._remembered) >= REMEMBERED_MAX:
            self._remembered.clear()
        decision = self._remembered[access_key, action, bucket] = identity.decide(action, bucket)
        return decision
