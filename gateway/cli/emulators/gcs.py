"""Google Cloud Storage's XML API before any S3 store: a front that checks what Google checks and passes the rest on,
signed anew. Bodies stream both ways.

    python -m gateway.cli.emulators.gcs --to http://127.0.0.1:5000 --port 4443 --key GOOGEXAMPLE:secret

It is stricter than Google where Google would silently do something else than what was asked: it refuses If-Match on
writes and preconditions on completing an upload. What it does not do: ACLs, lifecycle, projects, resumable uploads,
compose, and signed URLs.

    gcs_checks   requests judged by their head          gcs_state   generations, locks, parts of uploads
    gcs_bodies   bodies and their digests               gcs_calls   each call, put to the store
    gcs_answers  headers and bodies in Google's words   gcs_lists   documents that Google words in another way
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Collection, Mapping

import structlog
from aiohttp import ClientPayloadError, web

from gateway.cli.emulators.gcs_calls import Calls
from gateway.cli.emulators.gcs_checks import Head, Refusal, check_head
from gateway.cli.emulators.gcs_state import PART_BYTES_MIN
from gateway.errors import GatewayError
from gateway.origins.base import Unobserved
from gateway.origins.limits import Limits
from gateway.origins.s3_client import Client
from gateway.origins.s3_credentials import FixedCredentials
from gateway.origins.s3_dialect import Amazon
from gateway.origins.s3_endpoint import endpoint_of
from gateway.origins.s3_flavours import flavour_of
from gateway.origins.s3_http import HEADER_BYTES_MAX, Wire
from gateway.s3.errors import to_s3

log = structlog.get_logger()

# Of the emulator alone: more than a gateway opens by default.
CONNECTIONS_MAX = 256
DEADLINE_S = 60.0


class Front:
    def __init__(
        self,
        store: Client,
        secrets: Mapping[str, str],
        tokens: Collection[str],
        part_bytes_min: int = PART_BYTES_MIN,
    ) -> None:
        """`secrets`: of HMAC keys, by access id; `tokens`: OAuth tokens that are valid."""
        self._calls = Calls(store, part_bytes_min)
        self._secrets = secrets
        self._tokens = tokens

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            head = _head_of(request)
            check_head(head, self._secrets, self._tokens, time.time())
            return await self._calls.answer(request, head)
        except Refusal as refusal:
            return _error(request, refusal)
        except GatewayError as error:
            shown = to_s3(error)
            return _error(request, Refusal(shown.status, shown.code, shown.message))
        except (ClientPayloadError, ConnectionError):  # the client left in the middle of its body
            return web.Response(status=400)


def _head_of(request: web.BaseRequest) -> Head:
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.raw_headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return Head(request.method, request.raw_path, headers)


def _error(request: web.BaseRequest, refusal: Refusal) -> web.Response:
    log.info("refused", method=request.method, status=refusal.status, error=str(refusal))
    if request.method == "HEAD":
        return web.Response(status=refusal.status)
    return web.Response(status=refusal.status, body=refusal.document, content_type="application/xml")


def store_at(url: str, access_key: str, secret_key: str, region: str) -> Client:
    limits = Limits("store", CONNECTIONS_MAX, DEADLINE_S)
    dialect = Amazon(FixedCredentials(access_key, secret_key), region)
    wire = Wire("store", endpoint_of(url, region), dialect, limits, Unobserved())
    return Client("store", wire, limits, flavour_of("auto"))


async def serve(front: Front, host: str, port: int) -> web.ServerRunner:
    """Raises OSError when the port is taken."""
    server = web.Server(
        front.handle,
        auto_decompress=False,
        max_line_size=HEADER_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
    )
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gateway.cli.emulators.gcs", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--to", required=True, help="the S3 store's URL")
    parser.add_argument("--to-key", default="key:secret", help="ID:SECRET that the store takes")
    parser.add_argument("--to-region", default="us-east-1")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--key", action="append", default=[], help="ID:SECRET of an HMAC key; may be repeated"
    )
    parser.add_argument("--token", action="append", default=[], help="a valid OAuth token; may be repeated")
    parser.add_argument("--part-bytes-min", type=int, default=PART_BYTES_MIN)
    return parser.parse_args()


async def _main() -> None:
    asked = _arguments()
    access_key, _, secret_key = asked.to_key.partition(":")
    secrets = dict(key.split(":", 1) for key in asked.key)
    front = Front(
        store_at(asked.to, access_key, secret_key, asked.to_region),
        secrets,
        asked.token,
        asked.part_bytes_min,
    )
    runner = await serve(front, asked.host, asked.port)
    print(
        f"Google Cloud Storage's XML API at http://{asked.host}:{asked.port}, kept at {asked.to}", flush=True
    )
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_main())
