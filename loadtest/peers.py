"""Each system's configuration and start, tuned for what it is compared in.

nginx    proxy_cache over a keep-alive upstream: sendfile, tcp_nopush, buffered access log, no AIO threads,
one lock per fill.
         It checks no signature.
rclone   `serve s3` over a directory that holds the same objects; checks signatures.
gateway  `gateway serve`, signatures checked, freshness as long as nginx's (one hour).
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from loadtest import pattern
from loadtest.procs import HOST, Server, StartError, accepts, free_port, spawn, wait_until
from loadtest.signing import Keys

BUCKET = "bench"
KEYS = Keys("AKIDLOADTEST", "loadtest-secret-that-protects-nothing")
ORIGIN_KEYS = Keys("AKIDORIGIN", "origin-secret-that-protects-nothing")
BIN = Path(sys.executable).parent


@dataclass
class Counted:
    """The origin's counters; see `origin.Stats`."""

    requests: int = 0
    gets_of_objects: int = 0
    body_bytes_sent: int = 0
    body_bytes_received: int = 0
    uploads_completed: int = 0
    mismatches: int = 0

    def since(self, earlier: Counted) -> Counted:
        pairs = (
            (item.name, getattr(self, item.name) - getattr(earlier, item.name)) for item in fields(Counted)
        )
        return Counted(**dict(pairs))


def counted(origin: Server) -> Counted:
    with urllib.request.urlopen(f"http://{HOST}:{origin.port}/_/stats", timeout=10) as answer:
        said = json.load(answer)
    return Counted(**{item.name: said[item.name] for item in fields(Counted)})


def relayed(relay: Server) -> dict[str, int]:
    """The relay's counters; see `wan.Counters`."""
    with (
        socket.create_connection((HOST, relay.ports["control"]), timeout=10) as sock,
        sock.makefile() as answer,
    ):
        said: dict[str, int] = json.load(answer)
        return said


def find(program: str) -> Path | None:
    """A program beside this interpreter, on PATH or in sbin."""
    beside = BIN / program
    if beside.exists():
        return beside
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def _talking(name: str, module: str, arguments: list[str], cores: frozenset[int], work: Path) -> Server:
    """One of our own helpers: a module that prints its ports and ends with its stdin."""
    server = spawn(
        name, [sys.executable, "-m", module, *arguments], cores=cores, log=work / f"{name}.log", talks=True
    )
    assert server.process.stdout is not None
    line = server.process.stdout.readline()
    if not line:
        server.stop()
        raise StartError(f"{name} did not start\n{server.tail()}")
    server.ports = json.loads(line)
    server.port = server.ports["port"]
    return server


def start_origin(cores: frozenset[int], work: Path) -> Server:
    return _talking("origin", "loadtest.origin", [], cores, work)


def start_relay(
    origin: Server, cores: frozenset[int], work: Path, *, rtt_ms: float = 50, rate_mb: float = 40
) -> Server:
    arguments = ["--to", str(origin.port), "--rtt-ms", str(rtt_ms), "--rate-mb", str(rate_mb)]
    return _talking("relay", "loadtest.wan", arguments, cores, work)


_NGINX = """\
daemon off;
pid {work}/nginx.pid;
error_log {work}/nginx-error.log warn;
worker_processes {workers};
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log {work}/nginx-access.log combined buffer=64k flush=5s;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  client_max_body_size 0;
  client_body_temp_path {work}/nginx-body;
  proxy_temp_path {work}/nginx-temp;
  {open_files}
  proxy_cache_path {data} levels=1:2 keys_zone=bench:64m max_size=16g inactive=1d use_temp_path=off;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_request_buffering off;
      proxy_cache bench;
      proxy_cache_key $uri;
      proxy_cache_valid 200 1h;
      proxy_cache_lock on;
      proxy_cache_lock_timeout 60s;
      proxy_cache_lock_age 60s;
    }}
  }}
}}
"""


def start_nginx(
    upstream_port: int, cores: frozenset[int], work: Path, *, workers: int = 1, open_file_cache: bool = False
) -> Server:
    program = find("nginx")
    if program is None:
        raise StartError("nginx is not installed")
    home = work / f"nginx-{workers}"
    data = home / "cache"
    data.mkdir(parents=True)
    port = free_port()
    open_files = (
        "open_file_cache max=100000 inactive=10m; open_file_cache_valid 10m;" if open_file_cache else ""
    )
    config = home / "nginx.conf"
    config.write_text(
        _NGINX.format(
            work=home, workers=workers, data=data, origin=upstream_port, port=port, open_files=open_files
        )
    )
    home.chmod(0o755)
    command: list[str | Path] = [program, "-p", home, "-c", config, "-e", home / "nginx-error.log"]
    server = spawn("nginx", command, cores=cores, log=home / "out.log", port=port, data=data)
    wait_until(lambda: accepts(port), server)
    return server


def materialise(keys: Iterable[str], root: Path) -> None:
    """The objects as files, for a system that serves a directory."""
    for key in keys:
        path = root / BUCKET / key
        path.parent.mkdir(parents=True, exist_ok=True)
        size, start = pattern.size_of(key) or 0, pattern.start_of(key)
        with path.open("wb") as file:
            for at in range(0, size, pattern.SPAN):
                file.write(pattern.piece(start, at, size - at))


def start_rclone(keys: Iterable[str], cores: frozenset[int], work: Path) -> Server:
    program = find("rclone")
    if program is None:
        raise StartError("rclone is not installed")
    home = work / "rclone"
    root = home / "objects"
    (root / BUCKET).mkdir(parents=True)
    materialise(keys, root)
    port = free_port()
    pair = f"{KEYS.access_key},{KEYS.secret_key}"
    command: list[str | Path] = [
        program,
        "--config",
        "/dev/null",
        "serve",
        "s3",
        "--addr",
        f"{HOST}:{port}",
        "--auth-key",
        pair,
        root,
    ]
    server = spawn("rclone", command, cores=cores, log=home / "out.log", port=port)
    wait_until(lambda: accepts(port), server)
    return server


_GATEWAY = """\
[node]
name = "loadtest"
data_dir = "{data}"
workers = {workers}

[listen]
s3 = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin}"
peer = "127.0.0.1:{peer}"

[cache]
capacity = "{capacity}"

[[origins]]
name = "truth"
type = "s3"
endpoint = "http://127.0.0.1:{origin}"
region = "us-east-1"
access_key = "{origin_keys.access_key}"
secret_key = "{origin_keys.secret_key}"

[[mounts]]
path = "{bucket}"
origin = "truth"
remote = "{bucket}"

[[rules]]
match = "{bucket}/**"
consistency = "1h"

[[identities]]
name = "loadtest"
access_key = "{keys.access_key}"
secret_key = "{keys.secret_key}"
[[identities.allow]]
actions = ["s3:*"]
resources = ["{bucket}", "{bucket}/*"]
"""


def start_gateway(
    upstream_port: int, cores: frozenset[int], work: Path, *, workers: int = 1, capacity: str = "16GiB"
) -> Server:
    program = find("gateway")
    if program is None:
        raise StartError("`gateway` is not installed beside this interpreter")
    home = work / f"gateway-{workers}"
    data = home / "data"
    data.mkdir(parents=True)
    port, admin, peer = free_port(), free_port(), free_port()
    config = home / "gateway.toml"
    config.write_text(
        _GATEWAY.format(
            data=data, workers=workers, port=port, admin=admin, peer=peer, capacity=capacity,
            origin=upstream_port, origin_keys=ORIGIN_KEYS, bucket=BUCKET, keys=KEYS,
        )
    )  # fmt: skip
    command: list[str | Path] = [program, "serve", "--config", config]
    server = spawn("gateway", command, cores=cores, log=home / "out.log", port=port, data=data)
    server.ports = {"port": port, "admin": admin}
    wait_until(lambda: _is_ready(admin), server)
    return server


def _is_ready(admin_port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{admin_port}/health/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
