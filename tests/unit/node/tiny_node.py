"""A supervisor over tiny workers, as a process: `python -m tests.unit.node.tiny_node CONFIG`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gateway.config import load
from gateway.node import supervisor

if __name__ == "__main__":
    config = load.load(Path(sys.argv[1]), os.environ)
    argv = [sys.executable, "-m", "tests.unit.node.tiny_worker"]
    sys.exit(supervisor.run(config, lambda line: print(line, flush=True), worker_argv=argv))
