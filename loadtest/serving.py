"""What the origin and the relay share: serve on uvloop, announce the ports, end with the parent."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections.abc import Callable, Mapping

import uvloop

HOST = "127.0.0.1"
BACKLOG = 4096

Factory = Callable[[], asyncio.BaseProtocol]


def serve_until_stdin_closes(listeners: Mapping[str, tuple[int, Factory]]) -> None:
    """Listens with each factory on its port (0: any), prints `{name: port}`, returns when stdin is at its
    end.
    """
    uvloop.run(_serve(listeners))


async def _serve(listeners: Mapping[str, tuple[int, Factory]]) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), lambda: None if os.read(sys.stdin.fileno(), 1024) else ended.set())
    ports: dict[str, int] = {}
    servers = []
    for name, (port, factory) in listeners.items():
        server = await loop.create_server(factory, HOST, port, backlog=BACKLOG)
        ports[name] = server.sockets[0].getsockname()[1]
        servers.append(server)
    gc.freeze()
    print(json.dumps(ports), flush=True)
    await ended.wait()
    for server in servers:
        server.close()
