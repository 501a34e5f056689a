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
from gateway.namespace.globs import compile_path_glob
from gateway.namespace.mirrors import MirrorPlace
from gateway.namespace.mounts import EVERY_BUCKET, Mount

# Some 20 µs each: asked on the supervisor's loop, they must not hold up its answers to health checks.
IDENTITIES_MAX: Final = 500
_DEFAULT: Final = RuleConfig(match="**")


def explain(config: Config, bucket: str, key: str) -> dict[str, Any]:
    """`key` "" asks about the bucket itself."""
    tried = _candidates(config, bucket)
    winner = _winner(tried, key)
    mount = tried[winner] if winner is not None else None
    return {
        "bucket": bucket,
        "key": key,
        "mounts": [
            _mount(one, why, wins=one is mount) for one, why in zip(tried, _why(tried, key), strict=True)
        ],
        "place": None if mount is None else _place(config, mount, bucket, key),
        "mirrors": [] if mount is None else [_mirror(config, mount, text, key) for text in mount.mirror],
        **_rules(config, bucket, key, mount),
        "readers": _able(config.identities, "s3:GetObject", bucket, key),
        "writers": _able(config.identities, "s3:PutObject", bucket, key),
    }


# --- mounts


def _candidates(config: Config, bucket: str) -> list[MountConfig]:
    """Those of the bucket, the longest prefix first, then the one of every bucket."""
    own = [mount for mount in config.mounts if _parsed(mount).bucket == bucket]
    own.sort(key=lambda mount: -len(_parsed(mount).prefix))
    return own + [mount for mount in config.mounts if mount.path == EVERY_BUCKET]


def _parsed(mount: MountConfig) -> Mount:
    return Mount.parse(mount.path, mount.origin, mount.remote, mount.read_only)


def _winner(tried: Sequence[MountConfig], key: str) -> int | None:
    """As `Mounts.resolve` decides, which this explains."""
    own = [mount for mount in tried if mount.path != EVERY_BUCKET]
    if not own:
        return 0 if tried else None
    for number, mount in enumerate(own):
        if key.startswith(_parsed(mount).prefix):
            return number
    return None if key else len(own) - 1


def _why(tried: Sequence[MountConfig], key: str) -> Iterator[str]:
    winner = _winner(tried, key)
    for number, mount in enumerate(tried):
        prefix = _parsed(mount).prefix
        if mount.path == EVERY_BUCKET:
            yield "no mount names this bucket" if number == winner else "the bucket has mounts of its own"
        elif number == winner:
            yield _why_it_wins(prefix, key)
        elif not key.startswith(prefix):
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


def _place(config: Config, mount: MountConfig, bucket: str, key: str) -> dict[str, str]:
    parsed = _parsed(mount)
    remote = parsed.to_remote(key) if key else ""
    return _at(config, mount.origin, parsed.remote_bucket_of(bucket), remote)


def _mirror(config: Config, mount: MountConfig, text: str, key: str) -> dict[str, str]:
    place = MirrorPlace.parse(text)
    remote = place.prefix + key[len(_parsed(mount).prefix) :] if key else ""
    return _at(config, place.origin, place.bucket, remote)


def _at(config: Config, origin: str, bucket: str, key: str) -> dict[str, str]:
    kind = next((entry.type for entry in config.origins if entry.name == origin), "")
    return {"origin": origin, "type": kind, "bucket": bucket, "key": key}


# --- rules


def _rules(config: Config, bucket: str, key: str, mount: MountConfig | None) -> dict[str, Any]:
    matching = [rule for rule in config.rules if compile_path_glob(rule.match).match(f"{bucket}/{key}")]
    applying = matching[0] if matching else _DEFAULT
    tried = [
        _rule(number, rule, matches=any(rule is one for one in matching), applies=rule is applying)
        for number, rule in enumerate(config.rules, 1)
    ]
    default = _rule(0, _DEFAULT, matches=True, applies=applying is _DEFAULT)
    return {"rules": [*tried, default], "effective": _effective(config, applying, mount)}


def _rule(number: int, rule: RuleConfig, *, matches: bool, applies: bool) -> dict[str, Any]:
    if applies:
        why = "no rule matches" if number == 0 else "the first that matches"
    else:
        why = "a rule before it matches" if matches else "does not match"
    return {"number": number, "match": rule.match, "matches": matches, "applies": applies, "why": why}


def _effective(config: Config, rule: RuleConfig, mount: MountConfig | None) -> dict[str, Any]:
    values = rule.model_dump()
    kept = {
        name: values[name] for name in ("consistency", "cache", "ttl", "pin", "quota", "read_ahead", "write")
    }
    if rule.read_ahead is None:
        kept["read_ahead"] = format_size(config.cache.stripe_blocks * config.cache.block_size)
    return {**kept, "read_only": mount is not None and mount.read_only}


# --- identities


def _able(identities: Sequence[IdentityConfig], action: str, bucket: str, key: str) -> list[str] | None:
    if len(identities) > IDENTITIES_MAX:
        return None
    access = Access.of(identities)
    return [one.name for one in identities if access.allowed(one.access_key, action, bucket, key)]


__all__ = ["explain"]
