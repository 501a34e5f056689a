"""A supervisor over tiny workers, as a process: `python -m tests.unit.node.tiny_node CONFIG`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gateway.config import load
from gateway.node import supervisor

if __name__ == "__main__":
    environ = dict(os.environ)
    config = load.load(Path(sys.argv[1]), environ)
    argv = [sys.executable, "-m", "tests.unit.node.tiny_worker"]
    reread = (lambda: load.load(Path(sys.argv[1]), environ)) if "--no-reload" not in sys.argv else None
    sys.exit(supervisor.run(config, lambda line: print(line, flush=True), reread=reread, worker_argv=argv))
