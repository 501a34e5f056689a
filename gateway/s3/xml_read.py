"""The XML bodies that clients send: Delete and CompleteMultipartUpload.

defusedxml refuses DOCTYPE and entities before anything expands; the callers bound the body (the constants
here), and the depth, the root, names and counts are checked. Whatever is not exactly such a body is MalformedXML.
Elements are matched by local name, because some clients leave the namespace out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError, TreeBuilder

from defusedxml import DefusedXmlException, ElementTree

from gateway.model import Part
from gateway.s3.address import KEY_BYTES_MAX
from gateway.s3.checksums import HEADER_PREFIX, SIZES
from gateway.s3.errors import S3Error

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# 1,000 keys of 1,024 bytes, some of them escaped, S3's own bound.
DELETE_BYTES_MAX = 2 << 20
# 10,000 parts of at most some 400 bytes with a checksum each.
COMPLETE_BYTES_MAX = 4 << 20
DELETE_KEYS_MAX = 1000
PARTS_MAX = 10_000
# Root, entry, field, and one for what a newer client may add. Deep trees cost many times what flat ones do.
DEPTH_MAX = 4

_NUMBER = re.compile(r"[0-9]{1,9}")
_CHECKSUMS = {"Checksum" + name.upper(): HEADER_PREFIX + name for name in SIZES}


@dataclass(frozen=True, slots=True)
class DeleteEntry:
    """One object to delete. `etag`: only if it still has this ETag. `unchecked`: it has a condition of another kind,
    which must not be passed over."""

    key: str
    version_id: str | None = None
    etag: str | None = None
    unchecked: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    entries: tuple[DeleteEntry, ...] = field(default=())
    quiet: bool = False


def parse_delete(body: bytes) -> Delete:
    """Raises MalformedXML (also for none or more than 1,000 keys), KeyTooLongError."""
    entries = []
    quiet = False
    for child in _root(body, "Delete", DELETE_BYTES_MAX):
        name = _local(child)
        if name == "Object":
            entries.append(_delete_entry(child))
            if len(entries) > DELETE_KEYS_MAX:
                raise S3Error("MalformedXML", "More than 1,000 keys.")
        elif name == "Quiet":
            quiet = _text(child).strip().lower() == "true"
    if not entries:
        raise S3Error("MalformedXML", "No key to delete.")
    return Delete(tuple(entries), quiet)


def _delete_entry(node: Element) -> DeleteEntry:
    given = _fields(node)
    key = given.get("Key")
    if not key:
        raise S3Error("MalformedXML", "An Object has no Key.")
    if len(key.encode("utf-8")) > KEY_BYTES_MAX:
        raise S3Error("KeyTooLongError", extra={"MaxSizeAllowed": str(KEY_BYTES_MAX)})
    unchecked = "LastModifiedTime" in given or "Size" in given
    return DeleteEntry(key, given.get("VersionId") or None, given.get("ETag") or None, unchecked)


def parse_complete(body: bytes) -> tuple[Part, ...]:
    """The parts in order, ETags with quotes. Raises MalformedXML (also for no part or more than 10,000),
    InvalidPartOrder."""
    parts: list[Part] = []
    for child in _root(body, "CompleteMultipartUpload", COMPLETE_BYTES_MAX):
        if _local(child) != "Part":
            continue
        part = _part(child)
        if parts and part.number <= parts[-1].number:
            raise S3Error("InvalidPartOrder")
        parts.append(part)
        if len(parts) > PARTS_MAX:
            raise S3Error("MalformedXML", "More than 10,000 parts.")
    if not parts:
        raise S3Error("MalformedXML", "No part to complete with.")
    return tuple(parts)


def _part(node: Element) -> Part:
    given = _fields(node)
    number = given.get("PartNumber", "").strip()
    etag = given.get("ETag", "").strip().strip('"')
    if not _NUMBER.fullmatch(number) or not etag:
        raise S3Error("MalformedXML", "A Part needs a PartNumber and an ETag.")
    if not 1 <= int(number) <= PARTS_MAX:
        raise S3Error("InvalidArgument", "PartNumber must be 1 to 10,000.")
    checksums = {_CHECKSUMS[name]: value.strip() for name, value in given.items() if name in _CHECKSUMS}
    return Part(int(number), f'"{etag}"', checksums)


class _Shallow(TreeBuilder):
    _depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise ValueError("too deep")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)


def _root(body: bytes, name: str, bytes_max: int) -> Element:
    if len(body) > bytes_max:
        raise S3Error("MalformedXML", "The body is too large.")
    try:
        parser = ElementTree.XMLParser(target=_Shallow(), forbid_dtd=True)
        parser.feed(body)
        root: Element = parser.close()
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        # Not well formed, a DOCTYPE or an entity, too deep, text not in the declared or not in a known encoding.
        raise S3Error("MalformedXML") from None
    if _local(root) != name:
        raise S3Error("MalformedXML", f"Expecting {name}.")
    return root


def _fields(node: Element) -> dict[str, str]:
    given: dict[str, str] = {}
    for child in node:
        name = _local(child)
        if name in given:
            raise S3Error("MalformedXML", "An element comes twice.")
        given[name] = _text(child)
    return given


def _local(node: Element) -> str:
    return node.tag.rpartition("}")[2]


def _text(node: Element) -> str:
    if len(node):
        raise S3Error("MalformedXML", "Text expected.")
    return node.text or ""
