"""The process log hides secrets at every level and survives a terminal that went away. In processes of their own:
logging is set up once per process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.telemetry.logging import mask

SECRETS = ("wJalrXUtnFEMI", "deadbeef01", "tokentoken")
PROGRAM = f"""
import logging, structlog
from gateway.telemetry.logging import setup
log = structlog.get_logger()
setup("debug", "%s", worker=3)
log.debug("a", secret_key="{SECRETS[0]}", headers={{"Authorization": "AWS4 {SECRETS[1]}"}})
log.info("b", url="http://h/b?X-Amz-Signature={SECRETS[1]}&x=1", session_token="{SECRETS[2]}")
log.warning("c", header="Authorization: AWS4-HMAC-SHA256 Credential=AK, Signature={SECRETS[1]}")
try:
    token = "{SECRETS[2]}"
    raise ValueError("refused: secret_key={SECRETS[0]}")
except ValueError as error:
    log.error("d", error=error, exc_info=error)
    logging.getLogger("botocore").warning("retry Signature=%%s", "{SECRETS[1]}")
logging.getLogger("botocore").info("request {SECRETS[0]}")
log.info("e", key="\\x1b[2J\\x07")
"""


def output(form: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM % form], stderr=subprocess.PIPE, check=True, timeout=30, text=True
    )
    return done.stderr


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_secret_at_any_level(form: str) -> None:
    text = output(form)
    for secret in SECRETS:
        assert secret not in text.replace("token = ", "")
    assert text.count("***") >= 6


def test_lines_are_json_and_carry_the_worker() -> None:
    lines = [json.loads(line) for line in output("auto").splitlines()]
    assert [line["event"] for line in lines][:4] == ["a", "b", "c", "d"]
    assert {line["worker"] for line in lines} == {3}
    assert "ValueError" in lines[3]["exception"]


def test_keys_of_clients_drive_no_terminal() -> None:
    assert "\x1b" not in output("console")


def test_a_log_that_cannot_be_written_harms_nobody(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    marker = tmp_path / "reached"
    program = PROGRAM % "json" + f"\nopen({str(marker)!r}, 'w').close()"
    subprocess.run([sys.executable, "-c", program], stderr=writer, check=True, timeout=30)
    os.close(writer)
    assert marker.exists()


@pytest.mark.parametrize(
    ("event", "masked"),
    [
        ({"count": 3, "key": "data/x"}, {"count": 3, "key": "data/x"}),
        ({"Authorization": "x"}, {"Authorization": "***"}),
        ({"nested": {"list": [{"secret": 1}]}}, {"nested": {"list": [{"secret": "***"}]}}),
        ({"text": "Bearer token: abc, more"}, {"text": "Bearer token: ***, more"}),
    ],
)
def test_mask(event: dict[str, Any], masked: dict[str, Any]) -> None:
    assert mask(None, "info", event) == masked
