"""One node that the whole suite attacks: two workers, debug logs, two directories as origins.

    bucket        origin, remote bucket      whose
    ------------- -------------------------- ---------------------------------------
    anna          lake, anna-store           anna's alone
    bert          lake, bert-store           bert's alone
    common        lake, common-store         both read and write, below bert/ only bert
    north, south  lake, same; pond, same     anna's: one name and key at two origins

When the suite ends, nothing that was sent may stand in a log, every worker must still live, and none may have failed
at anything (`Front.unharmed`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.gateway_process import Gateway, Settings, identity, on, secret_of
from tests.processes import free_port, wait_for
from tests.threats import wire
from tests.threats.signing import Call, Signer
from tests.threats.wire import Answer, Line, Secrets

BUCKETS = {"anna": "anna-store", "bert": "bert-store", "common": "common-store", "north": "same"}
TOKEN = "the-admin-token-of-the-public-node"


@dataclass(repr=False)
class Front:
    gateway: Gateway
    lake: Path
    pond: Path
    secrets: Secrets = field(default_factory=Secrets)

    def __post_init__(self) -> None:
        self.workers = set(self.gateway.worker_pids())
        self.anna, self.bert = self.signer("anna"), self.signer("bert")

    def __repr__(self) -> str:
        return f"<the node of {self.gateway.directory}>"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.gateway.port}"

    def signer(self, name: str) -> Signer:
        return Signer(name, self.host)

    def line(self) -> AbstractContextManager[Line]:
        return wire.line_to(self.gateway.port, self.secrets)

    def ask(self, call: Call) -> Answer:
        return wire.ask(self.gateway.port, self.secrets, call)

    def put(self, target: str, body: bytes) -> None:
        assert self.ask(self.anna.call("PUT", target, body)).status == 200

    def stored(self, target: str) -> bytes | None:
        """What lies at the origin under a key of plain letters; None if nothing does."""
        bucket, _, key = target.strip("/").partition("/")
        path = self.lake / BUCKETS[bucket] / key
        return path.read_bytes() if path.exists() else None

    def logs(self) -> bytes:
        """The output and the access log, once both tell of the last request."""
        last = self.ask(self.anna.call("GET", "/anna/the-last-request")).headers["x-amz-request-id"]

        def written() -> bytes | None:
            access = self.gateway.access_log.read_bytes()
            return access if last.encode() in access else None

        access = wait_for("the access log tells of the last request", written)
        return access + self.gateway.output().encode()

    def unharmed(self) -> None:
        assert set(self.gateway.worker_pids()) == self.workers, "a worker died"
        logs = self.logs()
        assert b"Traceback" not in logs, logs[logs.index(b"Traceback") - 1000 :][:4000].decode()
        assert not (shown := self.secrets.in_text(logs)), f"the logs show {shown}"


def node(directory: Path, settings: Settings, **options: Any) -> tuple[Gateway, Path, Path]:
    lake, pond = directory / "lake", directory / "pond"
    for remote in BUCKETS.values():
        (lake / remote).mkdir(parents=True)
    (pond / "same").mkdir(parents=True)
    gateway = Gateway(
        directory,
        origins=[{"name": path.name, "type": "file", "root": str(path)} for path in (lake, pond)],
        mounts=[
            *({"path": path, "origin": "lake", "remote": remote} for path, remote in BUCKETS.items()),
            {"path": "south", "origin": "pond", "remote": "same"},
        ],
        identities=[
            identity("anna", [on("anna", "common", "north", "south")], deny=[on("common/bert/*")]),
            identity("bert", [on("bert", "common")]),
        ],
        settings=settings,
        **options,
    )
    return gateway, lake, pond


def attacked(gateway: Gateway, lake: Path, pond: Path) -> Iterator[Front]:
    with gateway:
        front = Front(gateway, lake, pond)
        front.secrets.sent.update(secret_of(name).encode() for name in ("anna", "bert"))
        yield front
        front.unharmed()


@pytest.fixture(scope="session")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    directory = tmp_path_factory.mktemp("threats")
    yield from attacked(*node(directory, {"limits": {"head_timeout": "1s"}}))


@pytest.fixture(scope="session")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A node of one worker whose admin listener is on every interface, with a token."""
    port = free_port()
    settings = {"listen": {"admin": f"0.0.0.0:{port}"}, "admin": {"token_env": "ADMIN_TOKEN"}}
    gateway, lake, pond = node(
        tmp_path_factory.mktemp("public"), settings, workers=1, environment={"ADMIN_TOKEN": TOKEN}
    )
    gateway.admin_port, gateway.token = port, TOKEN
    for front in attacked(gateway, lake, pond):
        front.secrets.sent.add(TOKEN.encode())
        yield front


@pytest.fixture
def target(front: Front, request: pytest.FixtureRequest) -> str:
    """A key of this test alone in anna's bucket, with `before` in it."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name).strip("-")
    front.put(f"/anna/{name}", b"before")
    return f"/anna/{name}"
