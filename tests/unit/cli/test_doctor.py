"""`gateway doctor` against a server whose weaknesses are known: it finds all of them, and nothing else."""

from __future__ import annotations

import io
import json
from collections import Counter

import pytest
from rich.console import Console

from gateway.cli import doctor as doctor_module
from gateway.cli.doctor import Unusable, doctor, examine
from gateway.cli.doctor_lab import CHECKS, Account, Check, Lab, Skipped, expect
from tests.processes import free_port
from tests.stores import S3Server

# moto compares no digest and no signature.
WEAK_IN_MOTO = {
    *(f"wrong checksum {name} in a trailer is refused" for name in ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")),
    "wrong checksum in a header is refused",
    "wrong Content-MD5 is refused",
    "presigned V2 URL for another key or verb is refused",
    "presigned V4 URL for another key or verb is refused",
    "presigned URLs that have expired are refused",
    "a wrong signature is refused",
    "an unknown access key is refused",
}  # fmt: skip


@pytest.fixture
def account(moto: S3Server) -> Account:
    moto.make_buckets("doctored")
    return Account(moto.access_key, moto.secret_key)


def listed(moto: S3Server) -> list[str]:
    client = moto.client()
    try:
        return [entry["Key"] for entry in client.list_objects_v2(Bucket="doctored").get("Contents", ())]
    finally:
        client.close()


def test_it_finds_what_is_wrong_and_leaves_nothing_behind(moto: S3Server, account: Account) -> None:
    told: list[str] = []
    reports = examine(
        moto.endpoint, "doctored", account, "some/where/", lambda report: told.append(report.check)
    )
    assert {report.check for report in reports if report.outcome == "FAILED"} == WEAK_IN_MOTO
    assert all(report.detail for report in reports if report.outcome != "ok")
    assert told == [report.check for report in reports]
    assert listed(moto) == []


def only(monkeypatch: pytest.MonkeyPatch, *checks: Check) -> None:
    monkeypatch.setattr(doctor_module, "CHECKS", checks)


def passing(lab: Lab) -> None:
    lab.put("x", b"1")


def failing(lab: Lab) -> None:
    expect(False, "seven, got eight")


def breaking(lab: Lab) -> None:
    raise RuntimeError("two\nlines")


def skipping(lab: Lab) -> None:
    raise Skipped("no such program")


@pytest.mark.parametrize(
    ("run", "line", "status"),
    [
        (passing, "ok      try", 0),
        (failing, "FAILED  try: seven, got eight", 1),
        (breaking, "FAILED  try: RuntimeError: two lines", 1),
        (skipping, "skipped try: no such program", 0),
    ],
)
def test_each_outcome_is_one_line_and_a_failure_is_status_1(
    moto: S3Server, account: Account, monkeypatch: pytest.MonkeyPatch, run: object, line: str, status: int
) -> None:
    only(monkeypatch, Check("try", run))  # type: ignore[arg-type]
    console = Console(file=io.StringIO(), width=200)
    assert doctor(moto.endpoint, "doctored", account, console=console) == status
    printed = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert printed[0].rstrip() == line
    assert len(printed) == 3  # the check, the cleaning, the sum
    assert listed(moto) == []


def test_the_json_report_has_every_check(
    moto: S3Server, account: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    only(monkeypatch, Check("one", passing), Check("two", failing))
    assert doctor(moto.endpoint, "doctored", account, as_json=True) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["failed"], report["skipped"]) == (1, 0)
    assert [check["outcome"] for check in report["checks"]] == ["ok", "FAILED", "ok"]


def test_nobody_there_is_status_3(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(f"http://127.0.0.1:{free_port()}", "doctored", account) == 3
    assert capsys.readouterr().err.startswith("nothing answers at http://127.0.0.1:")


def test_a_bucket_that_cannot_be_used_is_one_line(
    moto: S3Server, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor(moto.endpoint, "no-such-bucket", account) == 1
    assert "NoSuchBucket" in capsys.readouterr().err


def test_an_endpoint_that_is_no_url_is_bad_usage(account: Account) -> None:
    with pytest.raises(Unusable) as unusable:
        examine("127.0.0.1:9000", "doctored", account)
    assert unusable.value.status == 2


def test_checks_have_names_of_their_own(moto: S3Server, account: Account) -> None:
    assert [name for name, times in Counter(check.name for check in CHECKS).items() if times > 1] == []
