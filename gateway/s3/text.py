"""Percent-encoding and XML text, the two encodings every other module here needs.

Head text is latin-1 (one character per wire byte); keys are real text. `percent_decode` is the one place
where the first becomes the second, strictly and exactly once.
"""

from __future__ import annotations

import re
from urllib.parse import quote_from_bytes, unquote_to_bytes

_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_MARKUP = re.compile(r"[&<>\"'\x00-\x1f\x7f\x85\u2028\ufffe\uffff]")
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_UNCARRIED = re.compile("^\\s|\\s$|[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}
_KEEP_AS_IS = "\t\n"


def percent_decode(wire: str) -> str:
    """Wire text (latin-1) to text. Raises ValueError for a `%` without two hex digits and for bytes that are
    not UTF-8 (UnicodeDecodeError is one). A `+` stays a plus."""
    if "%" not in wire:
        return wire if wire.isascii() else wire.encode("latin-1").decode("utf-8")
    if _BAD_PERCENT.search(wire):
        raise ValueError("malformed percent-encoding")
    return unquote_to_bytes(wire.encode("latin-1")).decode("utf-8")


def percent_decode_bytes(wire: str) -> bytes:
    """As `percent_decode`, but lenient and without the UTF-8 check: for comparing signatures, never for
    names."""
    return unquote_to_bytes(wire.encode("latin-1"))


def uri_encode(text: str | bytes, *, keep_slash: bool = True) -> str:
    """RFC 3986 encoding as SigV4 wants it: everything but `A-Za-z0-9-._~` (and `/` where kept) as upper-case
    `%XX`."""
    raw = text.encode("utf-8") if isinstance(text, str) else text
    return quote_from_bytes(raw, safe="/-._~" if keep_slash else "-._~")


def xml_escape(text: str) -> str:
    """Text for an XML element. Characters that XML 1.0 cannot hold become character references, as S3 sends
    them: such a document is only read by lenient parsers, which is why clients ask for `encoding-type=url`.
    A carriage return must be a reference, or parsers read it as a newline."""
    if not _MARKUP.search(text):
        return text
    return _MARKUP.sub(_reference, text)


def _reference(match: re.Match[str]) -> str:
    character = match[0]
    if character in _KEEP_AS_IS:
        return character
    return _ENTITIES.get(character) or f"&#x{ord(character):x};"


def xml_carries(text: str) -> bool:
    """Whether every reader of a document finds exactly this text in an element: no character that XML 1.0 has no form
    for or that readers replace, and no white space that some of them strip."""
    return not _UNCARRIED.search(text)


def xml_visible(text: str) -> str:
    """As `xml_escape`, with U+FFFD for what XML cannot hold: for error documents, which every client must
    parse."""
    return xml_escape(_ILLEGAL.sub("\ufffd", text))


def xml_bytes(document: str) -> bytes:
    """UTF-8; a lone surrogate (possible only in text that did not come from a key) becomes `?`."""
    return document.encode("utf-8", "replace")
