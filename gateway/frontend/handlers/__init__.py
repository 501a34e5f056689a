"""One coroutine for each S3 operation: `handler(services, request)`, after the door (request.py) let it in.

Modules are the API's families. A handler reads what the head and body say (bounds first), calls one use case of
`objects/`, and writes the answer. It decides nothing about rights, except for the keys inside a DeleteObjects body,
and nothing about the cache. Operations that none is written for are forwarded to the origin.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from gateway.frontend.handlers import (
    attributes,
    buckets,
    copying,
    deleting,
    listing,
    multipart,
    read,
    writing,
)
from gateway.frontend.handlers.forwarding import forward
from gateway.frontend.request import Request
from gateway.objects.context import Services
from gateway.s3.operations import Operation

Handler = Callable[[Services, Request], Awaitable[None]]


HANDLERS: Final[Mapping[str, Handler]] = {
    "ListBuckets": buckets.list_buckets,
    "HeadBucket": buckets.head_bucket,
    "GetBucketLocation": buckets.get_bucket_location,
    "ListObjects": listing.list_objects,
    "ListObjectsV2": listing.list_objects_v2,
    "ListObjectVersions": listing.list_object_versions,
    "GetObject": read.get_object,
    "HeadObject": read.head_object,
    "GetObjectAttributes": attributes.get_object_attributes,
    "PutObject": writing.put_object,
    "CopyObject": copying.copy_object,
    "DeleteObject": deleting.delete_object,
    "DeleteObjects": deleting.delete_objects,
    "CreateMultipartUpload": multipart.create_upload,
    "UploadPart": multipart.upload_part,
    "UploadPartCopy": copying.upload_part_copy,
    "CompleteMultipartUpload": multipart.complete_upload,
    "AbortMultipartUpload": multipart.abort_upload,
    "ListParts": multipart.list_parts,
    "ListMultipartUploads": multipart.list_uploads,
}


def handler_of(operation: Operation) -> Handler:
    return HANDLERS.get(operation.name, forward)
