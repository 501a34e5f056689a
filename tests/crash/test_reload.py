"""A node whose config changes under load: no request fails over it, and from the answer to a reload on every request
is judged by the new config, on every worker.

The load is what a training job does: random ranges whose bytes are compared with the truth, uploads that are read back,
connections that are kept. Retries are switched off: a failed request is a failed test.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests import stores, targets
from tests.gateway_process import EVERYTHING, Gateway, identity, on, secret_of
from tests.processes import wait_for
from tests.stores import REGION

MIB = 1 << 20
RELOADS = 15
SIZES = [700, 40_000, MIB + 1, 6 * MIB + 17]
# Connections that are opened anew until both workers have most likely had one: 2^-7 that one has not.
CONNECTIONS = 8


@pytest.fixture(scope="module")
def truth() -> dict[str, bytes]:
    rng = random.Random(11)
    return {f"set/{number}-{size}": rng.randbytes(size) for number, size in enumerate(SIZES * 4)}


class World:
    """A node with a mount that stays, one whose origin `turn` is at another root from reload to reload, and an
    identity that may and may not read."""

    def __init__(self, directory: Path, truth: Mapping[str, bytes]) -> None:
        self.roots = [directory / "even", directory / "odd"]
        self.stays = directory / "stays"
        for root, letter in zip(self.roots, b"EO", strict=True):
            (root / "bucket").mkdir(parents=True)
            (root / "bucket" / "k").write_bytes(bytes([letter]) * 50_000)
        for key, body in truth.items():
            path = self.stays / "bucket" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        self.gateway = Gateway(
            directory / "node",
            **self.config(0),
            settings={"limits": {"drain_timeout": "30s"}, "log": {"level": "info"}},
        )

    def config(self, number: int) -> dict[str, Any]:
        visitor = [on("data")] if number % 2 == 0 else [on("turn")]
        return {
            "origins": [
                {"name": "stays", "type": "file", "root": str(self.stays)},
                {"name": "turn", "type": "file", "root": str(self.roots[number % 2])},
                {"name": f"extra{number}", "type": "file", "root": str(self.stays)},
            ],
            "mounts": [
                {"path": "data", "origin": "stays", "remote": "bucket"},
                {"path": "turn", "origin": "turn", "remote": "bucket"},
                {"path": f"only-{number}", "origin": f"extra{number}", "remote": "bucket"},
            ],
            "rules": [{"match": "**", "consistency": "immutable" if number % 3 else "60s"}],
            "identities": [identity("trainer", [EVERYTHING]), identity("visitor", visitor)],
        }

    def reload(self, number: int) -> dict[str, Any]:
        """Through the admin API, as most would."""
        self.gateway.rewrite(**self.config(number))
        status, body = self.gateway.admin("/api/v1/reload", "POST")
        answer: dict[str, Any] = json.loads(body)
        assert status == 200, answer
        return answer

    def assert_obeyed(self, number: int) -> None:
        """By every worker, from the first request on, by the hot path and the handlers."""
        allowed, denied = ("data/set/0-700", "turn/k") if number % 2 == 0 else ("turn/k", "data/set/0-700")
        asked = [
            ("trainer", "turn/k", 200, bytes([b"EO"[number % 2]]) * 50_000),
            ("trainer", f"only-{number}/set/0-700", 200, b""),
            ("trainer", f"only-{number - 1}/set/0-700", 404, b"NoSuchBucket"),
            ("visitor", allowed, 200, b""),
            ("visitor", denied, 403, b"AccessDenied"),
        ]
        for who, path, status, body in asked:
            url = f"{self.gateway.endpoint}/{path}"
            headers = signed(url, who)
            for _ in range(CONNECTIONS):
                with urllib3.PoolManager() as one_connection:
                    got = one_connection.request("GET", url, headers=headers, retries=False)
                assert (got.status, body in got.data) == (status, True), (who, path, got.data[:300])


def signed(url: str, who: str) -> dict[str, str]:
    request = AWSRequest("GET", url)
    S3SigV4Auth(Credentials(f"AK{who.upper()}", secret_of(who)), "s3", REGION).add_auth(request)
    return dict(request.headers)


@contextmanager
def impatient(gateway: Gateway, name: str = "trainer") -> Iterator[Any]:
    with closing(
        gateway.client(name, config={"retries": {"total_max_attempts": 1}, "read_timeout": 30})
    ) as client:
        yield client


def fetch(client: Any, bucket: str, key: str) -> bytes:
    return bytes(client.get_object(Bucket=bucket, Key=key)["Body"].read())


def refusal(client: Any, bucket: str, key: str) -> str:
    with pytest.raises(ClientError) as error:
        client.get_object(Bucket=bucket, Key=key)
    return str(error.value.response["Error"]["Code"])


@pytest.fixture
def world(tmp_path: Path, truth: dict[str, bytes]) -> Iterator[World]:
    world = World(tmp_path, truth)
    with world.gateway:
        yield world


class Load:
    """Threads that work until they are told to stop; `end` raises what any of them met. `patient`: what a kill cuts
    off is tried again, as the loop around a training step does."""

    def __init__(self, world: World, truth: Mapping[str, bytes], *, patient: bool = False) -> None:
        self._gateway, self._truth, self._patient = world.gateway, truth, patient
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(4)
        kinds = (self._read, self._read, self._write, self._read_turning)
        self._done = [self._pool.submit(self._run, kind, seed) for seed, kind in enumerate(kinds)]

    def _run(self, kind: Callable[[Any, random.Random, int], None], seed: int) -> int:
        rng, count = random.Random(seed), 0
        attempts = 8 if self._patient else 1
        retries = {"mode": "standard", "total_max_attempts": attempts}
        with closing(self._gateway.client(config={"retries": retries})) as client:
            while not self._stop.is_set():
                kind(client, rng, count)
                count += 1
        return count

    def _whole(self, read: Callable[[], bytes]) -> bytes:
        """A body that a kill cut off is read again, which stock clients leave to their caller."""
        for _ in range(4 if self._patient else 0):
            try:
                return read()
            except Exception:
                continue
        return read()

    def _read(self, client: Any, rng: random.Random, count: int) -> None:
        key, body = rng.choice(list(self._truth.items()))
        start = rng.randrange(len(body))
        stop = min(len(body), start + rng.choice([1, 4096, 100_000, 2 * MIB]))
        span = f"bytes={start}-{stop - 1}"
        got = self._whole(lambda: bytes(client.get_object(Bucket="data", Key=key, Range=span)["Body"].read()))
        assert got == body[start:stop], f"{key} {span}"

    def _write(self, client: Any, rng: random.Random, count: int) -> None:
        key, body = f"written/{count % 7}", rng.randbytes(rng.choice([100, 70_000]))
        client.put_object(Bucket="data", Key=key, Body=body)
        assert self._whole(lambda: fetch(client, "data", key)) == body

    def _read_turning(self, client: Any, rng: random.Random, count: int) -> None:
        got = self._whole(lambda: fetch(client, "turn", "k"))
        assert got in (b"E" * 50_000, b"O" * 50_000)

    def end(self) -> list[int]:
        self._stop.set()
        counts = [done.result() for done in self._done]
        self._pool.shutdown()
        return counts


def test_no_request_fails_while_the_config_changes_again_and_again(
    world: World, truth: dict[str, bytes]
) -> None:
    load = Load(world, truth)
    with impatient(world.gateway) as client:
        url = client.generate_presigned_url("get_object", {"Bucket": "data", "Key": "set/0-700"})
    with urllib3.HTTPConnectionPool("127.0.0.1", world.gateway.port, maxsize=1, block=True) as kept:
        for number in range(1, RELOADS + 1):
            answer = kept.urlopen("GET", url, retries=False)
            assert (answer.status, answer.data) == (200, truth["set/0-700"])
            world.reload(number)
            world.assert_obeyed(number)
        assert kept.num_connections == 1  # a connection outlives what was decided when it was opened
    counts = load.end()
    assert all(counts)
    assert world.gateway.metrics().total("workers_restarted_total") == 0
    print(f"{RELOADS} reloads, requests of the load: {counts}, failed: 0")
    assert world.gateway.stop() == 0


def test_nor_when_a_worker_is_killed_in_between(world: World, truth: dict[str, bytes]) -> None:
    load, gateway = Load(world, truth, patient=True), world.gateway
    for number in range(1, 7):
        victim = gateway.worker_pids()[number % 2]
        if number % 2:
            os.kill(victim, signal.SIGKILL)  # the reload meets a node that is replacing a worker
            world.reload(number)
        else:
            world.reload(number)
            os.kill(victim, signal.SIGKILL)  # its replacement starts with the newest config
        wait_for(
            "the killed worker is replaced",
            lambda n=number: (
                gateway.metrics().total("workers_restarted_total") == n  # type: ignore[misc]
                and gateway.admin("/health/ready")[0] == 200
            ),
        )
        world.assert_obeyed(number)
    assert all(load.end())


def test_an_origin_that_is_made_anew_fails_nothing(tmp_path: Path, truth: dict[str, bytes]) -> None:
    """The same store with another bound on its connections: the old origin's are closed behind its last user, while
    cold reads, uncached reads and uploads go through both."""
    server = stores.Rclone(tmp_path)
    gateway = targets.gateway_over(tmp_path / "gateway", origin := targets.s3_origin(server))
    stop = threading.Event()

    def read_and_write(seed: int) -> int:
        rng, count = random.Random(seed), 0
        with impatient(gateway) as client:
            while not stop.is_set():
                key, body = f"{seed}/{count % 9}", rng.randbytes(rng.choice([900, 300_000]))
                for bucket in ("data", "uncached", "strict"):
                    client.put_object(Bucket=bucket, Key=key, Body=body)
                    assert fetch(client, bucket, key) == body
                count += 1
        return count

    with gateway, ThreadPoolExecutor(3) as pool:
        done = [pool.submit(read_and_write, seed) for seed in range(3)]
        try:
            for number in range(RELOADS):
                gateway.rewrite(origins=[{**origin, "connections_max": 10 + number}])
                status, answer = gateway.admin("/api/v1/reload", "POST")
                assert (status, json.loads(answer)["changed"]) == (200, {"origins": {"changed": ["lake"]}})
                before = requests(gateway)
                wait_for("a request ends", lambda n=before: requests(gateway) > n)  # type: ignore[misc]
        finally:
            stop.set()
        assert all(one.result() for one in done)
        assert gateway.metrics().total("workers_restarted_total") == 0
        assert "closing origins that are still used" not in gateway.output()
    server.stop()


def requests(gateway: Gateway) -> float:
    return gateway.metrics().total("requests_total")


def test_an_answer_under_way_ends_as_it_began(world: World, truth: dict[str, bytes]) -> None:
    """Its origin is gone, its mount, and the identity that asked for it."""
    big = random.Random(3).randbytes(48 * MIB)
    (world.roots[0] / "bucket" / "big").write_bytes(big)
    with impatient(world.gateway) as client:
        body = client.get_object(Bucket="turn", Key="big")["Body"]
        got = bytearray(body.read(100_000))
        world.gateway.rewrite(
            origins=[{"name": "stays", "type": "file", "root": str(world.stays)}],
            mounts=[{"path": "data", "origin": "stays", "remote": "bucket"}],
            identities=[identity("visitor", [EVERYTHING])],
        )
        assert world.gateway.admin("/api/v1/reload", "POST")[0] == 200
        assert refusal(client, "turn", "k") == "InvalidAccessKeyId"
        with impatient(world.gateway, "visitor") as visitor:
            assert refusal(visitor, "turn", "k") == "NoSuchBucket"
        got += body.read()
    assert bytes(got) == big


def test_what_was_cached_of_an_origin_is_not_served_for_another_under_its_name(world: World) -> None:
    """Nor after a restart, by a rule that never asks again."""
    for number in (1, 2, 1):
        world.gateway.rewrite(**immutable(world.config(number)))
        assert world.gateway.admin("/api/v1/reload", "POST")[0] == 200
        with impatient(world.gateway) as client:
            for _ in range(2):
                assert fetch(client, "turn", "k")[:1] == b"EO"[number % 2 : number % 2 + 1]
    assert world.gateway.stop() == 0
    world.gateway.rewrite(**immutable(world.config(2)))
    world.gateway.start()
    with impatient(world.gateway) as client:
        assert fetch(client, "turn", "k")[:1] == b"E"


def immutable(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "rules": [{"match": "**", "consistency": "immutable"}]}
