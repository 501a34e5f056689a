"""One virtual bucket made of mounts at several origins, one inside another, as stock clients see it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import s3fs
from botocore.exceptions import ClientError

from tests.clients.programs import program, run
from tests.gateway_process import Gateway, secret_of
from tests.stores import S3Server
from tests.targets import BehindS3, Target

BUCKET = "lake"
MOTO, RCLONE = "mounts-moto", "mounts-rclone"
LARGE = random.Random(21).randbytes(5 * 2**20 + 17)
# One key of each mount: the whole bucket (a directory), a store inside it, a directory inside that, another store.
HOMES = ("plain/", "sets/", "sets/deep/", "zoo/")
KEYS = [
    "plain/a",
    "plain/b ü+&",
    "sets-beside",
    "sets/deep/x",
    "sets/deep/y/z",
    "sets/deep0",
    "sets/one",
    "sets/two/three",
    "zoo/ape",
    "zz",
]


class Bucket:
    def __init__(self, gateway: Gateway, root: Path, moto: S3Server) -> None:
        self.gateway, self.root, self.moto = gateway, root, moto
        self.s3 = gateway.client(config={"retries": {"total_max_attempts": 1}})
        behind = BehindS3(moto, {BUCKET: MOTO})
        self.target = Target(
            "mounts", gateway.endpoint, "AKTRAINER", secret_of("trainer"), frozenset(), behind, gateway
        )


@pytest.fixture(scope="module")
def bucket(moto: S3Server, rclone: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    directory = tmp_path_factory.mktemp("mounts")
    root = directory / "root"
    for name in ("base", "deep"):
        (root / name).mkdir(parents=True)
    moto.make_buckets(MOTO)
    rclone.make_buckets(RCLONE)
    origins: list[dict[str, object]] = [
        moto.as_origin("moto"),
        rclone.as_origin("rclone"),
        {"name": "nas", "type": "file", "root": str(root)},
    ]
    mounts: list[dict[str, object]] = [
        {"path": BUCKET, "origin": "nas", "remote": "base"},
        {"path": f"{BUCKET}/sets", "origin": "moto", "remote": f"{MOTO}/the/sets"},
        {"path": f"{BUCKET}/sets/deep", "origin": "nas", "remote": "deep"},
        {"path": f"{BUCKET}/zoo", "origin": "rclone", "remote": RCLONE},
        {"path": "shelf", "origin": "moto", "remote": f"{MOTO}/shelf"},
        {"path": f"{BUCKET}/frozen", "origin": "moto", "remote": f"{MOTO}/frozen", "read_only": True},
    ]
    with Gateway(directory, origins=origins, mounts=mounts) as gateway:
        made = Bucket(gateway, root, moto)
        # Hidden by the mounts inside: neither listed nor read.
        (root / "base" / "sets").mkdir()
        (root / "base" / "sets" / "hidden").write_bytes(b"hidden")
        with closing(moto.client()) as behind:
            behind.put_object(Bucket=MOTO, Key="the/sets/deep/hidden", Body=b"hidden")
            behind.put_object(Bucket=MOTO, Key="beside", Body=b"of no mount")
            behind.put_object(Bucket=MOTO, Key="frozen/k", Body=b"frozen")
            for key in ("shelf/", "shelf/a", "shelf/b/"):
                behind.put_object(Bucket=MOTO, Key=key, Body=key.encode())
        yield made
        made.s3.close()
        made.target.close()


@pytest.fixture(scope="module")
def filled(bucket: Bucket) -> Iterator[Bucket]:
    for key in KEYS:
        bucket.s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    yield bucket
    bucket.s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in KEYS]})


def grouped(keys: list[str], prefix: str, delimiter: str) -> tuple[list[str], list[str]]:
    own, groups = [], set()
    for key in keys:
        if key.startswith(prefix):
            at = key.find(delimiter, len(prefix)) if delimiter else -1
            if at < 0:
                own.append(key)
            else:
                groups.add(key[: at + len(delimiter)])
    return own, sorted(groups)


ALL = sorted([*KEYS, "frozen/k"])


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize("delimiter", ["", "/", "deep"])
@pytest.mark.parametrize("prefix", ["", "s", "sets", "sets/", "sets/deep", "sets/deep/", "z"])
def test_it_lists_as_one_bucket(filled: Bucket, prefix: str, delimiter: str, size: int) -> None:
    options = {"Bucket": BUCKET, "Prefix": prefix, "PaginationConfig": {"PageSize": size}}
    if delimiter:
        options["Delimiter"] = delimiter
    for call in ("list_objects_v2", "list_objects"):
        pages = list(filled.s3.get_paginator(call).paginate(**options))
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        groups = [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", ())]
        assert (keys, groups) == grouped(ALL, prefix, delimiter), call
        counts = [len(page.get("Contents", ())) + len(page.get("CommonPrefixes", ())) for page in pages]
        assert all(count == size for count in counts[:-1]), "a page that is not the last is full"


def test_it_lists_from_any_key_on_in_either_encoding(filled: Bucket) -> None:
    for after in [
        "",
        "p",
        "plain/a",
        "sets",
        "sets/",
        "sets/deep/",
        "sets/deep/x",
        "sets/deep0",
        "zz",
        "zzz",
    ]:
        page = filled.s3.list_objects_v2(Bucket=BUCKET, StartAfter=after)
        assert [one["Key"] for one in page.get("Contents", ())] == [key for key in ALL if key > after]
    url = filled.s3.list_objects_v2(Bucket=BUCKET, Prefix="plain/", EncodingType="url")
    assert [one["Key"] for one in url["Contents"]] == ["plain/a", "plain/b%20%C3%BC%2B%26"]
    empty = filled.s3.list_objects_v2(Bucket=BUCKET, MaxKeys=0)
    assert (empty["KeyCount"], empty["IsTruncated"]) == (0, False)


def test_every_key_is_read_where_it_was_written(filled: Bucket) -> None:
    for key in KEYS:
        assert filled.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == key.encode()
        ranged = filled.s3.get_object(Bucket=BUCKET, Key=key, Range="bytes=1-2")
        assert ranged["Body"].read() == key.encode()[1:3]
        assert filled.s3.head_object(Bucket=BUCKET, Key=key)["ContentLength"] == len(key.encode())
    assert (filled.root / "base" / "zz").read_bytes() == b"zz"
    assert (filled.root / "deep" / "y" / "z").read_bytes() == b"sets/deep/y/z"
    assert filled.target.behind.get(BUCKET, "the/sets/two/three") == b"sets/two/three"


def test_what_a_mount_covers_is_hidden(filled: Bucket) -> None:
    for key in ("sets/hidden", "sets/deep/hidden", "the/sets/one"):
        with pytest.raises(filled.s3.exceptions.NoSuchKey):
            filled.s3.get_object(Bucket=BUCKET, Key=key)
    filled.s3.delete_object(Bucket=BUCKET, Key="sets/hidden")  # the covering mount has no such key
    assert (filled.root / "base" / "sets" / "hidden").read_bytes() == b"hidden"


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_a_folder_object_of_the_mounts_own_path_has_no_name_here(bucket: Bucket, size: int) -> None:
    """Consoles make such objects. Listed, it would be a key of no characters, which clients fall over."""
    for call, found in (
        ("list_objects_v2", "Contents"),
        ("list_objects", "Contents"),
        ("list_object_versions", "Versions"),
    ):
        pages = list(
            bucket.s3.get_paginator(call).paginate(Bucket="shelf", PaginationConfig={"PageSize": size})
        )
        assert [one["Key"] for page in pages for one in page.get(found, ())] == ["a", "b/"], call


@pytest.mark.parametrize("home", HOMES)
def test_objects_come_and_go_under_each_mount(bucket: Bucket, home: str) -> None:
    s3, key = bucket.s3, f"{home}comes and goes"
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"one")
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"one"
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"two!")
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"two!"
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    where = {"Bucket": BUCKET, "Key": key, "UploadId": upload}
    halves = (LARGE[: 5 * 2**20], LARGE[5 * 2**20 :])
    tags = [s3.upload_part(**where, PartNumber=n, Body=half)["ETag"] for n, half in enumerate(halves, 1)]
    named = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(tags, 1)]
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": named})
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == LARGE
    s3.delete_object(Bucket=BUCKET, Key=key)
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket=BUCKET, Key=key)


def test_many_are_deleted_over_several_mounts_at_once(bucket: Bucket) -> None:
    keys = [f"{home}doomed-{number}" for home in HOMES for number in range(3)]
    for key in keys:
        bucket.s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    doomed = [{"Key": key} for key in [*keys, "frozen/k", "plain/never"]]
    answer = bucket.s3.delete_objects(Bucket=BUCKET, Delete={"Objects": doomed})
    assert sorted(one["Key"] for one in answer["Deleted"]) == sorted([*keys, "plain/never"])
    assert [(one["Key"], one["Code"]) for one in answer["Errors"]] == [("frozen/k", "AccessDenied")]
    listed = bucket.s3.list_objects_v2(Bucket=BUCKET).get("Contents", ())
    assert not {one["Key"] for one in listed} & set(keys)


def test_a_read_only_mount_inside_takes_no_writes(bucket: Bucket) -> None:
    s3 = bucket.s3
    writes: list[Any] = [
        lambda: s3.put_object(Bucket=BUCKET, Key="frozen/k", Body=b"x"),
        lambda: s3.delete_object(Bucket=BUCKET, Key="frozen/k"),
        lambda: s3.create_multipart_upload(Bucket=BUCKET, Key="frozen/new"),
        lambda: s3.copy_object(Bucket=BUCKET, Key="frozen/k", CopySource={"Bucket": BUCKET, "Key": "zz"}),
    ]
    for write in writes:
        with pytest.raises(ClientError) as error:
            write()
        assert error.value.response["Error"]["Code"] == "AccessDenied"
    assert s3.get_object(Bucket=BUCKET, Key="frozen/k")["Body"].read() == b"frozen"


@pytest.mark.parametrize("source", HOMES)
@pytest.mark.parametrize("target", HOMES)
def test_copies_go_from_any_mount_to_any(bucket: Bucket, source: str, target: str) -> None:
    s3, key = bucket.s3, f"{target}copy-of-{source.replace('/', '-')}"
    s3.put_object(Bucket=BUCKET, Key=f"{source}source", Body=LARGE, ContentType="text/x-kept")
    copied = s3.copy_object(Bucket=BUCKET, Key=key, CopySource={"Bucket": BUCKET, "Key": f"{source}source"})
    got = s3.get_object(Bucket=BUCKET, Key=key)
    assert got["Body"].read() == LARGE
    assert copied["CopyObjectResult"]["ETag"] == got["ETag"]
    if "zoo/" not in (source, target):  # rclone keeps no content types
        assert got["ContentType"] == "text/x-kept"
    for name in (key, f"{source}source"):
        s3.delete_object(Bucket=BUCKET, Key=name)


def test_versions_and_uploads_are_listed_inside_one_mount(bucket: Bucket) -> None:
    s3 = bucket.s3
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="sets/unfinished")["UploadId"]
    for call in (s3.list_object_versions, s3.list_multipart_uploads):
        with pytest.raises(ClientError) as error:
            call(Bucket=BUCKET)
        assert error.value.response["Error"]["Code"] == "NotImplemented"
    uploads = s3.list_multipart_uploads(Bucket=BUCKET, Prefix="sets/u")["Uploads"]
    assert [(one["Key"], one["UploadId"]) for one in uploads] == [("sets/unfinished", upload)]
    s3.abort_multipart_upload(Bucket=BUCKET, Key="sets/unfinished", UploadId=upload)
    s3.put_object(Bucket=BUCKET, Key="plain/v", Body=b"x")
    versions = s3.list_object_versions(Bucket=BUCKET, Prefix="plain/v")["Versions"]
    assert [(one["Key"], one["VersionId"], one["IsLatest"]) for one in versions] == [
        ("plain/v", "null", True)
    ]
    s3.delete_object(Bucket=BUCKET, Key="plain/v")


def test_s3fs_walks_and_moves_across_mounts(filled: Bucket) -> None:
    fs = s3fs.S3FileSystem(
        key="AKTRAINER",
        secret=secret_of("trainer"),
        endpoint_url=filled.gateway.endpoint,
        skip_instance_cache=True,
        use_listings_cache=False,
    )
    assert sorted(fs.find(BUCKET)) == [f"{BUCKET}/{key}" for key in ALL]
    assert sorted(fs.ls(f"{BUCKET}/sets", detail=False)) == [
        f"{BUCKET}/sets/{name}" for name in ("deep", "deep0", "one", "two")
    ]
    fs.pipe_file(f"{BUCKET}/plain/moving", b"moved")
    fs.mv(f"{BUCKET}/plain/moving", f"{BUCKET}/zoo/moved")
    assert (fs.exists(f"{BUCKET}/plain/moving"), fs.cat(f"{BUCKET}/zoo/moved")) == (False, b"moved")
    fs.rm(f"{BUCKET}/zoo/moved")


def test_the_aws_cli_syncs_across_mounts(filled: Bucket, tmp_path: Path) -> None:
    aws, target = program("awscli", "aws"), filled.target
    listing = run(target, aws, "s3", "ls", "--recursive", f"s3://{BUCKET}/")
    assert [line.split(maxsplit=3)[3] for line in listing.splitlines()] == ALL
    run(target, aws, "s3", "cp", "--recursive", f"s3://{BUCKET}/sets/", tmp_path / "sets")
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {key for key in KEYS if key.startswith("sets/")}
    run(target, aws, "s3", "sync", f"s3://{BUCKET}/sets/", f"s3://{BUCKET}/zoo/synced/")
    where = ["--bucket", BUCKET, "--prefix", "zoo/synced/", "--query", "Contents[].Key"]
    synced = json.loads(run(target, aws, "s3api", "list-objects-v2", *where))
    assert synced == [f"zoo/synced/{key[5:]}" for key in ALL if key.startswith("sets/")]
    run(target, aws, "s3", "rm", "--recursive", f"s3://{BUCKET}/zoo/synced/")
