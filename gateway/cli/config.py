"""`gateway config check F`, and how any command loads its config."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from gateway.config.checks import notes
from gateway.config.dump import to_toml
from gateway.config.load import load
from gateway.config.mistakes import ConfigError
from gateway.config.schema import Config

command = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@command.callback()
def _group() -> None:
    """Check a config file."""


@command.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="F", help="The config, in TOML.")],
) -> None:
    """Print the effective config with secrets masked; exit 2 and one line for each mistake.

    What GATEWAY_<SECTION>__<KEY> sets in the environment is part of it."""
    typer.echo(to_toml(load_or_exit(file)), nl=False)


def load_or_exit(path: Path | None) -> Config:
    """The config; or one line per mistake on stderr and exit status 2. What looks forgotten is said on stderr."""
    try:
        config = load(path, os.environ)
    except ConfigError as error:
        for mistake in error.mistakes:
            typer.echo(mistake, err=True)
        raise typer.Exit(2) from None
    for note in notes(config):
        typer.echo(f"note: {note}", err=True)
    return config
