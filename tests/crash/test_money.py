"""A whole node and its money: what is spent and saved, a budget that is reached, and the ledger over kills and starts.

The price is the highest there may be, so that a mebibyte costs about a dollar."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.gateway_process import Gateway, Metrics
from tests.processes import wait_for

MIB = 1 << 20
PRICE = 1000.0  # dollars per GiB
MIB_DOLLARS = PRICE / 1024
BUDGET = 3.5 * MIB_DOLLARS


def fill(root: Path, **sizes: int) -> dict[str, bytes]:
    """Objects in the one bucket of a directory origin."""
    rng = random.Random(3)
    (root / "lake").mkdir(parents=True)
    made = {name: rng.randbytes(size) for name, size in sizes.items()}
    for name, body in made.items():
        (root / "lake" / name).write_bytes(body)
    return made


def origin(name: str, root: Path, **more: object) -> dict[str, object]:
    return {"name": name, "type": "file", "root": str(root), "egress_price_per_gib": PRICE, **more}


def patient(gateway: Gateway) -> Any:
    return gateway.client(config={"retries": {"mode": "standard", "total_max_attempts": 8}})


def read(client: Any, key: str, bucket: str = "data", **more: str) -> bytes:
    return bytes(client.get_object(Bucket=bucket, Key=key, **more)["Body"].read())


class Books:
    """What is spent and saved, in bytes and dollars, as the metrics say it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._requests = 0
        self._spent = self._saved = 0

    def after(self, requests: int, *, spent: int = 0, saved: int = 0) -> None:
        """So many requests more, and so much more of both; a fill may go on when its reader has gone."""
        self._requests += requests
        self._spent += spent
        self._saved += saved

        def come() -> Metrics | None:
            now = self._gateway.settled_metrics(self._requests)
            return (
                now if now.total("origin_bytes_total", origin="far", direction="in") >= self._spent else None
            )

        now = wait_for("what was fetched is counted", come)
        assert now.total("origin_bytes_total", origin="far", direction="in") == self._spent
        assert now.total("egress_saved_bytes_total", origin="far") == self._saved
        assert now.total("egress_dollars_total", origin="far") == pytest.approx(
            self._spent / MIB * MIB_DOLLARS
        )
        saved_dollars = now.total("egress_saved_dollars_total", origin="far")
        assert saved_dollars == pytest.approx(self._saved / MIB * MIB_DOLLARS)


def test_bytes_are_spent_when_they_come_and_saved_when_they_need_not(tmp_path: Path) -> None:
    far = tmp_path / "far"
    truth = fill(far, whole=3 * MIB + 17, large=20 * MIB, small=700)
    (tmp_path / "near" / "pool").mkdir(parents=True)
    gateway = Gateway(
        tmp_path,
        origins=[origin("far", far), origin("near", tmp_path / "near")],
        mounts=[
            {"path": "data", "origin": "far", "remote": "lake"},
            {"path": "plain", "origin": "far", "remote": "lake"},
            {"path": "copies", "origin": "near", "remote": "pool"},
            {"path": "both", "origin": "near", "remote": "pool/mirrored", "mirror": ["far:lake"]},
        ],
        rules=[{"match": "plain/**", "cache": False}],
    )
    with gateway:
        client, books, size = patient(gateway), Books(gateway), 3 * MIB + 17
        assert read(client, "whole") == truth["whole"]
        books.after(1, spent=size)
        assert read(client, "whole") == truth["whole"]  # a hit
        books.after(1, saved=size)
        assert read(client, "whole", Range="bytes=1048570-1048580") == truth["whole"][1048570:1048581]
        books.after(1, saved=11)
        client.head_object(Bucket="data", Key="whole")
        client.head_object(Bucket="data", Key="small")
        with pytest.raises(ClientError):
            client.head_object(Bucket="data", Key="missing")
        books.after(3)
        assert read(client, "large", Range="bytes=5-10") == truth["large"][5:11]
        books.after(1, spent=MIB)  # a block
        assert read(client, "large") == truth["large"]  # a partial hit
        books.after(1, spent=19 * MIB, saved=MIB)
        for _ in range(2):
            assert read(client, "small", "plain") == truth["small"]
        books.after(2, spent=1400)
        client.put_object(Bucket="data", Key="new", Body=b"n" * 5000)
        client.list_objects_v2(Bucket="data")
        books.after(2)
        client.copy_object(Bucket="copies", Key="copy", CopySource="data/small")
        books.after(1, spent=700)  # through the gateway, to another origin
        client.copy_object(Bucket="data", Key="copy", CopySource="data/whole")
        books.after(1)  # by the origin itself
        assert read(client, "small", "both") == truth["small"]
        books.after(1, spent=700)  # from the place that has it
        before = gateway.metrics().total("egress_saved_bytes_total", origin="near")
        assert read(client, "small", "both") == truth["small"]
        books.after(1)
        assert gateway.metrics().total("egress_saved_bytes_total", origin="near") == before + 700


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Gateway]:
    """Eight cold objects of 1 MiB and one of 2 MiB behind a budget of three and a half."""
    fill(tmp_path / "far", **{f"k{number}": MIB for number in range(8)}, two=2 * MIB)
    (tmp_path / "near" / "pool").mkdir(parents=True)
    gateway = Gateway(
        tmp_path,
        origins=[
            origin("far", tmp_path / "far", budget=BUDGET, budget_action="refuse"),
            origin("near", tmp_path / "near"),
        ],
        mounts=[
            {"path": "data", "origin": "far", "remote": "lake"},
            {"path": "copies", "origin": "near", "remote": "pool"},
        ],
    )
    with gateway:
        yield gateway


def spend(gateway: Gateway) -> Any:
    """Four cold reads and a block of `two`, which is beyond the budget; returns a client once the node refuses."""
    client = patient(gateway)
    for number in range(3):
        read(client, f"k{number}")
    read(client, "two", Range="bytes=0-9")
    refuses(gateway)
    return client


def refuses(gateway: Gateway) -> None:
    def seen() -> bool:
        [far] = [one for one in gateway.status()["origins"] if one["name"] == "far"]
        return far["state"] == "budget" and far["month"]["exceeded"]

    wait_for("the budget is seen to be spent", seen)
    for _ in range(4):  # every worker has heard of it, whichever answers
        wait_for("a cold read is refused", lambda: refused(gateway, "k7"))


def refused(gateway: Gateway, key: str, **more: str) -> str:
    """The sentence of the 403; empty when the read succeeds."""
    client = gateway.client()  # a new connection: any worker may answer
    try:
        read(client, key, **more)
    except ClientError as error:
        answer = error.response
        assert (answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]) == (
            403,
            "AccessDenied",
        )
        assert answer["ResponseMetadata"]["RetryAttempts"] == 0
        return str(answer["Error"]["Message"])
    finally:
        client.close()
    return ""


def month(gateway: Gateway) -> float:
    return gateway.metrics().total("egress_month_dollars", origin="far")


def test_a_spent_budget_refuses_cold_reads_and_nothing_else(node: Gateway) -> None:
    client = spend(node)
    said = refused(node, "k6")
    assert "origin far" in said
    assert "UTC" in said
    # Half of it is here: an error, not an answer that breaks off.
    assert refused(node, "two")
    assert refused(node, "two", Range="bytes=1048570-1048580")
    for _ in range(3):
        for number in range(3):
            assert len(read(client, f"k{number}")) == MIB
        assert len(read(client, "two", Range="bytes=0-99")) == 100
    assert client.head_object(Bucket="data", Key="k5")["ContentLength"] == MIB
    assert client.list_objects_v2(Bucket="data")["KeyCount"] == 9
    client.put_object(Bucket="data", Key="written", Body=b"w")
    client.delete_object(Bucket="data", Key="written")
    client.copy_object(Bucket="data", Key="k0-again", CopySource="data/k0")
    with pytest.raises(ClientError, match="origin far"):
        client.copy_object(Bucket="copies", Key="k6", CopySource="data/k6")
    client.put_object(Bucket="copies", Key="free", Body=b"f")
    assert read(client, "free", "copies") == b"f"  # of another origin
    metrics = node.metrics()
    assert metrics.total("egress_budget_exceeded", origin="far") == 1
    assert metrics.total("egress_budget_dollars", origin="far") == pytest.approx(BUDGET)
    assert month(node) == pytest.approx(4 * MIB_DOLLARS)
    assert node.output().count("budget is spent") == 1
    assert '"level": "error"' not in node.output()


def test_a_killed_worker_and_a_killed_node_keep_the_books(node: Gateway) -> None:
    client = spend(node)
    spent = month(node)
    node.kill_worker()
    refuses(node)
    assert len(read(client, "k0")) == MIB
    assert month(node) == pytest.approx(spent)
    ledger = node.directory / "data" / "egress.json"

    def written() -> bool:
        accounts = list(json.loads(ledger.read_text())["months"].values())[-1] if ledger.exists() else {}
        return accounts.get("far", {}).get("dollars", 0) == pytest.approx(spent)

    wait_for("the ledger is written", written)
    node.kill()
    node.start()
    assert refused(node, "k7")  # from the first request on
    assert len(read(patient(node), "k0")) == MIB
    assert month(node) == pytest.approx(spent)
    assert node.stop() == 0
    node.start()
    assert refused(node, "k7")
    assert month(node) == pytest.approx(spent)
    assert node.output().count("budget is spent") == 1  # told once a month, not once a start


def rewrite(node: Gateway, **changes: tuple[object, object]) -> None:
    text = node.config_file.read_text()
    for key, (old, new) in changes.items():
        assert f'"{key}" = {old}' in text
        text = text.replace(f'"{key}" = {old}', f'"{key}" = {new}')
    node.config_file.write_text(text)


def test_a_higher_budget_lifts_the_order_by_reload_and_by_restart(node: Gateway) -> None:
    spend(node)
    assert node.child is not None
    rewrite(node, budget=(BUDGET, 5.5 * MIB_DOLLARS))
    node.child.process.send_signal(signal.SIGHUP)
    wait_for("the order is lifted", lambda: refused(node, "k3") == "")
    read(patient(node), "k4")
    refuses(node)
    assert node.stop() == 0
    rewrite(node, budget=(5.5 * MIB_DOLLARS, 100))
    node.start()
    assert refused(node, "k5") == ""
    assert month(node) > 5.5 * MIB_DOLLARS


def test_a_damaged_ledger_is_one_line_and_the_node_serves(node: Gateway) -> None:
    spend(node)
    assert node.stop() == 0
    (node.directory / "data" / "egress.json").write_text('{"version": 1, "mon')
    node.start()
    assert refused(node, "k7") == ""
    assert node.output().count("ledger is damaged") == 1


def test_more_than_an_origin_may_be_asked_in_time_is_told_to_slow_down(tmp_path: Path) -> None:
    truth = fill(tmp_path / "far", **{f"k{number}": 1000 for number in range(12)})
    gateway = Gateway(
        tmp_path,
        origins=[origin("far", tmp_path / "far", request_limit=0.5, deadline="3s", connections_max=7)],
        mounts=[{"path": "data", "origin": "far", "remote": "lake"}],
        workers=1,
    )
    with gateway:
        client = gateway.client(config={"retries": {"total_max_attempts": 1}, "max_pool_connections": 12})

        def one(key: str) -> object:
            try:
                return read(client, key)
            except ClientError as error:
                return error.response

        with ThreadPoolExecutor(12) as pool:
            got = dict(zip(truth, pool.map(one, truth), strict=True))
        served = [key for key, answer in got.items() if answer == truth[key]]
        assert 1 <= len(served) <= 3  # one at once, one after two seconds
        for answer in (got[key] for key in got.keys() - set(served)):
            assert isinstance(answer, dict)
            assert answer["Error"]["Code"] == "SlowDown"
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 503
            assert int(answer["ResponseMetadata"]["HTTPHeaders"]["x-amz-retry-after"]) > 2000
        wait_for("nobody is under way", lambda: gateway.status()["origins"][0]["in_flight"] == 0)
        [far] = gateway.status()["origins"]
        assert (far["state"], far["concurrency"], far["request_limit"]) == ("ok", 7, 0.5)
