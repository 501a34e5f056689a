"""The tests' own word on what a machine lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import stores, whole
from tests.clients import programs


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stores, "VENVS", tmp_path)


@pytest.mark.parametrize("value", ["", "0"])
def test_what_is_missing_is_skipped(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(whole.VARIABLE, value)
    with pytest.raises(pytest.skip.Exception, match=r"no aws in \.venvs/awscli"):
        programs.program("awscli", "aws")


def test_what_is_missing_fails_a_run_that_must_be_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(whole.VARIABLE, "1")
    with pytest.raises(pytest.fail.Exception, match=r"no aws in \.venvs/awscli"):
        programs.program("awscli", "aws")


def test_in_a_machine_that_has_all_nothing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(whole.VARIABLE, "1")
    path = tmp_path / "awscli/bin/aws"
    path.parent.mkdir(parents=True)
    path.touch()
    assert programs.program("awscli", "aws") == path
