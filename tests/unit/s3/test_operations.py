"""Each S3 call is recognised by its sub-resource, and an unknown one never becomes the plain verb."""

from __future__ import annotations

import string

import pytest
from botocore.session import get_session
from hypothesis import given
from hypothesis import strategies as st

from gateway.s3.address import parse_address
from gateway.s3.errors import S3Error
from gateway.s3.operation_table import (
    BUCKET_CONFIGURATIONS,
    BUCKET_ROWS,
    LIST_KEYS,
    OBJECT_ROWS,
    READ_KEYS,
    RESPONSE_KEYS,
    SERVICE_ROWS,
    SIGNING_KEYS,
    Row,
)
from gateway.s3.operations import SELECTING_KEYS, Operation, classify, hoist, operations

PLAIN = {"GetObject", "HeadObject", "PutObject", "DeleteObject", "ListObjects", "ListObjectsV2", "CreateBucket",
         "DeleteBucket", "HeadBucket", "ListBuckets", "CopyObject"}  # fmt: skip
LEVELS = {"object": "/bucket/k", "bucket": "/bucket", "service": "/"}


def asked(method: str, path: str, query: str = "", headers: dict[str, str] | None = None) -> Operation:
    return classify(method, parse_address(path, query, "gw.test", ""), headers or {})


def _query(row: Row) -> str:
    return "&".join(f"{key}=1" if key in ("uploadId", "partNumber") else key for key in row.keys.split())


@pytest.mark.parametrize(
    ("level", "row"),
    [
        (level, row)
        for level, rows in (("service", SERVICE_ROWS), ("bucket", BUCKET_ROWS), ("object", OBJECT_ROWS))
        for row in rows
    ],
)
def test_every_row_of_the_table_is_reached(level: str, row: Row) -> None:
    found = asked(row.method, LEVELS[level], _query(row))
    assert (found.name, found.action, found.handled, found.refused) == (
        row.name,
        row.action,
        row.handled,
        None,
    )
    assert found.on_object == (level == "object")
    assert found.mutates == (row.method not in ("GET", "HEAD") and row.name != "SelectObjectContent")
    if row.versioned_action:
        versioned = asked(row.method, LEVELS[level], (_query(row) + "&versionId=v").lstrip("&"))
        assert (versioned.name, versioned.action) == (row.name, row.versioned_action)


@pytest.mark.parametrize("row", BUCKET_CONFIGURATIONS)
def test_every_bucket_configuration_is_reached(row: tuple[str, str, str, bool]) -> None:
    key, name, noun, has_delete = row
    assert (asked("GET", "/bucket", key).name, asked("GET", "/bucket", key).action) == (
        "Get" + name,
        "s3:Get" + noun,
    )
    assert (asked("PUT", "/bucket", key).name, asked("PUT", "/bucket", key).action) == (
        "Put" + name,
        "s3:Put" + noun,
    )
    deleted = asked("DELETE", "/bucket", key)
    assert deleted.name != "DeleteBucket"
    assert (deleted.refused is None) == (has_delete or key in ("lifecycle", "policy", "website"))


def test_the_names_are_those_of_the_api() -> None:
    """Against botocore's model, and with its method; what it does not know yet are newer calls."""
    model = get_session().get_service_model("s3")
    known = set(model.operation_names)
    ours = {operation.name for operation in operations()}
    assert len(ours & known) > 80
    for name in ours & known:
        assert model.operation_model(name).name == name


# Calls that differ from another one in nothing on the wire but a parameter or the host: deprecated forms, listings.
SAME_REQUEST = {
    "ListDirectoryBuckets": "ListBuckets",
    "ListObjectAnnotations": "GetObjectAnnotation",
    **{f"{verb}BucketNotification": f"{verb}BucketNotificationConfiguration" for verb in ("Get", "Put")},
    **{f"{verb}BucketLifecycle": f"{verb}BucketLifecycleConfiguration" for verb in ("Get", "Put")},
    **{
        f"ListBucket{kind}Configurations": f"GetBucket{kind}Configuration"
        for kind in ("Analytics", "Inventory", "IntelligentTiering", "Metrics")
    },
}


def test_every_call_that_botocore_knows_is_its_own_or_refused() -> None:
    """No call of the API is taken for another one."""
    model = get_session().get_service_model("s3")
    for name in model.operation_names:
        http = model.operation_model(name).http
        path, _, query = http["requestUri"].partition("?")
        path = path.replace("{Bucket}", "bucket").replace("{Key+}", "k")
        headers = {}
        shape = model.operation_model(name).input_shape
        for member in shape.required_members if shape is not None else ():
            where = shape.members[member].serialization
            if where.get("location") == "querystring":
                query += f"&{where['name']}=1"
            elif where.get("location") == "header":
                headers[where["name"].lower()] = "bucket/k"
        found = asked(http["method"], path, query.strip("&"), headers)
        if found.refused is None:
            assert found.name in (name, SAME_REQUEST.get(name)), (name, found)


KNOWN = SELECTING_KEYS | SIGNING_KEYS | LIST_KEYS | READ_KEYS | RESPONSE_KEYS
unknown = st.text(string.ascii_letters + "-", min_size=1, max_size=12).filter(
    lambda key: key not in KNOWN and key.lower() not in SIGNING_KEYS and not key.lower().startswith("x-")
)


@given(unknown, st.sampled_from(["PUT", "DELETE", "POST"]), st.sampled_from(sorted(LEVELS)), st.booleans())
def test_an_unknown_sub_resource_on_a_write_is_never_the_plain_verb(
    key: str, method: str, level: str, with_value: bool
) -> None:
    query = f"{key}=1" if with_value else key
    for whole in (query, f"{query}&x-id=PutObject", f"x-id=PutObject&{query}"):
        assert asked(method, LEVELS[level], whole).refused is not None


@given(unknown, st.sampled_from(sorted(LEVELS)))
def test_an_unknown_valueless_key_on_a_read_is_refused_and_one_with_a_value_ignored(
    key: str, level: str
) -> None:
    assert asked("GET", LEVELS[level], key).refused is not None
    assert asked("GET", LEVELS[level], f"{key}=17").refused is None


@pytest.mark.parametrize("key", sorted(SELECTING_KEYS))
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE"])
@pytest.mark.parametrize("level", sorted(LEVELS))
def test_a_sub_resource_never_falls_through_to_the_plain_verb(key: str, method: str, level: str) -> None:
    for query in (key, f"{key}=", f"{key}=1", f"{key}&{key}", f"{key}&list-type=2"):
        found = asked(method, LEVELS[level], query)
        assert found.refused is not None or found.name not in PLAIN, (query, found)
    for other in ("acl", "tagging", "uploads"):
        if other != key:
            assert asked(method, LEVELS[level], f"{key}&{other}").refused is not None


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "name"),
    [
        ("GET", "/bucket", "list-type=2&prefix=a&delimiter=%2F", {}, "ListObjectsV2"),
        ("GET", "/bucket", "list-type=3", {}, "!InvalidArgument"),
        ("GET", "/bucket", "prefix=a&marker=", {}, "ListObjects"),
        ("PUT", "/bucket/k", "", {"x-amz-copy-source": "b/k"}, "CopyObject"),
        ("PUT", "/bucket/k", "partNumber=1&uploadId=u", {"x-amz-copy-source": "b/k"}, "UploadPartCopy"),
        ("PUT", "/bucket/k", "tagging", {"x-amz-copy-source": "b/k"}, "!NotImplemented"),
        ("POST", "/bucket/k", "uploads", {"x-amz-copy-source": "b/k"}, "!NotImplemented"),
        ("DELETE", "/bucket/k", "", {"x-amz-copy-source": "b/k"}, "!NotImplemented"),
        ("GET", "/bucket/k", "", {"x-amz-copy-source": "b/k"}, "GetObject"),
        ("PUT", "/bucket/k", "uploadId=u", {}, "!NotImplemented"),
        ("PUT", "/bucket/k", "partNumber=1", {}, "!NotImplemented"),
        ("PUT", "/bucket/k", "versionId=1", {}, "!NotImplemented"),
        ("PUT", "/bucket/k", "", {"x-amz-write-offset-bytes": "5"}, "!NotImplemented"),
        ("PUT", "/bucket/k", "", {"x-amz-rename-source": "5"}, "!NotImplemented"),
        ("DELETE", "/bucket/k", "", {"x-amz-if-match-size": "5"}, "!NotImplemented"),
        ("GET", "/bucket/k", "partNumber=1", {}, "GetObject"),
        ("GET", "/bucket/k", "versionId=v&response-content-type=t", {}, "GetObject"),
        ("GET", "/bucket/k", "x-id=GetObject&X-Amz-Signature=1", {}, "GetObject"),
        ("POST", "/bucket", "", {"content-type": "multipart/form-data; boundary=x"}, "!NotImplemented"),
        ("POST", "/bucket", "", {}, "!MethodNotAllowed"),
        ("POST", "/bucket/k", "", {}, "!MethodNotAllowed"),
        ("PUT", "/", "", {}, "!MethodNotAllowed"),
        ("PATCH", "/bucket/k", "", {}, "!MethodNotAllowed"),
        ("OPTIONS", "/bucket/k", "", {}, "!MethodNotAllowed"),
    ],
)
def test_the_ones_that_are_easily_confused(
    method: str, path: str, query: str, headers: dict[str, str], name: str
) -> None:
    found = asked(method, path, query, headers)
    assert (found.name if found.refused is None else "!" + found.refused) == name
    if found.refused:
        assert found.refusal().code == found.refused


def test_headers_that_presigners_move_into_the_query_are_put_back() -> None:
    address = parse_address(
        "/bucket/k", "x-amz-copy-source=b%2Fk&X-Amz-Meta-A=%C3%A9&X-Amz-Signature=s", "h", ""
    )
    assert hoist({"host": "h"}, address) == {
        "host": "h",
        "x-amz-copy-source": "b/k",
        "x-amz-meta-a": "\xc3\xa9",
    }
    assert hoist({"x-amz-meta-a": "real"}, address)["x-amz-meta-a"] == "real"
    assert classify("PUT", address, hoist({}, address)).name == "CopyObject"
    plain = parse_address("/bucket/k", "content-type=text%2Fhtml", "h", "")
    assert hoist({}, plain) == {}
    for bad in ("x-amz-meta-a=b%0D%0Ac%3Ad", "x-amz-meta-%20=b"):
        with pytest.raises(S3Error):
            hoist({}, parse_address("/bucket/k", bad, "h", ""))
