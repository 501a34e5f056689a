"""Entry point of `gateway`. Only the module of the command that was asked for is imported, so that a look at `--help`
or the status of a node does not wait for what serving needs.

Exit codes: 0 done, 1 the work failed, 2 bad usage or config, 3 no gateway answered. Nobody sees a traceback who has
not asked for it (`--debug`, `GATEWAY_DEBUG=1`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NamedTuple, NoReturn

import typer

from gateway import __version__


class Command(NamedTuple):
    """`module` has `command`: a function for typer, or a Typer of sub-commands."""

    module: str
    help: str


COMMANDS: Final = {
    "serve": Command("gateway.cli.serve", "Run a node in the foreground; SIGTERM drains it."),
    "reload": Command("gateway.cli.reload", "Have a running node read its config file again."),
    "mounts": Command("gateway.cli.mounts", "The mounts of a node, and which of them a key belongs to."),
    "config": Command("gateway.cli.config", "Check a config file."),
    "status": Command("gateway.cli.status", "What a running node does."),
    "demo": Command("gateway.cli.demo", "A small training job, cold and warm, without any cloud."),
    "doctor": Command("gateway.cli.doctor", "Check what an S3 endpoint does, with stock clients."),
}


def main() -> NoReturn:
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """The exit status."""
    try:
        _application(arguments)(list(arguments), prog_name="gateway")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("GATEWAY_DEBUG", "0") not in ("", "0"):
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"gateway: {text} (GATEWAY_DEBUG=1 shows where)", file=sys.stderr)
        return 1
    return 0


def _application(arguments: Sequence[str]) -> typer.Typer:
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    wanted = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, command in COMMANDS.items():
        found = import_module(command.module).command if name == wanted else _listed
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name, help=command.help)
        else:
            app.command(name, help=command.help)(found)
    return app


def _listed() -> None:
    """In the place of commands that this call only lists."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"gateway {__version__}")
        raise typer.Exit


def _options(
    debug: bool = typer.Option(False, "--debug", help="Show where an unexpected error came from."),
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", callback=_version, is_eager=True
    ),
) -> None:
    """An S3 cache beside the GPUs: warm epochs from local disk, cold ones without stalls."""
    if debug:
        os.environ["GATEWAY_DEBUG"] = "1"


if __name__ == "__main__":
    main()
