"""What a reload would change, told by names; and what it may not change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.config.changes import differences, fixed_changes, taken_over
from gateway.config.load import load
from gateway.config.schema import Config
from tests.gateway_process import inline
from tests.unit.config.sample import SECRET, tables


def config(directory: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Config:
    whole = copy.deepcopy(tables())
    change(whole)
    path = directory / "gateway.toml"
    path.write_text("".join(f"{key} = {inline(value)}\n" for key, value in whole.items()))
    return load(path, {})


def second_rule(whole: dict[str, Any]) -> None:
    whole["rules"].append({"match": "datasets/**", "cache": False})


CHANGES: list[tuple[Callable[[dict[str, Any]], object], dict[str, Any]]] = [
    (lambda whole: None, {}),
    (
        lambda whole: whole["mounts"].append({"path": "more", "origin": "aws", "remote": "corp-more"}),
        {"mounts": {"added": ["more"]}},
    ),
    (lambda whole: whole.update(mounts=[]), {"mounts": {"removed": ["datasets"]}}),
    (lambda whole: whole["origins"][0].update(secret_key="other"), {"origins": {"changed": ["aws"]}}),
    (lambda whole: whole["identities"][0].update(deny=[]), {}),
    (
        lambda whole: whole["identities"][0].update(secret_key="x" * 20),
        {"identities": {"changed": ["trainer"]}},
    ),
    (second_rule, {"rules": {"added": ["datasets/** (2)"]}}),
    (
        lambda whole: whole["origins"][0].update(endpoint="http://127.0.0.1:5001"),
        {"origins": {"changed": ["aws"]}},
    ),
]


@pytest.mark.parametrize(("change", "told"), CHANGES)
def test_what_changes_is_told_by_name(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], told: dict[str, Any]
) -> None:
    old, new = config(tmp_path), config(tmp_path, change)
    assert differences(old, new) == told
    assert fixed_changes(old, new) == []
    assert taken_over(old, new) == new
    assert SECRET not in str(differences(old, new))


def test_the_order_of_rules_is_a_change_of_its_own(tmp_path: Path) -> None:
    def ordered(*globs: str) -> Config:
        return config(tmp_path, lambda whole: whole.update(rules=[{"match": glob} for glob in globs]))

    assert differences(ordered("a/**", "b/**"), ordered("b/**", "a/**")) == {"rules": {"reordered": True}}


def test_what_only_a_start_can_change_is_named_and_stays(tmp_path: Path) -> None:
    old = config(tmp_path)

    def change(whole: dict[str, Any]) -> None:
        whole["cache"]["capacity"] = "2GiB"
        whole["node"]["workers"] = 3
        whole["limits"] = {"drain_timeout": "1s"}
        whole["admin"] = {"token": "t" * 20}
        whole["mounts"] = []

    new = config(tmp_path, change)
    assert fixed_changes(old, new) == [
        "node.workers",
        "cache.capacity",
        "admin.token",
        "limits.drain_timeout",
    ]
    kept = taken_over(old, new)
    assert fixed_changes(old, kept) == []
    assert kept.mounts == ()


def test_a_machine_that_was_renamed_is_no_change_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = config(tmp_path, lambda whole: whole["node"].pop("name"))
    monkeypatch.setattr("socket.gethostname", lambda: "renamed")
    new = config(tmp_path, lambda whole: whole["node"].pop("name"))
    assert old.node.name != new.node.name
    assert fixed_changes(old, new) == []
    assert taken_over(old, new).node.name == old.node.name
    assert fixed_changes(old, config(tmp_path, lambda whole: whole["node"].update(name="x"))) == ["node.name"]
