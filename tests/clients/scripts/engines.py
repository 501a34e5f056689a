"""Query engines and training readers with S3 clients of their own, one per command.

Arguments: the client, a key prefix. Ends with 0 when every answer was right."""

import hashlib
import os
import sys
from urllib.parse import urlsplit

ENDPOINT = os.environ["AWS_ENDPOINT_URL"]
KEY, SECRET = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]


def duckdb(prefix: str) -> None:
    """httpfs: Parquet footers and column chunks by range, uploads in parts, globs by listing."""
    import duckdb
    from duckdb_extension_httpfs import __file__ as package

    extension = next(
        os.path.join(where, name)
        for where, _, names in os.walk(os.path.dirname(package))
        for name in names
        if name.endswith(".duckdb_extension")
    )
    con = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    con.execute(f"LOAD '{extension}'")
    con.execute(
        f"CREATE SECRET (TYPE s3, KEY_ID '{KEY}', SECRET '{SECRET}', REGION 'us-east-1', "
        f"ENDPOINT '{urlsplit(ENDPOINT).netloc}', URL_STYLE 'path', USE_SSL false)"
    )
    con.execute(
        "COPY (SELECT i AS id, i % 7 AS part, md5(i::VARCHAR) AS text FROM range(200000) t(i)) "
        f"TO 's3://data/{prefix}/one.parquet' (FORMAT parquet, ROW_GROUP_SIZE 20000)"
    )
    con.execute(
        "COPY (SELECT 200000 AS id, 0 AS part, 'x' AS text) "
        f"TO 's3://data/{prefix}/two.parquet' (FORMAT parquet)"
    )
    for _ in range(2):
        rows = con.execute(
            f"SELECT count(*), sum(id) FROM 's3://data/{prefix}/*.parquet' WHERE id >= 199000"
        ).fetchone()
        assert rows == (1001, sum(range(199_000, 200_001))), rows
        text = con.execute(f"SELECT text FROM 's3://data/{prefix}/one.parquet' WHERE id = 123456").fetchone()
        assert text == (hashlib.md5(b"123456").hexdigest(),)


def polars(prefix: str) -> None:
    import polars as pl

    options = {
        "aws_endpoint_url": ENDPOINT,
        "aws_access_key_id": KEY,
        "aws_secret_access_key": SECRET,
        "aws_region": "us-east-1",
        "aws_allow_http": "true",
    }
    frame = pl.DataFrame({"id": range(100_000), "text": [f"row {n}" for n in range(100_000)]})
    frame.write_parquet(f"s3://data/{prefix}/p.parquet", storage_options=options)
    for _ in range(2):
        scan = pl.scan_parquet(f"s3://data/{prefix}/*.parquet", storage_options=options)
        assert scan.filter(pl.col("id") == 77_777).select("text").collect().item() == "row 77777"
        assert scan.select(pl.col("id").sum()).collect().item() == sum(range(100_000))


def obstore(prefix: str) -> None:
    """object_store, as used by Lance and Delta Lake: conditional puts, SHA-256 on DeleteObjects."""
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        "data",
        endpoint=ENDPOINT,
        access_key_id=KEY,
        secret_access_key=SECRET,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    body = os.urandom(12 * 2**20)
    obstore.put(store, f"{prefix}/large", body, use_multipart=True, chunk_size=5 * 2**20)
    obstore.put(store, f"{prefix}/small", body[:1000])
    for _ in range(2):
        assert bytes(obstore.get(store, f"{prefix}/large").bytes()) == body
        ranges = obstore.get_ranges(store, f"{prefix}/large", starts=[5, 11_000_000], lengths=[7, 1000])
        assert [bytes(one) for one in ranges] == [body[5:12], body[11_000_000:11_001_000]]
    if "create" in sys.argv[3:]:
        obstore.put(store, f"{prefix}/new", b"1", mode="create")
        try:
            obstore.put(store, f"{prefix}/new", b"2", mode="create")
        except obstore.exceptions.AlreadyExistsError:
            pass
        else:
            raise AssertionError("a second create-only put was taken")
        obstore.delete(store, f"{prefix}/new")
    names = sorted(entry["path"] for page in obstore.list(store, prefix) for entry in page)
    assert names == [f"{prefix}/large", f"{prefix}/small"], names
    obstore.delete(store, names)
    assert [entry for page in obstore.list(store, prefix) for entry in page] == []


def crt(prefix: str) -> None:
    """s3torchconnector's client, on the AWS CRT: everything is written as multipart, read in 8 MiB ranges."""
    from s3torchconnectorclient._mountpoint_s3_client import MountpointS3Client

    client = MountpointS3Client(
        region="us-east-1", user_agent_prefix="test", endpoint=ENDPOINT, force_path_style=True
    )
    for size in (0, 1000, 20 * 2**20):
        key, body = f"{prefix}/crt-{size}", os.urandom(size)
        stream = client.put_object("data", key)
        for at in range(0, size, 2**20):
            stream.write(body[at : at + 2**20])
        stream.close()
        for _ in range(2):
            got = b"".join(client.get_object("data", key))
            assert got == body, (size, len(got))
        assert client.head_object("data", key).size == size
    listed = [info.key for page in client.list_objects("data", f"{prefix}/") for info in page.object_info]
    assert len(listed) == 3, listed
    client.delete_object("data", f"{prefix}/crt-0")


{"duckdb": duckdb, "polars": polars, "obstore": obstore, "crt": crt}[sys.argv[1]](sys.argv[2])
