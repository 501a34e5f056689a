"""Origins of a config."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

import pytest

from gateway.config.schema import Config, OriginConfig
from gateway.errors import Unsupported
from gateway.origins.factory import make_origins


async def test_what_is_made_before_one_that_cannot_be_has_nothing_open(tmp_path: Path) -> None:
    """A refused reload may come as often as somebody tries; a warning of what was not closed would fail the test."""
    for module in ("azure.identity.aio", "google.auth"):
        pytest.importorskip(module)
    config = Config(
        origins=(
            OriginConfig(name="nas", type="file", root=str(tmp_path)),
            OriginConfig(name="blobs", type="azure", access_key="account"),
            OriginConfig(name="google", type="gcs"),
            OriginConfig(name="lake", type="s3"),
            OriginConfig(name="broken", type="s3", ca_file=os.devnull),
        )
    )
    before = _open()
    with pytest.raises(Unsupported, match="broken"):
        make_origins(config)
    assert _open() == before
    gc.collect()


def _open() -> tuple[list[str], int]:
    return sorted(os.listdir("/proc/self/fd")), threading.active_count()
