"""Multipart uploads of the `file` origin, blocking.

    .gateway/uploads/<bucket>/<id>/upload.json      key, headers, checksum algorithm; also the upload's lock
    .gateway/uploads/<bucket>/<id>/part-00001.json  the part's ETag, size, checksums and the name of its data
    .gateway/uploads/<bucket>/<id>/<random>         data of a part
    .gateway/uploads/<bucket>/<id>/done.json        after a complete: its result, for a client that asks again

A part is its JSON: replaced atomically, it names its data, so two uploads of one part number never mix.
Complete and abort hold the upload's lock, so the second of two completes finds the first one's result. A
crash between the object's rename and done.json is covered by the object's sidecar, which names the upload it
came from. Ids begin with the time in hexadecimal, so they sort by age. A finished upload's directory stays
for an hour.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from gateway.errors import Refused
from gateway.model import (
    Conditions,
    Part,
    PartEntry,
    PartPage,
    Remote,
    UploadEntry,
    UploadPage,
    WriteResult,
)
from gateway.origins import file_checksums, file_keys, file_meta
from gateway.origins.file_meta import Record
from gateway.origins.file_spool import Spool
from gateway.origins.file_tree import Tree, locked_file
from gateway.origins.file_walk import common_prefix

PART_BYTES_MIN = 5 << 20
_DONE_KEPT_S = 3600.0
_SWEEP_EVERY_S = 600.0
_ID = re.compile(r"[0-9a-f]{48}")


@dataclass(frozen=True, slots=True)
class Upload:
    directory: bytes
    key: str
    headers: Mapping[str, str]
    algorithm: str | None
    kind: str | None


class Uploads:
    def __init__(self, tree: Tree, part_bytes_min: int = PART_BYTES_MIN) -> None:
        self._tree = tree
        self._part_bytes_min = part_bytes_min
        self._swept = 0.0

    def create(self, remote: Remote, headers: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
        self._tree.require_bucket(remote.bucket)
        self._tree.require_writable()
        file_keys.key_bytes(remote.key)
        stored = file_meta.stored_headers(headers)
        algorithm = (headers.get("x-amz-checksum-algorithm") or "").upper() or None
        kind = file_checksums.type_of(algorithm, headers.get("x-amz-checksum-type")) if algorithm else None
        self._sweep(remote.bucket)
        upload_id = f"{time.time_ns():016x}{secrets.token_hex(16)}"
        directory = self._home(remote.bucket) + b"/" + upload_id.encode()
        os.makedirs(directory)
        upload = {"key": remote.key, "headers": stored, "algorithm": algorithm, "kind": kind}
        self._tree.write_durably(directory + b"/upload.json", json.dumps(upload).encode())
        answer = {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": kind}
        return upload_id, {name: value for name, value in answer.items() if value}

    def open(self, remote: Remote, upload_id: str) -> Upload:
        """Raises Refused(NoSuchUpload): unknown, of another key, aborted or completed."""
        directory = self._directory(remote, upload_id)
        try:
            raw = _read_json(directory + b"/upload.json")
        except FileNotFoundError:
            raise _no_such_upload() from None
        if raw["key"] != remote.key or os.path.exists(directory + b"/done.json"):
            raise _no_such_upload()
        return Upload(directory, raw["key"], raw["headers"], raw["algorithm"], raw["kind"])

    def _home(self, bucket: str) -> bytes:
        return self._tree.own + b"/uploads/" + file_keys.key_bytes(bucket)

    def _directory(self, remote: Remote, upload_id: str) -> bytes:
        self._tree.require_bucket(remote.bucket)
        if not _ID.fullmatch(upload_id):
            raise _no_such_upload()
        return self._home(remote.bucket) + b"/" + upload_id.encode()

    def add_part(self, upload: Upload, number: int, spool: Spool, checksums: Mapping[str, str]) -> None:
        os.fsync(spool.fd)
        stem = upload.directory + b"/part-%05d.json" % number
        data = secrets.token_hex(8)
        part = {"etag": spool.etag, "size": spool.size, "checksums": dict(checksums), "data": data}
        try:
            before = _read_json(stem)["data"] if os.path.exists(stem) else None
            os.rename(spool.path, upload.directory + b"/" + data.encode())
            self._tree.write_durably(stem, json.dumps({**part, "at": time.time()}).encode())
        except FileNotFoundError:
            raise _no_such_upload() from None
        if before is not None:
            with suppress(FileNotFoundError):
                os.unlink(upload.directory + b"/" + before.encode())

    # Complete and abort

    def complete(
        self,
        remote: Remote,
        upload_id: str,
        parts: Sequence[Part],
        headers: Mapping[str, str],
        conditions: Conditions,
        spool: Spool,
    ) -> WriteResult:
        directory = self._directory(remote, upload_id)
        with self._locked(directory):
            finished = self._finished(remote, directory, upload_id)
            if finished is not None:
                return finished
            upload = self.open(remote, upload_id)
            chosen = self._choose(upload, parts)
            record = _record(upload, upload_id, chosen, headers)
            self._tree.check(remote, conditions)
            spool.open()
            for part in chosen:
                _append(spool, upload, part)
            if spool.cancelled:
                raise Refused(503, "RequestTimeout", "The request was given up.")
            self._tree.publish(remote, spool.fd, spool.path, record, conditions)
            return self._finish(directory, record)

    def _finish(self, directory: bytes, record: Record) -> WriteResult:
        result = {"etag": record.etag, "headers": dict(record.checksums)}
        self._tree.write_durably(directory + b"/done.json", json.dumps(result).encode())
        _drop_parts(directory)
        return WriteResult(record.etag, record.checksums)

    @contextmanager
    def _locked(self, directory: bytes) -> Iterator[None]:
        """The upload's lock file is its upload.json; an abort renames the directory, so look again inside."""
        if not os.path.exists(directory + b"/upload.json"):
            raise _no_such_upload()
        with locked_file(directory + b"/upload.json"):
            if not os.path.exists(directory + b"/upload.json"):
                raise _no_such_upload()
            yield

    def _finished(self, remote: Remote, directory: bytes, upload_id: str) -> WriteResult | None:
        if _read_json(directory + b"/upload.json")["key"] != remote.key:
            raise _no_such_upload()
        if os.path.exists(directory + b"/done.json"):
            done = _read_json(directory + b"/done.json")
            return WriteResult(done["etag"], done["headers"])
        now = self._tree.current(remote)
        if now is None or now[1] is None or now[1].upload != upload_id:
            return None
        return self._finish(directory, now[1])

    def _choose(self, upload: Upload, parts: Sequence[Part]) -> list[dict[str, Any]]:
        numbers = [part.number for part in parts]
        if not parts:
            raise Refused(400, "MalformedXML", "A completed upload needs at least one part.")
        if any(later <= earlier for earlier, later in pairwise(numbers)):
            raise Refused(400, "InvalidPartOrder", "The parts are not in ascending order.")
        chosen = [self._part(upload, part) for part in parts]
        if any(part["size"] < self._part_bytes_min for part in chosen[:-1]):
            raise Refused(400, "EntityTooSmall", "A part that is not the last is smaller than the minimum.")
        return chosen

    def _part(self, upload: Upload, named: Part) -> dict[str, Any]:
        try:
            part: dict[str, Any] = _read_json(upload.directory + b"/part-%05d.json" % named.number)
        except FileNotFoundError:
            raise _invalid_part(named.number) from None
        same = named.etag.strip('"') == part["etag"].strip('"')
        if not same or any(
            part["checksums"].get(name, value) != value for name, value in named.checksums.items()
        ):
            raise _invalid_part(named.number)
        return part

    def abort(self, remote: Remote, upload_id: str) -> None:
        """Raises Refused(NoSuchUpload)."""
        directory = self._directory(remote, upload_id)
        with self._locked(directory):
            self.open(remote, upload_id)
            trash = self._tree.own + b"/tmp/aborted-" + upload_id.encode()
            os.rename(directory, trash)
        shutil.rmtree(trash, ignore_errors=True)

    def _sweep(self, bucket: str) -> None:
        """Removes uploads finished long ago; now and then, when a new one begins."""
        now = time.time()
        if now - self._swept < _SWEEP_EVERY_S:
            return
        self._swept = now
        for directory in self._all(bucket):
            with suppress(FileNotFoundError):
                if now - os.stat(directory + b"/done.json").st_mtime > _DONE_KEPT_S:
                    shutil.rmtree(directory, ignore_errors=True)

    # Listing

    def _all(self, bucket: str) -> list[bytes]:
        home = self._home(bucket)
        try:
            return [home + b"/" + name for name in os.listdir(home) if _ID.fullmatch(os.fsdecode(name))]
        except FileNotFoundError:
            return []

    def parts(self, remote: Remote, upload_id: str, after: int, count_max: int) -> PartPage:
        upload = self.open(remote, upload_id)
        names = (re.fullmatch(rb"part-(\d{5})\.json", name) for name in os.listdir(upload.directory))
        numbers = sorted(int(name[1]) for name in names if name and int(name[1]) > after)
        entries = []
        for number in numbers[:count_max]:
            raw = _read_json(upload.directory + b"/part-%05d.json" % number)
            entries.append(PartEntry(number, raw["etag"], raw["size"], raw["at"], raw["checksums"]))
        following = numbers[count_max - 1] if count_max and len(numbers) > count_max else None
        return PartPage(
            tuple(entries), following, checksum_algorithm=upload.algorithm, checksum_type=upload.kind
        )

    def page(
        self, bucket: str, prefix: str, delimiter: str, key_marker: str, id_marker: str, count_max: int
    ) -> UploadPage:
        self._tree.require_bucket(bucket)
        entries: list[UploadEntry] = []
        groups: list[str] = []
        for upload in self._open_uploads(bucket):
            if not upload.key.startswith(prefix) or not _behind(upload, key_marker, id_marker):
                continue
            group = common_prefix(upload.key.encode(), prefix.encode(), delimiter.encode())
            if group is not None and (groups[-1:] == [group.decode()] or group.decode() <= key_marker):
                continue
            if len(entries) + len(groups) >= count_max:
                return UploadPage(tuple(entries), tuple(groups), *_markers(entries, groups))
            if group is not None:
                groups.append(group.decode())
            else:
                entries.append(upload)
        return UploadPage(tuple(entries), tuple(groups))

    def _open_uploads(self, bucket: str) -> list[UploadEntry]:
        found = []
        for directory in self._all(bucket):
            with suppress(FileNotFoundError, ValueError):
                if not os.path.exists(directory + b"/done.json"):
                    upload_id = os.path.basename(directory).decode()
                    key = _read_json(directory + b"/upload.json")["key"]
                    found.append(UploadEntry(key, upload_id, int(upload_id[:16], 16) / 1e9))
        return sorted(found, key=lambda upload: (upload.key, upload.upload_id))


def _behind(upload: UploadEntry, key_marker: str, id_marker: str) -> bool:
    if not id_marker:
        return upload.key > key_marker
    return (upload.key, upload.upload_id) > (key_marker, id_marker)


def _markers(entries: list[UploadEntry], groups: list[str]) -> tuple[str | None, str | None]:
    if groups and (not entries or groups[-1] > entries[-1].key):
        return groups[-1], None
    return (entries[-1].key, entries[-1].upload_id) if entries else (None, None)


def _append(spool: Spool, upload: Upload, part: dict[str, Any]) -> None:
    try:
        source = os.open(upload.directory + b"/" + part["data"].encode(), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Refused(400, "InvalidPart", "A part was uploaded again meanwhile.") from None
    try:
        spool.append(source, 0, part["size"], hashed=False)
    finally:
        os.close(source)


def _record(
    upload: Upload, upload_id: str, parts: list[dict[str, Any]], headers: Mapping[str, str]
) -> Record:
    sizes = tuple(part["size"] for part in parts)
    declared_size = headers.get("x-amz-mp-object-size", "")
    if declared_size and declared_size != str(sum(sizes)):
        raise Refused(400, "InvalidRequest", f"The parts have {sum(sizes)} bytes, not {declared_size}.")
    joined = b"".join(binascii.unhexlify(part["etag"].strip('"')) for part in parts)
    etag = f'"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(parts)}"'
    checksums = _object_checksums(upload, parts, file_meta.declared_checksums(headers))
    return Record(upload.key, etag, upload.headers, checksums, sizes, upload_id)


def _object_checksums(
    upload: Upload, parts: list[dict[str, Any]], declared: Mapping[str, str]
) -> dict[str, str]:
    if upload.algorithm is None or upload.kind is None:
        return {}
    name = file_checksums.HEADER + upload.algorithm.lower()
    value = file_checksums.of_parts(
        upload.algorithm, upload.kind, [(part["checksums"].get(name), part["size"]) for part in parts]
    )
    if value is None:
        return {}
    if declared.get(name, value) not in (value, value.partition("-")[0]):
        raise Refused(
            400, "BadDigest", f"The parts make the {upload.algorithm} {value}, not {declared[name]}."
        )
    return {name: value, "x-amz-checksum-type": upload.kind}


def _drop_parts(directory: bytes) -> None:
    for name in os.listdir(directory):
        if name not in (b"upload.json", b"done.json"):
            with suppress(FileNotFoundError):
                os.unlink(directory + b"/" + name)


def _read_json(path: bytes) -> Any:
    with open(path, "rb") as file:
        return json.load(file)


def _no_such_upload() -> Refused:
    return Refused(
        404, "NoSuchUpload", "The upload does not exist: it was completed, aborted or never begun."
    )


def _invalid_part(number: int) -> Refused:
    return Refused(400, "InvalidPart", f"Part {number} was not uploaded with this ETag.")
