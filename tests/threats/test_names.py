"""What a path, a copy source or a key may name: one literal key of one bucket, judged by that name alone."""

from __future__ import annotations

from urllib.parse import unquote

import pytest

from tests.threats.conftest import Front


@pytest.mark.parametrize(
    "path",
    [
        "/bert/../anna/secret",
        "/bert/%2e%2e/anna/secret",
        "/bert/%2E%2E%2Fanna%2Fsecret",
        "/bert/..%2fanna/secret",
        "/bert/./../anna/secret",
        "/bert/x/../../anna/secret",
        "/bert/x/..%2f..%2f..%2fanna-store/secret",
        "/bert/../anna-store/secret",
        "/bert/..\\anna-store\\secret",
        "/bert//anna/secret",
        "/bert///../anna-store/secret",
        "/bert/%252e%252e/anna/secret",
        "/bert/..%c0%af..%c0%afanna-store/secret",
        "/bert/%c0%ae%c0%ae/anna-store/secret",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_dots_in_a_path(front: Front, path: str, method: str) -> None:
    front.put("/anna/secret", b"before")
    answer = front.ask(front.bert.call(method, path, b"forged" if method == "PUT" else b""))
    assert answer.status in (400, 404) or (method, answer.status) in (("PUT", 200), ("DELETE", 204))
    assert b"before" not in answer.body
    assert front.stored("/anna/secret") == b"before"
    if (method, answer.status) == ("PUT", 200):  # the literal key, in bert's own bucket
        assert front.ask(front.bert.call("GET", path)).body == b"forged"
        listing = front.ask(front.bert.call("GET", "/bert?encoding-type=url&list-type=2")).body.decode()
        keys = [unquote(part.partition("<")[0]) for part in listing.split("<Key>")[1:]]
        assert unquote(path.removeprefix("/bert/")) in keys
        assert front.ask(front.bert.call("DELETE", path)).status == 204
    assert sorted(entry.name for entry in front.lake.iterdir() if entry.name != ".gateway") == sorted(
        {"anna-store", "bert-store", "common-store", "same"}
    )


@pytest.mark.parametrize(
    "path", ["/../anna/secret", "/%2e%2e/anna/secret", "/./anna/secret", "//anna/secret"]
)
def test_dots_for_a_bucket(front: Front, path: str) -> None:
    front.put("/anna/secret", b"before")
    for signer in (front.anna, front.bert):
        assert front.ask(signer.call("GET", path)).said == (400, "InvalidBucketName")


SOURCES = [
    "/anna/secret",
    "anna/secret",
    "anna%2Fsecret",
    "%2Fanna%2Fsecret",
    "/bert/../anna/secret",
    "/bert/%2e%2e/anna/secret",
    "bert/..%2Fanna%2Fsecret",
    "/common/bert/../../anna/secret",
    "/anna/secret?versionId=null",
    "//anna/secret",
    "/bert/../../lake/anna-store/secret",
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("part", [False, True], ids=["object", "part"])
def test_copy_source_forbidden_to_the_identity(front: Front, source: str, part: bool) -> None:
    front.put("/anna/secret", b"before")
    target = "/bert/stolen"
    if part:
        created = front.ask(front.bert.call("POST", f"{target}?uploads")).body
        upload = created.partition(b"<UploadId>")[2].partition(b"<")[0].decode()
        target += f"?partNumber=1&uploadId={upload}"
    answer = front.ask(front.bert.call("PUT", target, headers={"x-amz-copy-source": source}))
    literal = source.startswith(("/bert/", "bert/", "/common/"))
    if literal:  # a key of bert's own with dots in it, which is not there
        assert answer.said == (404, "NoSuchKey")
    elif source.startswith(("//", "%2F")):
        assert answer.said == (400, "InvalidBucketName")
    else:
        assert answer.said == (403, "AccessDenied")
    assert front.stored("/bert/stolen") is None
    # In the same words whether it is there or not.
    missing = front.bert.call(
        "PUT", target, headers={"x-amz-copy-source": source.replace("secret", "nothing")}
    )
    assert front.ask(missing).said == answer.said


def test_copy_source_denied_below_a_prefix(front: Front) -> None:
    """Anna may read all of common but what is bert's; a copy is no way around."""
    body = b"bert's own"
    assert front.ask(front.bert.call("PUT", "/common/bert/k", body)).status == 200
    for source in ("/common/bert/k", "/common/%62ert/k", "/common/bert%2Fk"):
        call = front.anna.call("PUT", "/anna/copied", headers={"x-amz-copy-source": source})
        assert front.ask(call).said == (403, "AccessDenied")
    assert front.ask(front.anna.call("GET", "/common/bert/k")).said == (403, "AccessDenied")
    assert front.ask(front.anna.call("GET", "/common/%62ert%2Fk")).said == (403, "AccessDenied")


def test_a_copy_onto_what_is_anothers(front: Front) -> None:
    front.put("/anna/secret", b"before")
    assert front.ask(front.bert.call("PUT", "/bert/mine", b"forged")).status == 200
    call = front.bert.call("PUT", "/anna/secret", headers={"x-amz-copy-source": "/bert/mine"})
    assert front.ask(call).said == (403, "AccessDenied")
    assert front.stored("/anna/secret") == b"before"


@pytest.mark.parametrize("path", ["/anna/%00", "/anna/a%00b", "/anna/secret%00.txt", "/an%00na/k"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_nul_in_a_name(front: Front, path: str, method: str) -> None:
    front.put("/anna/secret", b"before")
    assert front.ask(front.anna.call(method, path)).said == (400, "InvalidURI")


@pytest.mark.parametrize("path", ["/anna/%ff", "/anna/%", "/anna/%zz", "/anna/%c3%28", "/anna/%ed%a0%80"])
def test_a_key_that_is_no_text(front: Front, path: str) -> None:
    assert front.ask(front.anna.call("GET", path)).said == (400, "InvalidURI")


@pytest.mark.parametrize("key", ["k" * 1025, "%C3%A9" * 513], ids=["ascii", "utf-8"])
def test_a_key_of_1025_bytes(front: Front, key: str) -> None:
    for method in ("GET", "PUT"):
        assert front.ask(front.anna.call(method, f"/anna/{key}")).said == (400, "KeyTooLongError")
    longest = "/".join(["k" * 127] * 8)  # 1023 bytes, and short enough between its slashes for a directory
    assert front.ask(front.anna.call("PUT", f"/anna/{longest}", b"long")).status == 200
    assert front.ask(front.anna.call("GET", f"/anna/{longest}")).body == b"long"


@pytest.mark.parametrize(
    "bucket", ["..", ".", "%2e%2e", "a..b", "..%2fanna", "an%2Fna", "a%0ab", "-a", "b" * 64]
)
def test_a_bucket_of_dots(front: Front, bucket: str) -> None:
    for method, rest in (("GET", "/k"), ("PUT", "/k"), ("PUT", ""), ("GET", "?list-type=2")):
        answer = front.ask(front.anna.call(method, f"/{bucket}{rest}"))
        assert answer.said == (400, "InvalidBucketName")
