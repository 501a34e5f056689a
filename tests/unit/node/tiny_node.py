"""A supervisor over tiny workers, as a process: `python -m tests.unit.node.tiny_node CONFIG`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from gateway.cache.startup import Prepared
from gateway.config import load
from gateway.node import reload, supervisor

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
close = Prepared.close


def close_between_signals(prepared: Prepared) -> None:
    for number in SIGNALS:
        os.kill(os.getpid(), number)
    close(prepared)


if __name__ == "__main__":
    if "--signals-at-close" in sys.argv:
        Prepared.close = close_between_signals  # type: ignore[method-assign]
    environ = dict(os.environ)
    config = load.load(Path(sys.argv[1]), environ)
    if config.node.name == "stuck":
        supervisor.CLOSE_GRACE_S = 1.0  # type: ignore[misc]
    # As long as busy machines need, no longer: tests have workers that never answer.
    reload.PREPARE_S_MAX, reload.COMMIT_S_MAX = 4.0, 3.0  # type: ignore[misc]
    argv = [sys.executable, "-m", "tests.unit.node.tiny_worker"]
    reread = (lambda: load.load(Path(sys.argv[1]), environ)) if "--no-reload" not in sys.argv else None
    sys.exit(supervisor.run(config, lambda line: print(line, flush=True), reread=reread, worker_argv=argv))
