"""The admin listener off loopback: nothing without the token but what a load balancer may know."""

from __future__ import annotations

import base64
import http.client

import pytest

from tests.threats.conftest import TOKEN, Front

PATHS = [
    "/", "/metrics", "/api/v1/status", "/api/v1/ring", "/api/v1/mounts", "/api/v1/jobs", "/api/v1/pending", "/nowhere",
    "/health/live/../../metrics", "/health/live%2f..%2f..%2fmetrics", "//metrics", "/METRICS", "/metrics/",
    "/health/ready?/metrics", "/static/console.js",
]  # fmt: skip


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()


def ask(front: Front, path: str, authorization: str | None = None, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", front.gateway.admin_port, timeout=10)
    try:
        headers = {} if authorization is None else {"Authorization": authorization}
        front.secrets.note(f"authorization: {authorization}\r\n".encode())
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", PATHS)
def test_metrics_console_and_admin_without_a_token(public: Front, path: str) -> None:
    wrong = [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        TOKEN,
        f"bearer{TOKEN}",
    ]
    wrong += [basic(""), basic(TOKEN[1:]), f"Basic {TOKEN}", "Bearer AKANNA", "Bearer \xe9" + "x" * 40]
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        for authorization in wrong:
            status, body = ask(public, path, authorization, method)
            if path.startswith("/health/ready?"):
                assert status in (200, 405)
            else:
                assert status == 401
            assert b"gateway_" not in body
            assert b"anna" not in body


def test_a_token_in_the_query_is_none(public: Front) -> None:
    assert ask(public, f"/metrics?token={TOKEN}&access_token={TOKEN}")[0] == 401


@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", f"bearer {TOKEN}", basic(TOKEN)])
def test_with_the_token(public: Front, authorization: str) -> None:
    assert b"gateway_" in ask(public, "/metrics", authorization)[1]
    status, body = ask(public, "/api/v1/status", authorization)
    assert status == 200
    assert TOKEN.encode() not in body


def test_health_needs_none_and_says_little(public: Front) -> None:
    for path in ("/health/live", "/health/ready"):
        status, body = ask(public, path)
        assert status == 200
        assert len(body) < 200


def test_the_s3_port_takes_no_admin_token(public: Front) -> None:
    for path in ("/metrics", "/api/v1/status", "/"):
        call = public.anna.call("GET", path).but(authorization=f"Bearer {TOKEN}")
        assert public.ask(call).status in (400, 403)
