"""Each mistake is found, named by its key and told in one line; what is right is not complained about."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from gateway.cache.layout import CacheUnusable, effective_segment_bytes
from gateway.config import check_origins
from gateway.config.checks import check, notes
from gateway.config.schema import Config, OriginConfig
from gateway.origins.s3_flavours import FLAVOURS
from tests.unit.config.sample import SECRET, mistakes, tables
from tests.whole import needs_openssl

Change = Callable[[dict[str, Any]], object]


def put(section: str, **keys: object) -> Change:
    """Sets keys of a table, or of the first entry of a list of tables."""

    def change(raw: dict[str, Any]) -> None:
        at = raw.setdefault(section, {})
        (at[0] if isinstance(at, list) else at).update(keys)

    return change


def add(section: str, **keys: object) -> Change:
    return lambda raw: raw.setdefault(section, []).append(keys)


def allow(**keys: object) -> Change:
    return lambda raw: raw["identities"][0]["allow"][0].update(keys)


def both(one: Change, other: Change) -> Change:
    return lambda raw: (one(raw), other(raw))


AZURE_ORIGIN = {"name": "blobs", "type": "azure", "access_key": "account", "secret_key": "c2VjcmV0"}
GCS_ORIGIN = {"name": "google", "type": "gcs", "access_key": "GOOG1", "secret_key": SECRET}
FILE_ORIGIN = {"name": "nas", "type": "file", "root": "/"}
IDENTITY = {"name": "b", "access_key": "AKB", "secret_key": SECRET}

BAD: Mapping[str, tuple[Change, str]] = {
    "number": (put("node", workers="many"), "node.workers: must be a whole number"),
    "fraction": (put("node", workers=1.5), "node.workers: must be a whole number"),
    "no authorities": (
        put("origins", ca_file="/dev/null"),
        "origins[0].ca_file: /dev/null holds no certificates in PEM",
    ),
    "authorities that are not there": (
        put("origins", ca_file="/no/such.pem"),
        "origins[0].ca_file: /no/such.pem cannot be read: No such file or directory",
    ),
    "too small": (put("node", workers=-1), "node.workers: must be at least 0"),
    "too large": (put("cache", stripe_blocks=1000), "cache.stripe_blocks: must be at most 256"),
    "text": (put("node", name=7), "node.name: must be text in quotes"),
    "truth": (put("mounts", read_only="perhaps"), "mounts[0].read_only: must be true or false"),
    "price": (put("origins", egress_price_per_gib="x"), "origins[0].egress_price_per_gib: must be a number"),
    "table": (lambda raw: raw.update(node="x"), "node: must be a table"),
    "list of tables": (
        lambda raw: raw.update(rules={"match": "**"}), "rules: must be a list of tables: write [[rules]]",
    ),
    "list": (put("fleet", members="a"), 'fleet.members: must be a list, such as ["a", "b"]'),
    "choice": (put("log", level="loud"), 'log.level: must be "debug", "info", "warning" or "error"'),
    "unknown section": (lambda raw: raw.update(orgins=[]), "orgins: is not a known key; did you mean origins?"),
    "unknown key": (put("cache", zzz=1), "cache.zzz: is not a known key"),
    "node name": (put("node", name="a b"), "node.name: must be 1 to 63 letters"),
    "address": (put("listen", s3="9000"), "listen.s3: '9000' is not HOST:PORT"),
    "port": (put("listen", s3="127.0.0.1:70000"), "listen.s3: '127.0.0.1:70000' is not HOST:PORT"),
    "port 0": (put("listen", s3="127.0.0.1:0"), "listen.s3: port 0 cannot be used"),
    "one port twice": (put("listen", s3=":9001"), "listen.admin: is the address of listen.s3"),
    "admin in the open": (put("listen", admin=":9001"), "listen.admin: :9001 can be reached from other machines"),
    "admin at a name that only looks like loopback": (
        put("listen", admin="127.example.com:9001"),
        "listen.admin: 127.example.com:9001 can be reached from other machines",
    ),
    "domain": (put("listen", domain="*.x"), "listen.domain: must be a host name"),
    "certificate alone": (put("listen", tls_cert="/x"), "listen.tls_key: is needed together with tls_cert"),
    "key alone": (put("listen", tls_key="/x"), "listen.tls_cert: is needed together with tls_key"),
    "size": (put("cache", capacity="lots"), "cache.capacity: 'lots' is not a size"),
    "odd blocks": (put("cache", block_size="3MiB"), "cache.block_size: 3MiB is not a power of two"),
    "small blocks": (put("cache", block_size="4KiB"), "cache.block_size: 4KiB is not a power of two"),
    "large blocks": (put("cache", block_size="32MiB"), "cache.block_size: 32MiB is not a power of two"),
    "small cache": (put("cache", capacity="63MiB"), "cache.capacity: must be at least 64MiB"),
    "cache of few blocks": (
        put("cache", capacity="64MiB", block_size="16MiB"),
        "cache.capacity: is too small for 2 workers and blocks of 16MiB: they need 98MiB",
    ),
    "small segments": (put("cache", segment_size="1MiB"), "cache.segment_size: must be at least two blocks (2MiB)"),
    "large segments": (put("cache", segment_size="4GiB"), "cache.segment_size: must be at least two blocks"),
    "long stripes": (
        put("cache", stripe_blocks=32, block_size="16MiB"),
        "cache.stripe_blocks: makes a stripe of 512MiB; the most is 256MiB",
    ),
    "duration": (put("limits", head_timeout="soon"), "limits.head_timeout: 'soon' is not a duration"),
    "no time": (put("limits", idle_timeout=0), "limits.idle_timeout: must be more than 0"),
    "access log": (put("log", access="/no/such/dir/a.log"), 'log.access: must be "stdout", "off" or a file'),
    "fleet": (put("fleet", membership="etcd"), 'fleet.membership: "etcd" is not in this version'),
    "fleet key": (put("fleet", members=["a=b:1"]), "fleet.members: is of no use: fleets are not in this version"),
    "write-back bound": (put("writeback", capacity="1GiB"), "writeback.capacity: is of no use: the write-back buffer"),
    "origin's name": (put("origins", name="a/b"), "origins[0].name: must be up to 63 letters"),
    "origin without a name": (put("origins", name=""), "origins[0].name: must be written"),
    "origin twice": (add("origins", **FILE_ORIGIN | {"name": "aws"}), 'origins[1].name: "aws" is also the name of'),
    "origin's type": (put("origins", type="s4"), 'origins[0].type: must be "s3", "gcs", "azure" or "file"'),
    "azure without an account": (
        add("origins", **AZURE_ORIGIN | {"access_key": ""}),
        "origins[1].access_key: must be written: the name of the storage account",
    ),
    "azure's account": (
        add("origins", **AZURE_ORIGIN | {"access_key": "A-b"}),
        "origins[1].access_key: must be the name of a storage account",
    ),
    "azure's key": (
        add("origins", **AZURE_ORIGIN | {"secret_key": SECRET}),
        "origins[1].secret_key: must be a key of the storage account",
    ),
    "azure's key and SAS": (
        add("origins", **AZURE_ORIGIN | {"session_token": "sv=1&sig=x"}),
        "origins[1].session_token: is a SAS, and secret_key the account's key: one of them",
    ),
    "azure's SAS": (
        add("origins", **AZURE_ORIGIN | {"secret_key": "", "session_token": SECRET}),
        "origins[1].session_token: must be a SAS",
    ),
    "azure's SAS in the clear": (
        add(
            "origins",
            **AZURE_ORIGIN | {"secret_key": "", "session_token": "sig=x", "endpoint": "http://blobs.example.com"},
        ),
        "origins[1].endpoint: must be https://",
    ),
    "azure's endpoint with another path": (
        add("origins", **AZURE_ORIGIN | {"endpoint": "http://127.0.0.1:10000/other"}),
        "origins[1].endpoint: must end after the host and port",
    ),
    "azure with a directory": (
        add("origins", **AZURE_ORIGIN | {"root": "/"}),
        'origins[1].root: is of no use to an origin of type "azure"',
    ),
    "azure's containers": (
        both(add("origins", **AZURE_ORIGIN), add("mounts", path="blobs", origin="blobs", remote="with.dots/x")),
        'mounts[1].remote: "with.dots" cannot be the name of a container',
    ),
    "half an HMAC key": (
        add("origins", **GCS_ORIGIN | {"access_key": ""}),
        "origins[1].access_key: is needed together with secret_key",
    ),
    "half an HMAC key beside a token": (
        add("origins", **GCS_ORIGIN | {"secret_key": "", "session_token": SECRET}),
        "origins[1].secret_key: is needed together with access_key",
    ),
    "an HMAC key and a token": (
        add("origins", **GCS_ORIGIN | {"session_token": SECRET}),
        "origins[1].session_token: is an OAuth token, and access_key and secret_key are an HMAC key: one of them",
    ),
    "OAuth in the clear": (
        add("origins", name="google", type="gcs", session_token=SECRET, endpoint="http://storage.example.com"),
        "origins[1].endpoint: must be https://",
    ),
    "gcs at no URL": (
        add("origins", **GCS_ORIGIN | {"endpoint": "storage.googleapis.com"}),
        "origins[1].endpoint: must be a URL with",
    ),
    "gcs with a directory": (
        add("origins", **GCS_ORIGIN | {"root": "/"}),
        'origins[1].root: is of no use to an origin of type "gcs"',
    ),
    "gcs with a flavour": (
        add("origins", **GCS_ORIGIN | {"flavour": "minio"}),
        'origins[1].flavour: is of no use to an origin of type "gcs"',
    ),
    "flavour": (put("origins", flavour="x"), 'origins[0].flavour: must be "auto", "aws"'),
    "endpoint without a scheme": (put("origins", endpoint="localhost:80"), "origins[0].endpoint: must be a URL with"),
    "endpoint with a bad port": (put("origins", endpoint="http://a:x"), "origins[0].endpoint: is not a URL"),
    "endpoint with a path": (put("origins", endpoint="http://a/b"), "origins[0].endpoint: must end after the host"),
    "endpoint with a password": (
        put("origins", endpoint=f"http://u:{SECRET}@a"),
        "origins[0].endpoint: ",
    ),
    "endpoint of credentials": (
        put("origins", endpoint="http://169.254.169.254"),
        "origins[0].endpoint: is a link-local address",
    ),
    "half a key": (put("origins", access_key=""), "origins[0].access_key: is needed together with secret_key"),
    "other half": (put("origins", secret_key=""), "origins[0].secret_key: is needed together with access_key"),
    "root of s3": (put("origins", root="/"), 'origins[0].root: is of no use to an origin of type "s3"'),
    "region": (put("origins", region=""), "origins[0].region: must not be empty"),
    "deadline": (put("origins", deadline=0), "origins[0].deadline: must be more than 0"),
    "rate": (put("origins", request_limit=-1), "origins[0].request_limit: must be at least 0"),
    "rate below the deadline": (
        put("origins", request_limit=0.2, deadline=10),
        "origins[0].request_limit: lets each of 2 workers begin one request every 10 s",
    ),
    "budget without a price": (put("origins", budget=5), "origins[0].budget: needs egress_price_per_gib"),
    "action without a budget": (
        put("origins", budget_action="refuse", egress_price_per_gib=0.1),
        "origins[0].budget_action: is of no use without budget",
    ),
    "budget's action": (
        put("origins", budget=5, egress_price_per_gib=1, budget_action="stop"),
        'origins[0].budget_action: must be "alert" or "refuse"',
    ),
    "budget": (put("origins", budget=-1), "origins[0].budget: must be at least 0"),
    "file without root": (add("origins", name="nas", type="file"), "origins[1].root: must be written"),
    "file without directory": (
        add("origins", **FILE_ORIGIN | {"root": "/no/such"}),
        "origins[1].root: /no/such is not a directory on this machine",
    ),
    "file with a secret": (
        add("origins", **FILE_ORIGIN | {"secret_key": SECRET}),
        'origins[1].secret_key: is of no use to an origin of type "file"',
    ),
    "mount's origin": (put("mounts", origin="gone"), 'mounts[0].origin: there is no origin "gone"; known: aws'),
    "mount without origin": (put("mounts", origin=""), "mounts[0].origin: must be written"),
    "mount without path": (put("mounts", path=""), "mounts[0].path: must be written"),
    "mount without remote": (put("mounts", remote=""), "mounts[0].remote: must be written"),
    "mount's bucket": (put("mounts", path="a"), 'mounts[0].path: "a" cannot be the name of a bucket'),
    "mount at a slash": (put("mounts", path="/data"), 'mounts[0].path: "" cannot be the name of a bucket'),
    "mount's dots": (put("mounts", path="a..b"), 'mounts[0].path: "a..b" cannot be the name of a bucket'),
    "mount's wildcard": (put("mounts", path="data*"), 'mounts[0].path: takes no wildcards but a lone "*"'),
    "mirror of all": (
        put("mounts", path="*", remote="", mirror=["aws:old"]),
        'mounts[0].mirror: cannot be had with path "*"',
    ),
    "mirror's form": (put("mounts", mirror=["old-bucket"]), "mounts[0].mirror[0]: must be ORIGIN:BUCKET"),
    "mirror's bucket": (
        put("mounts", mirror=["aws:old", "aws:a..b/x"]),
        'mounts[0].mirror[1]: "a..b" cannot be the name of a bucket',
    ),
    "mirror's origin": (
        put("mounts", mirror=["gone:old"]),
        'mounts[0].mirror[0]: there is no origin "gone"; known: aws',
    ),
    "mirror of itself": (
        put("mounts", mirror=["aws:corp-datasets/"]),
        "mounts[0].mirror[0]: is, or lies in, or holds what remote names",
    ),
    "mirror in itself": (
        put("mounts", mirror=["aws:corp-datasets/old"]),
        "mounts[0].mirror[0]: is, or lies in, or holds what remote names",
    ),
    "mirror twice": (
        put("mounts", mirror=["aws:old", "aws:older", "aws:old/x"]),
        "mounts[0].mirror[2]: is, or lies in, or holds what mirror[0] names",
    ),
    "remote bucket": (put("mounts", remote="../x"), 'mounts[0].remote: ".." cannot be the name of a bucket'),
    "mount twice": (
        add("mounts", path="datasets/", origin="aws", remote="other"),
        'mounts[1].path: "datasets/" is the path of mounts[0] already',
    ),
    "every bucket renamed": (
        put("mounts", path="*", remote="corp"),
        'mounts[0].remote: must be empty for path "*"',
    ),
    "rule without match": (add("rules", cache=False), "rules[1].match: must be written"),
    "rule's glob": (put("rules", match="datasets"), 'rules[0].match: "datasets" names no key'),
    "consistency": (put("rules", consistency="often"), "rules[0].consistency: 'often' is neither"),
    "write-back": (put("rules", write="back", ack="local"), 'rules[0].write: "back" cannot be had: the write-back'),
    "ack": (put("rules", ack="local"), 'rules[0].ack: is of no use without write = "back"'),
    "pin of nothing": (put("rules", pin=True, cache=False), "rules[0].pin: is of no use with cache = false"),
    "ttl of nothing": (put("rules", ttl="1h", cache=False), "rules[0].ttl: is of no use with cache = false"),
    "ttl of no time": (put("rules", ttl="0s"), "rules[0].ttl: must be more than 0; cache = false keeps nothing"),
    "quota of nothing": (put("rules", quota="1GiB", cache=False), "rules[0].quota: is of no use with cache = false"),
    "no quota": (put("rules", quota="0"), "rules[0].quota: must be more than 0; cache = false keeps nothing"),
    "quota below a block": (put("rules", quota="100KiB"), "rules[0].quota: is less than one block of the cache (1MiB)"),
    "quota beyond all": (put("rules", quota="1PiB"), "rules[0].quota: is more than cache.capacity (1GiB)"),
    "read-ahead of nothing": (
        put("rules", read_ahead="0", cache=False),
        "rules[0].read_ahead: is of no use with cache = false",
    ),
    "read-ahead": (put("rules", read_ahead="2GiB"), "rules[0].read_ahead: must be at most 1GiB"),
    "identity without name": (put("identities", name=""), "identities[0].name: must be written"),
    "identity's name": (put("identities", name="a b"), "identities[0].name: must be up to 63"),
    "identity twice": (add("identities", **IDENTITY | {"name": "trainer"}), 'identities[1].name: "trainer" is also'),
    "no access key": (put("identities", access_key=""), "identities[0].access_key: must be written"),
    "access key": (put("identities", access_key="a/b"), "identities[0].access_key: must be 3 to 128 letters"),
    "access key twice": (
        add("identities", **IDENTITY | {"access_key": "AKTRAINER"}),
        "identities[1].access_key: is also that of identities[0]",
    ),
    "no secret": (put("identities", secret_key=""), "identities[0].secret_key: must be written, or secret_key_env"),
    "no actions": (allow(actions=[]), "identities[0].allow[0].actions: must be written"),
    "no resources": (allow(resources=[]), "identities[0].allow[0].resources: must be written"),
    "action without service": (
        allow(actions=["s3:*", "GetObject"]),
        'identities[0].allow[0].actions[1]: "GetObject" names no action of S3',
    ),
    "action of another service": (allow(actions=["sqs:*"]), "identities[0].allow[0].actions[0]: "),
    "an ARN": (
        allow(resources=["arn:aws:s3:::data/*"]),
        'identities[0].allow[0].resources[0]: "arn:aws:s3:::data/*" is not over bucket/key; write "data/*"',
    ),
    "a URL": (allow(resources=["s3://data/*"]), 'identities[0].allow[0].resources[0]: "s3://data/*" is not'),
    "no bucket": (allow(resources=["/data"]), 'identities[0].allow[0].resources[0]: "/data" has no bucket'),
    "entry of allow": (put("identities", allow=["x"]), "identities[0].allow[0]: must be a table"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_one_mistake_is_one_line(name: str, tmp_path: Path) -> None:
    change, line = BAD[name]
    raw = tables()
    change(raw)
    found = mistakes(tmp_path, raw)
    assert len(found) == 1, found
    assert found[0].startswith(line)
    assert SECRET not in found[0]
    assert found[0].isprintable()


GOOD: Mapping[str, Change] = {
    "limits and money": put(
        "origins", request_limit=500, egress_price_per_gib=0.09, budget=2000, budget_action="refuse"
    ),
    "AWS itself, its own credentials": put("origins", endpoint="", access_key="", secret_key=""),
    "link-local on purpose": put("origins", endpoint="http://169.254.1.1", allow_link_local=True),
    "a directory": add("origins", **FILE_ORIGIN),
    "Google, an HMAC key": add("origins", **GCS_ORIGIN),
    "Google, its own chain": add("origins", name="google", type="gcs"),
    "Google, a token to an emulator": add(
        "origins", name="google", type="gcs", session_token=SECRET, endpoint="http://127.0.0.1:4443"
    ),
    "every bucket": add("mounts", path="*", origin="aws"),
    "mirrors": put("mounts", mirror=["aws:old/deep", "aws:corp-datasets-2", "aws:old/deeper"]),
    "a bucket of two mounts": add("mounts", path="datasets/hot", origin="aws", remote="corp-hot/x"),
    "admin in the open with a token": lambda raw: raw.update(
        listen={"admin": ":9001"}, admin={"token": SECRET}
    ),
    "IPv6": put("listen", s3="[::1]:9000", admin="[::1]:9001"),
    "one port on two addresses": put("listen", s3="127.0.0.2:9001"),
    "smallest cache": put("cache", capacity="64MiB", block_size="64KiB", segment_size="128KiB"),
    "largest blocks": put("cache", capacity="10GiB", block_size="16MiB"),
    "a domain": put("listen", domain="s3.Example.com"),
    "pinned for a time, and up to a bound": put("rules", pin=True, ttl="1d", quota="1MiB", read_ahead="0"),
    "azure": add("origins", **AZURE_ORIGIN),
    "azure with a SAS": add("origins", **AZURE_ORIGIN | {"secret_key": "", "session_token": "?sv=1&sig=x"}),
    "azure's emulator": add("origins", **AZURE_ORIGIN | {"endpoint": "http://127.0.0.1:10000/account"}),
    "azure's own chain": add("origins", name="blobs", type="azure", access_key="account"),
    "a rule": add("rules", match="**", consistency="immutable", cache=False),
    "actions": allow(actions=["*", "s3:Get*", "S3:listbucket", "s*:Put?bject"]),
    "a deny": put("identities", deny=[{"actions": ["s3:Delete*"], "resources": ["datasets/golden/*"]}]),
    "writeback and fleet as they are": lambda raw: raw.update(
        writeback={"capacity": "50GiB", "max_age": "1h", "replicas": 1}, fleet={"membership": "none"}
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_right_is_not_complained_about(name: str, tmp_path: Path) -> None:
    raw = tables()
    GOOD[name](raw)
    assert mistakes(tmp_path, raw) == []


def test_a_quoted_line_break_does_not_make_two_lines(tmp_path: Path) -> None:
    raw = tables()
    raw["rules"][0]["match"] = "a\nb\x1b[2J"
    (line,) = mistakes(tmp_path, raw)
    assert line.startswith('rules[0].match: "a\\nb\\x1b[2J" names no key')


def test_a_broken_origin_name_does_not_make_its_mounts_mistakes(tmp_path: Path) -> None:
    raw = tables()
    raw["origins"][0]["name"] = 5
    assert mistakes(tmp_path, raw) == ["origins[0].name: must be text in quotes"]


@pytest.mark.parametrize("workers", [1, 2, 64])
@pytest.mark.parametrize("block_size", [2**16, 2**20, 2**24])
def test_a_capacity_is_refused_exactly_when_the_cache_could_not_start(workers: int, block_size: int) -> None:
    for capacity in range(64 << 20, 3 << 30, 37 << 20):
        settings = {"capacity": capacity, "block_size": block_size}
        config = Config.model_validate({"node": {"workers": workers}, "cache": settings})
        try:
            effective_segment_bytes(capacity, config.cache.segment_size, block_size, workers)
            usable = True
        except CacheUnusable:
            usable = False
        assert (not check(config)) is usable


def test_every_flavour_that_the_config_names_is_one_of_the_origins() -> None:
    assert set(get_args(OriginConfig.model_fields["flavour"].annotation)) == set(FLAVOURS)


def test_what_looks_forgotten_is_noted() -> None:
    assert notes(Config()) == [
        "no [[mounts]]: the gateway shows no bucket",
        "no [[identities]]: every request will be refused",
    ]


def certificate(directory: Path, name: str) -> dict[str, str]:
    cert, key = directory / f"{name}.crt", directory / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run(command, check=True, capture_output=True)
    return {"tls_cert": str(cert), "tls_key": str(key)}


@needs_openssl
def test_a_certificate_must_be_readable_and_fit_its_key(tmp_path: Path) -> None:
    one, other = certificate(tmp_path, "one"), certificate(tmp_path, "other")
    raw = tables()

    def said(**listen: str) -> list[str]:
        raw["listen"] = listen
        return mistakes(tmp_path, raw)

    assert said(**one) == []
    assert said(**one | {"tls_key": other["tls_key"]}) == [
        "listen.tls_cert: does not belong to listen.tls_key"
    ]
    gone = str(tmp_path / "gone")
    assert said(tls_cert=gone, tls_key=gone) == [
        f"listen.tls_cert: {gone} cannot be read: No such file or directory",
        f"listen.tls_key: {gone} cannot be read: No such file or directory",
    ]
    (line,) = said(tls_cert=one["tls_key"], tls_key=one["tls_cert"])
    assert line.startswith("listen.tls_cert: and tls_key must be a PEM certificate")


def test_googles_own_chain_needs_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(check_origins, "_installed", lambda module: module != "google.auth")
    raw = tables()
    add("origins", name="google", type="gcs")(raw)
    (line,) = mistakes(tmp_path, raw)
    assert line.startswith(
        "origins[1].type: without keys Google's own chain is asked, which needs: pip install"
    )
    raw["origins"][1]["session_token"] = SECRET
    assert mistakes(tmp_path, raw) == []
