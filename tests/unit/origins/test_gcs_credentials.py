"""What google-auth makes of the places where credentials may lie. Token servers are threads on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.config.schema import OriginConfig
from gateway.errors import OriginDenied, Unreachable, Unsupported
from gateway.origins import gcs_credentials
from gateway.origins.factory import make_origin
from gateway.origins.gcs_credentials import default_chain


def test_without_google_auth_only_written_keys_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcs_credentials, "have_google_auth", lambda: False)
    with pytest.raises(Unsupported, match=r"pip install 's3-training-gateway\[gcs\]'"):
        make_origin(OriginConfig(name="lake", type="gcs"))
    make_origin(OriginConfig(name="lake", type="gcs", session_token="ya29.x"))
    make_origin(OriginConfig(name="lake", type="gcs", access_key="GOOG1", secret_key="s"))


# --- google-auth


class Cloud(BaseHTTPRequestHandler):
    """A token endpoint and a metadata server. `status` other than 200: everything fails."""

    status = 200
    asked: list[str]

    def _answer(self, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(self.status)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.asked.append(f"{self.path} {sent}")
        self._answer({"access_token": "ya29.of-the-account", "expires_in": 3599, "token_type": "Bearer"})

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.partition("?")[0].endswith("/token"):
            self._answer({"access_token": "ya29.of-the-machine", "expires_in": 3599, "token_type": "Bearer"})
        else:
            self._answer({"email": "machine@example.iam.gserviceaccount.com", "scopes": [], "aliases": []})

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def cloud(status: int = 200) -> Iterator[tuple[str, list[str]]]:
    """(host:port, what was asked)"""
    asked: list[str] = []
    server = HTTPServer(("127.0.0.1", 0), type("Here", (Cloud,), {"asked": asked, "status": status}))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _account(path: Path, where: str) -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    document = {
        "type": "service_account",
        "project_id": "example",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "reader@example.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"http://{where}/token",
    }
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def no_other_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither `gcloud`'s files nor a metadata server."""
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)


async def test_a_service_account_file(
    monkeypatch: pytest.MonkeyPatch, no_other_place: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with cloud() as (where, asked):
        account = _account(tmp_path / "account.json", where)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
        chain = default_chain("lake")
        assert (await chain.get()).token == "ya29.of-the-account"
        assert (await chain.get()).access_key == ""
        await chain.close()
    assert [one.partition(" ")[0] for one in asked] == ["/token"]
    assert "ya29" not in caplog.text


async def test_a_workload_identity_file(
    monkeypatch: pytest.MonkeyPatch, no_other_place: None, tmp_path: Path
) -> None:
    (tmp_path / "subject").write_text("subject-token-of-the-pod")
    with cloud() as (where, asked):
        document = {
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"http://{where}/sts",
            "credential_source": {"file": str(tmp_path / "subject")},
        }
        (tmp_path / "identity.json").write_text(json.dumps(document))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "identity.json"))
        chain = default_chain("lake")
        assert (await chain.get()).token == "ya29.of-the-account"
        await chain.close()
    assert asked[0].startswith("/sts ")
    assert "subject-token-of-the-pod" in asked[0]


async def test_a_token_server_that_refuses_or_fails(
    monkeypatch: pytest.MonkeyPatch, no_other_place: None, tmp_path: Path
) -> None:
    for status, kind in ((400, OriginDenied), (503, Unreachable)):
        with cloud(status) as (where, _):
            account = _account(tmp_path / "account.json", where)
            monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
            chain = default_chain("lake")
            with pytest.raises(kind) as raised:
                await chain.get()
            assert "ya29" not in str(raised.value)
            await chain.close()


async def test_no_credentials_anywhere(no_other_place: None) -> None:
    chain = default_chain("lake")
    with pytest.raises(OriginDenied, match="No credentials for origin lake"):
        await chain.get()
    await chain.close()


def test_the_metadata_server(tmp_path: Path) -> None:
    """In a process of its own: google-auth reads the server's address when it is imported."""
    program = """
import asyncio
from gateway.origins.gcs_credentials import default_chain

async def main():
    chain = default_chain("lake")
    print((await chain.get()).token)
    await chain.close()

asyncio.run(main())
"""
    with cloud() as (where, asked):
        env = {
            "GCE_METADATA_HOST": where,
            "GCE_METADATA_IP": where,
            "CLOUDSDK_CONFIG": str(tmp_path),
            "PATH": "",
        }
        done = subprocess.run(
            [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60, check=True
        )
    assert done.stdout == "ya29.of-the-machine\n"
    assert any("/token" in path for path in asked)
