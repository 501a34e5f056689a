"""HEAD and ranged GET, with the checks of `s3_read.py`. The S3 ETag comes with the bytes, in the same answer, and is
compared here: Azure knows only its own, which a change of metadata changes, too."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.errors import RangeNotSatisfiable, Unreachable
from gateway.model import ObjectMeta, Remote
from gateway.origins import azure_names
from gateway.origins.azure_client import AzureClient
from gateway.origins.azure_meta import Blob, blob_of
from gateway.origins.s3_http import Answer, Call
from gateway.origins.s3_read import S3Reading


async def head(client: AzureClient, remote: Remote, op: str = "head") -> Blob:
    """Raises NotFound, NoSuchBucket."""
    azure_names.require_readable(remote)
    return await head_own(client, remote, op)


async def head_own(client: AzureClient, remote: Remote, op: str) -> Blob:
    """Of a blob that may be one of the gateway's own."""
    answer = await client.finished(Call(op, "HEAD", remote.bucket, remote.key))
    if answer.length is None:
        raise Unreachable("The origin's answer has no Content-Length.")
    return blob_of(answer.headers, answer.length)


def _without_made_up_md5(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Azurite makes up a Content-MD5 for whole blobs that have none; what they have it says in another header, too."""
    if headers.get("server", "").startswith("Azurite"):
        return {name: value for name, value in headers.items() if name != "content-md5"}
    return headers


def _size_of(answer: Answer) -> int | None:
    text = answer.headers.get("content-range", "").rpartition("/")[2]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


class AzureReading(S3Reading):
    def __init__(
        self, client: AzureClient, remote: Remote, start: int, stop: int | None, if_match: str | None
    ) -> None:
        super().__init__(client, remote, start, stop, if_match)
        self._remote = remote

    def _terms(self) -> dict[str, str]:
        return {}  # Azure does not know the ETag

    async def __aenter__(self) -> AzureReading:
        azure_names.require_readable(self._remote)
        await super().__aenter__()
        return self

    def _range(self, answer: Answer) -> tuple[int, int, int]:
        if answer.length == 0:  # Azure says 416, Azurite sends nothing under a range of its own
            raise RangeNotSatisfiable("The range starts at or past the end.", _size_of(answer))
        return super()._range(answer)

    def _meta(self, answer: Answer, size: int) -> ObjectMeta:
        return blob_of(_without_made_up_md5(answer.headers), size, whole=self._whole).meta
