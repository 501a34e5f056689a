"""What several keys together get wrong, what must be written, and what the machine must have (files, directories).
What a key alone gets wrong is in `schema.py`. Nothing here changes anything.

What this version cannot do is refused, not ignored: who asks for a second copy must not believe in one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from gateway.config.check_identities import identity_mistakes
from gateway.config.check_limits import limit_mistakes
from gateway.config.check_mounts import mount_mistakes
from gateway.config.check_origins import origin_mistakes
from gateway.config.mistakes import Mistake
from gateway.config.schema import Address, Config, Fleet, RuleConfig, Section, Writeback
from gateway.config.units import format_size
from gateway.namespace.globs import compile_path_glob

BLOCK_BYTES_MIN: Final = 64 << 10
BLOCK_BYTES_MAX: Final = 16 << 20
CAPACITY_BYTES_MIN: Final = 64 << 20
STRIPE_BYTES_MAX: Final = 256 << 20  # one fill asks for up to a stripe at once
# Every sequential reader may have so much fetched for him: beyond it, one would keep a worker's fetches to himself.
READ_AHEAD_BYTES_MAX: Final = 1 << 30
# What a segment needs beside one block; and of segments, two for each worker and two more (`cache/layout.py`).
_RECORD_SLACK: Final = 128 << 10
_DOMAIN: Final = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"
)


def check(config: Config) -> list[Mistake]:
    """In no particular order; empty for a config that a node can start with."""
    checks: tuple[Callable[[Config], Iterable[Mistake]], ...] = (
        _listen_mistakes,
        _tls_mistakes,
        _cache_mistakes,
        _limit_mistakes,
        _fleet_mistakes,
        _writeback_mistakes,
        origin_mistakes,
        limit_mistakes,
        mount_mistakes,
        _rule_mistakes,
        identity_mistakes,
    )
    return [mistake for find in checks for mistake in find(config)]


def notes(config: Config) -> list[str]:
    """What may be meant but is more likely forgotten. One sentence each."""
    found = []
    if not config.mounts:
        found.append("no [[mounts]]: the gateway shows no bucket")
    if not config.identities:
        found.append("no [[identities]]: every request will be refused")
    return found


def _listen_mistakes(config: Config) -> Iterator[Mistake]:
    listen = config.listen
    for name, address in (("s3", listen.s3_address), ("admin", listen.admin_address)):
        if address.port == 0:
            yield Mistake(f"listen.{name}", "port 0 cannot be used: every worker listens on the same port")
    if listen.s3_address.port == listen.admin_address.port and _overlap(
        listen.s3_address, listen.admin_address
    ):
        yield Mistake("listen.admin", "is the address of listen.s3; the two need ports of their own")
    if not listen.admin_address.loopback and not config.admin.token.get_secret_value():
        text = f"{listen.admin} can be reached from other machines: set admin.token_env (or admin.token)"
        yield Mistake("listen.admin", text)
    if listen.domain and not _DOMAIN.fullmatch(listen.domain.lower()):
        yield Mistake(
            "listen.domain", "must be a host name, such as s3.example.com; buckets are put before it"
        )


def _overlap(one: Address, other: Address) -> bool:
    everywhere = ("", "0.0.0.0", "::")
    return one.host == other.host or one.host in everywhere or other.host in everywhere


def _tls_mistakes(config: Config) -> Iterator[Mistake]:
    cert, key = config.listen.tls_cert, config.listen.tls_key
    if bool(cert) != bool(key):
        missing, given = ("tls_key", "tls_cert") if cert else ("tls_cert", "tls_key")
        yield Mistake(f"listen.{missing}", f"is needed together with {given}")
    if not (cert and key):
        return
    unreadable = [
        Mistake(f"listen.{name}", f"{path} {why}")
        for name, path in (("tls_cert", cert), ("tls_key", key))
        if (why := _why_unreadable(Path(path)))
    ]
    yield from unreadable
    if not unreadable and (why := _why_no_pair(cert, key)):
        yield Mistake("listen.tls_cert", why)


def _why_unreadable(path: Path) -> str:
    try:
        with path.open("rb"):
            return ""
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _why_no_pair(cert: str, key: str) -> str:
    import ssl  # only who serves HTTPS waits for it

    try:
        # The password callback keeps OpenSSL from asking on the terminal for that of an encrypted key.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ValueError) as error:
        if "KEY_VALUES_MISMATCH" in str(error):
            return "does not belong to listen.tls_key"
        return "and tls_key must be a PEM certificate (with its chain) and its key without a password"
    return ""


def _cache_mistakes(config: Config) -> Iterator[Mistake]:
    cache = config.cache
    block, workers = cache.block_size, config.workers
    if block & (block - 1) or not BLOCK_BYTES_MIN <= block <= BLOCK_BYTES_MAX:
        yield Mistake("cache.block_size", f"{format_size(block)} is not a power of two from 64KiB to 16MiB")
        return
    if cache.stripe_blocks * block > STRIPE_BYTES_MAX:
        text = f"makes a stripe of {format_size(cache.stripe_blocks * block)}; the most is 256MiB"
        yield Mistake("cache.stripe_blocks", text)
    if not 2 * block <= cache.segment_size < 2**32:
        text = f"must be at least two blocks ({format_size(2 * block)}) and less than 4GiB"
        yield Mistake("cache.segment_size", text)
    if cache.capacity < CAPACITY_BYTES_MIN:
        yield Mistake("cache.capacity", "must be at least 64MiB")
    elif cache.capacity < (least := (block + _RECORD_SLACK) * (2 * workers + 2) + (1 << 20)):
        need = f"{-(-least // 2**20)}MiB"
        text = f"is too small for {workers} workers and blocks of {format_size(block)}: they need {need}"
        yield Mistake("cache.capacity", text)


def _limit_mistakes(config: Config) -> Iterator[Mistake]:
    for name in ("head_timeout", "idle_timeout"):
        if getattr(config.limits, name) <= 0:
            yield Mistake(f"limits.{name}", "must be more than 0")
    if config.log.access not in ("stdout", "off"):
        parent = Path(config.log.access).parent
        if not config.log.access or not os.path.isdir(parent):
            text = f'must be "stdout", "off" or a file; there is no directory {parent}'
            yield Mistake("log.access", text if config.log.access else 'must be "stdout", "off" or a file')


def _fleet_mistakes(config: Config) -> Iterator[Mistake]:
    if config.fleet.membership != "none":
        text = f'"{config.fleet.membership}" is not in this version: a node works alone (membership = "none")'
        yield Mistake("fleet.membership", text)
        return
    for name in _changed(config.fleet, Fleet()):
        yield Mistake(f"fleet.{name}", "is of no use: fleets are not in this version")


def _writeback_mistakes(config: Config) -> Iterator[Mistake]:
    for name in _changed(config.writeback, Writeback()):
        yield Mistake(f"writeback.{name}", "is of no use: the write-back buffer is not in this version")


def _changed(section: Section, default: Section) -> list[str]:
    return [name for name in type(section).model_fields if getattr(section, name) != getattr(default, name)]


def _rule_mistakes(config: Config) -> Iterator[Mistake]:
    for number, rule in enumerate(config.rules):
        for name, text in (*_of_rule(rule), *_of_kept(rule, config)):
            yield Mistake(f"rules[{number}].{name}", text)


def _of_rule(rule: RuleConfig) -> Iterator[tuple[str, str]]:
    if not rule.match:
        yield "match", 'must be written: a glob over bucket/key, such as "datasets/**"'
    else:
        try:
            compile_path_glob(rule.match)
        except ValueError as error:
            yield "match", str(error)
    if rule.write == "back":
        yield (
            "write",
            '"back" cannot be had: the write-back buffer is not in this version; leave it at "through"',
        )
    elif rule.ack != "peer":
        yield "ack", 'is of no use without write = "back", which is not in this version'


def _of_kept(rule: RuleConfig, config: Config) -> Iterator[tuple[str, str]]:
    """Any two of pin, ttl and quota go together: pinned until its time is over, pinned up to so many bytes."""
    if not rule.cache:
        given = ["pin"] if rule.pin else []
        given += [name for name in ("ttl", "quota", "read_ahead") if getattr(rule, name) is not None]
        yield from ((name, "is of no use with cache = false: nothing is kept") for name in given)
        return
    if rule.ttl is not None and rule.ttl <= 0:
        yield "ttl", "must be more than 0; cache = false keeps nothing, empty keeps without a bound"
    if rule.quota is not None:
        yield from (("quota", text) for text in _of_quota(rule.quota, config))
    if rule.read_ahead is not None and rule.read_ahead > READ_AHEAD_BYTES_MAX:
        yield "read_ahead", f"must be at most {format_size(READ_AHEAD_BYTES_MAX)}"


def _of_quota(quota: int, config: Config) -> Iterator[str]:
    cache = config.cache
    if not quota:
        yield "must be more than 0; cache = false keeps nothing, empty keeps without a bound"
    elif quota < cache.block_size:
        yield f"is less than one block of the cache ({format_size(cache.block_size)}): nothing would be kept"
    elif quota > cache.capacity:
        yield f"is more than cache.capacity ({format_size(cache.capacity)}): it would bound nothing"
