"""DeleteObjects: up to 1,000 keys of one bucket in one request.

Only keys that XML carries exactly are sent so. Every key is answered for by itself; one that the answer passes over
may or may not be gone.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from gateway.errors import ConditionFailed, GatewayError, NotFound, Unreachable, Unsupported
from gateway.model import ToDelete
from gateway.origins import s3_xml
from gateway.origins.s3_client import Client
from gateway.origins.s3_errors import kind_of
from gateway.origins.s3_http import Call
from gateway.s3.text import xml_carries
from gateway.s3.xml_write import document, element

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# A slow store deletes its thousand one behind the other.
ANSWER_S: Final = 120.0

Outcome = Mapping[str, str] | GatewayError


async def delete_many(client: Client, bucket: str, doomed: Sequence[ToDelete]) -> list[Outcome]:
    """How each of them ended, in order: response headers, as DeleteObject has them, or its error. Raises
    GatewayError when the request as a whole failed."""
    if not all(xml_carries(one.key) for one in doomed):
        raise Unsupported("A key that XML cannot carry is deleted by itself.")
    held = [one for one in doomed if client.flavour.holds(one.key)]
    told = await _ask(client, bucket, held) if held else {}
    return [_outcome(client, bucket, one, told) if client.flavour.holds(one.key) else {} for one in doomed]


async def _ask(client: Client, bucket: str, doomed: Sequence[ToDelete]) -> dict[str, list[Element]]:
    """The answer's entries by key."""
    body = document("Delete", *(f"<Object>{_named(one)}</Object>" for one in doomed))
    # The one digest that every store takes here.
    digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    call = Call(
        "delete",
        "POST",
        bucket,
        "",
        "delete=",
        {"content-md5": digest, "content-type": "application/xml"},
        hashlib.sha256(body).hexdigest(),
        body,
        ANSWER_S,
    )
    root, _ = await client.document(call, "Delete")
    told: dict[str, list[Element]] = {}
    for node in root:
        told.setdefault(s3_xml.fields(node).get("Key", ""), []).append(node)
    return told


def _named(one: ToDelete) -> str:
    return element("Key", one.key) + element("VersionId", one.version_id) + element("ETag", one.etag)


def _outcome(client: Client, bucket: str, one: ToDelete, told: Mapping[str, list[Element]]) -> Outcome:
    nodes = told.get(one.key, [])
    own = [node for node in nodes if s3_xml.fields(node).get("VersionId") == one.version_id] or nodes
    if len({s3_xml.local(node) for node in own}) != 1:
        return Unreachable("The origin did not say what became of this key.")
    found = s3_xml.fields(own[0])
    if s3_xml.local(own[0]) == "Error":
        return _error(client, bucket, one, found)
    headers = {}
    if found.get("DeleteMarker", "").strip() == "true":
        headers["x-amz-delete-marker"] = "true"
    version = found.get("DeleteMarkerVersionId") or found.get("VersionId")
    return headers | ({"x-amz-version-id": version} if version else {})


def _error(client: Client, bucket: str, one: ToDelete, found: Mapping[str, str]) -> Outcome:
    call = Call("delete", "DELETE", bucket, one.key)
    if found.get("Code", "").startswith("412"):  # so directory buckets name it
        return ConditionFailed("At least one of the preconditions does not hold.")
    error = kind_of(client.name, call, 200, {}, found)
    # What was not there is deleted; under a condition it is not what was to be deleted.
    return {} if isinstance(error, NotFound) and one.etag is None else error
