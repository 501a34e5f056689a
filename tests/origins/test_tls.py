"""An S3 origin over https: whose certificate is trusted, for which name, and what a wrong one comes to."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.config.schema import OriginConfig
from gateway.errors import Unreachable
from gateway.model import Remote
from gateway.origins.factory import make_origin
from tests.origins.hostile import Hell, answer
from tests.whole import needs_openssl

pytestmark = needs_openssl
HERE = Remote("bucket", "key")
ASK = """
import asyncio, sys
from gateway.config.schema import OriginConfig
from gateway.model import Remote
from gateway.origins.factory import make_origin

async def main():
    config = OriginConfig(
        name="lake", type="s3", endpoint=sys.argv[1], access_key="k", secret_key="s", deadline=2
    )
    origin = make_origin(config)
    try:
        print((await origin.head(Remote("bucket", "key"))).size)
    finally:
        await origin.close()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For `localhost` alone, each signed by itself: one that the server has, another that it has not."""
    directory = tmp_path_factory.mktemp("tls")
    for name in ("one", "other"):
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ]
        command += ["-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost"]
        command += ["-keyout", f"{name}.key", "-out", f"{name}.crt"]
        subprocess.run(command, cwd=directory, check=True, capture_output=True)
    return directory


@asynccontextmanager
async def secured(certificates: Path) -> AsyncIterator[Hell]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "one.crt", certificates / "one.key")
    place = Hell()
    place.will(*[answer(200, b"", length=5)] * 20)
    server = await asyncio.start_server(place.serve, "127.0.0.1", 0, ssl=context)
    place.port = server.sockets[0].getsockname()[1]
    try:
        yield place
    finally:
        server.close()
        await server.wait_closed()


async def size_at(place: Hell, host: str, ca_file: str) -> int:
    origin = make_origin(
        OriginConfig(
            name="lake",
            type="s3",
            endpoint=f"https://{host}:{place.port}",
            access_key="k",
            secret_key="s",  # type: ignore[arg-type]
            deadline=1,
            ca_file=ca_file,
        )
    )
    try:
        return (await origin.head(HERE)).size
    finally:
        await origin.close()


async def test_an_authority_of_the_config_is_trusted(certificates: Path) -> None:
    async with secured(certificates) as place:
        assert await size_at(place, "localhost", str(certificates / "one.crt")) == 5


@pytest.mark.parametrize(
    ("host", "ca_file"),
    [("localhost", ""), ("localhost", "other.crt"), ("127.0.0.1", "one.crt")],
    ids=["unknown", "another authority", "another name"],
)
async def test_a_certificate_that_does_not_prove_the_endpoint_gets_no_request(
    certificates: Path, host: str, ca_file: str
) -> None:
    async with secured(certificates) as place:
        with pytest.raises(Unreachable, match="Certificate"):
            await size_at(place, host, str(certificates / ca_file) if ca_file else "")
        assert place.requests == []


@pytest.mark.parametrize("trusted", ["one", "other"])
async def test_the_systems_authorities_are_where_openssl_is_told_that_they_are(
    certificates: Path, trusted: str
) -> None:
    async with secured(certificates) as place:
        asking = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ASK, f"https://localhost:{place.port}",
            env={**os.environ, "SSL_CERT_FILE": str(certificates / f"{trusted}.crt")},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        said, failed = await asking.communicate()
        if trusted == "one":
            assert said.strip() == b"5", failed
        else:
            assert b"Certificate" in failed
            assert place.requests == []
