"""The books of egress: what is written comes back, what is damaged is put aside, months are apart."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.node import ledger
from gateway.node.ledger import MONTHS_MAX, Account, Damaged, Ledger, end_of_month, month_of


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_months_are_the_calendars_in_utc() -> None:
    assert month_of(at("2026-11-30 23:59:59")) == "2026-11"
    assert month_of(at("2026-12-01 00:00:00")) == "2026-12"
    assert end_of_month(at("2026-11-03 12:00:00")) == datetime(2026, 12, 1, tzinfo=UTC)
    assert end_of_month(at("2026-12-31 23:00:00")) == datetime(2027, 1, 1, tzinfo=UTC)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    books = Ledger()
    books.account("2026-11", "aws").dollars = 0.25
    books.account("2026-10", "gcs").told = 80
    path = tmp_path / ledger.FILE
    ledger.save(path, books.as_json("2026-11"))
    again = ledger.load(path)
    assert again.account("2026-11", "aws") == Account(0.25)
    assert again.account("2026-10", "gcs") == Account(told=80)
    assert [file.name for file in tmp_path.iterdir()] == [ledger.FILE]


def test_a_file_of_when_bytes_were_kept_too_is_read(tmp_path: Path) -> None:
    path = tmp_path / ledger.FILE
    account = {"bytes": 3.0, "dollars": 0.25, "told": 80, "told_of": 7.0}
    path.write_text(json.dumps({"version": 1, "months": {"2026-11": {"aws": account}}}))
    with capture_logs() as said:
        assert ledger.load(path).account("2026-11", "aws") == Account(0.25, 80, 7.0)
    assert said == []


def test_a_node_without_books_begins_at_zero(tmp_path: Path) -> None:
    with capture_logs() as said:
        assert ledger.load(tmp_path / ledger.FILE).account("2026-11", "aws") == Account()
    assert said == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        '{"version": 2, "months": {}}',
        '{"version": 1}',
        '{"version": 1, "months": []}',
        '{"version": 1, "months": {"2026-13": {}}}',
        '{"version": 1, "months": {"2026-11": {"aws": 7}}}',
        '{"version": 1, "months": {"2026-11": {"aws": {"dollars": -1}}}}',
        '{"version": 1, "months": {"2026-11": {"aws": {"dollars": NaN}}}}',
        '{"version": 1, "months": {"2026-11": {"aws": {"dollars": "1"}}}}',
        '{"version": 1, "months": {"2026-11": {"aws": {"dollars": true}}}}',
        '{"version": 1, "months": {"2026-11": {"aws": {"euros": 1}}}}',
    ],
)
def test_a_damaged_file_is_put_aside_and_told_in_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(Damaged):
        Ledger.from_json(text)
    path = tmp_path / ledger.FILE
    path.write_text(text)
    with capture_logs() as said:
        assert ledger.load(path).account("2026-11", "aws") == Account()
    assert [(line["log_level"], line["file"]) for line in said] == [("error", f"{path}.damaged")]
    assert Path(f"{path}.damaged").read_text() == text
    with capture_logs() as said:
        ledger.load(path)
    assert said == []


def test_a_file_that_is_no_text_is_damaged_too(tmp_path: Path) -> None:
    path = tmp_path / ledger.FILE
    path.write_bytes(b"\xff\xfe")
    with capture_logs() as said:
        ledger.load(path)
    assert len(said) == 1


def test_a_year_is_kept_and_the_current_month_whatever_the_clock_said_before() -> None:
    books = Ledger()
    for year in (2099, 2026):
        for month in range(1, 13):
            books.account(f"{year}-{month:02}", "aws").dollars = 1.0
    kept = json.loads(books.as_json("2026-01"))["months"]
    assert len(kept) == MONTHS_MAX
    assert "2026-01" in kept
    assert "2099-12" in kept


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / ledger.FILE
    ledger.save(path, "old")
    (tmp_path / f"{ledger.FILE}.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        ledger.save(path, "new")
    assert path.read_text() == "old"
