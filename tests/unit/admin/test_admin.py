"""The admin listener tells what is so, to whom it may concern, and to nobody else."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admin import app as admin
from gateway.admin.guard import Guard, host_name, presented
from gateway.config.changes import ReloadRefused
from gateway.config.schema import Address
from tests.processes import free_port

CONSOLE = Path(admin.__file__).parent / "static/console.html"
TOKEN = "s3cret-tökén"
PATHS = ["/", "/metrics", "/api/v1/status", "/api/v1/mounts"]


class FakeNode:
    def __init__(self) -> None:
        self.reason = ""
        self.reloads = 0
        self.refusal: ReloadRefused | None = None

    def not_ready(self) -> str:
        return self.reason

    def status(self) -> dict[str, Any]:
        if self.reason == "bug":
            raise ZeroDivisionError("a secret in a message")
        return {"node": "gw-0"}

    def mounts(self) -> list[dict[str, Any]]:
        return [{"path": "data"}]

    def explain(self, bucket: str, key: str) -> dict[str, Any]:
        return {"bucket": bucket, "key": key}

    def metrics_page(self) -> bytes:
        return b"gateway_workers 2.0\n"

    async def reload(self) -> dict[str, Any]:
        self.reloads += 1
        if self.refusal is not None:
            raise self.refusal
        return {"mounts": {"added": ["data"]}}


class Listener:
    def __init__(self, node: FakeNode, url: str, session: aiohttp.ClientSession) -> None:
        self.node, self.url, self.session = node, url, session

    async def get(self, path: str, **headers: str) -> aiohttp.ClientResponse:
        return await self.ask("GET", path, headers)

    async def ask(self, method: str, path: str, headers: dict[str, str]) -> aiohttp.ClientResponse:
        response = await self.session.request(method, self.url + path, headers=headers)
        await response.read()
        return response


async def listening(address: Address, token: str) -> AsyncIterator[Listener]:
    node = FakeNode()
    runner = await admin.serve(node, address, token)
    async with aiohttp.ClientSession() as session:
        yield Listener(node, f"http://127.0.0.1:{address.port}", session)
    await runner.cleanup()


@pytest.fixture
async def local() -> AsyncIterator[Listener]:
    async for listener in listening(Address("127.0.0.1", free_port()), ""):
        yield listener


@pytest.fixture
async def public() -> AsyncIterator[Listener]:
    async for listener in listening(Address("0.0.0.0", free_port()), TOKEN):
        yield listener


async def test_health(local: Listener) -> None:
    assert (await local.get("/health/live")).status == 200
    assert (await local.get("/health/ready")).status == 200
    local.node.reason = "1 of 2 workers serve"
    answer = await local.get("/health/ready")
    assert answer.status == 503
    assert await answer.json() == {"ready": False, "reason": "1 of 2 workers serve"}
    assert (await local.get("/health/live")).status == 200


async def test_pages(local: Listener) -> None:
    assert await (await local.get("/api/v1/status")).json() == {"node": "gw-0"}
    assert await (await local.get("/api/v1/mounts")).json() == {"mounts": [{"path": "data"}]}
    metrics = await local.get("/metrics")
    assert metrics.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert await metrics.text() == "gateway_workers 2.0\n"
    assert (await local.get("/")).content_type == "text/html"


async def test_explanations(local: Listener) -> None:
    answer = await local.get("/api/v1/mounts/explain?bucket=data&key=a%2Fb%20c%26d")
    assert await answer.json() == {"bucket": "data", "key": "a/b c&d"}
    assert await (await local.get("/api/v1/mounts/explain?bucket=data")).json() == {
        "bucket": "data",
        "key": "",
    }
    assert (await local.get("/api/v1/mounts/explain")).status == 400


async def test_a_reload_says_what_changed(local: Listener) -> None:
    answer = await local.ask("POST", "/api/v1/reload", {})
    assert answer.status == 200
    assert await answer.json() == {"reloaded": True, "changed": {"mounts": {"added": ["data"]}}}


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (ReloadRefused("mistakes", "the config has mistakes", [("rules[0].match", "is none")]), 400),
        (ReloadRefused("conflict", "a restart is needed", [("cache.capacity", "is fixed")]), 409),
        (ReloadRefused("workers", "worker 1 does not answer"), 503),
    ],
)
async def test_a_reload_that_is_refused_says_why(
    local: Listener, refusal: ReloadRefused, status: int
) -> None:
    local.node.refusal = refusal
    answer = await local.ask("POST", "/api/v1/reload", {})
    assert answer.status == status
    mistakes = [{"path": path, "text": text} for path, text in refusal.mistakes]
    assert await answer.json() == {"error": str(refusal), "mistakes": mistakes}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},  # another port is another origin
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_another_sites_page_changes_nothing(local: Listener, headers: dict[str, str]) -> None:
    assert (await local.ask("POST", "/api/v1/reload", headers)).status == 403
    assert (await local.ask("GET", "/api/v1/reload", {})).status == 405
    assert local.node.reloads == 0


async def test_the_listeners_own_page_may(local: Listener) -> None:
    own = {"Origin": local.url, "Sec-Fetch-Site": "same-origin"}
    assert (await local.ask("POST", "/api/v1/reload", own)).status == 200
    assert (await local.ask("POST", "/api/v1/reload", {"Sec-Fetch-Site": "none"})).status == 200


async def test_a_reload_wants_the_token_and_the_right_site(public: Listener) -> None:
    assert (await public.ask("POST", "/api/v1/reload", {})).status == 401
    browser = {"Authorization": "Basic " + basic(TOKEN), "Origin": "https://evil.example"}
    assert (await public.ask("POST", "/api/v1/reload", browser)).status == 403
    assert public.node.reloads == 0
    allowed = {"Authorization": f"Bearer {TOKEN}"}
    assert (await public.ask("POST", "/api/v1/reload", allowed)).status == 200


async def test_errors_are_json_and_tell_no_secrets(local: Listener) -> None:
    missing = await local.get("/nothing/here")
    assert missing.status == 404
    assert list(await missing.json()) == ["error"]
    wrong_verb = await local.session.post(local.url + "/metrics")
    assert wrong_verb.status == 405
    assert "GET" in wrong_verb.headers["Allow"]
    assert list(await wrong_verb.json()) == ["error"]
    local.node.reason = "bug"
    broken = await local.get("/api/v1/status")
    assert broken.status == 500
    assert "secret" not in await broken.text()


@pytest.mark.parametrize("path", [*PATHS, "/nothing", "/health/ready"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9001", "127.evil.example", "localhost.evil.example"]
)
async def test_a_rebound_name_is_refused(local: Listener, path: str, host: str) -> None:
    assert (await local.get(path, Host=host)).status == 403


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:9001", "127.0.0.9", "[::1]:9001", "[::1]"]
)
async def test_names_of_this_machine_are_answered(local: Listener, host: str) -> None:
    assert (await local.get("/api/v1/status", Host=host)).status == 200


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
async def test_off_loopback_nothing_is_told_without_the_token(public: Listener, path: str) -> None:
    wrong = ["", "Bearer", "Bearer x", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Basic !", "Basic " + basic("x")]
    for authorization in wrong:
        answer = await public.get(path, **({"Authorization": authorization} if authorization else {}))
        assert answer.status == 401
        assert "WWW-Authenticate" in answer.headers
    for authorization in (f"Bearer {TOKEN}", f"bearer {TOKEN}", "Basic " + basic(TOKEN)):
        answer = await public.get(path, Authorization=authorization, Host="gateway.internal")
        assert answer.status == (404 if path == "/nothing" else 200)


def basic(token: str) -> str:
    return base64.b64encode(f"operator:{token}".encode()).decode()


async def test_probes_need_no_token(public: Listener) -> None:
    assert (await public.get("/health/live")).status == 200
    assert (await public.get("/health/ready")).status == 200


async def test_no_other_sites_page_may_read_an_answer(local: Listener) -> None:
    for path in PATHS:
        answer = await local.get(path, Origin="https://evil.example")
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_a_public_listener_without_a_token_admits_nobody() -> None:
    guard = Guard(Address("", 9001), "")
    assert not guard.admitted("/metrics", "Bearer ")
    assert not guard.admitted("/metrics", None)


def test_a_token_is_wanted_on_loopback_too_where_one_is_set() -> None:
    guard = Guard(Address("127.0.0.1", 9001), "token")
    assert not guard.admitted("/metrics", None)
    assert guard.admitted("/metrics", "Bearer token")


@given(st.text(), st.text())
def test_the_guard_never_raises(host: str, authorization: str) -> None:
    guard = Guard(Address("127.0.0.1", 9001), "token")
    guard.host_allowed(host)
    guard.admitted("/metrics", authorization)
    assert guard.admitted("/metrics", None) is False


@pytest.mark.parametrize(
    ("host", "name"),
    [("a", "a"), ("A:1", "a"), ("[::1]", "[::1]"), ("[::1]:9", "[::1]"), ("", ""), (":1", "")],
)
def test_host_name(host: str, name: str) -> None:
    assert host_name(host) == name


def test_what_is_no_credential_is_empty() -> None:
    assert presented("Digest x") == presented("") == presented("Basic ====") == presented("Basic YQ==") == ""


async def test_the_console_needs_nothing_from_elsewhere(local: Listener) -> None:
    page = CONSOLE.read_text()
    assert not re.findall(r"(?:https?:)?//(?!\s)[a-z]", re.sub(r"//[^\n]*\n", "\n", page))
    assert page.count("<script>") == page.count("<style>") == 1
    for way_in in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", " onclick"):
        assert way_in not in page
    policy = (await local.get("/")).headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_the_console_knows_every_key_that_it_reads() -> None:
    """The page reads `now.a.b`: those paths are there in a status."""
    from tests.unit.admin.test_status import a_status

    status = a_status()
    for section, key in set(re.findall(r"\bnow\.(\w+)(?:\.(\w+))?", CONSOLE.read_text())):
        assert section in status
        if isinstance(status[section], dict) and key:
            assert key in status[section]
    for letter, section in (("w", "workers"), ("o", "origins"), ("m", "mounts")):
        for key in set(re.findall(rf"\b{letter}\.(\w+)", CONSOLE.read_text())):
            assert key in status[section][0]
