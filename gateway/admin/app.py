"""Routes of the admin listener and how it says no: `{"error": "one sentence"}` with the status.

GET /health/live       200 while the supervisor's loop turns
GET /health/ready      200 when every worker serves, else 503 with the reason
GET /metrics           Prometheus text
GET /api/v1/status     the node as JSON
GET /api/v1/mounts     {"mounts": […]}
GET /                  the console

GET /api/v1/mounts/explain?bucket=B&key=K   which mount and rule apply, and why (`namespace/explain.py`)
POST /api/v1/reload    the config file is read again; {"reloaded": true, "changed": {…}}, or what kept it from being
                       taken over: 400 mistakes in the file, 409 it changes what only a start can (or there is no
                       file), 503 a worker could not follow, or the file could not be read in time. In each case nothing
                       has changed
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
from aiohttp import web

from gateway.admin.guard import Guard, of_another_site
from gateway.config.changes import ReloadRefused
from gateway.config.schema import Address

log = structlog.get_logger()

BODY_BYTES_MAX: Final = 64 << 10
KEEPALIVE_S: Final = 30.0
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_REFUSALS: Final = {"mistakes": 400, "conflict": 409, "workers": 503}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Node(Protocol):
    """What the supervisor shows, and what it does when asked. Only `reload` waits."""

    def not_ready(self) -> str:
        """Why the node is not ready, in a few words; empty when it is."""
        ...

    def status(self) -> dict[str, Any]: ...

    def mounts(self) -> list[dict[str, Any]]: ...

    def explain(self, bucket: str, key: str) -> dict[str, Any]: ...

    def metrics_page(self) -> bytes: ...

    async def reload(self) -> dict[str, Any]:
        """What changed, by section. Raises ReloadRefused."""
        ...


def make_app(node: Node, guard: Guard) -> web.Application:
    app = web.Application(middlewares=[_errors, _guarded(guard)], client_max_size=BODY_BYTES_MAX)
    app.on_response_prepare.append(_headers)
    pages = _Pages(node)
    app.router.add_get("/health/live", pages.live)
    app.router.add_get("/health/ready", pages.ready)
    app.router.add_get("/metrics", pages.metrics)
    app.router.add_get("/api/v1/status", pages.status)
    app.router.add_get("/api/v1/mounts", pages.mounts)
    app.router.add_get("/api/v1/mounts/explain", pages.explain)
    app.router.add_post("/api/v1/reload", pages.reload)
    app.router.add_get("/", pages.console)
    return app


async def serve(node: Node, address: Address, token: str) -> web.AppRunner:
    """Listens; `await runner.cleanup()` ends it. Raises OSError when the address cannot be bound."""
    runner = web.AppRunner(
        make_app(node, Guard(address, token)),
        access_log=None,
        handle_signals=False,
        keepalive_timeout=KEEPALIVE_S,
        shutdown_timeout=1.0,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, address.host or None, address.port).start()
    except BaseException:
        await runner.cleanup()
        raise
    return runner


class _Pages:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._console = (Path(__file__).parent / "static" / "console.html").read_text()
        self._policy = content_policy(self._console)

    async def live(self, _request: web.Request) -> web.Response:
        return _json({"live": True})

    async def ready(self, _request: web.Request) -> web.Response:
        reason = self._node.not_ready()
        return _json({"ready": not reason, "reason": reason}, 503 if reason else 200)

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._node.metrics_page(), headers={"Content-Type": METRICS_TYPE})

    async def status(self, _request: web.Request) -> web.Response:
        return _json(self._node.status())

    async def mounts(self, _request: web.Request) -> web.Response:
        return _json({"mounts": self._node.mounts()})

    async def explain(self, request: web.Request) -> web.Response:
        bucket = request.query.get("bucket", "")
        if not bucket:
            return _json({"error": "The query must name a bucket: ?bucket=B&key=K"}, 400)
        return _json(self._node.explain(bucket, request.query.get("key", "")))

    async def reload(self, _request: web.Request) -> web.Response:
        try:
            changed = await self._node.reload()
        except ReloadRefused as why:
            mistakes = [{"path": path, "text": text} for path, text in why.mistakes]
            return _json({"error": str(why), "mistakes": mistakes}, _REFUSALS[why.kind])
        return _json({"reloaded": True, "changed": changed})

    async def console(self, _request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": self._policy}
        return web.Response(text=self._console, content_type="text/html", headers=headers)


def content_policy(page: str) -> str:
    """Allows the page's own inline script and style, by their digests, and requests to this listener; nothing
    else, so that a name with markup in it stays text even if escaping it were forgotten."""

    def digests(tag: str) -> str:
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        hashed = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in found]
        return " ".join(f"'sha256-{digest}'" for digest in hashed)

    return (
        f"default-src 'none'; script-src {digests('script')}; style-src {digests('style')}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _guarded(guard: Guard) -> Any:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not guard.host_allowed(request.headers.get("Host")):
            return _json({"error": "This listener answers only under the names of its own machine."}, 403)
        if not guard.admitted(request.path, request.headers.get("Authorization")):
            # Browsers ask for a password only when they are offered Basic.
            wanted = 'Basic realm="gateway", charset="UTF-8"' if request.path == "/" else "Bearer"
            return _json({"error": "A valid token is required."}, 401, {"WWW-Authenticate": wanted})
        if of_another_site(request.method, request.headers):
            return _json({"error": "A page of another site may change nothing here."}, 403)
        return await handler(request)

    return check


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as refusal:
        kept = {"Allow": refusal.headers["Allow"]} if "Allow" in refusal.headers else {}
        return _json({"error": f"{refusal.reason}."}, refusal.status, kept)
    except Exception:
        log.exception("admin request failed", path=request.path)
        return _json({"error": "Internal error; the log has more."}, 500)


async def _headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Server"] = "gateway"


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        text=json.dumps(value), status=status, content_type="application/json", headers=headers
    )


__all__ = ["Node", "content_policy", "make_app", "serve"]
