"""What boto3 before 1.36 does: Content-MD5 or nothing instead of checksums by default, MD5 on DeleteObjects.

Arguments: a key prefix. Ends with 0 when every answer was right."""

import io
import os
import sys

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

prefix = sys.argv[1]
version = tuple(map(int, boto3.__version__.split(".")[:2]))
assert version < (1, 36), boto3.__version__
s3 = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
small, large = os.urandom(70_000), os.urandom(11 * 2**20)

put = s3.put_object(Bucket="data", Key=f"{prefix}/small", Body=small, Metadata={"a": "b"})
for _ in range(2):
    got = s3.get_object(Bucket="data", Key=f"{prefix}/small")
    assert got["Body"].read() == small
    assert got["ETag"] == put["ETag"]
part = s3.get_object(Bucket="data", Key=f"{prefix}/small", Range="bytes=100-199", IfMatch=put["ETag"])
assert part["Body"].read() == small[100:200]

# On one connection: it reads the answer after an empty upload wrongly if that one got no 100 Continue.
one = boto3.client(
    "s3",
    endpoint_url=os.environ["AWS_ENDPOINT_URL"],
    config=Config(max_pool_connections=1, read_timeout=20, retries={"total_max_attempts": 1}),
)
for body in (b"", small, b""):
    one.put_object(Bucket="data", Key=f"{prefix}/one", Body=io.BytesIO(body))
one.delete_object(Bucket="data", Key=f"{prefix}/one")

transfer = TransferConfig(multipart_threshold=5 * 2**20, multipart_chunksize=5 * 2**20)
s3.upload_fileobj(io.BytesIO(large), "data", f"{prefix}/large", Config=transfer)
sink = io.BytesIO()
s3.download_fileobj("data", f"{prefix}/large", sink, Config=transfer)
assert sink.getvalue() == large

pages = s3.get_paginator("list_objects_v2").paginate(
    Bucket="data", Prefix=f"{prefix}/", PaginationConfig={"PageSize": 1}
)
keys = [entry["Key"] for page in pages for entry in page["Contents"]]
assert keys == [f"{prefix}/large", f"{prefix}/small"], keys

s3.delete_objects(Bucket="data", Delete={"Objects": [{"Key": key} for key in keys]})
for key in keys:
    status = 0
    try:
        s3.head_object(Bucket="data", Key=key)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    assert status == 404, f"{key} is still there"
