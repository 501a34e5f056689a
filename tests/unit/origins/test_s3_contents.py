"""What is cut out of a listing's page is what a parser of XML finds there, or it is left to the parser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote_plus, unquote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import Unreachable
from gateway.model import ListEntry, ListPage
from gateway.origins import s3_list, s3_xml
from gateway.origins.s3_contents import Contents
from gateway.s3 import xml_lists

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
COUNT = 40
HEAD = f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="{NAMESPACE}">'


def document(entries: Sequence[str], *, head: str = HEAD, before: str = "", between: str = "") -> bytes:
    body = between.join(f"<Contents>{entry}</Contents>" for entry in entries)
    return f"{head}<Name>b</Name><EncodingType>url</EncodingType>{before}{body}</ListBucketResult>".encode()


def entry(number: int, **more: str) -> str:
    fields = {
        "Key": f"key-{number:04}+%C3%A9",
        "LastModified": f"2026-01-{number % 28 + 1:02}T10:20:30.5Z",
        "ETag": f"&quot;{number:032x}&quot;",
        "Size": str(number),
        "StorageClass": "STANDARD",
        **more,
    }
    return "".join(f"<{name}>{text}</{name}>" for name, text in fields.items())


def parsed(document: bytes) -> list[ListEntry]:
    return [
        s3_list._entry(node, unquote_plus) for node in s3_xml.children(s3_xml.parse(document), "Contents")
    ]


def read(document: bytes) -> tuple[list[ListEntry], bool]:
    """The entries, and whether they were cut."""
    contents = Contents()
    root = contents.parse(document)
    found = contents.entries(unquote_plus)
    if found is None:
        return [s3_list._entry(node, unquote_plus) for node in s3_xml.children(root, "Contents")], False
    assert s3_xml.children(root, "Contents") == []
    assert s3_xml.fields(root)["Name"] == "b"
    return found, True


PAGES: dict[str, Callable[[], bytes]] = {
    "as S3 sends it": lambda: document([entry(n) for n in range(COUNT)]),
    "other order, no times": lambda: document(
        [f"<Size>1</Size><ETag>x</ETag><Key>k{n:03}</Key>" for n in range(COUNT)]
    ),
    "space between": lambda: document(
        [entry(n).replace("><", ">\n  <") for n in range(COUNT)], between="\n "
    ),
    "no declaration": lambda: document(
        [entry(n) for n in range(COUNT)], head=f'<ListBucketResult xmlns="{NAMESPACE}">'
    ),
    "elements nobody knows": lambda: document([entry(n, Tier="hot", Other="") for n in range(COUNT)]),
    "some with checksums": lambda: document(
        [
            entry(n).replace(
                "<Size>",
                "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>COMPOSITE</ChecksumType><Size>",
            )
            if n % 3
            else entry(n)
            for n in range(COUNT)
        ]
    ),
    "an algorithm alone": lambda: document(
        [
            entry(n).replace("<Size>", "<ChecksumAlgorithm> SHA1 </ChecksumAlgorithm><Size>")
            for n in range(COUNT)
        ]
    ),
    "references": lambda: document(
        [entry(n, Key=f"{n:03}&amp;amp;&lt;&gt;&quot;&apos;") for n in range(COUNT)]
    ),
    "empty texts": lambda: document(
        [entry(n, StorageClass="", ETag="", LastModified="") for n in range(COUNT)]
    ),
    "odd times": lambda: document([entry(n, LastModified="2026-01-01T00:00:00+02:00") for n in range(COUNT)]),
    "odd classes": lambda: document([entry(n, StorageClass=" GLACIER\n") for n in range(COUNT)]),
    "space around sizes": lambda: document([entry(n, Size=f" {n} ") for n in range(COUNT)]),
}
LEFT: dict[str, Callable[[], bytes]] = {
    "a few": lambda: document([entry(n) for n in range(5)]),
    "owners": lambda: document(
        [entry(n) + "<Owner><ID>me</ID><DisplayName>I</DisplayName></Owner>" for n in range(COUNT)]
    ),
    "several algorithms": lambda: document(
        [
            entry(n) + "<ChecksumAlgorithm>A</ChecksumAlgorithm><ChecksumAlgorithm>B</ChecksumAlgorithm>"
            for n in range(COUNT)
        ]
    ),
    "one that differs": lambda: document([entry(n) + "<More>x</More>" * (n == 7) for n in range(COUNT)]),
    "one element twice": lambda: document([entry(n) + "<Size>9</Size>" for n in range(COUNT)]),
    "no ETags": lambda: document([f"<Key>k{n:03}</Key><Size>1</Size>" for n in range(COUNT)]),
    "a comment": lambda: document(
        [entry(n) for n in range(COUNT)], before=f"<!-- <Contents>{entry(1)}</Contents> -->"
    ),
    "a section": lambda: document(
        [entry(n) for n in range(COUNT)],
        before=f"<Prefix><![CDATA[<Contents>{entry(1)}</Contents>]]></Prefix>",
    ),
    "an instruction": lambda: document(
        [entry(n) for n in range(COUNT)], before=f"<?x <Contents>{entry(1)}</Contents> ?>"
    ),
    "another encoding": lambda: document(
        [entry(n) for n in range(COUNT)], head=HEAD.replace("UTF-8", "ISO-8859-1")
    ),
    "numbered references": lambda: document([entry(n, Key=f"{n:03}&#233;") for n in range(COUNT)]),
    "carriage returns": lambda: document([entry(n, Key=f"{n:03}\r\nx") for n in range(COUNT)]),
    "attributes": lambda: document([entry(n).replace("<Key>", '<Key a="b">') for n in range(COUNT)]),
    "text between": lambda: document([entry(n) for n in range(COUNT)], between="<Other/>"),
}


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_cut_as_they_are_parsed(name: str) -> None:
    page = PAGES[name]()
    assert read(page) == (parsed(page), True)
    assert len(parsed(page)) == COUNT


@pytest.mark.parametrize("name", LEFT)
def test_what_may_mean_something_else_is_parsed(name: str) -> None:
    page = LEFT[name]()
    assert read(page) == (parsed(page), False)


BROKEN: dict[str, Callable[[], bytes]] = {
    "cut short": lambda: document([entry(n) for n in range(COUNT)])[:-200],
    "no end": lambda: document([entry(n) for n in range(COUNT)])[:-19],
    "a declaration": lambda: document([entry(n) for n in range(COUNT)], head="<!DOCTYPE x>" + HEAD[39:]),
    "an unknown reference": lambda: document([entry(n, Key=f"{n}&nbsp;") for n in range(COUNT)]),
    "a bare ampersand": lambda: document([entry(n, Key=f"{n}&") for n in range(COUNT)]),
    "not UTF-8": lambda: document([entry(n) for n in range(COUNT)]).replace(b"key-0003", b"key-\xff"),
    "a NUL": lambda: document([entry(n, Key=f"{n}\0") for n in range(COUNT)]),
    "an element not closed": lambda: document([entry(n).replace("</Size>", "") for n in range(COUNT)]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_half_a_page_never_passes_for_a_whole_one(name: str) -> None:
    with pytest.raises(Unreachable):
        read(BROKEN[name]())


def test_a_size_that_is_none_is_refused() -> None:
    for size in ("", "-1", "1.5", "٣", "1" * 20):
        contents = Contents()
        contents.parse(document([entry(n, Size=size) for n in range(COUNT)]))
        with pytest.raises(Unreachable):
            contents.entries(unquote_plus)


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6)
FIELDS = st.fixed_dictionaries(
    {
        "ETag": TEXTS.map(escape),
        "Size": st.integers(0, 2**63).map(str),
        "LastModified": st.one_of(
            TEXTS.map(escape), st.datetimes().map(lambda t: t.isoformat(timespec="milliseconds") + "Z")
        ),
    },
    optional={"StorageClass": TEXTS.map(escape), "Other": TEXTS.map(escape)},
)


@settings(max_examples=150, deadline=None)
@given(
    keys=st.lists(TEXTS, min_size=20, max_size=24),
    fields=FIELDS,
    noise=st.text("<>&!?/-[]CDATAContents \n", max_size=8),
)
def test_whatever_a_page_holds_it_reads_as_xml_does(
    keys: list[str], fields: dict[str, str], noise: str
) -> None:
    more = "".join(f"<{name}>{text}</{name}>" for name, text in fields.items())
    entries = [f"<Key>{escape(quote_plus(key, safe='&<>'))}</Key>{more}" for key in keys]
    entries[3] += noise
    page = document(entries)
    try:
        expected: Any = parsed(page)
    except Unreachable:
        with pytest.raises(Unreachable):
            read(page)
        return
    assert read(page)[0] == expected


def test_what_the_gateway_writes_it_can_cut() -> None:
    """One gateway is an origin of another."""
    entries = tuple(ListEntry(f"k {n:03}", n, f'"{n}-2"', 1.5 * n, "GLACIER") for n in range(COUNT))
    found, cut = read(xml_lists.list_objects_v2("b", ListPage(entries), encoding_type="url"))
    assert cut
    assert tuple(found) == entries
