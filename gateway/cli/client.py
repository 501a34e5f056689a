"""Talking to a node's admin API from the command line: blocking, one request a connection, no dependency to load."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

import typer

T = TypeVar("T")
DEFAULT_URL: Final = "http://127.0.0.1:9001"
TIMEOUT_S: Final = 10.0  # the admin API answers from memory; a node that needs longer is not well
ANSWER_BYTES_MAX: Final = 64 << 20

Admin = Annotated[
    str, typer.Option("--admin", metavar="URL", envvar="GATEWAY_ADMIN_URL", help="The node's admin address.")
]
Json = Annotated[bool, typer.Option("--json", help="The answer as the node gave it.")]


class NoGateway(Exception):
    """Nothing, or something else, answers at the address. The text is one sentence."""


class AdminFailed(Exception):
    """The gateway answered that it would not or could not. The text is one sentence; `mistakes`: lines that explain
    it, when it gave any."""

    def __init__(self, text: str, mistakes: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.mistakes = mistakes


class AdminClient:
    """`token`: `[admin] token` of the node, empty where its listener is on loopback."""

    def __init__(self, url: str, token: str = "") -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if parts.scheme not in ("http", "https") or not host:
            raise typer.BadParameter(f"{url!r} is not a URL such as {DEFAULT_URL}", param_hint="--admin")
        self.url, self._base, self._token = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/"), token
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connect: Callable[[float], http.client.HTTPConnection] = lambda timeout_s: kind(
            host, port, timeout=timeout_s
        )

    def get(self, path: str) -> Any:
        """The decoded JSON answer. Raises NoGateway, AdminFailed."""
        return self._ask("GET", path, TIMEOUT_S)

    def post(self, path: str, timeout_s: float) -> Any:
        """As `get`, for what changes something and therefore takes longer."""
        return self._ask("POST", path, timeout_s)

    def _ask(self, method: str, path: str, timeout_s: float) -> Any:
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        connection = self._connect(timeout_s)
        try:
            connection.request(method, self._base + path, headers=headers)
            response = connection.getresponse()
            status, body = response.status, response.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise NoGateway(f"no gateway answers at {self.url}: {why}") from None
        finally:
            connection.close()
        if status in (401, 403):
            raise AdminFailed(f"{self.url} wants another token: set GATEWAY_ADMIN_TOKEN")
        try:
            answer = json.loads(body)
        except ValueError:
            raise NoGateway(f"what answers at {self.url} is not a gateway (status {status})") from None
        if status != 200:
            said = answer.get("error") if isinstance(answer, dict) else None
            lines = answer.get("mistakes", []) if isinstance(answer, dict) else []
            mistakes = [f"{line['path']}: {line['text']}" for line in lines]
            raise AdminFailed(f"{self.url} answered {status}" + (f": {said}" if said else ""), mistakes)
        return answer


def ask(url: str, call: Callable[[AdminClient], T]) -> T:
    """What `call` returns; or one line on stderr and exit status 3 (no gateway answered) or 1."""
    client = AdminClient(url, os.environ.get("GATEWAY_ADMIN_TOKEN", ""))
    try:
        return call(client)
    except NoGateway as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(3) from None
    except AdminFailed as error:
        for line in (str(error), *error.mistakes):
            typer.echo(line, err=True)
        raise typer.Exit(1) from None
