"""What a node is without a config: every directory under `gateway-data/origin` is a bucket, and one identity may do
everything. Its keys are made up once and kept in `gateway-data/keys.json`, readable by the owner only.

`GATEWAY_NODE__DATA_DIR` moves all of it; whatever the environment sets stays."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import string
from pathlib import Path
from typing import Any, Final

from gateway.config.mistakes import ConfigError, Mistake

DATA_DIR: Final = "gateway-data"
IDENTITY: Final = "local"
_LETTERS: Final = string.ascii_uppercase + string.digits


def fill_in(raw: dict[str, Any]) -> None:
    """Raises ConfigError when the directory cannot be written."""
    node = raw.setdefault("node", {})
    node.setdefault("data_dir", DATA_DIR)
    if not isinstance(node["data_dir"], str):
        return
    directory = Path(node["data_dir"])
    try:
        if "origins" not in raw:
            root = directory / "origin"
            root.mkdir(parents=True, exist_ok=True)
            raw["origins"] = [{"name": "local", "type": "file", "root": str(root)}]
            raw.setdefault("mounts", [{"path": "*", "origin": "local"}])
        if "identities" not in raw:
            access_key, secret_key = _keys(directory / "keys.json")
            everything = {"actions": ["*"], "resources": ["*"]}
            raw["identities"] = [
                {"name": IDENTITY, "access_key": access_key, "secret_key": secret_key, "allow": [everything]}
            ]
    except OSError as error:
        raise ConfigError([Mistake(error.filename or str(directory), f"{error.strerror}")]) from None


def _keys(path: Path) -> tuple[str, str]:
    """Those of an earlier start, else new ones. The file appears whole or not at all."""
    with contextlib.suppress(FileNotFoundError):
        return _read(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = {
        "access_key": "GW" + "".join(secrets.choice(_LETTERS) for _ in range(18)),
        "secret_key": secrets.token_urlsafe(30),
    }
    half = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w") as file:
            json.dump(new, file)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another start was first: its keys are the keys
            os.link(half, path)
    finally:
        half.unlink()
    return _read(path)


def _read(path: Path) -> tuple[str, str]:
    try:
        kept = json.loads(path.read_text())
        return str(kept["access_key"]), str(kept["secret_key"])
    except (ValueError, KeyError, TypeError):
        raise ConfigError([Mistake(str(path), "is damaged; delete it, and new keys are made")]) from None
