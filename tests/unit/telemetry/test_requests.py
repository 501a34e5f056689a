"""Access lines: complete, not forgeable, without secrets, and never in a request's way."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry import access
from gateway.telemetry.access import AccessSink, pieces
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.requests import PATH_CHARACTERS_MAX, RequestLog, RequestRecord, json_line, logfmt_line

LATIN_1 = st.text(st.characters(max_codepoint=255), max_size=80)


def record(target: str = "/data/key", **values: object) -> RequestRecord:
    made = RequestRecord("REQ1", "10.0.0.1:4000", "GET", target)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def test_a_json_line_has_every_field() -> None:
    made = record(identity="trainer", op="GetObject", status=206, outcome="hit", sent=4096, error="")
    assert json.loads(json_line(made, "2026-01-31T12:00:00.123Z", 0.0004125)) == {
        "time": "2026-01-31T12:00:00.123Z",
        "id": "REQ1",
        "peer": "10.0.0.1:4000",
        "identity": "trainer",
        "op": "GetObject",
        "method": "GET",
        "path": "/data/key",
        "status": 206,
        "outcome": "hit",
        "sent": 4096,
        "received": 0,
        "ms": 0.412,
        "error": "",
    }


@given(target=LATIN_1, method=LATIN_1, identity=LATIN_1)
def test_nothing_that_a_client_sends_forges_a_line(target: str, method: str, identity: str) -> None:
    made = record(target, method=method, identity=identity)
    for line in (json_line(made, "now", 1.0), logfmt_line(made, "now", 1.0)):
        assert line.endswith("\n")
        assert line[:-1].isascii()
        assert line[:-1].isprintable()
    assert json.loads(json_line(made, "now", 1.0))["path"] == target.partition("?")[0]


@pytest.mark.parametrize(
    "query",
    [
        "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=5e1f",
        "%3FX-Amz-Signature%3D5e1f",
        "%253Fx-amz-signature%253D5e1f",
        "&AWSAccessKeyId=AKID&Signature=5e1f",
        "%3fsignature=5e1f",
    ],
)
def test_a_presigned_url_whose_question_mark_was_encoded_leaves_no_signature(query: str) -> None:
    for line in (json_line, logfmt_line):
        written = line(record("/data/year=2024/key" + query), "now", 1.0)
        assert "5e1f" not in written
        assert "/data/year=2024/key" in written


@pytest.mark.parametrize("line", [json_line, logfmt_line])
def test_a_query_with_its_signature_is_never_written(line: object) -> None:
    text = line(record("/data/key?X-Amz-Signature=beef"), "now", 1.0)  # type: ignore[operator]
    assert "/data/key" in text
    assert "beef" not in text


def test_a_long_target_is_cut() -> None:
    line = json.loads(json_line(record("/" + "a" * 9000), "now", 1.0))
    assert len(line["path"]) == PATH_CHARACTERS_MAX


def test_a_finished_request_is_counted_and_written(tmp_path: Path) -> None:
    metrics, path = Metrics(), tmp_path / "access.log"
    log = RequestLog(metrics, AccessSink.open(str(path)))
    log.finished(record(op="GetObject", status=200, outcome="hit", sent=10))
    log.finished(record(op="PutObject", status=403, received=5, error="AccessDenied"))
    log.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["op"], line["status"], line["error"]) for line in lines] == [
        ("GetObject", 200, ""),
        ("PutObject", 403, "AccessDenied"),
    ]
    counted = metrics.snapshot()["values"]
    assert ["cache_outcomes", ["hit"], 1] in counted
    assert ["sent_bytes", [], 10] in counted
    assert ["received_bytes", [], 5] in counted
    assert ["requests", ["PutObject", "403"], 1] in counted


def test_an_earlier_log_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    for _ in range(2):
        sink = AccessSink.open(str(path))
        assert sink is not None
        sink.write("line\n")
        sink.close()
    assert path.read_text() == "line\nline\n"


def test_off_writes_nothing() -> None:
    assert AccessSink.open("off") is None


def test_a_reader_that_is_gone_costs_lines_and_no_request() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    metrics = Metrics()
    log = RequestLog(metrics, AccessSink(writer))
    for _ in range(100):
        log.finished(record(status=200))
    log.close()
    log.publish()
    assert metrics.get("access_lines_dropped") == 100


def test_a_reader_that_does_not_read_costs_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "WAITING_CHARACTERS_MAX", 100_000)
    reader, writer = os.pipe()
    sink = AccessSink(writer)
    line = "x" * 99 + "\n"
    for _ in range(20_000):
        sink.write(line)
    # A pipe holds 64 KiB; a thousand lines may wait, and a piece is in the thread's hands.
    assert 17_000 < sink.dropped < 19_500
    os.close(reader)  # the thread's write fails now, and it ends
    sink.close()


@pytest.fixture
def small_files() -> object:
    """No file may grow beyond 1,000 bytes: writes are cut short there, then fail."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_costs_lines_and_what_is_written_later_starts_on_its_own_line(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    sink = AccessSink(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
    whole = [f"{number:0148}\n" for number in range(10)]
    assert sink._write("".join(whole).encode()) == 6
    os.truncate(path, 950)
    assert sink._write(b"after\n") == 1
    sink.close()
    lines = path.read_text().splitlines(keepends=True)
    assert lines[:6] == whole[:6]
    assert lines[-1] == "after\n"


@given(st.lists(st.integers(0, 60)), st.integers(1, 50))
def test_pieces_hold_whole_lines(lengths: list[int], piece_bytes: int) -> None:
    lines = [f"{'x' * length}\n" for length in lengths]
    cut = list(pieces(lines, piece_bytes))
    assert b"".join(piece for _, piece in cut).decode() == "".join(lines)
    for count, piece in cut:
        assert piece.count(b"\n") == count
        assert len(piece) <= piece_bytes or count == 1
