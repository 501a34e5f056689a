"""The emulator of Google Cloud Storage refuses what Google refuses. What it lets through is what the contract suite
proves."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from awscrt import checksums as crt

from gateway.origins import s3_xml
from gateway.s3.signer import GOOGLE, UNSIGNED, Credentials, Scheme, sign
from tests import stores

BUCKET = "front"
BODY = b"the body" * 100
MD5 = base64.b64encode(hashlib.md5(BODY).digest()).decode()
CRC32C = base64.b64encode(crt.crc32c(BODY).to_bytes(4, "big")).decode()
AMAZON_NAMES = GOOGLE._replace(date="x-amz-date", payload_hash="x-amz-content-sha256")


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return s3_xml.fields(s3_xml.parse(self.body)).get("Code", "") if self.body else ""


@dataclass
class Front:
    server: stores.Gcs
    key: str

    def ask(
        self,
        method: str,
        path: str = "",
        query: str = "",
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        *,
        payload_hash: str = UNSIGNED,
        scheme: Scheme = GOOGLE,
        secret: str | None = None,
        age_s: float = 0,
        unsigned: dict[str, str] | None = None,
        length: int | None = None,
    ) -> Reply:
        """One request, signed with the server's HMAC key unless `unsigned` holds an authorization; an empty one is
        none."""
        target = path or f"/{BUCKET}/{self.key}"
        host = f"127.0.0.1:{self.server.port}"
        sent = dict(headers or {})
        if "authorization" not in (unsigned or {}):
            keys = Credentials(self.server.access_key, secret or self.server.secret_key)
            now = time.time() - age_s
            sent = sign(method, host, target, query, sent, payload_hash, keys, "auto", now, scheme)
        sent |= unsigned or {}
        connection = http.client.HTTPConnection(host, timeout=20)
        try:
            connection.putrequest(
                method, f"{target}?{query}" if query else target, skip_accept_encoding=True, skip_host=True
            )
            for name, value in {"host": host, **sent, "content-length": str(length or len(body))}.items():
                if value:
                    connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def put(self, body: bytes = BODY, **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        reply = self.ask("PUT", headers=named, body=body)
        assert reply.status == 200, reply
        return reply

    def stored(self) -> bytes | None:
        reply = self.ask("GET", headers={}, unsigned={"accept-encoding": "gzip"})
        return reply.body if reply.status == 200 else None


@pytest.fixture
def front(gcs: stores.Gcs, key: str) -> Front:
    gcs.make_buckets(BUCKET)
    return Front(gcs, key)


def test_what_is_right_is_taken(front: Front) -> None:
    reply = front.put(content_md5=MD5, x_goog_hash=f"crc32c={CRC32C}")
    assert reply.headers["x-goog-hash"] == f"crc32c={CRC32C},md5={MD5}"
    assert front.stored() == BODY
    whole = hashlib.sha256(BODY).hexdigest()
    assert front.ask("PUT", body=BODY, payload_hash=whole).status == 200
    bearer = {"authorization": f"Bearer {front.server.token}"}
    assert front.ask("GET", unsigned=bearer).body == BODY


@pytest.mark.parametrize(
    ("status", "code", "asked"),
    [
        (403, "SignatureDoesNotMatch", {"secret": "another"}),
        (403, "RequestTimeTooSkewed", {"age_s": 16 * 60}),
        (403, "AccessDenied", {"unsigned": {"authorization": ""}}),
        (401, "AuthenticationRequired", {"unsigned": {"authorization": "Bearer ya29.another"}}),
        (400, "InvalidSecurity", {"unsigned": {"authorization": "AWS4-HMAC-SHA256 Credential=x"}}),
        (403, "SignatureDoesNotMatch", {"headers": {"accept-encoding": "gzip"}}),
        (403, "SignatureDoesNotMatch", {"unsigned": {"x-goog-meta-late": "1"}}),
        (400, "ExcessHeaderValues", {"headers": {"x-amz-meta-a": "1"}}),
        (400, "ExcessHeaderValues", {"scheme": AMAZON_NAMES}),
        (400, "InvalidArgument", {"payload_hash": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}),
        (400, "InvalidArgument", {"headers": {"content-encoding": "aws-chunked"}}),
        (400, "InvalidArgument", {"headers": {"x-amz-checksum-crc32": "AAAAAA=="}}),
        (400, "InvalidArgument", {"headers": {"x-amz-trailer": "x-amz-checksum-crc32"}}),
        (400, "InvalidArgument", {"headers": {"if-none-match": "*"}}),
        (400, "InvalidArgument", {"headers": {"if-match": '"x"'}}),
        (400, "InvalidDigest", {"headers": {"content-md5": "bm9uZQ=="}}),
        (400, "InvalidArgument", {"headers": {"x-goog-hash": "sha1=AAAA"}}),
        (400, "BadDigest", {"headers": {"content-md5": base64.b64encode(b"m" * 16).decode()}}),
        (400, "BadDigest", {"headers": {"x-goog-hash": "crc32c=AAAAAA=="}}),
        (400, "BadDigest", {"payload_hash": hashlib.sha256(b"other").hexdigest()}),
        (412, "PreconditionFailed", {"headers": {"x-goog-if-generation-match": "0"}}),
        (412, "PreconditionFailed", {"headers": {"x-goog-if-generation-match": "17"}}),
        (501, "NotImplemented", {"query": "tagging="}),
        (501, "NotImplemented", {"query": "acl="}),
    ],
)
def test_a_write_that_google_refuses_leaves_what_was_there(
    front: Front, status: int, code: str, asked: dict[str, Any]
) -> None:
    front.put(b"before")
    reply = front.ask("PUT", body=BODY, **asked)
    assert (reply.status, reply.code) == (status, code)
    assert front.stored() == b"before"


def test_a_signed_accept_encoding_is_refused_on_reads_too(front: Front) -> None:
    front.put()
    assert front.ask("GET", unsigned={"accept-encoding": "gzip"}).status == 200
    assert front.ask("GET", headers={"accept-encoding": "gzip"}).code == "SignatureDoesNotMatch"


def test_several_objects_in_one_delete_are_not_known(front: Front) -> None:
    front.put()
    document = f"<Delete><Object><Key>{front.key}</Key></Object></Delete>".encode()
    assert front.ask("POST", f"/{BUCKET}", "delete=", body=document).code == "InvalidArgument"
    assert front.stored() == BODY


def test_deleting_what_is_missing_is_404(front: Front) -> None:
    assert front.ask("DELETE").code == "NoSuchKey"


@pytest.mark.parametrize("name", ["a%0Ab", "a%0Db", ".", "..", ".well-known/acme-challenge/x", "k" * 1025])
def test_names_that_no_object_may_have(front: Front, name: str) -> None:
    assert front.ask("PUT", f"/{BUCKET}/{name}", body=BODY).code == "InvalidObjectName"


def test_parts_are_not_copied_and_uploads_take_no_preconditions(front: Front) -> None:
    front.put()
    none = {"x-goog-if-generation-match": "0"}
    assert front.ask("POST", query="uploads=", headers=none).code == "InvalidArgument"
    upload_id = _begin(front)
    part = f"partNumber=1&uploadId={upload_id}"
    copied = front.ask("PUT", query=part, headers={"x-goog-copy-source": f"/{BUCKET}/{front.key}"})
    assert copied.code == "NotImplemented"
    wrong = front.ask("PUT", query=part, headers={"x-goog-hash": "crc32c=AAAAAA=="}, body=BODY)
    assert wrong.code == "BadDigest"
    etag = front.ask("PUT", query=part, body=BODY).headers["etag"]
    rows = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
    whole = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>"
    end = f"uploadId={upload_id}"
    assert front.ask("POST", query=end, headers=none, body=whole.encode()).code == "InvalidArgument"
    done = front.ask("POST", query=end, body=whole.encode())
    assert (done.status, done.headers["x-goog-hash"]) == (200, f"crc32c={CRC32C}")
    assert front.ask("POST", query=end, body=whole.encode()).code == "NoSuchUpload"


def _begin(front: Front) -> str:
    return s3_xml.fields(s3_xml.parse(front.ask("POST", query="uploads=").body))["UploadId"]


def test_what_is_stored_compressed_is_inflated_for_who_does_not_take_it_so(front: Front) -> None:
    packed = gzip.compress(BODY)
    front.put(packed, content_encoding="gzip")
    plain = front.ask("GET", headers={"range": "bytes=0-9"})
    assert (plain.status, plain.body) == (200, BODY)
    assert "content-encoding" not in plain.headers
    as_stored = front.ask("GET", headers={"range": "bytes=0-9"}, unsigned={"accept-encoding": "gzip"})
    assert (as_stored.status, as_stored.body) == (206, packed[:10])


def test_a_generation_is_matched_and_changes_with_every_write(front: Front) -> None:
    first = front.put(x_goog_if_generation_match="0").headers["x-goog-generation"]
    assert front.ask("HEAD").headers["x-goog-generation"] == first
    second = front.put(x_goog_if_generation_match=first).headers["x-goog-generation"]
    assert int(second) > int(first)
    stale = {"x-goog-if-generation-match": first}
    assert front.ask("DELETE", headers=stale).code == "PreconditionFailed"
    assert front.ask("GET", query=f"generation={first}").status == 404
    assert front.ask("GET", query=f"generation={second}").body == BODY


@pytest.mark.parametrize("size", [10, 300_000])
def test_of_writers_that_match_the_same_generation_one_wins(front: Front, size: int) -> None:
    generation = front.put(b"before").headers["x-goog-generation"]

    def write(number: int) -> Reply:
        headers = {"x-goog-if-generation-match": generation}
        return front.ask("PUT", headers=headers, body=b"%d" % number * size)

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(write, range(8)))
    assert sorted(reply.status for reply in replies) == [200] + [412] * 7
    winner = next(number for number, reply in enumerate(replies) if reply.status == 200)
    assert front.stored() == b"%d" % winner * size


def test_a_body_that_ends_early_leaves_what_was_there(front: Front) -> None:
    front.put(b"before")
    host = f"127.0.0.1:{front.server.port}"
    keys = Credentials(front.server.access_key, front.server.secret_key)
    target = f"/{BUCKET}/{front.key}"
    signed = sign("PUT", host, target, "", {}, UNSIGNED, keys, "auto", time.time(), GOOGLE)
    head = "".join(f"{name}: {value}\r\n" for name, value in {"host": host, **signed}.items())
    with socket.create_connection(("127.0.0.1", front.server.port), 20) as connection:
        connection.sendall(f"PUT {target} HTTP/1.1\r\n{head}content-length: 100\r\n\r\nhalf".encode())
        connection.shutdown(socket.SHUT_WR)
        assert not connection.recv(1000).startswith(b"HTTP/1.1 200")
    assert front.stored() == b"before"
