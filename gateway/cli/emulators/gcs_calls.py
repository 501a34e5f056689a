"""Each call of Google's XML API, put to an S3 store. What comes here has passed `gcs_checks.py`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Final

from aiohttp import web

from gateway.cli.emulators import gcs_lists
from gateway.cli.emulators.gcs_answers import (
    inflated,
    of_generation,
    passed,
    shown_headers,
    small_body,
    streamed,
    to_store,
)
from gateway.cli.emulators.gcs_bodies import Body
from gateway.cli.emulators.gcs_checks import Head, Refusal, expected_digests
from gateway.cli.emulators.gcs_state import Generation, Generations, Name, PartSeen, Uploads, version_id_of
from gateway.errors import NotFound
from gateway.model import Part, Remote
from gateway.origins import s3_write, s3_xml
from gateway.origins.base import PutBody
from gateway.origins.s3_client import BULK_S, DOCUMENT_BYTES_MAX, Client, Retry
from gateway.origins.s3_http import Answer, Call
from gateway.s3.conditions import check, parse_copy_conditions, parse_http_date
from gateway.s3.errors import S3Error
from gateway.s3.signer import encode_query
from gateway.s3.xml_read import parse_complete

MATCH: Final = "x-goog-if-generation-match"
_CONDITIONS: Final = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
_XML: Final = {"content-type": "application/xml; charset=UTF-8"}


class Calls:
    def __init__(self, store: Client, part_bytes_min: int) -> None:
        self._store = store
        self._generations = Generations()
        self._uploads = Uploads(part_bytes_min)

    async def answer(self, request: web.BaseRequest, head: Head) -> web.StreamResponse:
        """Raises Refusal, GatewayError."""
        query = head.query
        if not head.key:
            return await self._of_bucket(request, head, query)
        if "uploads" in query:
            return await self._begin_upload(head)
        if "partNumber" in query:
            return await self._put_part(request, head, query)
        if "uploadId" in query:
            return await self._of_upload(request, head, query)
        if head.method in ("GET", "HEAD"):
            return await self._read(request, head, query)
        if head.method == "DELETE":
            return await self._delete(head, query)
        if "x-goog-copy-source" in head.headers:
            return await self._copy(head)
        return await self._put(request, head)

    # Buckets

    async def _of_bucket(
        self, request: web.BaseRequest, head: Head, query: Mapping[str, str]
    ) -> web.StreamResponse:
        if head.method == "GET" and "versions" in query:
            document = await gcs_lists.generations(self._store, self._generations, head.bucket, query)
            return web.Response(body=document, headers=_XML)
        body = await small_body(request)
        digest = hashlib.sha256(body).hexdigest()
        pairs = encode_query(sorted(query.items()))
        call = Call("forward", head.method, head.bucket, "", pairs, {}, digest, body or None, answer_s=BULK_S)
        return await passed(await self._store.wire.send(call), head)

    # Reading

    async def _read(
        self, request: web.BaseRequest, head: Head, query: Mapping[str, str]
    ) -> web.StreamResponse:
        name = (head.bucket, head.key)
        pairs = [(key, value) for key, value in query.items() if key.startswith("response-")]
        wanted: Generation | None = None
        if number := query.get("generation"):
            wanted = await self._kept(name, number)
            if wanted.version_id is not None:
                pairs.append(("versionId", wanted.version_id))
        inflate = "gzip" not in head.headers.get("accept-encoding", "")
        headers = {key: head.headers[key] for key in ("range", *_CONDITIONS) if key in head.headers}
        call = Call("forward", head.method, *name, encode_query(pairs), headers)
        answer = await self._store.wire.send(call)
        try:
            if answer.status not in (200, 206):
                return await passed(answer, head)
            etag, version_id = answer.headers.get("etag", ""), version_id_of(answer.headers)
            seen = await self._generations.seen(name, etag, version_id)
            if wanted is not None and seen.number != wanted.number:
                raise Refusal(404, "NoSuchKey", "That generation is no more.")
            shown = shown_headers(answer.headers, seen)
            if inflate and "gzip" in answer.headers.get("content-encoding", "").lower():
                if "range" in headers:  # of a body that is inflated there are none
                    call.headers = {key: value for key, value in headers.items() if key != "range"}
                    answer.close()
                    answer = await self._store.wire.send(call)
                return await inflated(request, answer, shown)
            return await streamed(request, answer, shown, answer.status)
        finally:
            answer.close()

    async def _kept(self, name: Name, number: str) -> Generation:
        """Raises Refusal."""
        if (found := await self._head(name)) is not None:  # it may be one that this front has not seen yet
            await self._generations.seen(name, found["etag"], version_id_of(found))
        return self._generations.of_number(name, number)

    async def _live_locked(self, name: Name) -> Generation | None:
        """The live generation as the store has it now, under the name's lock."""
        found = await self._head(name)
        if found is None:
            return None
        return self._generations.seen_locked(name, found["etag"], version_id_of(found))

    async def _head(self, name: Name, query: str = "") -> Mapping[str, str] | None:
        try:
            return (await self._store.finished(Call("head", "HEAD", *name, query))).headers
        except NotFound:
            return None

    async def _require_match(self, name: Name, head: Head) -> None:
        """Raises Refusal where x-goog-if-generation-match does not hold. Under the name's lock."""
        wanted = head.headers.get(MATCH)
        if wanted is None:
            return
        live = await self._live_locked(name)
        if wanted != ("0" if live is None else str(live.number)):
            raise Refusal(412, "PreconditionFailed", "At least one of the pre-conditions did not hold.")

    # Writing

    async def _put(self, request: web.BaseRequest, head: Head) -> web.StreamResponse:
        name = (head.bucket, head.key)
        async with AsyncExitStack() as held:

            async def last_question() -> None:
                await held.enter_async_context(self._generations.lock(name))
                await self._require_match(name, head)

            body = Body(request, expected_digests(head.headers), last_question)
            answer = await self._send(Call("put", "PUT", *name), head, body, to_store(head.headers))
            version_id = version_id_of(answer.headers)
            hashes = (body.crc32c_text, body.md5_text)
            made = self._generations.written(name, answer.headers["etag"], version_id, *hashes)
        return web.Response(headers={"ETag": made.etag, **of_generation(made)})

    async def _send(self, call: Call, head: Head, body: Body, headers: Mapping[str, str]) -> Answer:
        length = head.headers.get("content-length")
        if length is None:
            raise Refusal(411, "MissingContentLength")
        return await s3_write.send_body(self._store, call, PutBody(int(length), body.chunks(), headers), None)

    async def _delete(self, head: Head, query: Mapping[str, str]) -> web.StreamResponse:
        name = (head.bucket, head.key)
        async with self._generations.lock(name):
            await self._require_match(name, head)
            live = await self._live_locked(name)
            doomed = live
            if number := query.get("generation"):
                doomed = self._generations.of_number(name, number)
                if doomed.version_id is None and doomed != live:
                    doomed = None
            if doomed is None:
                raise Refusal(404, "NoSuchKey", f"No such object: {name[0]}/{name[1]}")
            version_id = doomed.version_id if number else None
            pairs = "" if version_id is None else encode_query([("versionId", version_id)])
            await self._store.finished(Call("delete", "DELETE", *name, pairs), (200, 204))
            if version_id == doomed.version_id:  # else it is kept as one that is not live any more
                self._generations.gone(name, version_id)
        return web.Response(status=204)

    async def _copy(self, head: Head) -> web.StreamResponse:
        name = (head.bucket, head.key)
        source_head = Head("GET", head.headers["x-goog-copy-source"], {})
        source = (source_head.bucket, source_head.key)
        directive = head.headers.get("x-goog-metadata-directive", "COPY")
        if source == name and directive != "REPLACE":
            raise Refusal(400, "InvalidArgument", "A copy onto itself needs new metadata.")
        query, copied = "", None
        if number := head.headers.get("x-goog-copy-source-generation"):
            copied = await self._kept(source, number)
            query = "" if copied.version_id is None else f"versionId={copied.version_id}"
        found = await self._head(source, query)
        if found is None:
            raise Refusal(404, "NoSuchKey", f"No such object: {source[0]}/{source[1]}")
        _require_copy_conditions(head.headers, found)
        origin = await self._generations.seen(source, found["etag"], version_id_of(found))
        if copied is not None and origin.number != copied.number:
            raise Refusal(404, "NoSuchKey", "That generation is no more.")
        headers = to_store(head.headers) if directive == "REPLACE" else {}
        headers["x-amz-metadata-directive"] = directive
        headers["x-amz-copy-source"] = s3_write.copy_source(Remote(*source), origin.version_id)
        async with self._generations.lock(name):
            await self._require_match(name, head)
            call = Call("copy", "PUT", *name, headers=headers, answer_s=BULK_S)
            root, answer = await self._store.document(call, "CopyObject", Retry.REFUSED)
            etag = s3_xml.quoted(s3_xml.fields(root)["ETag"])
            made = self._generations.written(
                name, etag, version_id_of(answer.headers), origin.crc32c, origin.md5
            )
        modified = s3_xml.fields(root).get("LastModified", "")
        document = (
            "<?xml version='1.0' encoding='UTF-8'?><CopyObjectResult>"
            f"<LastModified>{modified}</LastModified><ETag>{etag}</ETag></CopyObjectResult>"
        )
        return web.Response(body=document.encode(), headers={**_XML, **of_generation(made)})

    # Uploads

    async def _begin_upload(self, head: Head) -> web.StreamResponse:
        _require_no_match(head)
        call = Call("multipart", "POST", head.bucket, head.key, "uploads=", to_store(head.headers))
        answer = await self._store.open(call)
        try:
            document = await answer.read(DOCUMENT_BYTES_MAX)
        finally:
            answer.close()
        upload_id = s3_xml.fields(s3_xml.parse(document)).get("UploadId", "")
        self._uploads.begin(upload_id, (head.bucket, head.key))
        return web.Response(body=document, headers=_XML)

    async def _put_part(
        self, request: web.BaseRequest, head: Head, query: Mapping[str, str]
    ) -> web.StreamResponse:
        name = (head.bucket, head.key)
        upload = self._uploads.get(query["uploadId"], name)
        if not query["partNumber"].isdigit() or not 1 <= int(query["partNumber"]) <= 10_000:
            raise Refusal(400, "InvalidArgument", "partNumber")
        number = int(query["partNumber"])
        body = Body(request, expected_digests(head.headers))
        pairs = encode_query(sorted(query.items()))
        answer = await self._send(Call("multipart", "PUT", *name, pairs), head, body, {})
        etag = answer.headers["etag"]
        upload.parts[number] = PartSeen(etag, body.size, body.crc32c)
        hashes = f"crc32c={body.crc32c_text},md5={body.md5_text}"
        return web.Response(headers={"ETag": etag, "x-goog-hash": hashes})

    async def _of_upload(
        self, request: web.BaseRequest, head: Head, query: Mapping[str, str]
    ) -> web.StreamResponse:
        upload_id, name = query["uploadId"], (head.bucket, head.key)
        upload = self._uploads.get(upload_id, name)
        pairs = encode_query(sorted(query.items()))
        if head.method == "POST":
            _require_no_match(head)
            sent = await small_body(request)
            crc32c = self._uploads.check(upload, _named_parts(sent))
            digest = hashlib.sha256(sent).hexdigest()
            call = Call("multipart", "POST", *name, pairs, {}, digest, sent, answer_s=BULK_S)
            async with self._generations.lock(name):
                root, answer = await self._store.document(call, "CompleteMultipartUpload", Retry.REFUSED)
                etag = s3_xml.quoted(s3_xml.fields(root)["ETag"])
                made = self._generations.written(name, etag, version_id_of(answer.headers), crc32c)
            self._uploads.end(upload_id)
            document = gcs_lists.completed(name, etag)
            return web.Response(body=document, headers={**_XML, **of_generation(made)})
        if head.method == "DELETE":
            await self._store.finished(Call("multipart", "DELETE", *name, pairs), (200, 204))
            self._uploads.end(upload_id)
            return web.Response(status=204)
        return await passed(await self._store.wire.send(Call("list", "GET", *name, pairs)), head)


def _named_parts(document: bytes) -> tuple[Part, ...]:
    try:
        return parse_complete(document)
    except S3Error as error:  # a number past the last possible one is a part that is not there
        code = "InvalidPart" if error.code == "InvalidArgument" else error.code
        raise Refusal(400, code, error.message) from None


def _require_no_match(head: Head) -> None:
    if MATCH in head.headers:
        raise Refusal(400, "InvalidArgument", "Multipart uploads take no preconditions.")


def _require_copy_conditions(headers: Mapping[str, str], source: Mapping[str, str]) -> None:
    named = {key.replace("x-goog-", "x-amz-"): value for key, value in headers.items()}
    modified = parse_http_date(source.get("last-modified", "")) or 0
    if check(parse_copy_conditions(named), source["etag"], modified) is not None:
        raise Refusal(412, "PreconditionFailed", "At least one of the pre-conditions did not hold.")
