"""type = "s3": AWS S3 and everything that speaks like it.

    s3_endpoint  host and path     s3_credentials  keys, or the default chain     s3_flavours  what a store lacks
    s3_http      the wire: one signed request, one answer         s3_body  streamed bodies and their framing
    s3_client    retries, errors as our kinds (s3_errors), documents (s3_xml)
    s3_read  s3_write  s3_multipart  s3_list  s3_delete  s3_forward      the calls

Calls are signed by `s3/signer.py` and go over aiohttp's client: aiobotocore costs several times their CPU
(`loadtest/origin_clients.py` measures it) and normalises paths, and its parsers would need the same checks behind
them. What it does best, the default credential chain, is what it is used for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from gateway.model import (
    BucketEntry,
    Conditions,
    ListPage,
    ObjectMeta,
    Part,
    PartPage,
    Remote,
    ToDelete,
    UploadPage,
    VersionPage,
    WriteResult,
)
from gateway.origins import s3_delete, s3_list, s3_multipart, s3_read, s3_write
from gateway.origins.base import ForwardRequest, ForwardResponse, PutBody, Reading
from gateway.origins.limits import Limits
from gateway.origins.s3_client import Client
from gateway.origins.s3_forward import S3Forward
from gateway.origins.s3_http import Call
from gateway.origins.s3_read import S3Reading
from gateway.s3.signer import encode_query


class S3Origin:
    def __init__(self, client: Client) -> None:
        self.name = client.name
        self.capabilities = client.flavour.capabilities
        self._client = client

    @property
    def limits(self) -> Limits:
        return self._client.limits

    async def head(self, remote: Remote) -> ObjectMeta:
        return await s3_read.head(self._client, remote)

    def get(
        self, remote: Remote, start: int, stop: int | None, *, if_match: str | None = None
    ) -> AbstractAsyncContextManager[Reading]:
        return S3Reading(self._client, remote, start, stop, if_match)

    async def put(self, remote: Remote, body: PutBody, conditions: Conditions) -> WriteResult:
        return await s3_write.put(self._client, remote, body, conditions)

    async def delete(self, remote: Remote, *, version_id: str | None = None) -> Mapping[str, str]:
        query = "" if version_id is None else encode_query([("versionId", version_id)])
        return await s3_write.delete(self._client, remote, query)

    async def delete_many(self, bucket: str, doomed: Sequence[ToDelete]) -> Sequence[s3_delete.Outcome]:
        return await s3_delete.delete_many(self._client, bucket, doomed)

    async def copy(
        self, source: Remote, target: Remote, headers: Mapping[str, str], *, source_version: str | None = None
    ) -> WriteResult:
        return await s3_write.copy(self._client, source, target, headers, source_version)

    async def list(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        start_after: str = "",
        max_keys: int = 1000,
    ) -> ListPage:
        return await s3_list.page(self._client, bucket, prefix, delimiter, start_after, max_keys)

    async def list_versions(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        version_id_marker: str = "",
        max_keys: int = 1000,
    ) -> VersionPage:
        return await s3_list.versions(
            self._client, bucket, prefix, delimiter, key_marker, version_id_marker, max_keys
        )

    async def create_upload(
        self, remote: Remote, headers: Mapping[str, str]
    ) -> tuple[str, Mapping[str, str]]:
        return await s3_multipart.create(self._client, remote, headers)

    async def put_part(self, remote: Remote, upload_id: str, number: int, body: PutBody) -> WriteResult:
        return await s3_multipart.put_part(self._client, remote, upload_id, number, body)

    async def copy_part(
        self,
        source: Remote,
        target: Remote,
        upload_id: str,
        number: int,
        headers: Mapping[str, str],
        *,
        source_version: str | None = None,
    ) -> WriteResult:
        return await s3_multipart.copy_part(
            self._client, source, target, upload_id, number, headers, source_version
        )

    async def complete_upload(
        self,
        remote: Remote,
        upload_id: str,
        parts: Sequence[Part],
        headers: Mapping[str, str],
        conditions: Conditions,
    ) -> WriteResult:
        return await s3_multipart.complete(self._client, remote, upload_id, parts, headers, conditions)

    async def abort_upload(self, remote: Remote, upload_id: str) -> None:
        await s3_multipart.abort(self._client, remote, upload_id)

    async def list_parts(
        self, remote: Remote, upload_id: str, after: int = 0, max_parts: int = 1000
    ) -> PartPage:
        return await s3_multipart.parts(self._client, remote, upload_id, after, max_parts)

    async def list_uploads(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        upload_id_marker: str = "",
        max_uploads: int = 1000,
    ) -> UploadPage:
        return await s3_list.uploads(
            self._client, bucket, prefix, delimiter, key_marker, upload_id_marker, max_uploads
        )

    async def head_bucket(self, bucket: str) -> Mapping[str, str]:
        answer = await self._client.finished(Call("head", "HEAD", bucket))
        region = answer.headers.get("x-amz-bucket-region")
        return {} if region is None else {"x-amz-bucket-region": region}

    async def buckets(self) -> Sequence[BucketEntry]:
        return await s3_list.buckets(self._client)

    def forward(self, request: ForwardRequest) -> AbstractAsyncContextManager[ForwardResponse]:
        return S3Forward(self._client, request)

    async def close(self) -> None:
        await self._client.wire.close()
