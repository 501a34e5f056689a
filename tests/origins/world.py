"""An origin and its model side by side: every call here asks the origin, says what S3 would answer, and compares.

What an origin cannot do it has to say: `Unsupported`, always for the same keys, and then nothing has changed. Where a
server of the tests does something else than S3, `faithful` (tests/stores.py) lacks the name of it, and the comparison
leaves out just that.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from gateway.errors import GatewayError, Refused
from gateway.model import Conditions, ObjectMeta, Part, PartEntry, Remote, UploadEntry
from gateway.origins.base import Origin
from tests.origins.bodies import TornError, body, read, torn
from tests.origins.s3_model import (
    DONE,
    Model,
    Stored,
    Upload,
    group_of,
    listed,
    md5_tag,
    tag_of_parts,
)

T = TypeVar("T")
PAGES_MAX = 100
STALE = '"0123456789abcdef0123456789abcdef"'


class Outcomes:
    """How often each call was answered how, over all sequences; and which keys the origin can hold."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.holds: dict[str, bool] = {}

    def __str__(self) -> str:
        ops: dict[str, list[str]] = {}
        for (op, name), count in sorted(self.counts.items()):
            ops.setdefault(op, []).append(f"{name} {count}")
        return "\n".join(f"  {op}: {', '.join(names)}" for op, names in ops.items())


class World:
    """`part_min`: bytes that a part but the last must have there."""

    def __init__(
        self,
        origin: Origin,
        bucket: str,
        faithful: frozenset[str],
        outcomes: Outcomes,
        part_min: int = 1,
    ) -> None:
        self.origin, self.bucket, self.faithful, self.outcomes = origin, bucket, faithful, outcomes
        self.part_min = part_min
        self.model = Model()
        self._content: dict[tuple[str, str], bytes] = {}

    def at(self, key: str) -> Remote:
        return Remote(self.bucket, key)

    def does(self, *traits: str) -> bool:
        return self.faithful.issuperset(traits)

    async def _ask(self, op: str, call: Awaitable[T], allowed: Iterable[str]) -> tuple[str, T | None]:
        """How the call ended: `done` with its result, or the name of its error (a Refused's code)."""
        result, why = None, ""
        try:
            result, name = await call, DONE
        except GatewayError as error:
            name, why = (error.code if isinstance(error, Refused) else type(error).__name__), f" ({error})"
        self.outcomes.counts[op, name] += 1
        wanted = sorted(allowed)
        assert name in wanted, f"{op} was answered {name}{why}, not {' or '.join(wanted)}"
        return name, result

    # Keys that an origin cannot hold

    def _refusals(self, key: str) -> set[str]:
        """How a write of this key may be refused besides what S3 says."""
        if self.does("slashes_in_keys", "every_key"):
            return set()
        names = set() if self.outcomes.holds.get(key) else {"Unsupported"}
        if not self.does("slashes_in_keys") and any(
            _one_is_a_directory(key, other) for other in self.model.objects
        ):
            names |= {"InvalidArgument", "InvalidRequest", "KeyIsADirectory", "NotFound", "Unreachable"}
        return names

    def _told(self, key: str, name: str) -> None:
        """Whether a key can be held is the key's, not the day's."""
        if name in (DONE, "Unsupported"):
            assert self.outcomes.holds.setdefault(key, name == DONE) == (name == DONE), f"{key!r}: {name}"

    # Looking

    async def head(self, key: str) -> ObjectMeta | None:
        """Compares what is known of the key; learns an ETag that the model could not foresee."""
        now = self.model.objects.get(key)
        _, meta = await self._ask(
            "head", self.origin.head(self.at(key)), {"NotFound" if now is None else DONE}
        )
        if now is not None and meta is not None:
            self._compare(key, now, meta)
        return meta

    def _compare(self, key: str, now: Stored, meta: ObjectMeta) -> None:
        if now.etag is None:
            now = self.model.objects[key] = replace(now, etag=meta.etag)
        assert (meta.size, meta.etag) == (len(now.data), now.etag), f"{key!r}: {meta}"
        assert self._content.setdefault((key, meta.etag), now.data) == now.data, "an ETag was given twice"
        if self.does("headers"):
            assert now.shows(meta.headers), f"{key!r}: {dict(meta.headers)}, not {dict(now.headers)}"

    async def get(self, key: str, start: int = 0, stop: int | None = None, match: str = "") -> None:
        """`match`: `now` for If-Match with the object's ETag, `stale` with another."""
        now = self.model.objects.get(key)
        if_match = self._tag(key, match)
        call = read(self.origin, self.at(key), start, stop, if_match)
        name, found = await self._ask("get", call, self.model.read(key, start, stop, if_match))
        if name == DONE:
            assert found is not None
            assert now is not None
            self._compare(key, now, found[0])
            assert found[1] == now.data[start:stop], f"{key!r}: other bytes of [{start}, {stop})"

    def _tag(self, key: str, match: str) -> str | None:
        now = self.model.objects.get(key)
        if match == "now":
            return now.etag if now is not None and now.etag is not None else STALE
        return STALE if match == "stale" else None

    # Writing

    async def put(self, key: str, data: bytes, headers: Mapping[str, str], condition: str = "") -> None:
        """`condition`: `now` or `stale` as If-Match, `none` as If-None-Match: *."""
        conditions = self._conditions(key, condition)
        allowed = {self._verdict(key, conditions)} | self._refusals(key)
        call = self.origin.put(self.at(key), body(data, headers), conditions)
        name, result = await self._ask("put", call, allowed)
        if not conditions:
            self._told(key, name)
        if name == DONE:
            assert result is not None
            assert result.etag == md5_tag(data)
            self.model.objects[key] = Stored(data, result.etag, headers)
        await self.head(key)

    def _conditions(self, key: str, condition: str) -> Conditions:
        if condition == "none":
            return Conditions(if_none_match="*")
        return Conditions(self._tag(key, condition))

    def _verdict(self, key: str, conditions: Conditions) -> str:
        if conditions and not self.origin.capabilities.conditional_writes:
            return "Unsupported"
        return self.model.write(key, conditions.if_match, conditions.if_none_match)

    async def put_torn(self, key: str, data: bytes) -> None:
        """A body that fails in its last piece: the object is what it was."""
        try:
            await self._ask(
                "put torn", self.origin.put(self.at(key), torn(data), Conditions()), self._refusals(key)
            )
        except TornError:
            self.outcomes.counts["put torn", "TornError"] += 1
        await self.head(key)

    async def delete(self, key: str) -> None:
        await self._ask("delete", self.origin.delete(self.at(key)), {DONE})
        self.model.objects.pop(key, None)
        await self.head(key)

    async def copy(
        self, source: str, target: str, headers: Mapping[str, str] | None, condition: str = ""
    ) -> None:
        """`headers`: those that replace the source's, or None to keep them. `condition` is about the source: `now`
        or `stale` as If-Match, `none` as If-None-Match with its ETag."""
        if source == target and not self.does("copy_onto_itself"):
            return
        now = self.model.objects.get(source)
        sent = {} if headers is None else {**headers, "x-amz-metadata-directive": "REPLACE"}
        if condition == "none":
            sent["x-amz-copy-source-if-none-match"] = self._tag(source, "now") or STALE
        elif condition:
            sent["x-amz-copy-source-if-match"] = self._tag(source, condition) or STALE
        allowed = self._copy_answers(source, target, headers is None, condition) | self._refusals(target)
        name, result = await self._ask(
            "copy", self.origin.copy(self.at(source), self.at(target), sent), allowed
        )
        if name == DONE:
            assert result is not None
            assert now is not None
            known = now.etag is not None and "-" not in now.etag
            self.model.objects[target] = Stored(
                now.data, now.etag if known else None, self._copied(now) if headers is None else headers
            )
            meta = await self.head(target)
            assert meta is not None
            assert meta.etag == result.etag
        await self.head(target)

    def _copied(self, source: Stored) -> Mapping[str, str]:
        lost = () if self.does("copied_expires") else ("expires",)
        return {name: value for name, value in source.headers.items() if name not in lost}

    def _copy_answers(self, source: str, target: str, keeps: bool, condition: str) -> set[str]:
        if source not in self.model.objects:
            return {"NotFound", "InvalidRequest"} if source == target and keeps else {"NotFound"}
        if source == target and keeps:
            # The front door refuses it before any origin sees it; one that carries it out changes nothing.
            failed = {"ConditionFailed"} if condition in ("stale", "none") else set()
            return {"InvalidRequest", DONE} | failed
        if condition in ("stale", "none"):
            return {"ConditionFailed"} if self.does("copy_conditions") else {"ConditionFailed", DONE}
        return {DONE}

    # Several at once

    async def race(self, key: str, bodies: Sequence[bytes], delete: bool) -> None:
        """Writes of one key that overlap: each is answered, and what is there then is one of them, whole."""
        calls: list[Awaitable[object]] = [
            self.origin.put(self.at(key), body(data), Conditions()) for data in bodies
        ]
        if delete:
            calls.append(self.origin.delete(self.at(key)))
        allowed = {DONE} | self._refusals(key)
        answers = await asyncio.gather(*(self._ask("race", call, allowed) for call in calls))
        ended = [name for name, _ in answers[: len(bodies)]]
        if DONE not in ended:
            if delete:
                self.model.objects.pop(key, None)
            await self.head(key)
            return
        await self._learn(
            key, [data for data, name in zip(bodies, ended, strict=True) if name == DONE], delete
        )

    async def _learn(self, key: str, bodies: Sequence[bytes], gone: bool) -> None:
        name, found = await self._ask(
            "race, then get", read(self.origin, self.at(key), 0, None), {DONE, "NotFound"} if gone else {DONE}
        )
        if name != DONE:
            self.model.objects.pop(key, None)
            return
        assert found is not None
        assert found[1] in bodies, f"{key!r}: what is there is none of the bodies that were put"
        self.model.objects[key] = Stored(found[1], md5_tag(found[1]))
        await self.head(key)

    async def race_to_create(self, key: str, bodies: Sequence[bytes]) -> None:
        """If-None-Match: * of several at once: one wins if there was nothing, else none."""
        if not self.origin.capabilities.conditional_writes:
            return
        free = key not in self.model.objects
        only_new = Conditions(if_none_match="*")
        calls = [self.origin.put(self.at(key), body(data), only_new) for data in bodies]
        refused = {"ConditionFailed", "ConditionalRequestConflict"} | self._refusals(key)
        answers = await asyncio.gather(
            *(self._ask("race to create", call, {DONE} | refused) for call in calls)
        )
        won = [data for data, (name, _) in zip(bodies, answers, strict=True) if name == DONE]
        if any(name == "Unsupported" for name, _ in answers):
            assert not won
        else:
            assert len(won) == free, f"{key!r}: {len(won)} of {len(bodies)} created it, free: {free}"
        if won:
            self.model.objects[key] = Stored(won[0], md5_tag(won[0]))
        await self.get(key)

    # Uploads

    async def create_upload(self, key: str, headers: Mapping[str, str]) -> bool:
        call = self.origin.create_upload(self.at(key), headers)
        name, result = await self._ask("create upload", call, {DONE} | self._refusals(key))
        if name == DONE:
            assert result is not None
            assert all(result[0] != upload.upload_id for upload in self.model.uploads)
            self.model.uploads.append(Upload(key, result[0], headers))
        return name == DONE

    def _upload(self, pick: int) -> Upload | None:
        """None of the finished ones where the store lacks `no_upload`: nobody knows what it does with them."""
        uploads = self.model.uploads
        if not self.does("no_upload"):
            uploads = self.model.open_uploads()
        return uploads[pick % len(uploads)] if uploads else None

    def _takes(self, upload: Upload, number: int) -> bool:
        """Without `replaced_parts` the parts pass through the store as they come, and it has to have all of them."""
        return self.does("replaced_parts") or (number not in upload.parts and number < 10)

    @staticmethod
    def _if_open(upload: Upload, *answers: str) -> set[str]:
        return {"NoSuchUpload"} if upload.ended else set(answers)

    async def put_part(self, pick: int, number: int, data: bytes) -> None:
        if (upload := self._upload(pick)) is None or not self._takes(upload, number):
            return
        call = self.origin.put_part(self.at(upload.key), upload.upload_id, number, body(data))
        name, result = await self._ask("put part", call, self._if_open(upload, DONE))
        if name == DONE:
            assert result is not None
            assert not self.does("multipart_etag") or result.etag == md5_tag(data)
            upload.parts[number], upload.tags[number] = data, result.etag

    async def put_part_torn(self, pick: int, number: int, data: bytes) -> None:
        if (upload := self._upload(pick)) is None or not self._takes(upload, number):
            return
        call = self.origin.put_part(self.at(upload.key), upload.upload_id, number, torn(data))
        try:
            await self._ask("put part torn", call, self._if_open(upload))
        except TornError:
            self.outcomes.counts["put part torn", "TornError"] += 1

    async def copy_part(
        self, pick: int, number: int, source: str, span: tuple[int, int] | None, condition: str = ""
    ) -> None:
        """`span`: first and last byte, as the header has them."""
        if (upload := self._upload(pick)) is None or not self._takes(upload, number):
            return
        now = self.model.objects.get(source)
        if span is not None and not self.does("part_bounds") and now is not None:
            span = (span[0], min(span[1], len(now.data) - 1))
            if span[0] > span[1]:
                return
        headers = {}
        if span is not None:
            headers["x-amz-copy-source-range"] = f"bytes={span[0]}-{span[1]}"
        if condition:
            headers["x-amz-copy-source-if-match"] = self._tag(source, condition) or STALE
        call = self.origin.copy_part(self.at(source), self.at(upload.key), upload.upload_id, number, headers)
        allowed = self._copy_part_answers(upload, now, span, condition)
        name, result = await self._ask("copy part", call, allowed)
        if name == DONE:
            assert result is not None
            assert now is not None
            data = now.data if span is None else now.data[span[0] : span[1] + 1]
            assert not self.does("multipart_etag") or result.etag == md5_tag(data)
            upload.parts[number], upload.tags[number] = data, result.etag

    def _copy_part_answers(
        self, upload: Upload, source: Stored | None, span: tuple[int, int] | None, condition: str
    ) -> set[str]:
        answers: set[str] = set()
        if source is None:
            answers.add("NotFound")
        elif condition == "stale":
            answers |= {"ConditionFailed"} if self.does("copy_conditions") else {"ConditionFailed", DONE}
        if source is not None and span is not None and span[1] >= len(source.data):
            answers |= {"InvalidArgument", "InvalidRange", "RangeNotSatisfiable", "InvalidRequest"}
        if upload.ended:
            answers.add("NoSuchUpload")
        return answers or {DONE}

    async def complete(self, pick: int, how: str, condition: str = "") -> None:
        """`how`: `all` parts, `every other`, in `reverse`, with one `more` than there is, with a `wrong` ETag, with
        `none`. A finished upload is completed again as it was."""
        if (upload := self._upload(pick)) is None:
            return
        if upload.ended == "completed":
            await self._complete_again(upload)
            return
        if condition != "none" and not self.does("complete_if_match"):
            condition = ""
        if not self.does("conditional_completes"):
            condition = ""
        if how == "every other" and not self.does("replaced_parts"):
            how = "all"
        numbers, tags = _chosen(upload, how)
        if not self.does("replaced_parts") and numbers != list(range(1, len(numbers) + 1)):
            return
        usual = how in ("all", "every other") and numbers
        if not usual and not upload.ended and not self.does("complete_errors", "no_parts_at_all"):
            return
        conditions = self._conditions(upload.key, condition)
        allowed = self._complete_answers(upload, numbers, tags, conditions)
        parts = [Part(number, tag) for number, tag in zip(numbers, tags, strict=True)]
        call = self.origin.complete_upload(self.at(upload.key), upload.upload_id, parts, {}, conditions)
        name, result = await self._ask("complete", call, allowed)
        if name == DONE:
            assert result is not None
            upload.ended, upload.chosen, upload.etag = "completed", numbers, result.etag
            bodies = [upload.parts[number] for number in numbers]
            etag = tag_of_parts(bodies) if self.does("multipart_etag") else None
            assert etag in (None, result.etag)
            self.model.objects[upload.key] = Stored(b"".join(bodies), etag, self._upload_headers(upload))
        await self.get(upload.key)

    def _upload_headers(self, upload: Upload) -> Mapping[str, str]:
        return upload.headers if self.does("multipart_headers") else {}

    def _complete_answers(
        self, upload: Upload, numbers: list[int], tags: list[str], conditions: Conditions
    ) -> set[str]:
        if upload.ended:
            return {"NoSuchUpload", self._verdict(upload.key, conditions)} - {DONE}
        wrong = self.model.complete(upload, numbers, tags, self.part_min)
        verdict = self._verdict(upload.key, conditions)
        if verdict != DONE:
            return {verdict} | (wrong - {DONE})
        if wrong == {DONE}:
            return {DONE} | self._refusals(upload.key)
        return wrong

    async def _complete_again(self, upload: Upload) -> None:
        """Answered as the first time, or the upload is unknown by now; nothing changes, whatever came meanwhile."""
        parts = [Part(number, upload.tags[number]) for number in upload.chosen]
        call = self.origin.complete_upload(self.at(upload.key), upload.upload_id, parts, {}, Conditions())
        name, result = await self._ask("complete again", call, {DONE, "NoSuchUpload", "NotFound"})
        if name == DONE and self.does("multipart_etag"):
            assert result is not None
            assert result.etag == upload.etag
        await self.get(upload.key)

    async def abort(self, pick: int) -> None:
        if (upload := self._upload(pick)) is None:
            return
        call = self.origin.abort_upload(self.at(upload.key), upload.upload_id)
        await self._ask("abort", call, self._if_open(upload, DONE))
        upload.ended = upload.ended or "aborted"
        await self.head(upload.key)

    # Listing

    async def list(self, prefix: str, delimiter: str, start_after: str, max_keys: int) -> None:
        if not self.does("pages"):
            start_after, max_keys = "", 1000
        wanted = self.model.listing(prefix, delimiter, start_after)
        found: list[str] = []
        after: str | None = start_after
        for _ in range(PAGES_MAX):
            _, page = await self._ask(
                "list", self.origin.list(self.bucket, prefix, delimiter, after or "", max_keys), {DONE}
            )
            assert page is not None
            assert len(page.entries) + len(page.common_prefixes) <= max_keys
            for entry in page.entries:
                now = self.model.objects.get(entry.key)
                assert now is not None, f"{entry.key!r} is listed"
                assert (entry.size, entry.etag) == (len(now.data), now.etag)
            found += sorted([*(e.key for e in page.entries), *page.common_prefixes], key=str.encode)
            after = page.next_after
            if after is None:
                break
        assert after is None, "the listing has no end"
        without = [item for item in wanted.items if item != wanted.unsure]
        if not self.does(
            "slashes_in_keys"
        ):  # directories that a failed write left there are prefixes without a key
            found = [item for item in found if any(key.startswith(item) for key in self.model.objects)]
        right = found == wanted.items or (found == without and not self.does("start_inside_prefix"))
        assert right, f"under {prefix!r} by {delimiter!r} after {start_after!r}: {found}, not {wanted.items}"

    async def list_versions(self, prefix: str, max_keys: int) -> None:
        """A bucket without versions shows each object as its one version."""
        if not self.does("versions") and self.origin.capabilities.versions:
            return
        found: list[str] = []
        key_marker, id_marker = "", ""
        for _ in range(PAGES_MAX):
            call = self.origin.list_versions(self.bucket, prefix, "", key_marker, id_marker, max_keys)
            name, page = await self._ask("list versions", call, {DONE, "Unsupported"})
            if name != DONE:
                assert not self.origin.capabilities.versions
                return
            assert page is not None
            for entry in page.entries:
                now = self.model.objects.get(entry.key)
                assert now is not None, f"{entry.key!r} is listed"
                assert (entry.size, entry.etag, entry.is_latest) == (len(now.data), now.etag, True)
            found += [entry.key for entry in page.entries]
            if page.next_key_marker is None:
                break
            key_marker, id_marker = page.next_key_marker, page.next_version_id_marker or ""
        assert found == listed(self.model.objects, prefix, "", "").items

    async def list_parts(self, pick: int, max_parts: int) -> None:
        if (upload := self._upload(pick)) is None:
            return
        if not self.does("list_parts", "replaced_parts"):
            return
        found: list[PartEntry] = []
        after = 0
        for _ in range(PAGES_MAX):
            call = self.origin.list_parts(self.at(upload.key), upload.upload_id, after, max_parts)
            name, page = await self._ask("list parts", call, self._if_open(upload, DONE))
            if name != DONE:
                return
            assert page is not None
            assert len(page.entries) <= max_parts
            found += page.entries
            if page.next_number is None:
                break
            after = page.next_number
        shown = [(entry.number, entry.etag, entry.size) for entry in found]
        known = [(number, upload.tags[number], len(upload.parts[number])) for number in sorted(upload.parts)]
        assert shown == known, f"parts: {shown}, not {known}"

    async def list_uploads(self, prefix: str, delimiter: str, max_uploads: int) -> None:
        """Keys in order; uploads of one key in any."""
        if not self.does("list_uploads"):
            return
        if not self.does("upload_pages"):  # nor are the names in them right
            prefix, delimiter, max_uploads = "", "", 1000
        entries: list[UploadEntry] = []
        groups: list[str] = []
        key_marker, id_marker = "", ""
        for _ in range(PAGES_MAX):
            call = self.origin.list_uploads(
                self.bucket, prefix, delimiter, key_marker, id_marker, max_uploads
            )
            _, page = await self._ask("list uploads", call, {DONE})
            assert page is not None
            assert len(page.entries) + len(page.common_prefixes) <= max_uploads
            entries += page.entries
            groups += page.common_prefixes
            if page.next_key_marker is None:
                break
            key_marker, id_marker = page.next_key_marker, page.next_upload_id_marker or ""
        keys = [entry.key for entry in entries]
        assert keys == sorted(keys, key=str.encode) or not self.does("upload_pages")
        wanted = [upload for upload in self.model.open_uploads() if upload.key.startswith(prefix)]
        single = [upload for upload in wanted if group_of(upload.key, prefix, delimiter) is None]
        shown = sorted((entry.key, entry.upload_id) for entry in entries)
        known = sorted((upload.key, upload.upload_id) for upload in single)
        if not self.does("upload_pages"):
            shown, known = [("", upload_id) for _, upload_id in shown], [("", name) for _, name in known]
            shown, known = sorted(shown), sorted(known)
        assert shown == known, f"uploads under {prefix!r}: {shown}, not {known}"
        grouped = {group_of(upload.key, prefix, delimiter) for upload in wanted} - {None}
        assert groups == sorted(grouped, key=lambda group: (group or "").encode())

    # All of it

    async def look_at_everything(self) -> None:
        await self.list("", "", "", 1000)
        for key in list(self.model.objects):
            await self.get(key)
        await self.list_uploads("", "", 1000)
        for number in range(len(self.model.uploads)):
            await self.list_parts(number, 1000)

    async def clear(self) -> None:
        """Leaves the bucket as it was found; what this cannot remove is a divergence, too."""
        for key in list(self.model.objects):
            await self.delete(key)
        while self.model.open_uploads():
            for number in range(len(self.model.uploads)):
                await self.abort(number)
        await self.list("", "", "", 1000)
        await self.list_uploads("", "", 1000)


def _one_is_a_directory(key: str, other: str) -> bool:
    return key.startswith(other.rstrip("/") + "/") or other.startswith(key.rstrip("/") + "/")


def _chosen(upload: Upload, how: str) -> tuple[list[int], list[str]]:
    numbers = sorted(upload.parts)
    if how == "every other":
        numbers = numbers[::2]
    elif how == "reverse":
        numbers.reverse()
    elif how == "more":
        numbers = [*numbers, max([*numbers, 0]) + 1]
    elif how == "none":
        numbers = []
    tags = [upload.tags.get(number, STALE) for number in numbers]
    if how == "wrong" and tags:
        tags[-1] = STALE
    return numbers, tags
