"""From one `[[origins]]` entry to an Origin, for the composition root."""

from __future__ import annotations

from typing import Any

from gateway.errors import Unsupported
from gateway.origins.base import Origin
from gateway.origins.file import FileOrigin


def make_origin(config: Any, observer: Any = None) -> Origin:
    if config.type == "file":
        return FileOrigin(config.name, config.root)
    raise Unsupported(f"Origin type {config.type!r}")
