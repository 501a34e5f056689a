"""What the demo's far store can be: a directory behind a gateway that caches nothing, or a cloud's emulator.

    file    gateway serve over a directory
    s3      rclone serve s3, or moto
    gcs     the checking front of `emulators/gcs.py` before moto
    azure   Azurite

All take their data through the gateway's own origins, and `reader` is a client that speaks to the store without any
gateway: boto3, or a GET signed in the cloud's own dialect.
"""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from gateway.cli import demo_data
from gateway.cli.demo_nodes import (
    BUCKET,
    HOST,
    REGION,
    START_S_MAX,
    Keys,
    Node,
    Process,
    accepts,
    free_ports,
    python,
    until,
)
from gateway.cli.demo_training import DemoError
from gateway.cli.emulators import programs
from gateway.config.schema import OriginConfig
from gateway.model import Conditions, Remote
from gateway.origins.base import Origin, PutBody
from gateway.origins.factory import make_origin
from gateway.origins.s3_dialect import Dialect
from gateway.origins.s3_http import Call
from gateway.s3.signer import Credentials

PIECE_BYTES: Final = 1 << 20

Started = Callable[[Process], Any]


class FarStore(Protocol):
    """`processes`: in the order in which they were started. `origin`: the `[[origins]]` entry of a node that reaches
    the store at that port. `reader`: has get_object as boto3's client has it."""

    processes: list[Process]
    port: int

    def start(self, directory: Path, started: Started) -> None: ...
    def fill(self, directory: Path) -> list[demo_data.Shard]: ...
    def origin(self, port: int) -> dict[str, str]: ...
    def reader(self, port: int) -> Any: ...
    def stored(self, key: str) -> bytes: ...


class Directory:
    """The store of the plain demo."""

    def __init__(self) -> None:
        self.keys = Keys.fresh("far")
        self.processes: list[Process] = []
        self.port = 0

    def start(self, directory: Path, started: Started) -> None:
        self._lake = directory / "lake" / BUCKET
        self._lake.mkdir(parents=True, exist_ok=True)
        origin = f'type = "file"\nroot = "{self._lake.parent}"'
        node = Node(directory / "far", self.keys, origin, workers=1, cache=False)
        started(node)
        self.processes.append(node)
        self.port = node.port
        node.wait()

    def fill(self, directory: Path) -> list[demo_data.Shard]:
        return demo_data.write_shards(self._lake, demo_data.SHARDS)

    def origin(self, port: int) -> dict[str, str]:
        return _s3_origin(port, self.keys)

    def reader(self, port: int) -> Any:
        return boto3_client(f"http://{HOST}:{port}", self.keys)

    def stored(self, key: str) -> bytes:
        return (self._lake / key).read_bytes()


class Emulator:
    """What the emulators share: started, waited for, filled through an origin of the gateway."""

    def __init__(self) -> None:
        self.keys = Keys.fresh("far")
        self.processes: list[Process] = []
        self.port = 0

    def origin(self, port: int) -> dict[str, str]:
        return _s3_origin(port, self.keys)

    def reader(self, port: int) -> Any:
        return boto3_client(f"http://{HOST}:{port}", self.keys)

    def fill(self, directory: Path) -> list[demo_data.Shard]:
        shards = demo_data.write_shards(directory / "data", demo_data.SHARDS)

        async def send(origin: Origin) -> None:
            for shard in shards:
                body = PutBody(shard.size, _pieces(directory / "data" / shard.key))
                await origin.put(Remote(BUCKET, shard.key), body, Conditions())

        self._with_origin(send)
        return shards

    def stored(self, key: str) -> bytes:
        async def fetch(origin: Origin) -> bytes:
            async with origin.get(Remote(BUCKET, key), 0, None) as reading:
                return b"".join([piece async for piece in reading.chunks()])

        return bytes(self._with_origin(fetch))

    def _with_origin(self, use: Callable[[Origin], Any]) -> Any:
        async def run() -> Any:
            origin = make_origin(OriginConfig.model_validate({"name": "store", **self.origin(self.port)}))
            try:
                return await use(origin)
            finally:
                await origin.close()

        return asyncio.run(run())

    def _run(self, name: str, argv: Sequence[str], log: Path, port: int, started: Started) -> None:
        process = Process(name, argv, log)
        started(process)
        self.processes.append(process)

        def there() -> bool:
            process.check()
            return accepts(port)

        until(there, START_S_MAX, f"{name} was not ready within {START_S_MAX:.0f} s")


class S3(Emulator):
    def start(self, directory: Path, started: Started) -> None:
        [self.port] = free_ports(1)
        home = directory / "store"
        home.mkdir()
        found = programs.s3_store(self.port, home, self.keys.access, self.keys.secret)
        self.flavour = found.flavour
        self._run(found.name, found.argv, directory / "store.log", self.port, started)
        make_bucket(self.port, self.keys)

    def origin(self, port: int) -> dict[str, str]:
        return {**super().origin(port), "flavour": self.flavour}


class Gcs(Emulator):
    def start(self, directory: Path, started: Started) -> None:
        store, self.port = free_ports(2)
        behind = Keys.fresh("behind")
        self._run("moto", programs.moto(store), directory / "store.log", store, started)
        make_bucket(store, behind)
        arguments = ["--to", f"http://{HOST}:{store}", "--to-key", f"{behind.access}:{behind.secret}"]
        arguments += ["--port", str(self.port), "--key", f"{self.keys.access}:{self.keys.secret}"]
        argv = python("gateway.cli.emulators.gcs", *arguments)
        self._run("the emulator of Google Cloud Storage", argv, directory / "gcs.log", self.port, started)

    def origin(self, port: int) -> dict[str, str]:
        return {**super().origin(port), "type": "gcs"}

    def reader(self, port: int) -> Any:
        from gateway.origins.gcs_dialect import Google
        from gateway.origins.s3_credentials import FixedCredentials

        return SignedReader(port, Google(FixedCredentials(self.keys.access, self.keys.secret)), self.keys)


class Azure(Emulator):
    def __init__(self) -> None:
        super().__init__()
        self.keys = Keys(programs.AZURITE_ACCOUNT, programs.AZURITE_KEY)

    def start(self, directory: Path, started: Started) -> None:
        [self.port] = free_ports(1)
        self._run("Azurite", programs.azurite(self.port), directory / "store.log", self.port, started)
        status = self.reader(self.port).send("PUT", f"/{BUCKET}", "restype=container").status
        if status != 201:
            raise DemoError(f"Azurite answered {status} to making a container")

    def origin(self, port: int) -> dict[str, str]:
        account = self.keys.access
        return {
            "type": "azure",
            "endpoint": f"http://{HOST}:{port}/{account}",
            "access_key": account,
            "secret_key": self.keys.secret,
        }

    def reader(self, port: int) -> Any:
        from gateway.origins.azure_credentials import AccountKey
        from gateway.origins.azure_dialect import Azure as AzureDialect

        account = AccountKey(self.keys.access, self.keys.secret)
        return SignedReader(port, AzureDialect(account), self.keys, f"/{self.keys.access}")


class SignedReader:
    """GET of a whole object in the cloud's own dialect, and nothing else of a client: boto3 speaks none of them. Each
    call has a connection of its own, as its body may be read by any thread."""

    def __init__(self, port: int, dialect: Dialect, keys: Keys, base: str = "") -> None:
        self._port, self._dialect, self._base = port, dialect, base
        self._keys = Credentials(keys.access, keys.secret)

    def get_object(self, Bucket: str, Key: str) -> dict[str, http.client.HTTPResponse]:
        """`Body`: the answer itself. Raises DemoError for any status but 200."""
        answer = self.send("GET", f"/{Bucket}/{Key}")
        if answer.status != 200:
            answer.close()
            raise DemoError(f"the far store answered {answer.status} to reading {Key}")
        return {"Body": answer}

    def send(self, method: str, path: str, query: str = "") -> http.client.HTTPResponse:
        path = self._base + path
        call = Call("get", method, query=query)
        headers = self._dialect.signed(call, f"{HOST}:{self._port}", path, self._keys)
        connection = http.client.HTTPConnection(HOST, self._port, timeout=60)
        connection.request(method, f"{path}?{query}" if query else path, headers=dict(headers))
        return connection.getresponse()

    def close(self) -> None:
        """Nothing is kept open."""


STORES: Final[dict[str, Callable[[], FarStore]]] = {
    "file": Directory,
    "s3": S3,
    "gcs": Gcs,
    "azure": Azure,
}


def _s3_origin(port: int, keys: Keys) -> dict[str, str]:
    return {
        "type": "s3",
        "endpoint": f"http://{HOST}:{port}",
        "access_key": keys.access,
        "secret_key": keys.secret,
    }


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def make_bucket(port: int, keys: Keys) -> None:
    client = boto3_client(f"http://{HOST}:{port}", keys)
    try:
        client.create_bucket(Bucket=BUCKET)
    finally:
        client.close()


def boto3_client(endpoint: str, keys: Keys) -> Any:
    """Stock boto3, told nothing but endpoint, keys and region; path style, because an address has no sub-domains."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=keys.access,
        aws_secret_access_key=keys.secret,
        region_name=REGION,
        config=Config(s3={"addressing_style": "path"}),
    )
