"""Why a bucket and key are served as they are: `gateway mounts explain`. Pure; from the config alone, so that a file
can be asked as well as a running node.

The answer's keys:

    bucket, key
    mounts     every mount that could be meant, in the order in which they are tried: {path, origin, remote, read_only,
               wins, why}
    place      {origin, type, bucket, key} where the object lives; null when no mount holds it
    mirrors    further places that are read in this order, alike
    rules      every rule in order: {number, match, matches, applies, why}; number 0 is the default behind them all
    effective  what applies to the object, values as the config writes them
    readers    names of the identities that may read it, null where there are too many to try; `writers` alike
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from gateway.access.policy import Access
from gateway.config.schema import Config, IdentityConfig, MountConfig, RuleConfig
from gateway.config.units import format_size
from gateway.errors import NoSuchBucket, NotFound
from gateway.model import Remote
from gateway.namespace.globs import compile_path_glob
from gateway.namespace.mirrors import MirrorPlace
from gateway.namespace.mounts import EVERY_BUCKET, Mount, Mounts, Target

# Some 20 µs each: asked on the supervisor's loop, they must not hold up its answers to health checks.
IDENTITIES_MAX: Final = 500
_DEFAULT: Final = RuleConfig(match="**")


def explain(config: Config, bucket: str, key: str) -> dict[str, Any]:
    """`key` "" asks about the bucket itself."""
    by_mount = {Mount.parse(one.path, one.origin, one.remote, one.read_only): one for one in config.mounts}
    mounts = Mounts(by_mount)
    tried = _candidates(mounts, bucket)
    target = _resolved(mounts, bucket, key)
    winner = None if target is None else target.mount
    return {
        "bucket": bucket,
        "key": key,
        "mounts": [
            _mount(by_mount[one], why, wins=one is winner)
            for one, why in zip(tried, _why(tried, winner, key), strict=True)
        ],
        "place": None if target is None else _at(config, target.origin, target.remote),
        "mirrors": [] if winner is None else _mirrors(config, winner, by_mount[winner], key),
        **_rules(config, bucket, key, read_only=winner is not None and winner.read_only),
        **_able(config.identities, bucket, key),
    }


# --- mounts


def _candidates(mounts: Mounts, bucket: str) -> list[Mount]:
    """Those of the bucket, the longest prefix first, then the one of every bucket."""
    own = [mount for mount in mounts.of_bucket(bucket) if mount is not mounts.every]
    return own + ([mounts.every] if mounts.every is not None else [])


def _resolved(mounts: Mounts, bucket: str, key: str) -> Target | None:
    try:
        return mounts.resolve(bucket, key)
    except (NoSuchBucket, NotFound):
        return None


def _why(tried: Sequence[Mount], winner: Mount | None, key: str) -> Iterator[str]:
    for mount in tried:
        if mount.bucket == EVERY_BUCKET:
            yield "no mount names this bucket" if mount is winner else "the bucket has mounts of its own"
        elif mount is winner:
            yield _why_it_wins(mount.prefix, key)
        elif not key.startswith(mount.prefix):
            prefix = mount.prefix
            yield f"the key does not begin with {prefix}" if key else f"holds only what is under {prefix}"
        else:
            yield "a longer prefix is tried before it"


def _why_it_wins(prefix: str, key: str) -> str:
    if not prefix:
        return "holds the whole bucket"
    return f"the longest prefix that the key begins with: {prefix}" if key else "stands for the bucket itself"


def _mount(mount: MountConfig, why: str, *, wins: bool) -> dict[str, Any]:
    shown = {name: getattr(mount, name) for name in ("path", "origin", "remote", "read_only")}
    return {**shown, "wins": wins, "why": why}


def _mirrors(config: Config, mount: Mount, written: MountConfig, key: str) -> list[dict[str, str]]:
    places = map(MirrorPlace.parse, written.mirror)
    rest = key.removeprefix(mount.prefix)
    return [
        _at(config, place.origin, Remote(place.bucket, place.prefix + rest if key else ""))
        for place in places
    ]


def _at(config: Config, origin: str, remote: Remote) -> dict[str, str]:
    kind = next((entry.type for entry in config.origins if entry.name == origin), "")
    return {"origin": origin, "type": kind, "bucket": remote.bucket, "key": remote.key}


# --- rules


def _rules(config: Config, bucket: str, key: str, *, read_only: bool) -> dict[str, Any]:
    matching = [rule for rule in config.rules if compile_path_glob(rule.match).match(f"{bucket}/{key}")]
    applying = matching[0] if matching else _DEFAULT
    tried = [
        _rule(number, rule, matches=any(rule is one for one in matching), applies=rule is applying)
        for number, rule in enumerate(config.rules, 1)
    ]
    default = _rule(0, _DEFAULT, matches=True, applies=applying is _DEFAULT)
    return {"rules": [*tried, default], "effective": {**_effective(config, applying), "read_only": read_only}}


def _rule(number: int, rule: RuleConfig, *, matches: bool, applies: bool) -> dict[str, Any]:
    if applies:
        why = "no rule matches" if number == 0 else "the first that matches"
    else:
        why = "a rule before it matches" if matches else "does not match"
    return {"number": number, "match": rule.match, "matches": matches, "applies": applies, "why": why}


def _effective(config: Config, rule: RuleConfig) -> dict[str, Any]:
    values = rule.model_dump()
    kept = {
        name: values[name] for name in ("consistency", "cache", "ttl", "pin", "quota", "read_ahead", "write")
    }
    if rule.read_ahead is None:
        kept["read_ahead"] = format_size(config.cache.stripe_blocks * config.cache.block_size)
    return kept


# --- identities


def _able(identities: Sequence[IdentityConfig], bucket: str, key: str) -> dict[str, list[str] | None]:
    if len(identities) > IDENTITIES_MAX:
        return {"readers": None, "writers": None}
    access = Access.of(identities)
    actions = {"readers": "s3:GetObject", "writers": "s3:PutObject"}
    return {
        who: [one.name for one in identities if access.allowed(one.access_key, action, bucket, key)]
        for who, action in actions.items()
    }


__all__ = ["explain"]
