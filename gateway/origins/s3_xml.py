"""XML answers of S3 origins: parsed strictly, never trusted.

defusedxml refuses DOCTYPE and entities. An answer that is not well formed, or whose root is another, is as good as
no answer (`Unreachable`): half a listing must not pass for a whole one. Elements are matched by local name, since
stores differ in their namespaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException, ElementTree

from gateway.errors import Unreachable
from gateway.s3.checksums import HEADER_PREFIX, SIZES

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


# Control characters that XML has no form for: neither as they are nor as references.
_NO_XML: Final = re.compile(
    rb"[\x00-\x08\x0b\x0c\x0e-\x1f]"
    rb"|&#(?:0*(?:[0-8]|1[124-9]|2\d|3[01])|[xX]0*(?:[0-8]|[bBcCeEfF]|1[0-9a-fA-F]));"
)


def parse(document: bytes, *, own_key: bool = False) -> Element:
    """Raises Unreachable for what is not a document. Space before it is what S3 sends while it computes.
    `own_key`: the only key in it is the one that was asked about and nobody reads it. Stores put it there as it is,
    so what XML cannot hold becomes a question mark."""
    if own_key:
        document = _NO_XML.sub(b"?", document)
    try:
        root: Element = ElementTree.fromstring(document.lstrip(), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        raise Unreachable("The origin's answer is not the XML that this call answers with.") from None
    return root


def require(root: Element, name: str) -> Element:
    """`name` without the Result at its end, which stores spell differently (ListPartsResponse, …)."""
    if not local(root).startswith(name):
        raise Unreachable(f"The origin answered with {local(root)[:64]!r} in place of {name}.")
    return root


def local(node: Element) -> str:
    return _local(node.tag)


@lru_cache(256)  # a page of a listing has thousands of elements and a dozen names
def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def fields(node: Element) -> dict[str, str]:
    """The texts of the children, by name; the first of each name."""
    found: dict[str, str] = {}
    for child in node:
        found.setdefault(_local(child.tag), child.text or "")
    return found


def children(node: Element, name: str) -> list[Element]:
    return [child for child in node if local(child) == name]


def inner(node: Element, name: str, field: str) -> str | None:
    """The text of `field` within the child `name`."""
    for child in children(node, name):
        return fields(child).get(field)
    return None


_CHECKSUMS = {"Checksum" + name.upper(): HEADER_PREFIX + name for name in SIZES}
CHECKSUM_ELEMENTS = {header: name for name, header in _CHECKSUMS.items()}


def checksums(found: Mapping[str, str]) -> dict[str, str]:
    """The checksums among an element's `fields`, as response headers."""
    named = {_CHECKSUMS[name]: text.strip() for name, text in found.items() if name in _CHECKSUMS}
    if kind := found.get("ChecksumType", "").strip():
        named[HEADER_PREFIX + "type"] = kind
    return named


def decoder(encoding: str) -> Callable[[str], str]:
    """For keys of a listing: `url` as S3 encodes it (a space is a plus), else as they are."""
    return unquote_plus if encoding == "url" else str


def quoted(etag: str) -> str:
    """An ETag as on the wire: some stores leave the quotes out of XML."""
    etag = etag.strip()
    return etag if etag.startswith(('"', 'W/"')) else f'"{etag}"'


def timestamp(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 time, 0 for anything else."""
    try:
        return datetime.fromisoformat(text.strip().replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0


def number(text: str) -> int:
    """A non-negative number. Raises Unreachable for anything else."""
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Unreachable("The origin's answer has a number that is none.")
    return int(text)
