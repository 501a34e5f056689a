"""Every key of the config file, its type and its default. What one key alone can get wrong is refused here; what
several keys together get wrong is in `checks.py`. Every key has a default, so that a config with one mistake can
still be looked over for all the others; a key that must be written is checked there too.

A dump (`model_dump`, `model_dump_json`) is for people: secrets are masked, sizes and times carry units. Only
`load.to_wire` reveals them.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from gateway.config.units import Duration, MaybeDuration, MaybeSize, Rate, Secret, Size, parse_duration


def is_loopback(host: str) -> bool:
    """By the address itself: `127.example.com` is not loopback. `host`: as in a URL or without its brackets."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Address(NamedTuple):
    """Where to listen. An empty host means every interface."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]*)):(\d{1,5})")


def parse_address(text: str) -> Address:
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:9000, [::1]:9000 or :9000")
    return Address(match[1] or match[2] or "", int(match[3]))


def _address(text: str) -> str:
    parse_address(text)
    return text


def _node_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,63}", text):
        raise ValueError(
            "must be 1 to 63 letters, digits, dots, dashes or underscores (it is sent in a header)"
        )
    return text


def _consistency(value: str) -> str:
    if value not in ("strict", "immutable"):
        try:
            parse_duration(value)
        except ValueError:
            raise ValueError(
                f'{value!r} is neither "strict", "immutable" nor a duration such as "60s"'
            ) from None
    return value


def host_name() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:63] or "gateway"


ListenAddress = Annotated[str, AfterValidator(_address)]


class Section(BaseModel):
    """A table of the file. `hide_input_in_errors`: a mistake beside a secret must not print the secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Node(Section):
    """`workers` 0: one per core this process may run on."""

    name: Annotated[str, AfterValidator(_node_name)] = Field(default_factory=host_name)
    data_dir: str = "/var/lib/gateway"
    workers: int = Field(default=0, ge=0, le=256)

    @property
    def cache_dir(self) -> Path:
        """Where the block cache lives: `cache.startup.prepare` and `Store.open` take the same."""
        return Path(self.data_dir) / "cache"


class Listen(Section):
    s3: ListenAddress = "127.0.0.1:9000"
    admin: ListenAddress = "127.0.0.1:9001"
    peer: ListenAddress = "127.0.0.1:9002"
    domain: str = ""
    tls_cert: str = ""
    tls_key: str = ""

    @property
    def s3_address(self) -> Address:
        return parse_address(self.s3)

    @property
    def admin_address(self) -> Address:
        return parse_address(self.admin)


class Cache(Section):
    capacity: Size = 100 * 2**30
    block_size: Size = 2**20
    stripe_blocks: int = Field(default=16, ge=1, le=256)
    segment_size: Size = 256 * 2**20


class Writeback(Section):
    capacity: Size = 50 * 2**30
    max_age: Duration = 3600.0
    replicas: int = Field(default=1, ge=0, le=16)


class Fleet(Section):
    membership: Literal["none", "static", "dns", "etcd"] = "none"
    members: tuple[str, ...] = ()
    dns_name: str = ""
    etcd: tuple[str, ...] = ()
    cluster_key_env: str = ""
    peer_cert: str = ""
    peer_key: str = ""
    peer_ca: str = ""


class OriginConfig(Section):
    """`flavour`: which S3-compatible store this is, when its quirks need telling. `connections_max`: bound of
    requests under way at once, of each worker. `deadline`: of one request with its retries. `allow_link_local`:
    the endpoint may resolve to a link-local address, where clouds answer with instance credentials.

    access_key, secret_key   gcs: an HMAC key; azure: the storage account's name and its key. Without secret_key the
                             cloud's own chain of credentials is asked; azure needs the account's name all the same
    session_token            s3: of temporary keys; gcs: an OAuth access token; azure: a SAS token
    ca_file                  PEM file of the authorities that the endpoint's certificate is checked by, in place of the
                             system's (for which OpenSSL reads SSL_CERT_FILE)
    request_limit            requests per second of the node; 0: none
    budget                   dollars of egress in a calendar month (UTC), by `egress_price_per_gib`; 0: none
    budget_action            what happens beyond it: `alert` (a metric and a log line) or `refuse` cold reads, too"""

    name: str = ""
    type: str = ""
    flavour: Literal[
        "auto",
        "aws",
        "minio",
        "ceph",
        "spaces",
        "r2",
        "oss",
        "b2",
        "wasabi",
        "ovh",
        "scaleway",
        "tigris",
        "rclone",
    ] = "auto"
    endpoint: str = ""
    region: str = "us-east-1"
    access_key: str = ""
    access_key_env: str = ""
    secret_key: Secret = SecretStr("")
    secret_key_env: str = ""
    session_token: Secret = SecretStr("")
    session_token_env: str = ""
    root: str = ""
    ca_file: str = ""
    egress_price_per_gib: float = Field(default=0.0, ge=0, le=1000)
    bandwidth_limit: Rate = None
    request_limit: float = Field(default=0.0, ge=0, le=1e6)
    budget: float = Field(default=0.0, ge=0, le=1e9)
    budget_action: Literal["alert", "refuse"] = "alert"
    connections_max: int = Field(default=64, ge=1, le=4096)
    deadline: Duration = 60.0
    allow_link_local: bool = False


class MountConfig(Section):
    """`path` `*`: every bucket of the origin under its own name; `remote` is then empty. `mirror`: further places,
    each `ORIGIN:BUCKET` or `ORIGIN:BUCKET/PREFIX`, that are read in this order for what the mount's own does not have;
    writes go to the mount's own alone."""

    path: str = ""
    origin: str = ""
    remote: str = ""
    read_only: bool = False
    mirror: tuple[str, ...] = ()


class RuleConfig(Section):
    """`ttl`: how long after it was fetched an object leaves the cache. `quota`: bytes of cache that all objects under
    this rule may take together. `pin`: they are not evicted. `read_ahead`: bytes fetched ahead of a sequential reader
    at most, 0: none; unset, a stripe."""

    match: str = ""
    write: Literal["through", "back"] = "through"
    ack: Literal["local", "peer", "origin"] = "peer"
    consistency: Annotated[str, AfterValidator(_consistency)] = "60s"
    cache: bool = True
    pin: bool = False
    ttl: MaybeDuration = None
    quota: MaybeSize = None
    read_ahead: MaybeSize = None

    @property
    def fresh_s(self) -> float:
        """For how long an entry is served without asking the origin: 0 strict, inf immutable."""
        if self.consistency == "strict":
            return 0.0
        return float("inf") if self.consistency == "immutable" else parse_duration(self.consistency)


class Statement(Section):
    actions: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()


class IdentityConfig(Section):
    name: str = ""
    access_key: str = ""
    secret_key: Secret = SecretStr("")
    secret_key_env: str = ""
    allow: tuple[Statement, ...] = ()
    deny: tuple[Statement, ...] = ()


class Admin(Section):
    token: Secret = SecretStr("")
    token_env: str = ""


class Log(Section):
    """`access`: `stdout`, `off`, or the path of a file that is appended to."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"
    access: str = "stdout"


class Limits(Section):
    """connections        of one worker; past it new ones are closed at once
    head_timeout       from a request's first byte to the end of its head
    idle_timeout       between two requests of one connection
    body_rate_min      bytes per second, over any 10 s of a body, below which the client is cut off
    drain_timeout      from SIGTERM until requests under way are broken off
    """

    connections: int = Field(default=4096, ge=1, le=1_000_000)
    head_timeout: Duration = 15.0
    idle_timeout: Duration = 75.0
    body_rate_min: Size = 1024
    drain_timeout: Duration = 30.0


class Config(Section):
    node: Node = Field(default_factory=Node)
    listen: Listen = Field(default_factory=Listen)
    cache: Cache = Field(default_factory=Cache)
    writeback: Writeback = Field(default_factory=Writeback)
    fleet: Fleet = Field(default_factory=Fleet)
    admin: Admin = Field(default_factory=Admin)
    log: Log = Field(default_factory=Log)
    limits: Limits = Field(default_factory=Limits)
    origins: tuple[OriginConfig, ...] = ()
    mounts: tuple[MountConfig, ...] = ()
    rules: tuple[RuleConfig, ...] = ()
    identities: tuple[IdentityConfig, ...] = ()

    @property
    def workers(self) -> int:
        return self.node.workers or len(os.sched_getaffinity(0))
