"""A reload is taken over by all workers or by none, and whoever asked is told which and why."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.cache.layout import FileLock
from tests.processes import wait_for
from tests.unit.node.test_supervisor import Node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node.wait_ready()
    node.child.kill()


def mounted(path: str) -> list[dict[str, str]]:
    """What tiny workers go by is the first mount's path; some paths are bad examples (`tiny_worker.py`)."""
    return [{"path": path, "origin": "lake", "remote": "lake"}]


def reload(node: Node, path: str) -> tuple[int, Any]:
    node.rewrite(mounts=mounted(path))
    status, body = node.get("/api/v1/reload", "POST")
    return status, json.loads(body)


def shown(node: Node) -> list[str]:
    return [mount["path"] for mount in json.loads(node.get("/api/v1/mounts")[1])["mounts"]]


def served(node: Node) -> dict[str, str]:
    """What each slot said last."""
    lines = map(json.loads, (node.directory / "access.log").read_text().splitlines())
    return {line["id"]: line["path"] for line in lines}


def both(path: str) -> dict[str, str]:
    return dict.fromkeys(("slot-0", "slot-1"), f"/{path}/key")


def test_all_workers_take_it_over(node: Node) -> None:
    status, answer = reload(node, "second")
    assert (status, answer) == (
        200,
        {"reloaded": True, "changed": {"mounts": {"added": ["second"], "removed": ["data"]}}},
    )
    assert shown(node) == ["second"]
    wait_for("both serve by it", lambda: served(node) == both("second"))
    assert node.restarted() == 0


def test_what_did_not_change_is_said_to_be_nothing(node: Node) -> None:
    assert reload(node, "data") == (200, {"reloaded": True, "changed": {}})


def test_a_signal_reloads_and_the_log_says_what_changed(node: Node) -> None:
    node.rewrite(mounts=mounted("second"))
    node.child.process.send_signal(signal.SIGHUP)
    wait_for("both serve by it", lambda: served(node) == both("second"))
    wait_for("it is said", lambda: "config reloaded" in node.child.output())
    assert "ssss" not in node.child.output()  # names, never secrets


def test_a_broken_file_changes_nothing_and_every_mistake_is_told(node: Node) -> None:
    node.rewrite(mounts=[{"path": "second", "origin": "nowhere", "remote": "lake"}], rules=[{"match": "x"}])
    status, body = node.get("/api/v1/reload", "POST")
    answer = json.loads(body)
    assert (status, answer["error"]) == (400, "the config has mistakes")
    assert [mistake["path"] for mistake in answer["mistakes"]] == ["mounts[0].origin", "rules[0].match"]
    assert answer["mistakes"][0]["text"] == 'there is no origin "nowhere"; known: lake'
    node.child.process.send_signal(signal.SIGHUP)
    wait_for("the log has it, too", lambda: node.child.output().count("there is no origin") == 2)
    assert shown(node) == ["data"]
    node.config.write_text("[[")
    status, body = node.get("/api/v1/reload", "POST")
    assert status == 400
    assert json.loads(body)["mistakes"][0]["path"] == f"{node.config}:1"
    node.rewrite(rules=[])
    assert reload(node, "second")[0] == 200


def test_keys_that_change_only_with_a_restart_refuse_all_of_it(node: Node) -> None:
    node.rewrite(cache={"capacity": "2GiB", "segment_size": "64MiB"}, admin={"token": "t" * 20})
    status, answer = reload(node, "second")
    assert status == 409
    assert [mistake["path"] for mistake in answer["mistakes"]] == ["cache.capacity", "admin.token"]
    assert "cache.capacity" in answer["error"]
    assert "tttt" not in str(answer)
    assert shown(node) == ["data"]


def test_one_worker_that_refuses_keeps_all_as_they_were(node: Node) -> None:
    status, answer = reload(node, "refused")
    assert (status, answer["error"]) == (503, "worker 1 refuses: no such cloud")
    assert shown(node) == ["data"]
    assert reload(node, "third")[0] == 200
    wait_for("both serve by the next", lambda: served(node) == both("third"))
    assert "/refused/key" not in (node.directory / "access.log").read_text()


def test_one_worker_that_does_not_answer_keeps_all_as_they_were(node: Node) -> None:
    status, answer = reload(node, "hanging")
    assert (status, answer["error"]) == (503, "worker 1 does not answer")
    assert shown(node) == ["data"]
    assert "/hanging/key" not in (node.directory / "access.log").read_text()


def test_what_kills_every_worker_is_not_taken_over(node: Node) -> None:
    status, answer = reload(node, "deadly")
    assert (status, answer["error"]) == (503, "no worker serves at the moment")
    wait_for("both are there again", lambda: node.restarted() == 2 and node.ready())
    assert shown(node) == ["data"]
    assert reload(node, "second")[0] == 200


def test_a_worker_that_does_not_follow_is_replaced_by_one_that_does(node: Node) -> None:
    assert reload(node, "uncommitted")[0] == 200
    wait_for("it is replaced", lambda: node.restarted() == 1 and node.ready())
    wait_for("both serve by it", lambda: served(node) == both("uncommitted"))


def test_a_worker_that_is_started_later_begins_with_the_newest(node: Node) -> None:
    assert reload(node, "second")[0] == 200
    wait_for("both serve by it", lambda: served(node) == both("second"))
    os.kill(node.workers()[0], signal.SIGKILL)
    wait_for("it is replaced", lambda: node.restarted() == 1 and node.ready())
    (node.directory / "access.log").write_text("")
    wait_for("both serve by it", lambda: served(node) == both("second"))


def test_reloads_at_once_are_one_behind_the_other(node: Node) -> None:
    node.rewrite(mounts=mounted("second"))
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(node.get, "/api/v1/reload", "POST") for _ in range(6)]
        answers = [json.loads(done.result()[1]) for done in asked]
    assert sorted(bool(answer["changed"]) for answer in answers) == [False] * 5 + [True]
    for _ in range(5):
        node.child.process.send_signal(signal.SIGHUP)
    node.rewrite(mounts=mounted("third"))
    node.child.process.send_signal(signal.SIGHUP)
    wait_for("the last one counts", lambda: served(node) == both("third"))


def test_without_a_file_there_is_nothing_to_reload(tmp_path: Path) -> None:
    node = Node(tmp_path, arguments=("--no-reload",)).wait_ready()
    try:
        status, body = node.get("/api/v1/reload", "POST")
        assert status == 409
        assert "without a config file" in json.loads(body)["error"]
        node.child.process.send_signal(signal.SIGHUP)
        wait_for("the log says so", lambda: node.child.output().count("without a config file") == 2)
        assert node.ready()
        assert node.child.terminate() == 0
    finally:
        node.child.kill()


def test_a_hangup_before_it_serves_is_nothing(tmp_path: Path) -> None:
    node = Node(tmp_path, "hang")
    try:
        wait_for("workers start", lambda: len(node.workers()) == 2)
        for pid in (node.child.pid, *node.workers()):
            os.kill(pid, signal.SIGHUP)
        status, body = node.get("/api/v1/reload", "POST")
        assert (status, json.loads(body)["changed"]) == (200, {})
        assert node.child.terminate() == 0
    finally:
        node.child.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_the_cache_is_prepared_is_a_clean_end(tmp_path: Path, number: signal.Signals) -> None:
    """It waits for the workers of an earlier node to let go of the cache."""
    cache = tmp_path / "data" / "cache"
    cache.mkdir(parents=True)
    earlier = FileLock(cache / "workers.lock")
    assert earlier.acquire()
    node = Node(tmp_path)
    try:
        wait_for("it prepares the cache", lambda: held(cache / "node.lock"))
        node.child.process.send_signal(signal.SIGHUP)
        node.child.process.send_signal(number)
        assert node.child.process.wait(10) == 0
        assert "stopped before it served" in node.child.output()
        assert "Traceback" not in node.child.output()
    finally:
        node.child.kill()
        earlier.close()


def held(path: Path) -> bool:
    """As the kernel lists it: a trial lock of our own could be in the node's way."""
    return path.exists() and f":{path.stat().st_ino} " in Path("/proc/locks").read_text()
