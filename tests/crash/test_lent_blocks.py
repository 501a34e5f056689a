"""Two workers that read one cold block at once, of which only one fetches it: what the other gives its readers, before
the block is whole, and when the one that fetches is killed."""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.gateway_process import Gateway
from tests.processes import wait_for

BODY = random.Random(3).randbytes((1 << 20) + 4321)
PIECE = 100_000
# Connections are dealt out to the workers by a hash: that one of the two gets none of so many does not happen.
READERS = 24


class Held(ThreadingHTTPServer):
    """An S3 origin of one object. It sends the first piece of a body and keeps the rest until `gate` is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.gate = threading.Event()
        self.gets = 0


class Answer(BaseHTTPRequestHandler):
    server: Held
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._head(200, len(BODY))

    def _head(self, status: int, length: int, *more: tuple[str, str]) -> None:
        self.send_response(status)
        self.send_header("ETag", '"0123456789abcdef0123456789abcdef"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("Content-Length", str(length))
        for name, value in more:
            self.send_header(name, value)
        self.end_headers()

    def do_GET(self) -> None:
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last) + 1, len(BODY))
        self.server.gets += 1
        self._head(206, stop - start, ("Content-Range", f"bytes {start}-{stop - 1}/{len(BODY)}"))
        try:
            self.wfile.write(BODY[start : min(start + PIECE, stop)])
            self.server.gate.wait()
            self.wfile.write(BODY[min(start + PIECE, stop) : stop])
        except OSError:  # the worker that asked was killed
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def held() -> Iterator[Held]:
    server = Held()
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield server
    server.gate.set()
    server.shutdown()
    serving.join()
    server.server_close()


class Reader:
    """One GET over a connection of its own. `got` is what came before the end, or before the connection broke."""

    def __init__(self, url: str) -> None:
        self.url = urlsplit(url)
        self.first = threading.Event()
        self.got = b""
        self.status = 0

    def read(self) -> None:
        assert self.url.hostname is not None
        connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=30)
        try:
            connection.request("GET", f"{self.url.path}?{self.url.query}")
            response = connection.getresponse()
            self.status = response.status
            while piece := response.read1(PIECE):
                self.got += piece
                self.first.set()
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()


@pytest.mark.parametrize("victim", [0, 1])  # one of the two is the owner
def test_every_reader_has_its_first_bytes_early_and_survives_the_other_worker(
    tmp_path: Path, held: Held, victim: int
) -> None:
    endpoint = f"http://127.0.0.1:{held.server_port}"
    origin = {"name": "o", "type": "s3", "endpoint": endpoint, "access_key": "a", "secret_key": "s"}
    mount = {"path": "data", "origin": "o", "remote": "data"}
    with Gateway(tmp_path, origins=[origin], mounts=[mount]) as node, ThreadPoolExecutor(READERS) as pool:
        url = node.client().generate_presigned_url("get_object", Params={"Bucket": "data", "Key": "k"})
        readers = [Reader(url) for _ in range(READERS)]
        reading = [pool.submit(reader.read) for reader in readers]
        try:
            wait_for(
                "all have bytes of a block that is not whole", lambda: all(r.first.is_set() for r in readers)
            )
            assert held.gets == 1
            node.kill_worker(victim)
        finally:
            held.gate.set()
        for done in reading:
            done.result()
    assert all(reader.status == 200 for reader in readers)
    assert all(reader.got == BODY[: len(reader.got)] for reader in readers)
    survivors = sum(reader.got == BODY for reader in readers)
    assert 0 < survivors < READERS
    assert held.gets <= 3
