"""What the client suites run against: an endpoint with buckets of agreed names, and a way to change what lies
behind it.

`TARGETS` in the environment picks them (comma separated): `file`, `moto`, `rclone`, `localstack`, `gcs`, `azure` are a
gateway in front of that origin; with `direct-` before it, the origin itself, which is how the suites prove
that they ask for what S3 does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import boto3
from botocore.config import Config

from tests.gateway_process import Gateway, identity, on, secret_of
from tests.stores import REGION, Azurite, S3Server

CHOSEN = os.environ.get("TARGETS", "file,moto,rclone,localstack,gcs,azure").split(",")

# bucket at the endpoint → bucket at the origin behind a gateway
BUCKETS = {
    "data": "lake-data",  # the default rule: fresh for a minute
    "strict": "lake-strict",
    "brief": "lake-brief",  # fresh for a second
    "uncached": "lake-uncached",
    "vault": "lake-vault",  # for one identity only
    "frozen": "lake-frozen",  # a read-only mount
}
DOMAIN = "s3.localhost"


class Behind(Protocol):
    """Changes objects without the gateway's knowledge. Buckets by their names at the endpoint."""

    def put(self, bucket: str, key: str, body: bytes) -> None: ...
    def get(self, bucket: str, key: str) -> bytes: ...
    def delete(self, bucket: str, key: str) -> None: ...


class BehindS3:
    def __init__(self, server: S3Server, buckets: dict[str, str]) -> None:
        self.server, self.buckets, self.s3 = server, buckets, server.client()

    def put(self, bucket: str, key: str, body: bytes) -> None:
        self.s3.put_object(Bucket=self.buckets[bucket], Key=key, Body=body)

    def get(self, bucket: str, key: str) -> bytes:
        with closing(self.s3.get_object(Bucket=self.buckets[bucket], Key=key)["Body"]) as body:
            return bytes(body.read())

    def delete(self, bucket: str, key: str) -> None:
        self.s3.delete_object(Bucket=self.buckets[bucket], Key=key)


class BehindDirectory:
    """For keys that any file system can hold under their own names."""

    def __init__(self, root: Path, buckets: dict[str, str]) -> None:
        self.root, self.buckets = root, buckets

    def _path(self, bucket: str, key: str) -> Path:
        return self.root / self.buckets[bucket] / key

    def put(self, bucket: str, key: str, body: bytes) -> None:
        path = self._path(bucket, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(f"{path.name}.half")
        half.write_bytes(body)
        half.replace(path)

    def get(self, bucket: str, key: str) -> bytes:
        return self._path(bucket, key).read_bytes()

    def delete(self, bucket: str, key: str) -> None:
        self._path(bucket, key).unlink()


class BehindAzure:
    """By Azure's own SDK."""

    def __init__(self, server: Azurite, buckets: dict[str, str]) -> None:
        self.buckets, self.service = buckets, server.service()

    def put(self, bucket: str, key: str, body: bytes) -> None:
        with self.service.get_blob_client(self.buckets[bucket], key) as blob:
            blob.upload_blob(body, overwrite=True)

    def get(self, bucket: str, key: str) -> bytes:
        with self.service.get_blob_client(self.buckets[bucket], key) as blob:
            return bytes(blob.download_blob().readall())

    def delete(self, bucket: str, key: str) -> None:
        with self.service.get_blob_client(self.buckets[bucket], key) as blob:
            blob.delete_blob()

    def close(self) -> None:
        self.service.close()


@dataclass
class Target:
    name: str
    endpoint: str
    access_key: str
    secret_key: str
    faithful: frozenset[str]
    behind: Behind
    gateway: Gateway | None = None
    _clients: list[Any] = field(default_factory=list)

    def client(self, service: str = "s3", **options: Any) -> Any:
        """A boto3 client, closed with the target; `config` takes botocore Config arguments."""
        config = Config(**{"s3": {"addressing_style": "path"}, **options.pop("config", {})})
        client = boto3.client(
            service,
            endpoint_url=options.pop("endpoint_url", self.endpoint),
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=options.pop("region_name", REGION),
            config=config,
            **options,
        )
        self._clients.append(client)
        return client

    def environment(self) -> dict[str, str]:
        """What a stock client in a subprocess needs to find the endpoint, and nothing of this account's."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PAGER": "",
        }

    def close(self) -> None:
        while self._clients:
            self._clients.pop().close()


def gateway_settings() -> dict[str, Any]:
    """Mounts, rules and identities of every gateway of the client suites; the origin is called `lake`."""
    return {
        "mounts": [
            *(
                {"path": path, "origin": "lake", "remote": remote}
                for path, remote in BUCKETS.items()
                if path != "frozen"
            ),
            {"path": "frozen", "origin": "lake", "remote": "lake-frozen", "read_only": True},
            {"path": "shelf", "origin": "lake", "remote": "lake-data/on/the/shelf"},
            {"path": "fresh", "origin": "lake", "remote": "lake-fresh"},
        ],
        "rules": [
            {"match": "strict/**", "consistency": "strict"},
            {"match": "brief/**", "consistency": "1s"},
            {"match": "uncached/**", "cache": False},
            {"match": "data/immutable/**", "consistency": "immutable"},
        ],
        "identities": identities(),
    }


def identities() -> Sequence[dict[str, object]]:
    public = ["data", "strict", "brief", "uncached", "frozen", "shelf", "fresh"]
    return [
        identity("trainer", [on(*public), {"actions": ["s3:ListAllMyBuckets"], "resources": ["*"]}]),
        identity("keeper", [on("vault", "data")]),
        identity(
            "reader",
            [on("data", actions=["s3:GetObject", "s3:ListBucket"])],
            deny=[on("data/secret/**")],
        ),
        identity("writer", [on("data/drop/**", actions=["s3:PutObject"])]),
        identity("nobody", []),
    ]


def gateway_over(directory: Path, origin: dict[str, object], **overrides: Any) -> Gateway:
    """Not yet started. The origin must be named `lake` and have the buckets of `BUCKETS`.
    `settings` adds to the sections of the config, any other override replaces a table."""
    settings = {section: dict(keys) for section, keys in overrides.pop("settings", {}).items()}
    settings.setdefault("listen", {}).setdefault("domain", DOMAIN)
    return Gateway(
        directory, **{"origins": [origin], **gateway_settings(), "settings": settings, **overrides}
    )


def file_origin(root: Path) -> dict[str, object]:
    for bucket in BUCKETS.values():
        (root / bucket).mkdir(parents=True, exist_ok=True)
    return {"name": "lake", "type": "file", "root": str(root)}


def s3_origin(server: S3Server) -> dict[str, object]:
    server.make_buckets(*BUCKETS.values())
    return server.as_origin("lake")


def azure_origin(server: Azurite) -> dict[str, object]:
    server.make_buckets(*BUCKETS.values())
    return server.as_origin("lake")


def over_gateway(gateway: Gateway, behind: Behind, faithful: frozenset[str], name: str) -> Target:
    return Target(name, gateway.endpoint, "AKTRAINER", secret_of("trainer"), faithful, behind, gateway)


def direct(server: S3Server) -> Target:
    """The server itself, with the buckets of the gateway."""
    server.make_buckets(*BUCKETS)
    behind = BehindS3(server, {name: name for name in BUCKETS})
    name = f"direct-{server.name}"
    return Target(name, server.endpoint, server.access_key, server.secret_key, server.faithful, behind)
