"""Without a config a node still starts, keeps its keys, and shows them to nobody else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.config.load import load
from gateway.config.mistakes import ConfigError


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_single_node_over_a_directory(tmp_path: Path) -> None:
    config = load(None, {})
    assert (tmp_path / "gateway-data/origin").is_dir()
    assert config.node.data_dir == "gateway-data"
    assert [(origin.type, origin.root) for origin in config.origins] == [("file", "gateway-data/origin")]
    assert [(mount.path, mount.origin) for mount in config.mounts] == [("*", "local")]
    assert config.listen.s3_address.loopback


def test_keys_are_made_once_and_are_the_owners_only(tmp_path: Path) -> None:
    (first,) = load(None, {}).identities
    (second,) = load(None, {}).identities
    assert first == second
    assert len(first.secret_key.get_secret_value()) == 40
    assert (tmp_path / "gateway-data/keys.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "gateway-data").iterdir() if path.is_file()] == ["keys.json"]


def test_two_places_have_different_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = load(None, {}).identities
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load(None, {}).identities != one


def test_the_environment_moves_and_replaces_parts(tmp_path: Path) -> None:
    identity = {"name": "a", "access_key": "AKA", "secret_key": "s"}
    environ = {
        "GATEWAY_NODE__DATA_DIR": str(tmp_path / "moved"),
        "GATEWAY_IDENTITIES": json.dumps([identity]),
        "GATEWAY_LISTEN__S3": ":9100",
    }
    config = load(None, environ)
    assert config.origins[0].root == str(tmp_path / "moved/origin")
    assert [found.access_key for found in config.identities] == ["AKA"]
    assert config.listen.s3 == ":9100"
    assert not (tmp_path / "moved/keys.json").exists()
    assert not (tmp_path / "gateway-data").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"access_key": "x"}', "\x00"])
def test_damaged_keys_are_told_not_replaced(tmp_path: Path, content: str) -> None:
    load(None, {})
    keys = tmp_path / "gateway-data/keys.json"
    keys.write_text(content)
    with pytest.raises(ConfigError, match=r"^gateway-data/keys\.json: is damaged"):
        load(None, {})
    assert keys.read_text() == content


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "gateway-data").write_text("a file is in the way")
    with pytest.raises(ConfigError) as caught:
        load(None, {})
    assert len(caught.value.mistakes) == 1
    assert caught.value.mistakes[0].startswith("gateway-data")
