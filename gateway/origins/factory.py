"""From the config's `[[origins]]` to Origins, for the composition root."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from gateway.config.schema import Config, MountConfig, OriginConfig
from gateway.errors import Unsupported
from gateway.namespace.mirrors import MirrorPlace, mirror_name
from gateway.origins.base import Observer, Origin, Unobserved
from gateway.origins.budgets import Budgets
from gateway.origins.file import FileOrigin
from gateway.origins.limits import Limits
from gateway.origins.mirror import Mirror, Place
from gateway.origins.observed import Observed
from gateway.origins.s3 import S3Origin
from gateway.origins.s3_client import Client
from gateway.origins.s3_credentials import CredentialSource, DefaultChain, FixedCredentials
from gateway.origins.s3_dialect import Amazon
from gateway.origins.s3_endpoint import endpoint_of
from gateway.origins.s3_flavours import flavour_of
from gateway.origins.s3_http import Wire


def make_origins(
    config: Config,
    observer: Observer | None = None,
    workers: int = 1,
    kept: Mapping[str, Origin] | None = None,
    budgets: Budgets | None = None,
) -> dict[str, Origin]:
    """Every origin that a view of `config` may name. `kept`: those whose entry is as it was before a reload, which
    are not made anew. Raises Unsupported; the others are then forgotten without `close`, since no origin has anything
    open before its first request."""
    there = kept or {}
    origins = {
        origin.name: there.get(origin.name) or make_origin(origin, observer, workers, budgets)
        for origin in config.origins
    }
    return origins | {
        mirror_name(mount.path): _mirror(mount, origins) for mount in config.mounts if mount.mirror
    }


def _mirror(mount: MountConfig, origins: Mapping[str, Origin]) -> Origin:
    places = [MirrorPlace.parse(text) for text in (f"{mount.origin}:{mount.remote}", *mount.mirror)]
    return Mirror(mirror_name(mount.path), [Place(origins[p.origin], p.bucket, p.prefix) for p in places])


def make_origin(
    config: OriginConfig,
    observer: Observer | None = None,
    workers: int = 1,
    budgets: Budgets | None = None,
) -> Origin:
    """`workers`: how many share the node's limits of bandwidth and requests. `budgets`: what is ordered about origins
    whose budget is spent. Keys in the environment (`*_env`) are resolved by now. Raises Unsupported for a config that
    names what does not exist."""
    watcher = observer or Unobserved()
    limits = Limits(
        config.name,
        config.connections_max,
        config.deadline,
        config.bandwidth_limit,
        workers,
        config.request_limit,
        budgets,
    )
    if config.type == "file":
        return Observed(FileOrigin(config.name, config.root), watcher, limits)
    if config.type == "s3":
        return S3Origin(_s3_client(config, watcher, limits))
    if config.type == "gcs":
        return _gcs(config, watcher, limits)
    if config.type == "azure":
        return _azure(config, watcher, limits)
    raise Unsupported(f"Origins of type {config.type!r} are not supported.")


def _s3_client(config: OriginConfig, observer: Observer, limits: Limits) -> Client:
    flavour = flavour_of(config.flavour, config.endpoint)
    wire = Wire(
        config.name,
        endpoint_of(config.endpoint, config.region, by_host=flavour.by_host),
        Amazon(_credentials(config), config.region),
        limits,
        observer,
        allow_link_local=config.allow_link_local,
        trust=_trust(config),
    )
    return Client(config.name, wire, limits, flavour)


def _gcs(config: OriginConfig, observer: Observer, limits: Limits) -> Origin:
    """An HMAC key, an OAuth token, or Google's own chain, which alone needs google-auth."""
    from gateway.origins.gcs import GcsOrigin
    from gateway.origins.gcs_credentials import FixedToken, default_chain
    from gateway.origins.gcs_dialect import ENDPOINT, Google
    from gateway.origins.gcs_keys import GOOGLE

    token = config.session_token.get_secret_value()
    chain = None if config.access_key or token else default_chain(config.name)
    credentials: CredentialSource = (
        chain
        or (FixedToken(token) if token else None)
        or FixedCredentials(config.access_key, config.secret_key.get_secret_value())
    )
    wire = Wire(
        config.name,
        endpoint_of(config.endpoint or ENDPOINT, ""),
        Google(credentials),
        limits,
        observer,
        allow_link_local=config.allow_link_local,
        trust=_trust(config),
    )
    return GcsOrigin(Client(config.name, wire, limits, GOOGLE), chain)


def _azure(config: OriginConfig, observer: Observer, limits: Limits) -> Origin:
    """A SAS, the account's key, or azure-identity's chain, which alone needs the extra."""
    from gateway.origins.azure import AzureOrigin
    from gateway.origins.azure_client import AzureClient
    from gateway.origins.azure_credentials import AccountKey, NoKeys, chain, tokens_of
    from gateway.origins.azure_dialect import Azure
    from gateway.origins.tokens import TokenSource

    sas = config.session_token.get_secret_value()
    key = config.secret_key.get_secret_value()
    credentials: AccountKey | NoKeys | TokenSource
    if sas:
        credentials = NoKeys()
    elif key:
        credentials = AccountKey(config.access_key, key)
    else:
        credentials = tokens_of(config.name, chain())
    endpoint = endpoint_of(config.endpoint or f"https://{config.access_key}.blob.core.windows.net", "")
    dialect = Azure(credentials)
    wire = Wire(
        config.name,
        endpoint,
        dialect,
        limits,
        observer,
        allow_link_local=config.allow_link_local,
        trust=_trust(config),
    )
    return AzureOrigin(AzureClient(config.name, wire, limits, endpoint, dialect, sas))


def _trust(config: OriginConfig) -> ssl.SSLContext | None:
    """Raises Unsupported for a file that holds no certificates."""
    if not config.ca_file:
        return None
    try:
        return ssl.create_default_context(cafile=config.ca_file)
    except OSError as error:  # SSLError is one
        raise Unsupported(f"The ca_file of origin {config.name} cannot be read: {error}.") from error


def _credentials(config: OriginConfig) -> CredentialSource:
    if not config.access_key:
        return DefaultChain(config.name)
    token = config.session_token.get_secret_value() or None
    return FixedCredentials(config.access_key, config.secret_key.get_secret_value(), token)
