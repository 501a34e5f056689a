"""From the config's `[[origins]]` to Origins, for the composition root."""

from __future__ import annotations

from gateway.config.schema import Config, OriginConfig
from gateway.errors import Unsupported
from gateway.origins.base import Observer, Origin, Unobserved
from gateway.origins.file import FileOrigin
from gateway.origins.limits import Limits
from gateway.origins.observed import Observed
from gateway.origins.s3 import S3Origin
from gateway.origins.s3_client import Client
from gateway.origins.s3_credentials import CredentialSource, DefaultChain, FixedCredentials
from gateway.origins.s3_endpoint import endpoint_of
from gateway.origins.s3_flavours import flavour_of
from gateway.origins.s3_http import Wire


def make_origins(config: Config, observer: Observer | None = None, workers: int = 1) -> dict[str, Origin]:
    """Every origin that a view of `config` may name. Raises Unsupported."""
    return {origin.name: make_origin(origin, observer, workers) for origin in config.origins}


def make_origin(config: OriginConfig, observer: Observer | None = None, workers: int = 1) -> Origin:
    """`workers`: how many share the node's bandwidth limit. Raises Unsupported for a config that names what does
    not exist. Keys in the environment (`*_env`) are resolved by now."""
    watcher = observer or Unobserved()
    limits = Limits(config.name, config.connections_max, config.deadline, config.bandwidth_limit, workers)
    if config.type == "file":
        return Observed(FileOrigin(config.name, config.root), watcher, limits)
    if config.type == "s3":
        return S3Origin(_s3_client(config, watcher, limits))
    raise Unsupported(f"Origins of type {config.type!r} are not supported.")


def _s3_client(config: OriginConfig, observer: Observer, limits: Limits) -> Client:
    wire = Wire(
        config.name,
        endpoint_of(config.endpoint, config.region),
        config.region,
        _credentials(config),
        limits,
        observer,
        allow_link_local=config.allow_link_local,
    )
    return Client(config.name, wire, limits, flavour_of(config.flavour))


def _credentials(config: OriginConfig) -> CredentialSource:
    if not config.access_key:
        return DefaultChain(config.name)
    token = config.session_token.get_secret_value() or None
    return FixedCredentials(config.access_key, config.secret_key.get_secret_value(), token)
