"""What every command promises: exit codes, one line for what goes wrong, and no waiting for what is not needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from gateway import __version__
from gateway.cli import main
from tests.unit.cli.cli import gateway


def test_version_and_help() -> None:
    assert gateway("--version") == (0, f"gateway {__version__}\n", "")
    status, out, err = gateway("--help")
    assert (status, err) == (0, "")
    for name in main.COMMANDS:
        assert f"  {name} " in out


@pytest.mark.parametrize(
    "arguments", [["nope"], ["serve", "--nope"], ["config", "check"], ["status", "--admin", "x:y:z"]]
)
def test_bad_usage_is_2_without_a_traceback(arguments: list[str]) -> None:
    status, _, err = gateway(*arguments)
    assert status == 2
    assert "Error: " in err
    assert "Traceback" not in err


def test_a_command_imports_no_other_ones_libraries() -> None:
    script = (
        "import sys; from gateway.cli.main import run; run(['--help']);"
        "print([name for name in ('aiohttp', 'rich', 'pydantic', 'lmdb', 'botocore') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.endswith("\n[]\n")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """Puts a command `fail` in; it raises what is in the list."""
    raised: list[BaseException] = []
    module = ModuleType("tests.failing")

    def command() -> None:
        raise raised[0]

    module.command = command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(main.COMMANDS, "fail", main.Command(module.__name__, "Fails."))
    monkeypatch.delenv("GATEWAY_DEBUG", raising=False)
    return iter([raised])


def test_an_unexpected_error_is_one_line_and_1(
    failing: Iterator[list[BaseException]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    next(failing).append(RuntimeError("two\nlines"))
    assert main.run(["fail"]) == 1
    assert capsys.readouterr().err == "gateway: RuntimeError: two lines (GATEWAY_DEBUG=1 shows where)\n"
    monkeypatch.setenv("GATEWAY_DEBUG", "0")  # so that what --debug sets is taken back
    with pytest.raises(RuntimeError):
        main.run(["--debug", "fail"])


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m gateway.cli.main --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
