"""What a machine may lack: the tests that need it are skipped, but for a run that must be whole.

`GATEWAY_TESTS_WHOLE=1` says that it must: what is missing then fails, because a run that nobody reads to its end (CI)
would pass without an origin's or a client's tests for good."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

VARIABLE = "GATEWAY_TESTS_WHOLE"


def whole() -> bool:
    return os.environ.get(VARIABLE, "") not in ("", "0")


def lacking(what: str) -> NoReturn:
    """Ends the test. `what`: the thing, and where it comes from."""
    if whole():
        pytest.fail(f"{what}; {VARIABLE} is set", pytrace=False)
    pytest.skip(what)


# In a whole run they fail by themselves.
needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None and not whole(), reason="no openssl to make a certificate"
)
