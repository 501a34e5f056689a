"""type = "gcs": Google Cloud Storage through its XML API, with the S3 origin's code under Google's dialect.

    gcs_dialect      names of headers, signatures     gcs_credentials  OAuth tokens
    gcs_keys         what it can hold and do          gcs_generations  versions, conditions on writes
    gcs_list         versions listed                  gcs_forward      the few S3 calls that Google knows as such

What differs from S3 beyond names:
  * An object's version is its generation. A write that must replace a certain ETag asks for its generation first and
    then names that (x-goog-if-generation-match): whatever comes between makes it fail, so it is atomic.
  * There is no UploadPartCopy: the range is streamed through. There are no conditions on completing an upload, and
    DeleteObjects is one DELETE per key, which `objects/deletes.py` does anyhow.
  * A copy onto itself takes its metadata with it, as Google wants it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

from gateway.errors import Refused, Unsupported
from gateway.model import Conditions, ObjectMeta, Part, Remote, VersionPage, WriteResult
from gateway.origins import gcs_list, s3_multipart, s3_read, s3_write
from gateway.origins.base import ForwardRequest, ForwardResponse, PutBody
from gateway.origins.gcs_dialect import declared_hash
from gateway.origins.gcs_forward import GcsForward
from gateway.origins.gcs_generations import generation_match, generation_of, generation_query
from gateway.origins.s3 import S3Origin
from gateway.origins.s3_client import BULK_S, Client, Retry
from gateway.origins.s3_http import Call
from gateway.origins.s3_meta import write_result
from gateway.origins.tokens import TokenSource

_PARTS_PAGE: Final = 1000


class GcsOrigin(S3Origin):
    def __init__(self, client: Client, chain: TokenSource | None = None) -> None:
        """`chain`: what is to be closed with the origin."""
        super().__init__(client)
        self._chain = chain

    async def put(self, remote: Remote, body: PutBody, conditions: Conditions) -> WriteResult:
        self._client.flavour.require_holdable(remote.key)
        more = {**await generation_match(self._client, remote, conditions), **declared_hash(body.headers)}
        call = Call("put", "PUT", remote.bucket, remote.key)
        answer = await s3_write.send_body(self._client, call, body, more)
        return write_result(answer.headers)

    async def put_part(self, remote: Remote, upload_id: str, number: int, body: PutBody) -> WriteResult:
        return await s3_multipart.put_part(
            self._client, remote, upload_id, number, body, declared_hash(body.headers)
        )

    async def delete(self, remote: Remote, *, version_id: str | None = None) -> Mapping[str, str]:
        query = generation_query(version_id)
        await s3_write.delete(self._client, remote, query)
        return {} if version_id is None else {"x-amz-version-id": version_id}

    async def copy(
        self, source: Remote, target: Remote, headers: Mapping[str, str], *, source_version: str | None = None
    ) -> WriteResult:
        client = self._client
        client.flavour.require_held(source.key)
        client.flavour.require_holdable(target.key)
        asked = {name: value for name, value in headers.items() if name not in ("if-match", "if-none-match")}
        conditions = Conditions(headers.get("if-match"), headers.get("if-none-match"))
        generation = generation_of(source_version)
        if source == target and asked.get("x-amz-metadata-directive", "COPY") != "REPLACE":
            meta = await s3_read.head(client, source, generation_query(source_version))
            generation = meta.headers.get("x-amz-version-id")
            asked = {**_own_headers(meta), **_of_the_copy(asked), "x-amz-metadata-directive": "REPLACE"}
        asked["x-amz-copy-source"] = s3_write.copy_source(source, None)
        if generation is not None:
            asked["x-goog-copy-source-generation"] = generation
        asked |= await generation_match(client, target, conditions)
        call = Call("copy", "PUT", target.bucket, target.key, headers=asked, answer_s=BULK_S)
        return s3_write.copy_result(*await client.document(call, "CopyObject", Retry.REFUSED))

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
        self._client.flavour.require_held(source.key)
        query = generation_query(source_version)
        return await s3_multipart.stream_part(self._client, source, target, upload_id, number, headers, query)

    async def complete_upload(
        self,
        remote: Remote,
        upload_id: str,
        parts: Sequence[Part],
        headers: Mapping[str, str],
        conditions: Conditions,
    ) -> WriteResult:
        if conditions:
            raise Unsupported("Google Cloud Storage cannot check a condition when an upload is completed.")
        if (size := headers.get("x-amz-mp-object-size")) is not None:
            await self._require_size(remote, upload_id, parts, size)
        return await s3_multipart.complete(self._client, remote, upload_id, parts, headers, conditions)

    async def _require_size(self, remote: Remote, upload_id: str, parts: Sequence[Part], size: str) -> None:
        """Google does not check what the client says the whole must be; its list of the parts tells. An upload that
        is not there any more may be complete: `complete` looks."""
        wanted, found, after = {part.number for part in parts}, 0, 0
        while True:
            try:
                page = await self.list_parts(remote, upload_id, after, _PARTS_PAGE)
            except Refused as error:
                if error.code == "NoSuchUpload":
                    return
                raise
            found += sum(entry.size for entry in page.entries if entry.number in wanted)
            if page.next_number is None:
                break
            after = page.next_number
        if size != str(found):
            raise Refused(
                400,
                "InvalidRequest",
                f"The parts have {found} bytes, not x-amz-mp-object-size's {size[:20]}.",
            )

    async def list_versions(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        version_id_marker: str = "",
        max_keys: int = 1000,
    ) -> VersionPage:
        generation = generation_of(version_id_marker or None)
        return await gcs_list.versions(
            self._client, bucket, prefix, delimiter, key_marker, generation, max_keys
        )

    def forward(self, request: ForwardRequest) -> AbstractAsyncContextManager[ForwardResponse]:
        return GcsForward(self._client, request)

    async def close(self) -> None:
        await super().close()
        if self._chain is not None:
            await self._chain.close()


def _own_headers(meta: ObjectMeta) -> dict[str, str]:
    return {
        name: value
        for name, value in meta.headers.items()
        if not name.startswith("x-amz-") or name.startswith("x-amz-meta-") or name == "x-amz-storage-class"
    }


def _of_the_copy(headers: Mapping[str, str]) -> dict[str, str]:
    """Of a copy that keeps the metadata: what is said of the new copy itself."""
    return {
        name: value
        for name, value in headers.items()
        if name.startswith("x-amz-") and not name.startswith("x-amz-meta-")
    }
