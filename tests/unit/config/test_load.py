"""What a file and the environment say arrives whole; every mistake in them is told at once, without the secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.dump import to_toml
from gateway.config.load import FILE_BYTES_MAX, from_wire, load, to_wire
from gateway.config.mistakes import ConfigError
from gateway.config.schema import Config
from tests.unit.config.sample import SECRET, loaded, mistakes, tables, write


def test_a_good_file(tmp_path: Path) -> None:
    config = loaded(tmp_path, tables())
    assert config.node.workers == config.workers == 2
    assert config.cache.capacity == 2**30
    assert config.cache.block_size == 2**20
    assert config.rules[0].fresh_s == 300.0
    assert config.origins[0].secret_key.get_secret_value() == SECRET
    assert config.identities[0].allow[0].resources == ("datasets/*",)


def test_the_wire_to_a_worker_keeps_everything(tmp_path: Path) -> None:
    config = loaded(tmp_path, tables())
    assert from_wire(to_wire(config)) == config
    assert SECRET in to_wire(config)


def test_what_is_printed_masks_secrets_and_loads_again(tmp_path: Path) -> None:
    raw = tables()
    raw["origins"][0] |= {"secret_key": "", "secret_key_env": "LAKE", "bandwidth_limit": "5MiB"}
    environ = {"LAKE": SECRET}
    config = loaded(tmp_path, raw, environ)
    text = to_toml(config)
    assert SECRET not in text
    again = tmp_path / "again.toml"
    again.write_text(text.replace("********", SECRET))
    assert load(again, environ) == config


def test_printing_a_config_by_accident_shows_no_secret(tmp_path: Path) -> None:
    config = loaded(tmp_path, tables())
    assert SECRET not in repr(config) + str(config) + str(config.model_dump()) + config.model_dump_json()


@pytest.mark.parametrize(
    ("name", "value", "section", "key", "expected"),
    [
        ("GATEWAY_LISTEN__S3", "0.0.0.0:9100", "listen", "s3", "0.0.0.0:9100"),
        ("GATEWAY_CACHE__CAPACITY", "2TiB", "cache", "capacity", 2 * 2**40),
        ("GATEWAY_CACHE__CAPACITY", "1073741824", "cache", "capacity", 2**30),
        ("GATEWAY_CACHE__STRIPE_BLOCKS", "8", "cache", "stripe_blocks", 8),
        ("GATEWAY_NODE__NAME", "7", "node", "name", "7"),
        ("GATEWAY_NODE__NAME", "true", "node", "name", "true"),
        ("GATEWAY_LIMITS__HEAD_TIMEOUT", "1.5", "limits", "head_timeout", 1.5),
        ("GATEWAY_LIMITS__HEAD_TIMEOUT", "500ms", "limits", "head_timeout", 0.5),
        ("GATEWAY_LOG__LEVEL", "debug", "log", "level", "debug"),
        ("GATEWAY_FLEET__MEMBERS", "[]", "fleet", "members", ()),
    ],
)
def test_the_environment_overrides_keys(
    tmp_path: Path, name: str, value: str, section: str, key: str, expected: object
) -> None:
    config = loaded(tmp_path, tables(), {name: value})
    assert getattr(getattr(config, section), key) == expected


def test_the_environment_overrides_entries_of_lists(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        tables(),
        {
            "GATEWAY_ORIGINS__0__REGION": "eu-west-1",
            "GATEWAY_MOUNTS__0__READ_ONLY": "true",
            "GATEWAY_MOUNTS__1__PATH": "second",
            "GATEWAY_MOUNTS__1__ORIGIN": "aws",
            "GATEWAY_MOUNTS__1__REMOTE": "corp-second",
            "GATEWAY_IDENTITIES__0__SECRET_KEY": "12345678",
            "GATEWAY_IDENTITIES__0__ALLOW__0__ACTIONS": '["s3:GetObject"]',
            "GATEWAY_RULES": '[{"match": "second/**", "consistency": "strict"}]',
        },
    )
    assert config.origins[0].region == "eu-west-1"
    assert config.origins[0].endpoint == "http://127.0.0.1:5000"
    assert [(mount.path, mount.read_only) for mount in config.mounts] == [
        ("datasets", True),
        ("second", False),
    ]
    assert config.identities[0].secret_key.get_secret_value() == "12345678"
    assert config.identities[0].allow[0].actions == ("s3:GetObject",)
    assert [rule.match for rule in config.rules] == ["second/**"]


def test_a_list_may_be_toml_and_its_entries_come_after_it(tmp_path: Path) -> None:
    environ = {
        "GATEWAY_RULES__1__MATCH": "other/**",
        "GATEWAY_RULES": "[{match = 'second/**'}]",
    }
    assert [rule.match for rule in loaded(tmp_path, tables(), environ).rules] == ["second/**", "other/**"]


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("GATEWAY_LISTN__S3", "x", "GATEWAY_LISTN__S3: listn is not a known key; did you mean listen?"),
        (
            "GATEWAY_LISTEN__TLS_CRT",
            "x",
            "GATEWAY_LISTEN__TLS_CRT: tls_crt is not a known key; did you mean tls_cert?",
        ),
        ("GATEWAY_LISTEN__S3__X", "x", "GATEWAY_LISTEN__S3__X: s3 has no keys below it"),
        ("GATEWAY_RULES", "many", 'GATEWAY_RULES: must be a list in JSON or TOML, such as ["a", "b"]'),
        ("GATEWAY_RULES__5__MATCH", "x", "GATEWAY_RULES__5__MATCH: there is no entry 5: the list has 1"),
        (
            "GATEWAY_RULES__X__MATCH",
            "x",
            "GATEWAY_RULES__X__MATCH: needs the number of an entry, from 0, instead of X",
        ),
        (
            "GATEWAY_NODE__WORKERS",
            "many",
            "node.workers: must be a whole number (set by GATEWAY_NODE__WORKERS)",
        ),
        (
            "GATEWAY_RULES__0__ACK",
            "local",
            (
                'rules[0].ack: is of no use without write = "back", which is not in this version'
                " (set by GATEWAY_RULES__0__ACK)"
            ),
        ),
    ],
)
def test_mistakes_of_the_environment(tmp_path: Path, name: str, value: str, line: str) -> None:
    assert mistakes(tmp_path, tables(), {name: value}) == [line]


def test_other_variables_are_left_alone(tmp_path: Path) -> None:
    kubernetes = {
        "GATEWAY_PORT": "tcp://10.0.0.1:80",
        "GATEWAY_LISTEN": "x",
        "GATEWAY_SERVICE_HOST": "10.0.0.1",
    }
    assert mistakes(tmp_path, tables(), {**kubernetes, "PATH": "/bin", "GATEWAYLISTEN__S3": "x"}) == []


def test_secrets_come_from_the_environment_variables_that_are_named(tmp_path: Path) -> None:
    raw = tables()
    raw["identities"][0] |= {"secret_key": "", "secret_key_env": "TRAINER"}
    raw["admin"] = {"token_env": "TOKEN"}
    config = loaded(tmp_path, raw, {"TRAINER": SECRET, "TOKEN": "t0ken"})
    assert config.identities[0].secret_key.get_secret_value() == SECRET
    assert config.admin.token.get_secret_value() == "t0ken"
    assert from_wire(to_wire(config)) == config
    assert mistakes(tmp_path, raw, {"TRAINER": ""}) == [
        "admin.token_env: the environment variable TOKEN is not set",
        "identities[0].secret_key_env: the environment variable TRAINER is not set",
    ]


def test_a_secret_in_the_place_of_a_variables_name_is_not_shown(tmp_path: Path) -> None:
    raw = tables()
    raw["identities"][0] |= {"secret_key": "", "secret_key_env": SECRET}
    assert mistakes(tmp_path, raw) == ["identities[0].secret_key_env: the environment variable is not set"]


def test_a_secret_given_twice(tmp_path: Path) -> None:
    raw = tables()
    raw["identities"][0]["secret_key_env"] = "TRAINER"
    assert mistakes(tmp_path, raw, {"TRAINER": "x"}) == [
        "identities[0].secret_key_env: stands beside secret_key: give one of the two"
    ]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"[node]\nname = \n", ":2: invalid value (column 8)"),
        (b'[node\nname = "x"\n', ":1: "),
        (b"a = 1\na = 2\n", ":2: cannot overwrite a value (column 6)"),
        (b'[node]\n\nname = "\xff"\n', ":3: is not UTF-8 text"),
        (b"a = [1,\n2", ":2: "),
        (b"a = " + b"[" * 5000, ": is nested too deeply"),
        (b"#" * (FILE_BYTES_MAX + 1), ": is larger than 1 MiB, so hardly a config"),
    ],
)
def test_a_file_that_is_not_toml_is_one_line_with_its_place(
    tmp_path: Path, content: bytes, line: str
) -> None:
    file = tmp_path / "broken.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert len(caught.value.mistakes) == 1
    assert caught.value.mistakes[0].startswith(f"{file}{line}")
    assert "\n" not in caught.value.mistakes[0]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none.toml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError) as caught:
            load(path, {})
        assert caught.value.mistakes == [f"{path}: cannot be read: {why}"]


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    file = write(tmp_path, {})
    assert load(file, {}) == Config()


def test_every_mistake_is_told_at_once_in_the_order_of_the_sections(tmp_path: Path) -> None:
    raw = tables()
    raw["node"]["workers"] = "many"
    raw["node"]["nme"] = "x"
    raw["cache"]["capacity"] = "1MiB"
    raw["listen"] = {"s3": "nowhere", "admin": "0.0.0.0:9001"}
    raw["origins"][0]["secrt_key"] = SECRET
    raw["origins"].append({"name": "aws", "type": "tape"})
    raw["mounts"].append({"path": "Bad_Name!", "origin": "zzz", "remote": "corp"})
    raw["rules"][0]["write"] = "back"
    raw["identities"][0]["secret_key"] = 5
    raw["identities"].append("x")
    found = mistakes(tmp_path, raw)
    assert [line.split(": ")[0] for line in found] == [
        "node.nme",
        "node.workers",
        "listen.admin",
        "listen.s3",
        "cache.capacity",
        "origins[0].secrt_key",
        "origins[1].name",
        "origins[1].type",
        "mounts[1].origin",
        "mounts[1].path",
        "rules[0].write",
        "identities[0].secret_key",
        "identities[1]",
    ]
    for line in found:
        assert SECRET not in line
        for jargon in ("pydantic", "Input", "input", "Value error", "validation", "str_type", "Field"):
            assert jargon not in line
