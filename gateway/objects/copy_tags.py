"""The tags of a copy's source, which no origin sends along with the object."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote_plus
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException, ElementTree

from gateway.errors import Unreachable
from gateway.model import ObjectMeta
from gateway.namespace.mounts import Target
from gateway.objects.context import Services
from gateway.objects.forwarding import ANSWER_BYTES_MAX, Call, forwarded
from gateway.origins.base import Origin

CALL: Final = "GetObjectTagging"
COUNT: Final = "x-amz-tagging-count"


async def tags_of(services: Services, source: Target, destination: Origin, meta: ObjectMeta) -> str:
    """As the header x-amz-tagging has them; empty for an object without tags, or where the destination keeps none.
    Raises what the origin raises: a copy never loses tags because they could not be read."""
    if meta.headers.get(COUNT, "0") == "0" or not destination.capabilities.forwards(CALL):
        return ""
    call = Call(CALL, "GET", source, [("tagging", "")], {}, None, False)
    body = bytearray()
    async with forwarded(services, call) as answer:
        async for piece in answer.chunks:
            body += piece
            if len(body) > ANSWER_BYTES_MAX:
                raise Unreachable("The origin's answer is longer than any set of tags.")
    return "&".join([f"{quote_plus(key)}={quote_plus(value)}" for key, value in _pairs(bytes(body))])


def _pairs(body: bytes) -> list[tuple[str, str]]:
    try:
        root = ElementTree.fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        raise Unreachable("The origin's answer is not a set of tags.") from None
    tags = [node for node in root.iter() if node.tag.rpartition("}")[2] == "Tag"]
    found = [{child.tag.rpartition("}")[2]: child.text or "" for child in tag} for tag in tags]
    return [(tag.get("Key", ""), tag.get("Value", "")) for tag in found]
