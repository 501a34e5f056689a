"""The entries of a listing's page, out of its XML in one pass.

A page of 1,000 keys is 300 KB and 9,000 elements; as a tree of Python objects it costs some ten times what is done
here. All `<Contents>` of a page have the same elements in the same order (but for checksums, which some objects have),
so a pattern made from the first one cuts the document into columns. What is left is a small document, parsed
as strictly as any other (`s3_xml.parse`).

Only what certainly means the same to a parser of XML is cut: a document in UTF-8 without comments, CDATA, declarations
and processing instructions, so that every `<Contents>` in it is an element, entries side by side, and no references but
the five that XML itself has. Anything else is left to the parser.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from gateway.model import ListEntry
from gateway.origins import s3_xml

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# Fewer keys than this are parsed in no time.
_KEYS_MIN: Final = 20
_DECLARATION: Final = re.compile(
    r"""\s*(?:<\?xml\s+version=["']1\.[01]["'](?:\s+encoding=["'][Uu][Tt][Ff]-8["'])?"""
    r"""(?:\s+standalone=["'](?:yes|no)["'])?\s*\?>)?"""
)
_FIRST: Final = re.compile(r"<Contents>(.*?)</Contents>", re.DOTALL)
_FIELD: Final = re.compile(r"\s*<([A-Za-z]+)>[^<]*</\1>\s*")
_OPTIONAL: Final = ("ChecksumAlgorithm", "ChecksumType")
_KNOWN: Final = frozenset(("Key", "LastModified", "ETag", "Size", "StorageClass", *_OPTIONAL))
# `&amp;` last, so that what it stands for begins no other.
_ENTITIES: Final = (("&quot;", '"'), ("&lt;", "<"), ("&gt;", ">"), ("&apos;", "'"), ("&amp;", "&"))
_ENTITY: Final = re.compile("|".join(name for name, _ in _ENTITIES))
_SEPARATOR: Final = "\0"  # no document has it

Columns = dict[str, Sequence[str | None]]
Decode = Callable[[str], str]


class Contents:
    """`parse` a page, for `Client.document`; `entries` then are those that were cut out of it: None when the parsed
    document still has them."""

    def __init__(self) -> None:
        self._columns: Columns | None = None

    def parse(self, document: bytes) -> Element:
        """Raises Unreachable."""
        self._columns = None
        cut = _cut(document)
        if cut is None:
            return s3_xml.parse(document)
        rest, self._columns = cut
        return s3_xml.parse(rest)

    def entries(self, decode: Decode) -> list[ListEntry] | None:
        """`decode`: of keys. Raises Unreachable for a size that is none."""
        columns = self._columns
        if columns is None:
            return None
        count = len(columns["Key"])
        classes = columns.get("StorageClass", ())
        return list(
            map(
                ListEntry,
                map(decode, _texts(columns, "Key", count)),
                map(_number, _texts(columns, "Size", count)),
                map(_quoted, _texts(columns, "ETag", count)),
                map(_timestamp, _texts(columns, "LastModified", count)),
                [(one or "").strip() or "STANDARD" for one in classes] or ["STANDARD"] * count,
                [_algorithms(one) for one in columns["ChecksumAlgorithm"]],
                [one and (one.strip() or None) for one in columns["ChecksumType"]],
            )
        )


def _texts(columns: Columns, name: str, count: int) -> Iterable[str]:
    return [one or "" for one in columns[name]] if name in columns else [""] * count


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else s3_xml.number(text)


def _quoted(etag: str) -> str:
    return etag if etag[:1] == '"' == etag[-1:] else s3_xml.quoted(etag)


def _timestamp(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp() if text[-1:] == "Z" else s3_xml.timestamp(text)
    except ValueError:
        return s3_xml.timestamp(text)


def _algorithms(text: str | None) -> tuple[str, ...]:
    return () if text is None else _algorithm(text)


@lru_cache(64)  # a handful of names, a thousand times a page
def _algorithm(text: str) -> tuple[str, ...]:
    return (text.strip(),)


def _cut(document: bytes) -> tuple[bytes, Columns] | None:
    if document.count(b"<Contents>") < _KEYS_MIN or b"<!" in document or b"\0" in document:
        return None
    try:
        text = document.decode("utf-8")
    except UnicodeDecodeError:
        return None
    start = _DECLARATION.match(text)
    if start is None or "<?" in text[start.end() :]:
        return None
    first = _FIRST.search(text)
    names = None if first is None else _names(first[1])
    if names is None:
        return None
    pattern, columns = _pattern(names)
    pieces = pattern.split(text)
    width = len(columns) + 1
    between = pieces[::width]
    rest = between[0] + between[-1]
    # Every entry was cut, and nothing but space stood between them.
    if "Contents>" in rest or "".join(between[1:-1]).strip():
        return None
    found = {name: _plain(pieces[1 + at :: width]) for at, name in enumerate(columns)}
    if any(column is None for column in found.values()):
        return None
    return rest.encode(), {name: column for name, column in found.items() if column is not None}


def _names(entry: str) -> tuple[str, ...] | None:
    """The elements of an entry in their order, which hold text alone."""
    names, at = [], 0
    while at < len(entry):
        found = _FIELD.match(entry, at)
        if found is None:
            return None
        names.append(found[1])
        at = found.end()
    required = [name for name in names if name not in _OPTIONAL]
    # Of two elements of one name the first counts, which the parser knows; there are none in S3.
    return tuple(required) if len(set(required)) == len(required) and "ETag" in required else None


@lru_cache(16)  # a store has one or two shapes
def _pattern(names: tuple[str, ...]) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """A pattern that matches one entry, and the names of its groups."""
    columns: list[str] = []
    parts = []
    for name in names:
        known = name in _KNOWN
        parts.append(rf"<{name}>([^<]*)</{name}>" if known else rf"<{name}>[^<]*</{name}>")
        columns += [name] * known
        if name == "ETag":
            parts += [rf"(?:<{one}>([^<]*)</{one}>\s*)?" for one in _OPTIONAL]
            columns += _OPTIONAL
    body = r"\s*".join(parts)
    return re.compile(rf"<Contents>\s*{body}\s*</Contents>"), tuple(columns)


def _plain(column: Sequence[str | None]) -> Sequence[str | None] | None:
    """The texts with XML's own five references resolved; None where there are others, or line ends to be judged."""
    together = _SEPARATOR.join([one or "" for one in column])
    if "\r" in together:
        return None
    if "&" not in together:
        return column
    if together.count("&") != len(_ENTITY.findall(together)):
        return None
    for name, text in _ENTITIES:
        together = together.replace(name, text)
    texts = together.split(_SEPARATOR)
    return texts if None not in column else [one and text for one, text in zip(column, texts, strict=True)]


__all__ = ["Contents"]
