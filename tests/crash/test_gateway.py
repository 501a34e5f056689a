"""A whole node in trouble: workers and nodes killed under load, damaged segments, an origin that goes away, a drain.

Real processes, real sockets, stock boto3; every byte that comes back is compared with the truth.
"""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests import stores, targets
from tests.gateway_process import Gateway
from tests.processes import free_port, wait_for
from tests.whole import lacking

MIB = 1 << 20
SIZES = [0, 1, 700, 40_000, MIB - 1, MIB, MIB + 1, 3 * MIB + 17, 20 * MIB + 5]


@pytest.fixture(scope="module")
def truth() -> dict[str, bytes]:
    rng = random.Random(7)
    return {f"set/{number}-{size}": rng.randbytes(size) for number, size in enumerate(SIZES)}


@pytest.fixture
def node(tmp_path: Path, truth: dict[str, bytes]) -> Iterator[Gateway]:
    """Two workers over a directory that holds the truth."""
    root = tmp_path / "origin"
    gateway = targets.gateway_over(tmp_path, targets.file_origin(root))
    for key, body in truth.items():
        path = root / "lake-data" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    with gateway:
        yield gateway


def patient(gateway: Gateway) -> Any:
    """A client that tries again, as training jobs do."""
    return gateway.client(
        config={"retries": {"mode": "standard", "total_max_attempts": 8}, "read_timeout": 20}
    )


def read(client: Any, key: str, start: int, stop: int) -> bytes:
    got = client.get_object(Bucket="data", Key=key, Range=f"bytes={start}-{stop - 1}")
    return bytes(got["Body"].read())


def random_reads(
    gateway: Gateway, truth: dict[str, bytes], seed: int, least: int, enough: threading.Event
) -> int:
    """At least so many, and until it is enough; how many they were."""
    rng, client, count = random.Random(seed), patient(gateway), 0
    keys = [key for key, body in truth.items() if body]
    while count < least or not enough.is_set():
        count += 1
        key = rng.choice(keys)
        body = truth[key]
        start = rng.randrange(len(body))
        stop = min(len(body), start + rng.choice([1, 4096, 100_000, 2 * MIB]))
        for attempt in range(5):
            try:
                got = read(client, key, start, stop)
                break
            except Exception:  # a body cut by the kill: stock clients leave that retry to their caller
                if attempt == 4:
                    raise
        assert got == body[start:stop], f"{key} [{start}, {stop})"
    client.close()
    return count


def test_thousands_of_random_ranges_are_right_while_workers_are_killed(
    node: Gateway, truth: dict[str, bytes]
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    with ThreadPoolExecutor(4) as pool:
        killed = threading.Event()
        readers = [pool.submit(random_reads, node, truth, seed + number, 600, killed) for number in range(4)]
        try:
            for _ in range(3):
                node.kill_worker()
        finally:
            killed.set()
        print(f"{sum(reader.result() for reader in readers)} reads")
    metrics = node.metrics()
    assert metrics.total("workers_restarted_total") == 3
    assert metrics.total("corrupt_blocks_total") == 0


def test_counters_never_go_backwards_when_a_worker_dies(node: Gateway, truth: dict[str, bytes]) -> None:
    client = patient(node)
    for _ in range(40):
        client.head_object(Bucket="data", Key="set/2-700")
    before = node.settled_metrics(40).counters()
    node.kill_worker()
    client.head_object(Bucket="data", Key="set/2-700")
    after = node.settled_metrics(41).counters()
    assert all(after.get(series, 0) >= value for series, value in before.items())


def test_a_killed_node_comes_back_warm(node: Gateway, truth: dict[str, bytes]) -> None:
    client = patient(node)
    for key, body in truth.items():
        assert client.get_object(Bucket="data", Key=key)["Body"].read() == body
    blocks = sum(-(-len(body) // MIB) for body in truth.values())
    wait_for("every block is written", lambda: node.metrics().total("committed_blocks_total") >= blocks)
    node.kill()
    node.start()
    client = patient(node)
    for key, body in truth.items():
        assert client.get_object(Bucket="data", Key=key)["Body"].read() == body
    metrics = node.settled_metrics(len(truth))
    assert metrics.total("origin_bytes_total", direction="in") == 0
    assert metrics.total("verified_blocks_total") > 0  # nothing from the disk is served unchecked


def test_a_damaged_segment_is_noticed_dropped_and_fetched_again(
    node: Gateway, truth: dict[str, bytes]
) -> None:
    client = patient(node)
    for key in truth:
        client.get_object(Bucket="data", Key=key)["Body"].read()
    assert node.stop() == 0
    for path in (node.directory / "data" / "cache" / "segments").glob("*.seg"):
        data = bytearray(path.read_bytes())
        for at in range(10_000, len(data), 300_000):
            data[at] ^= 0x55
        path.write_bytes(data)
    node.start()
    client = patient(node)
    for _ in range(2):
        for key, body in truth.items():
            assert client.get_object(Bucket="data", Key=key)["Body"].read() == body
    wait_for("damage is counted", lambda: node.metrics().total("corrupt_blocks_total") > 0)


def test_a_lost_index_is_rebuilt_from_the_segments(node: Gateway, truth: dict[str, bytes]) -> None:
    client = patient(node)
    for key in truth:
        client.get_object(Bucket="data", Key=key)["Body"].read()
    assert node.stop() == 0
    index = node.directory / "data" / "cache" / "index" / "data.mdb"
    index.write_bytes(b"\xff" * 4096 + index.read_bytes()[4096:])
    node.start()
    wait_for("the index is rebuilt", lambda: node.metrics().total("index_rebuilt_total") == 1)
    client = patient(node)
    for key, body in truth.items():
        assert client.get_object(Bucket="data", Key=key)["Body"].read() == body


def test_without_its_origin_fresh_data_is_served_and_the_rest_asks_to_retry(tmp_path: Path) -> None:
    server = stores.Rclone(tmp_path)
    origin = {**targets.s3_origin(server), "deadline": "3s"}  # until then the gateway itself tries again
    with targets.gateway_over(tmp_path / "gateway", origin) as gateway:
        client = gateway.client(config={"retries": {"total_max_attempts": 1}})
        client.put_object(Bucket="data", Key="known", Body=b"k" * 5000)
        client.put_object(Bucket="data", Key="unknown", Body=b"u" * 5000)
        assert client.get_object(Bucket="data", Key="known")["Body"].read() == b"k" * 5000
        server.stop()
        for _ in range(3):
            assert client.get_object(Bucket="data", Key="known")["Body"].read() == b"k" * 5000
            client.head_object(Bucket="data", Key="known")
        for _ in range(2):  # and an error is not remembered as an answer
            with pytest.raises(ClientError) as error:
                client.get_object(Bucket="data", Key="unknown")
            answer = error.value.response
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 503
            assert answer["Error"]["Code"] in ("ServiceUnavailable", "SlowDown")
        again = stores.Rclone(tmp_path, server.port)
        assert client.get_object(Bucket="data", Key="unknown")["Body"].read() == b"u" * 5000
        again.stop()


def test_a_drain_lets_the_answer_under_way_end(node: Gateway, truth: dict[str, bytes]) -> None:
    key = next(key for key in truth if key.endswith(str(20 * MIB + 5)))
    body = node.client().get_object(Bucket="data", Key=key)["Body"]
    got = bytearray(body.read(100_000))
    stopping = threading.Thread(target=node.stop)
    stopping.start()
    wait_for("it takes no more connections", lambda: not _accepts(node.port))
    got += body.read()
    stopping.join()
    assert bytes(got) == truth[key]
    assert node.child is not None
    assert node.child.process.returncode == 0


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        gateway = targets.gateway_over(
            tmp_path,
            targets.file_origin(tmp_path / "origin"),
            settings={"listen": {"s3": f"127.0.0.1:{port}", "admin": f"127.0.0.1:{free_port()}"}},
        )
        with pytest.raises(AssertionError):
            gateway.start()
        lines = [line for line in gateway.output().splitlines() if line.strip()]
        assert any(str(port) in line for line in lines)
        assert "Traceback" not in gateway.output()


def test_a_disk_without_room_costs_nothing_but_the_cache(tmp_path: Path, truth: dict[str, bytes]) -> None:
    """The file system is smaller than what the cache always leaves free: nothing may be kept, all is read."""
    import subprocess

    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        lacking("a small file system can only be mounted as root")
    try:
        root = tmp_path / "origin"
        settings = {"node": {"data_dir": str(small)}}
        with targets.gateway_over(tmp_path, targets.file_origin(root), settings=settings) as gateway:
            for key, body in truth.items():
                path = root / "lake-data" / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(body)
            client = patient(gateway)
            for _ in range(2):
                for key, body in truth.items():
                    assert client.get_object(Bucket="data", Key=key)["Body"].read() == body
            assert gateway.admin("/health/ready")[0] == 200
            wait_for("the operator is told", lambda: gateway.metrics().total("disk_full") == 1)
    finally:
        subprocess.run(["umount", small], check=True)
