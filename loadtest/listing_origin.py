"""An S3 server for `listing.py` that knows one call, ListObjectsV2 of one bucket, and answers it from memory: the XML
of every entry is made at the start, so that a page costs it well under a millisecond. It checks no signatures.

    python -m loadtest.listing_origin NAME COUNT    prints {"s3": port}; ends with its stdin"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys
from bisect import bisect_right
from typing import cast
from urllib.parse import parse_qs, quote

from loadtest.serving import serve_until_stdin_closes

PAGE_KEYS = 1000
KEYS_PER_FOLDER = 1000
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def key_of(name: str, number: int) -> str:
    """The keys of a place, in the order of their numbers."""
    return f"train/part-{number // KEYS_PER_FOLDER:04d}/{name} sample {number:07d}.bin"


class Bucket:
    def __init__(self, name: str, count: int) -> None:
        self.keys = [key_of(name, number) for number in range(count)]
        self._entries = [self._entry(key, number).encode() for number, key in enumerate(self.keys)]

    @staticmethod
    def _entry(key: str, number: int) -> str:
        etag = hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
        written = f"2026-01-{number % 28 + 1:02d}T{number % 24:02d}:{number % 60:02d}:{number % 59:02d}.000Z"
        return (
            f"<Contents><Key>{quote(key).replace('%20', '+')}</Key>"
            f"<LastModified>{written}</LastModified>"
            f"<ETag>&quot;{etag}&quot;</ETag><ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm>"
            f"<ChecksumType>FULL_OBJECT</ChecksumType><Size>{100_000 + number}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )

    def page(self, query: dict[str, list[str]]) -> bytes:
        after = query.get("start-after", [""])[0]
        if token := query.get("continuation-token", [""])[0]:
            after = base64.urlsafe_b64decode(token).decode()
        wanted = min(int(query.get("max-keys", ["1000"])[0]), PAGE_KEYS)
        start = bisect_right(self.keys, after)
        entries = self._entries[start : start + wanted]
        more = start + wanted < len(self.keys)
        following = ""
        if more:
            last = base64.urlsafe_b64encode(self.keys[start + wanted - 1].encode()).decode()
            following = f"<NextContinuationToken>{last}</NextContinuationToken>"
        head = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="{NAMESPACE}"><Name>b</Name>'
            f"<Prefix></Prefix>{following}<KeyCount>{len(entries)}</KeyCount><MaxKeys>{wanted}</MaxKeys>"
            f"<EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>"
        )
        return b"".join([head.encode(), *entries, b"</ListBucketResult>"])


class Connection(asyncio.Protocol):
    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        self._heard += data
        while b"\r\n\r\n" in self._heard:
            head, _, self._heard = self._heard.partition(b"\r\n\r\n")
            target = head.split(b" ", 2)[1].decode()
            body = self._bucket.page(parse_qs(target.partition("?")[2], keep_blank_values=True))
            answer = (
                f"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            self._transport.writelines([answer.encode(), body])


def main(name: str, count: int) -> None:
    bucket = Bucket(name, count)
    serve_until_stdin_closes({"s3": (0, lambda: Connection(bucket))})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
