"""`gateway serve`: a node in the foreground."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.cli.config import load_or_exit
from gateway.config.load import load
from gateway.config.schema import Config

_CONFIG: Final = (
    "The config, in TOML. Without one: a single node over ./gateway-data/origin, with keys made up for it."
)


def command(
    config: Annotated[
        Path | None, typer.Option("--config", metavar="F", envvar="GATEWAY_CONFIG", help=_CONFIG)
    ] = None,
) -> None:
    """Run a node in the foreground; SIGTERM drains it."""
    loaded = load_or_exit(config)
    if config is None:
        announce(_exports(loaded))
    from gateway.node.supervisor import run  # a mistake in the config is told before its libraries are loaded

    raise typer.Exit(run(loaded, announce, reread=_rereader(config)))


def _rereader(path: Path | None) -> Callable[[], Config] | None:
    """For a reload: the file as it is then, the environment as it is now."""
    if path is None:
        return None
    environ = dict(os.environ)
    return lambda: load(path, environ)


def announce(line: str) -> None:
    typer.echo(line)  # flushes: whoever waits for the line must not wait for a full buffer


def _exports(config: Config) -> str:
    """What a shell needs to talk to a node that made up its keys."""
    address = config.listen.s3_address
    host = "127.0.0.1" if address.host in ("", "0.0.0.0", "::") else address.host
    scheme = "https" if config.listen.tls_cert else "http"
    lines = [f"export AWS_ENDPOINT_URL={scheme}://{address._replace(host=host)}"]
    if config.identities:
        identity = config.identities[0]
        lines.append(f"export AWS_ACCESS_KEY_ID={identity.access_key}")
        lines.append(f"export AWS_SECRET_ACCESS_KEY={identity.secret_key.get_secret_value()}")
    return "\n".join([*lines, "export AWS_REGION=us-east-1"])
