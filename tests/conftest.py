"""Fixtures of the suites that talk to real processes. Everything expensive is made once per session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import stores, targets
from tests.targets import Target
from tests.whole import lacking


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "needs(*traits): skipped where the target does not do this as S3 does it"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """LocalStack is slow: it stands behind a gateway only for what the other S3 server cannot do."""
    others = stores.through_gateway(stores.Moto.faithful)

    def wanted(item: pytest.Item) -> bool:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if parameters.get("every_target") != "localstack" or "localstack" in os.environ.get("TARGETS", ""):
            return True
        return any(set(mark.args) - others for mark in item.iter_markers("needs"))

    left_out = [item for item in items if not wanted(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if wanted(item)]


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.S3Server]:
    server = stores.Moto(tmp_path_factory.mktemp("moto"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.S3Server]:
    server = stores.Rclone(tmp_path_factory.mktemp("rclone"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def localstack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.S3Server]:
    if not stores.venv_program("localstack", "python").exists():
        lacking("no LocalStack: `make test` installs it into .venvs/localstack")
    server = stores.LocalStack(tmp_path_factory.mktemp("localstack"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Azurite]:
    if stores.azurite() is None:
        lacking("no Azurite: `make test` installs it into .venvs/azurite")
    server = stores.Azurite(tmp_path_factory.mktemp("azurite"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.S3Server]:
    server = stores.Gcs(tmp_path_factory.mktemp("gcs"))
    yield server
    server.stop()


def _over(server: stores.S3Server, directory: Path) -> Iterator[Target]:
    with targets.gateway_over(directory, targets.s3_origin(server)) as gateway:
        behind = targets.BehindS3(server, targets.BUCKETS)
        target = targets.over_gateway(gateway, behind, stores.through_gateway(server.faithful), server.name)
        yield target
        target.close()


@pytest.fixture(scope="session")
def over_moto(moto: stores.S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    yield from _over(moto, tmp_path_factory.mktemp("gateway-moto"))


@pytest.fixture(scope="session")
def over_rclone(rclone: stores.S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    yield from _over(rclone, tmp_path_factory.mktemp("gateway-rclone"))


@pytest.fixture(scope="session")
def over_localstack(
    localstack: stores.S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    yield from _over(localstack, tmp_path_factory.mktemp("gateway-localstack"))


@pytest.fixture(scope="session")
def over_gcs(gcs: stores.S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    yield from _over(gcs, tmp_path_factory.mktemp("gateway-gcs"))


@pytest.fixture(scope="session")
def over_azure(azure: stores.Azurite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    directory = tmp_path_factory.mktemp("gateway-azure")
    with targets.gateway_over(directory, targets.azure_origin(azure)) as gateway:
        behind = targets.BehindAzure(azure, targets.BUCKETS)
        faithful = stores.through_gateway(azure.faithful)
        target = targets.over_gateway(gateway, behind, faithful, "azure")
        yield target
        target.close()
        behind.close()


@pytest.fixture(scope="session")
def over_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    directory = tmp_path_factory.mktemp("gateway-file")
    root = directory / "origin"
    with targets.gateway_over(directory, targets.file_origin(root)) as gateway:
        behind = targets.BehindDirectory(root, targets.BUCKETS)
        target = targets.over_gateway(gateway, behind, stores.DIRECTORY, "file")
        yield target
        target.close()


def _target(request: pytest.FixtureRequest, name: str) -> Iterator[Target]:
    if not name.startswith("direct-"):
        yield request.getfixturevalue(f"over_{name}")
        return
    target = targets.direct(request.getfixturevalue(name.removeprefix("direct-")))
    yield target
    target.close()


@pytest.fixture(scope="session", params=targets.CHOSEN)
def every_target(request: pytest.FixtureRequest) -> Iterator[Target]:
    yield from _target(request, request.param)


@pytest.fixture
def target(every_target: Target, request: pytest.FixtureRequest) -> Target:
    """Each chosen target in turn; honours `needs`."""
    for mark in request.node.iter_markers("needs"):
        if missing := sorted(set(mark.args) - every_target.faithful):
            pytest.skip(f"{every_target.name} does not do {', '.join(missing)} as S3 does")
    return every_target


@pytest.fixture(scope="session")
def one_target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """For clients that are slow to start: the most faithful that is always there, or the one chosen."""
    yield from _target(request, "moto" if "moto" in targets.CHOSEN else targets.CHOSEN[0])


@pytest.fixture
def s3(target: Target) -> Iterator[Any]:
    """boto3 against the target; it tries everything once, so that no retry hides an error."""
    client = target.client(config={"retries": {"total_max_attempts": 1}})
    yield client
    client.close()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A key of this test alone; further ones start with it."""
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name).strip("-")
