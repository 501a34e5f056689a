"""Checks of listings: delimiter, pages, encoding, where to begin, both versions."""

from __future__ import annotations

from typing import Any

from gateway.cli.doctor_lab import Lab, check, same

NAMES = ("a", "b/1", "b/2", "c d/1", "c d/2 +ü", "e", "f&g")


def _tree(lab: Lab) -> str:
    """A small tree, written once; its prefix."""
    if "tree/a" not in lab.names("tree/"):
        for name in NAMES:
            lab.put(f"tree/{name}", name.encode())
    return lab.key("tree/")


def _shown(page: Any, prefix: str) -> tuple[list[str], list[str]]:
    keys = [entry["Key"].removeprefix(prefix) for entry in page.get("Contents", ())]
    return keys, [entry["Prefix"].removeprefix(prefix) for entry in page.get("CommonPrefixes", ())]


@check("list with a delimiter")
def delimiter(lab: Lab) -> None:
    prefix = _tree(lab)
    page = lab.s3.list_objects_v2(Bucket=lab.bucket, Prefix=prefix, Delimiter="/")
    same(_shown(page, prefix), (["a", "e", "f&g"], ["b/", "c d/"]), "keys and common prefixes")
    same(page["KeyCount"], 5, "KeyCount")


@check("list tells size and ETag")
def entries(lab: Lab) -> None:
    etag = lab.put("entry", b"12345")["ETag"]
    [entry] = lab.s3.list_objects_v2(Bucket=lab.bucket, Prefix=lab.key("entry"))["Contents"]
    same((entry["Size"], entry["ETag"]), (5, etag), "size and ETag")


def _pages(lab: Lab, call: str, **options: Any) -> list[str]:
    prefix = _tree(lab)
    pages = lab.s3.get_paginator(call).paginate(
        Bucket=lab.bucket, Prefix=prefix, PaginationConfig={"PageSize": 2}, **options
    )
    seen = []
    for page in pages:
        keys, prefixes = _shown(page, prefix)
        same(len(keys) + len(prefixes) <= 2, True, "at most two entries on a page of two")
        seen += sorted(keys + prefixes)
    return seen


@check("list in pages")
def pages(lab: Lab) -> None:
    same(_pages(lab, "list_objects_v2"), sorted(NAMES), "keys over all pages")


@check("list in pages with a delimiter")
def pages_with_delimiter(lab: Lab) -> None:
    same(
        _pages(lab, "list_objects_v2", Delimiter="/"),
        ["a", "b/", "c d/", "e", "f&g"],
        "entries over all pages",
    )


@check("list, version 1, in pages")
def pages_v1(lab: Lab) -> None:
    same(_pages(lab, "list_objects"), sorted(NAMES), "keys over all pages")


@check("list from a key on (start-after)")
def start_after(lab: Lab) -> None:
    prefix = _tree(lab)
    page = lab.s3.list_objects_v2(Bucket=lab.bucket, Prefix=prefix, StartAfter=f"{prefix}c d/1")
    same(_shown(page, prefix)[0], ["c d/2 +ü", "e", "f&g"], "keys")


@check("list with encoding-type=url")
def encoding(lab: Lab) -> None:
    prefix = _tree(lab)
    page = lab.s3.list_objects_v2(Bucket=lab.bucket, Prefix=f"{prefix}c", EncodingType="url")
    keys = [entry["Key"].rpartition("/")[2] for entry in page["Contents"]]
    same(keys in (["1", "2+%2B%C3%BC"], ["1", "2%20%2B%C3%BC"]), True, f"keys percent-encoded, got {keys}")


@check("list of nothing is empty and no error")
def nothing(lab: Lab) -> None:
    same(lab.names("no-such-prefix/"), [], "keys")
