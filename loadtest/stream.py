"""A client of its own that streams large objects, one after another, as a subprocess beside a measured one.

    python -m loadtest.stream PORT PREFIX SIZE COUNT SECONDS

reads COUNT objects once each, as many as fit SECONDS, and prints `ready`, then at its end the bytes and
seconds as JSON. It runs in the idle class and reads little at a time: both clients may share a core, and what
is measured is how long the server keeps the other one waiting.
"""

from __future__ import annotations

import json
import os
import sys
import time

from loadtest import pattern, peers
from loadtest.client import Generator, gets
from loadtest.signing import Signer

READ_BYTES = 128 << 10


def main() -> None:
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    port, prefix, size, count, seconds = sys.argv[1:]
    keys = [pattern.key_for(prefix, int(size), number) for number in range(int(count))]
    calls = gets(Signer(peers.KEYS, f"127.0.0.1:{port}"), peers.BUCKET, keys, check_every=1 << 30)
    print("ready", flush=True)
    with Generator(int(port), 1, drop_bytes=READ_BYTES) as generator:
        outcome = generator.run(calls, seconds_max=120, until=time.monotonic() + float(seconds))
    print(json.dumps({"bytes": outcome.body_bytes, "seconds": outcome.seconds}))


if __name__ == "__main__":
    main()
