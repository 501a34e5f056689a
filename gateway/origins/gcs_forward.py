"""The S3 calls that Google's XML API has in the same form: reads of one version, a delete under a condition, making and
removing buckets, and whether a bucket keeps versions. What is not among them is refused by name (`forwards_only` of
`gcs_keys.py`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from urllib.parse import parse_qsl

from gateway.errors import Unsupported
from gateway.model import Conditions
from gateway.origins.base import ForwardRequest
from gateway.origins.gcs_generations import generation_match, generation_of
from gateway.origins.s3_forward import S3Forward
from gateway.s3.signer import encode_query

# What Google's GET of an object takes in its query under S3's names.
_KEPT: Final = frozenset({"response-content-type", "response-content-disposition"})
_BUCKET_CALLS: Final = {("GET", "versioning"), ("PUT", "versioning"), ("PUT",), ("DELETE",)}
# Of a read: conditions, ranges and what makes no difference here.
_READ_HEADERS: Final = frozenset(
    {"range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"}
)


class GcsForward(S3Forward):
    async def __aenter__(self) -> GcsForward:
        request = self._request
        query = parse_qsl(request.query, keep_blank_values=True)
        if request.remote.key:
            self._request = await self._of_object(request, query)
        else:
            self._request = _of_bucket(request, query)
        await super().__aenter__()
        return self

    async def _of_object(self, request: ForwardRequest, query: list[tuple[str, str]]) -> ForwardRequest:
        kept = [(name, value) for name, value in query if name in _KEPT]
        generation = generation_of(dict(query).get("versionId"))
        if generation is not None:
            kept.append(("generation", generation))
        if strange := {name for name, _ in query} - _KEPT - {"versionId", "x-id"}:
            raise Unsupported(f"Google Cloud Storage has nothing like {min(strange)[:64]} here.")
        if request.method in ("GET", "HEAD"):
            headers = {name: value for name, value in request.headers.items() if _is_of_read(name)}
            return replace(request, query=encode_query(kept), headers=headers)
        if request.method != "DELETE":
            raise Unsupported("Google Cloud Storage does not know this call.")
        conditions = Conditions(if_match=request.headers.get("if-match"))
        headers = await generation_match(self._client, request.remote, conditions)
        return replace(request, query=encode_query(kept), headers=headers)


def _is_of_read(name: str) -> bool:
    """Customers' keys and payers mean something: they are let through to be refused by the dialect."""
    return name in _READ_HEADERS or (name.startswith("x-amz-") and not name.startswith("x-amz-meta-"))


def _of_bucket(request: ForwardRequest, query: list[tuple[str, str]]) -> ForwardRequest:
    asked = {name for name, _ in query} - {"x-id"}
    if (request.method, *asked) not in _BUCKET_CALLS:
        raise Unsupported("Google Cloud Storage does not know this call.")
    return request
