"""A request names one bucket and one key, whatever it looks like; nothing moves it into another."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.s3.address import host_name, parse_address, parse_copy_source, parse_query
from gateway.s3.errors import S3Error

HOST = "gw.test:9000"
keys = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60)


def address(path: str, query: str = "", host: str = HOST, domain: str = "") -> tuple[str, str]:
    found = parse_address(path, query, host, domain)
    return found.bucket, found.key


def code_of(path: str, query: str = "", host: str = HOST, domain: str = "") -> str:
    try:
        parse_address(path, query, host, domain)
    except S3Error as error:
        return error.code
    return ""


@given(keys, st.booleans())
def test_a_key_is_decoded_exactly_once(key: str, virtual: bool) -> None:
    wire = quote(key, safe="/")
    if virtual:
        assert address("/" + wire, host="bucket.gw.test", domain="gw.test") == ("bucket", key)
    else:
        assert address("/bucket/" + wire) == ("bucket", key)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/", ("", "")),
        ("/bucket", ("bucket", "")),
        ("/bucket/", ("bucket", "")),
        ("/bucket/k", ("bucket", "k")),
        ("/bucket//k", ("bucket", "/k")),
        ("/bucket/a//b", ("bucket", "a//b")),
        ("/bucket/dir/", ("bucket", "dir/")),
        ("/bucket/../other/k", ("bucket", "../other/k")),
        ("/bucket/%2e%2e/other/k", ("bucket", "../other/k")),
        ("/bucket/%2E%2E%2Fother%2Fk", ("bucket", "../other/k")),
        ("/bucket/./x", ("bucket", "./x")),
        ("/bucket/a%2Fb", ("bucket", "a/b")),
        ("/bucket/%25ff", ("bucket", "%ff")),
        ("/bucket/%252e%252e/x", ("bucket", "%2e%2e/x")),
        ("/bucket/a+b", ("bucket", "a+b")),
        ("/bucket/a%20b", ("bucket", "a b")),
        ("/bucket/%C3%A9", ("bucket", "é")),
        ("/bucket/\xc3\xa9", ("bucket", "é")),  # raw bytes as latin-1
        ("/bucket/a\\..\\b", ("bucket", "a\\..\\b")),
        ("/bucke%74/k", ("bucket", "k")),
    ],
)
def test_the_literal_key_is_meant(path: str, found: tuple[str, str]) -> None:
    assert address(path) == found


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/bucket/%ff", "InvalidURI"),
        ("/bucket/\xff", "InvalidURI"),
        ("/bucket/%", "InvalidURI"),
        ("/bucket/%g0", "InvalidURI"),
        ("/bucket/%00", "InvalidURI"),
        ("/bucket/a%00b", "InvalidURI"),
        ("/bucket/%ed%a0%80", "InvalidURI"),  # a surrogate is not UTF-8
        ("/bucket/%c0%ae%c0%ae", "InvalidURI"),  # an overlong `..`
        ("/bucket/" + "k" * 1025, "KeyTooLongError"),
        ("/bucket/" + "%C3%A9" * 513, "KeyTooLongError"),
        ("/bucket/" + "k" * 1024, ""),
        ("/bucket/" + "%C3%A9" * 512, ""),
        ("/..", "InvalidBucketName"),
        ("/../bucket/k", "InvalidBucketName"),
        ("/%2e%2e/k", "InvalidBucketName"),
        ("/.gateway/k", "InvalidBucketName"),
        ("//k", "InvalidBucketName"),
        ("/a%2Fb/k", "InvalidBucketName"),
        ("/ab/k", "InvalidBucketName"),
        ("/" + "b" * 64 + "/k", "InvalidBucketName"),
        ("/a..b/k", "InvalidBucketName"),
        ("/bücket/k", "InvalidURI"),
        ("/b%C3%BCcket/k", "InvalidBucketName"),
        ("/bucket%0a/k", "InvalidBucketName"),
        ("bucket/k", "InvalidURI"),
        ("http://other/bucket/k", "InvalidURI"),
        ("", "InvalidURI"),
        ("*", "InvalidURI"),
    ],
)
def test_what_could_mean_two_things_is_refused(path: str, code: str) -> None:
    assert code_of(path) == code


@pytest.mark.parametrize(
    ("host", "domain", "found"),
    [
        ("bucket.gw.test", "gw.test", ("bucket", "k/x")),
        ("BUCKET.GW.TEST:9000", "gw.test", ("bucket", "k/x")),
        ("my.bucket.gw.test.", "GW.test", ("my.bucket", "k/x")),
        ("gw.test", "gw.test", None),
        ("127.0.0.1:9000", "gw.test", None),
        ("[::1]:9000", "gw.test", None),
        ("bucketgw.test", "gw.test", None),
        ("bucket.gw.test", "", None),
    ],
)
def test_virtual_hosts(host: str, domain: str, found: tuple[str, str] | None) -> None:
    assert address("/key/x" if found is None else "/k/x", host=host, domain=domain) == (found or ("key", "x"))


@pytest.mark.parametrize("host", ["..gw.test", ".gw.test", "a/b.gw.test", "a..b.gw.test", "..%2fx.gw.test"])
def test_a_virtual_host_that_is_no_bucket_is_refused(host: str) -> None:
    assert code_of("/k", host=host, domain="gw.test") == "InvalidBucketName"


@pytest.mark.parametrize(
    ("host", "name"),
    [("A.b:80", "a.b"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("a", "a"), ("a.:1", "a")],
)
def test_the_port_is_no_part_of_the_name(host: str, name: str) -> None:
    assert host_name(host) == name


@given(
    st.lists(
        st.tuples(keys, st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)),
        max_size=5,
    )
)
def test_a_query_reads_back(pairs: list[tuple[str, str]]) -> None:
    raw = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
    assert parse_query(raw) == pairs


def test_odd_queries() -> None:
    assert parse_query("a+b=c+d&&uploads&=x&a=b=c") == [
        ("a b", "c d"),
        ("uploads", ""),
        ("", "x"),
        ("a", "b=c"),
    ]
    for bad, code in (
        ("a=%ff", "InvalidURI"),
        ("a=%00", "InvalidURI"),
        ("&".join("a" * 101), "InvalidArgument"),
    ):
        assert code_of("/bucket/k", bad) == code


@given(keys)
def test_a_copy_source_names_the_literal_key(key: str) -> None:
    assert parse_copy_source("/bucket/" + quote(key, safe="/"))[:2] == ("bucket", key)
    assert parse_copy_source(quote("bucket/" + key, safe="")) == ("bucket", key, None)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("bucket/a/../../other/k", ("bucket", "a/../../other/k", None)),
        ("/bucket/%2e%2e/other/k", ("bucket", "../other/k", None)),
        ("bucket/k?versionId=v%2B1", ("bucket", "k", "v+1")),
        ("bucket/k%3FversionId=1", ("bucket", "k?versionId=1", None)),
        ("../other/k", "InvalidBucketName"),
        ("bucket", "InvalidArgument"),
        ("bucket/", "InvalidArgument"),
        ("", "InvalidArgument"),
        ("bucket/k?acl", "InvalidArgument"),
        ("bucket/k?versionId=", "InvalidArgument"),
        ("bucket/%ff", "InvalidURI"),
        ("arn:aws:s3:us-east-1:1:accesspoint/x/object/k", "InvalidArgument"),
        ("http://169.254.169.254/latest", "InvalidBucketName"),
    ],
)
def test_copy_sources(value: str, found: tuple[str, str, str | None] | str) -> None:
    if isinstance(found, str):
        with pytest.raises(S3Error) as caught:
            parse_copy_source(value)
        assert caught.value.code == found
    else:
        assert parse_copy_source(value) == found
