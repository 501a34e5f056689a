from __future__ import annotations

import os
import threading

from gateway.aio import Threads


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


async def test_threads_stand_back_by_themselves() -> None:
    """Their niceness is not that of the event loop."""
    before = niceness()
    modest, plain = Threads("modest", 1, nice=before + 3), Threads("plain", 1)
    assert await modest.run(niceness) == before + 3
    assert await plain.run(niceness) == before
    assert niceness() == before
    modest.close()
    plain.close()
