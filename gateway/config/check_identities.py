"""Mistakes in `[[identities]]`. A statement that can never match is one: a deny that denies nothing must not look
as if it did."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from gateway.config.check_origins import NAME, NAME_TEXT, twice
from gateway.config.mistakes import Mistake
from gateway.config.schema import Config, IdentityConfig, Statement
from gateway.namespace.globs import compile_iam_glob

# It is part of a header between `=` and `/`, and of a query.
_ACCESS_KEY: Final = re.compile(r"[A-Za-z0-9._@+=~-]{3,128}")


def identity_mistakes(config: Config) -> Iterator[Mistake]:
    for number, identity in enumerate(config.identities):
        for name, text in _of_identity(identity):
            yield Mistake(f"identities[{number}].{name}", text)
    for number, first in twice(identity.name for identity in config.identities):
        text = f'"{config.identities[number].name}" is also the name of identities[{first}]'
        yield Mistake(f"identities[{number}].name", text)
    for number, first in twice(identity.access_key for identity in config.identities):
        yield Mistake(f"identities[{number}].access_key", f"is also that of identities[{first}]")


def _of_identity(identity: IdentityConfig) -> Iterator[tuple[str, str]]:
    if not identity.name:
        yield "name", "must be written"
    elif not NAME.fullmatch(identity.name):
        yield "name", NAME_TEXT
    if not identity.access_key:
        yield "access_key", "must be written: what clients set as AWS_ACCESS_KEY_ID"
    elif not _ACCESS_KEY.fullmatch(identity.access_key):
        yield "access_key", "must be 3 to 128 letters, digits or any of . _ @ + = ~ -"
    if not identity.secret_key.get_secret_value():
        yield "secret_key", "must be written, or secret_key_env, which keeps it out of the file"
    for kind in ("allow", "deny"):
        for number, statement in enumerate(getattr(identity, kind)):
            for name, text in _of_statement(statement):
                yield f"{kind}[{number}].{name}", text


def _of_statement(statement: Statement) -> Iterator[tuple[str, str]]:
    if not statement.actions:
        yield "actions", 'must be written, such as ["s3:GetObject", "s3:ListBucket"] or ["s3:*"]'
    if not statement.resources:
        yield "resources", 'must be written, such as ["datasets/*"] or ["*"]'
    for number, action in enumerate(statement.actions):
        if not _may_be_of_s3(action):
            text = f'"{action}" names no action of S3; they are written as "s3:GetObject", "s3:Get*" or "*"'
            yield f"actions[{number}]", text
    for number, resource in enumerate(statement.resources):
        if why := _resource_mistake(resource):
            yield f"resources[{number}]", why


def _may_be_of_s3(action: str) -> bool:
    """The service before the colon is a glob like the rest; `*` covers the colon."""
    if re.fullmatch(r"[A-Za-z0-9:*?]+", action) is None:
        return False
    service, colon, name = action.partition(":")
    if not colon:
        return (
            "*" in service and compile_iam_glob(service, ignore_case=True).match("s3:GetObject") is not None
        )
    return bool(name) and compile_iam_glob(service, ignore_case=True).match("s3") is not None


def _resource_mistake(resource: str) -> str:
    if not resource or resource.startswith("/"):
        return f'"{resource}" has no bucket; resources are globs over bucket/key, such as "datasets/*"'
    if resource.startswith("arn:") or "://" in resource:
        bare = re.sub(r"^(arn:[^:]*:s3:[^:]*:[^:]*:|[a-z0-9]+://)", "", resource)
        return f'"{resource}" is not over bucket/key; write "{bare}"'
    return ""
