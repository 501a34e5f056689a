"""A config without a mistake, and what is said of it once something in it is changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.config.load import load
from gateway.config.mistakes import ConfigError
from gateway.config.schema import Config
from tests.gateway_process import inline

SECRET = "S3cr3t/never+shown0123"


def tables() -> dict[str, Any]:
    return {
        "node": {"name": "gw-0", "data_dir": "data", "workers": 2},
        "cache": {"capacity": "1GiB"},
        "origins": [
            {
                "name": "aws",
                "type": "s3",
                "endpoint": "http://127.0.0.1:5000",
                "access_key": "A",
                "secret_key": SECRET,
            }
        ],
        "mounts": [{"path": "datasets", "origin": "aws", "remote": "corp-datasets"}],
        "rules": [{"match": "datasets/**", "consistency": "5m"}],
        "identities": [
            {
                "name": "trainer",
                "access_key": "AKTRAINER",
                "secret_key": SECRET,
                "allow": [{"actions": ["s3:*"], "resources": ["datasets/*"]}],
            }
        ],
    }


def write(directory: Path, config: Mapping[str, Any]) -> Path:
    file = directory / "gateway.toml"
    file.write_text("".join(f"{key} = {inline(value)}\n" for key, value in config.items()))
    return file


def loaded(directory: Path, config: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Config:
    return load(write(directory, config), environ or {})


def mistakes(
    directory: Path, config: Mapping[str, Any], environ: Mapping[str, str] | None = None
) -> list[str]:
    try:
        loaded(directory, config, environ)
    except ConfigError as error:
        return error.mistakes
    return []
