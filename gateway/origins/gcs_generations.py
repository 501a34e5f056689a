"""Generations: Google's versions, by which alone a write can be made conditional."""

from __future__ import annotations

import re
from typing import Final

from gateway.errors import ConditionFailed, Refused, Unreachable, Unsupported
from gateway.model import Conditions, Remote
from gateway.origins import s3_read
from gateway.origins.base import refuse_dates
from gateway.origins.s3_client import Client
from gateway.s3.conditions import matches
from gateway.s3.signer import encode_query

MATCH: Final = "x-goog-if-generation-match"
_GENERATION = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)


def generation_of(version_id: str | None) -> str | None:
    """The generation that an S3 version id names; None for the live one (`null` in S3's words). Raises Refused for
    what can be none."""
    if version_id is None or version_id == "null":
        return None
    if not _GENERATION.fullmatch(version_id):
        raise Refused(400, "InvalidArgument", "Invalid version id specified")
    return version_id


def generation_query(version_id: str | None) -> str:
    generation = generation_of(version_id)
    return "" if generation is None else encode_query([("generation", generation)])


async def generation_match(client: Client, remote: Remote, conditions: Conditions) -> dict[str, str]:
    """The conditions of a write as Google's. Raises NotFound and ConditionFailed where they already do not hold,
    Unsupported for what no generation can say."""
    refuse_dates(conditions)
    if conditions.if_none_match is not None:
        if conditions.if_none_match.strip() != "*" or conditions.if_match is not None:
            raise Unsupported("Google Cloud Storage can check If-None-Match: * alone.")
        return {MATCH: "0"}
    if conditions.if_match is None:
        return {}
    meta = await s3_read.head(client, remote)
    if not matches(conditions.if_match, meta.etag, weak=False):
        raise ConditionFailed("At least one of the preconditions does not hold.")
    generation = meta.headers.get("x-amz-version-id")
    if generation is None:
        raise Unreachable("The origin's answer has no generation.")
    return {MATCH: generation}
