"""Checks with other stock clients, where they are installed: s3fs in this environment, the AWS CLI on PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from gateway.cli.doctor_lab import Failed, Lab, Skipped, check, same

LARGE = 6 << 20  # two parts of the usual 5 MiB
PROGRAM_S_MAX = 120


@check("s3fs writes, lists and reads")
def s3fs_round(lab: Lab) -> None:
    try:
        import s3fs
    except ImportError:
        raise Skipped("s3fs is not installed") from None
    fs = s3fs.S3FileSystem(
        key=lab.account.access_key,
        secret=lab.account.secret_key,
        token=lab.account.session_token,
        endpoint_url=lab.endpoint,
        client_kwargs={"region_name": lab.account.region},
        skip_instance_cache=True,
    )
    path, body = f"{lab.bucket}/{lab.key('s3fs/file')}", os.urandom(LARGE)
    with fs.open(path, "wb") as file:
        file.write(body)
    same(fs.cat_file(path), body, "body")
    same(fs.cat_file(path, start=1000, end=1100), body[1000:1100], "range")
    same([Path(found).name for found in fs.ls(path.rpartition("/")[0], detail=False)], ["file"], "listing")
    fs.rm(path)
    same(fs.exists(path), False, "still there after rm")


@check("aws s3 cp, ls and rm")
def aws_cli(lab: Lab) -> None:
    program = shutil.which(
        "aws", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    )
    if program is None:
        raise Skipped("the AWS CLI is not installed")
    with tempfile.TemporaryDirectory(prefix="gateway-doctor-") as directory:
        there, back = Path(directory, "there"), Path(directory, "back")
        there.write_bytes(os.urandom(LARGE))
        url = f"s3://{lab.bucket}/{lab.key('cli/file')}"
        _aws(lab, program, "cp", str(there), url)
        _aws(lab, program, "cp", url, str(back))
        same(back.read_bytes(), there.read_bytes(), "body")
        listed = _aws(lab, program, "ls", url).split()
        same(listed[2:], [str(LARGE), "file"], "size and name told by ls")
        _aws(lab, program, "rm", url)
    lab.gone("cli/file")


def _aws(lab: Lab, program: str, *arguments: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    account = {
        "AWS_ENDPOINT_URL": lab.endpoint,
        "AWS_ACCESS_KEY_ID": lab.account.access_key,
        "AWS_SECRET_ACCESS_KEY": lab.account.secret_key,
        "AWS_DEFAULT_REGION": lab.account.region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_PAGER": "",
    }
    if lab.account.session_token:
        account["AWS_SESSION_TOKEN"] = lab.account.session_token
    if bundle := os.environ.get("AWS_CA_BUNDLE"):
        account["AWS_CA_BUNDLE"] = bundle
    done = subprocess.run(
        [program, "s3", *arguments],
        env=inherited | account,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PROGRAM_S_MAX,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        last = said[-1] if said else ""
        if "No module named" in last or "command not found" in last:
            raise Skipped(f"the AWS CLI does not run: {last}")
        raise Failed(f"aws s3 {arguments[0]} ended with {done.returncode}: {last}")
    return done.stdout
