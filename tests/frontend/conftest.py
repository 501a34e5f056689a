from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.frontend import harness
from tests.frontend.harness import Door, File


@pytest.fixture
def door() -> Iterator[Door]:
    with harness.door() as opened:
        yield opened


@pytest.fixture
def data(door: Door, tmp_path: Path) -> bytes:
    """5 MB in the file that /file and /hotfile send."""
    content = os.urandom(5_000_000)
    (tmp_path / "data").write_bytes(content)
    door.app.files["data"] = File(tmp_path / "data")
    return content
