"""The commented examples load as they are, and the full one leaves no key out and states true defaults."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gateway.config.checks import notes
from gateway.config.load import load
from gateway.config.mistakes import model_of
from gateway.config.schema import Config

EXAMPLES = Path(__file__).parents[3] / "config"
# What an example sets otherwise than the default, with a comment that tells so, or must set.
EXAMPLE_VALUES = {
    "name", "type", "endpoint", "path", "origin", "remote", "match", "access_key", "secret_key", "actions",
    "resources", "allow", "deny",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.toml")))
def test_an_example_loads(name: str, tmp_path: Path) -> None:
    environ = {
        variable: f"value of {variable}"
        for variable in ("LAKE_ACCESS_KEY", "LAKE_SECRET_KEY", "TRAINER_SECRET_KEY", "CURATOR_SECRET_KEY")
    }
    if name == "directory.toml":
        environ["GATEWAY_ORIGINS__0__ROOT"] = str(tmp_path)
    config = load(EXAMPLES / name, environ)
    assert config.mounts
    assert notes(config) == []


def test_the_full_example_has_every_key_with_its_default() -> None:
    compare(Config, tomllib.loads((EXAMPLES / "full.toml").read_text()))


def compare(model: type[BaseModel], table: dict[str, Any]) -> None:
    assert set(table) == set(model.model_fields)
    parsed = model.model_validate(table)
    for name, field in model.model_fields.items():
        inner, value = model_of(field.annotation), table[name]
        if inner is not None:
            for entry in value if isinstance(value, list) else [value]:
                compare(inner, entry)
        elif name not in EXAMPLE_VALUES:
            assert getattr(parsed, name) == field.get_default(call_default_factory=True), name
