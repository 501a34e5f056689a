"""`gateway mounts`: what a node mounts; `gateway mounts explain s3://bucket/key`: which of it a key belongs to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from gateway.cli.client import DEFAULT_URL, Admin, Json, ask
from gateway.cli.config import load_or_exit
from gateway.cli.status import shown

command = typer.Typer(rich_markup_mode=None)


@command.callback(invoke_without_command=True)
def mounts(context: typer.Context, admin: Admin = DEFAULT_URL, as_json: Json = False) -> None:
    """The mounts of a running node: exit 3 when none answers."""
    if context.invoked_subcommand is not None:
        return
    answer = ask(admin, lambda client: client.get("/api/v1/mounts"))
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
        return
    for line in listed(answer["mounts"]):
        typer.echo(line)


@command.command("explain")
def explain(
    address: Annotated[str, typer.Argument(metavar="s3://BUCKET/KEY", help="What to explain.")],
    admin: Admin = DEFAULT_URL,
    as_json: Json = False,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="F", help="Ask this config instead of a running node.")
    ] = None,
) -> None:
    """Which mount and which rule apply to a key, and why. Exit 1 when no mount holds it, 2 for a config with
    mistakes, 3 when no gateway answers."""
    bucket, key = parsed(address)
    if config is not None:
        from gateway.namespace.explain import explain as explained

        answer = explained(load_or_exit(config), bucket, key)
    else:
        query = urlencode({"bucket": bucket, "key": key})
        answer = ask(admin, lambda client: client.get(f"/api/v1/mounts/explain?{query}"))
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
    else:
        for line in lines(answer):
            typer.echo(line)
    if answer["place"] is None:
        raise typer.Exit(1)


def parsed(address: str) -> tuple[str, str]:
    """(bucket, key); the key as it is, not decoded."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if not bucket or "://" in address.removeprefix("s3://"):
        raise typer.BadParameter(f"{address!r} is not s3://BUCKET/KEY", param_hint="s3://BUCKET/KEY")
    return bucket, key


# --- for people


def listed(mounts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One line each, in columns."""
    rows = [("MOUNT", "PLACE", "TYPE", "")]
    for mount in mounts:
        mirrors = "".join(f", then {shown('', text)}" for text in mount.get("mirror", ()))
        notes = ("read only" if mount["read_only"] else "") + mirrors
        place = f"{mount['origin']}:{mount['remote'] or '*'}"
        rows.append(
            (shown("", mount["path"]), shown("", place), shown("", mount["type"]), notes.lstrip(", "))
        )
    yield from columns(rows)


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def lines(answer: Mapping[str, Any]) -> Iterator[str]:
    yield shown("", f"s3://{answer['bucket']}/{answer['key']}")
    yield from _section("mounts, as they are tried", _mounts(answer["mounts"]))
    yield from _section("place", _places(answer))
    if answer["place"] is None:
        return
    if answer["key"]:
        yield from _section("rules, as they are tried", _rules(answer["rules"]))
        effective = [(name, _value(name, value)) for name, value in answer["effective"].items()]
        yield from _section("what applies", columns(effective))
    able = [(verb, _names(answer[who])) for verb, who in (("read", "readers"), ("write", "writers"))]
    yield from _section("identities that may", columns(able))


def _section(title: str, body: Iterator[str]) -> Iterator[str]:
    yield ""
    yield title
    for line in body:
        yield f"  {line}"


def _mark(applies: bool) -> str:
    return "→" if applies else " "


def _mounts(mounts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not mounts:
        yield "none names this bucket, and there is none for every bucket"
        return
    yield from columns(
        [(_mark(one["wins"]), shown("", one["path"]), shown("", one["why"])) for one in mounts]
    )


def _places(answer: Mapping[str, Any]) -> Iterator[str]:
    if answer["place"] is None:
        yield "none: the answer is NoSuchKey" if answer["mounts"] else "none: the answer is NoSuchBucket"
        return
    yield _place(answer["place"])
    for mirror in answer["mirrors"]:
        yield f"then {_place(mirror)}"


def _place(place: Mapping[str, Any]) -> str:
    key = f"/{place['key']}" if place["key"] else ""
    return shown("", f"{place['origin']} ({place['type']}): {place['bucket']}{key}")


def _rules(rules: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from columns(
        [
            (
                _mark(rule["applies"]),
                f"{rule['number']}" if rule["number"] else "-",
                shown("", rule["match"]) if rule["number"] else "default",
                rule["why"],
            )
            for rule in rules
        ]
    )


def _value(name: str, value: Any) -> str:
    """What is not set, in words."""
    if value is None or value == "":
        return {"ttl": "none: it leaves to make room", "quota": "none"}.get(name, "-")
    return shown("", value)


def _names(names: Sequence[str] | None) -> str:
    if names is None:
        return "too many identities to try"
    return shown("", ", ".join(names)) or "nobody"
