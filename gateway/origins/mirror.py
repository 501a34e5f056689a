"""A mount with further places: one Origin over several, for moving data from one cloud to another while jobs run.

The first place is the mount's own, the others are read for what it does not have yet. Addresses that come in are those
of the mount's own place.

    head, get           the first place that has the object. Only "no such key" leads on to the next place; a place that
                        does not answer, or denies, is an error: another place may hold what this one has replaced
    get with If-Match   a place whose object has that ETag, wherever: a read that began goes on with the same bytes
                        while the object is copied or overwritten, and never mixes two
    writes, uploads     the mount's own place alone
    conditions          judged by what a reader sees: an object in a further place exists
    delete              in every place, the mount's own last, since the object would be seen again. Where a further
                        place denies it and has the object, the delete fails and the object stays
    list                the pages merged by key, the first place that has a key tells its size and ETag
    copies              Unsupported: who wants one asks the places themselves, which may not be at one origin
    versions            none are shown, as in a bucket that never had them
    buckets' settings   Unsupported: they would be true of a part

An object that is moved (copied to an earlier place, then deleted) is always found: before a key is said to be missing,
the places are asked again in the opposite order; and listings ask the last place first. So with n further places 404
costs 2n + 1 questions, and pages of a listing are not fetched in parallel.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from gateway.errors import Changed, ConditionFailed, NotFound, OriginDenied, Unsupported
from gateway.model import (
    BucketEntry,
    Conditions,
    ListPage,
    ObjectMeta,
    Part,
    PartPage,
    Remote,
    UploadPage,
    VersionPage,
    WriteResult,
)
from gateway.origins.base import ForwardRequest, ForwardResponse, Origin, PutBody, Reading, refuse_dates
from gateway.origins.list_merge import merge
from gateway.s3.conditions import check

# Which place has which ETag, so that the many ranges of one object do not each ask the wrong place first: some
# 300 bytes each.
REMEMBERED_MAX: Final = 4096
# They name what only one place knows.
_VERSION_HEADERS: Final = ("x-amz-version-id", "x-amz-delete-marker")
_COPIES: Final = "Copies are made from the place that `find` names to the one that `home` does."


@dataclass(frozen=True, slots=True)
class Place:
    """`prefix` is empty or ends with `/`."""

    origin: Origin
    bucket: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"{self.origin.name}:{self.bucket}/{self.prefix}".rstrip("/")


class Mirror:
    """`places`: the mount's own first. Closing it closes none of them."""

    def __init__(self, name: str, places: Sequence[Place]) -> None:
        self.name = name
        self.own, *self.further = places
        self.places = tuple(places)
        has = self.own.origin.capabilities
        self.capabilities = replace(
            has,
            forward=False,
            forwards_only=frozenset(),
            versions=False,
            batch_delete=False,
            conditional_deletes=False,
        )
        self._seen: OrderedDict[tuple[str, str], Place] = OrderedDict()

    def _at(self, place: Place, remote: Remote) -> Remote:
        return Remote(place.bucket, place.prefix + remote.key[len(self.own.prefix) :])

    def _search(self) -> Iterator[Place]:
        """The order in which an object is looked for."""
        yield from self.places
        yield from reversed(self.places[:-1])

    # --- where an object is: `base.Mirrored`

    async def find(self, remote: Remote) -> tuple[str, Remote]:
        place, _ = await self._find(remote)
        return place.origin.name, self._at(place, remote)

    def home(self, remote: Remote) -> tuple[str, Remote]:
        return self.own.origin.name, remote

    async def judge(self, remote: Remote, conditions: Conditions) -> Conditions:
        refuse_dates(conditions)
        if not conditions or await _head(self.own, remote) is not None:
            return conditions  # the mount's own place compares and writes in one step
        for place in self.further:
            meta = await _head(place, self._at(place, remote))
            if meta is not None:
                if check(conditions, meta.etag, meta.last_modified) is not None:
                    raise ConditionFailed("At least one of the preconditions does not hold.")
                return Conditions(if_none_match="*")
        if conditions.if_match is not None:
            raise NotFound("The specified key does not exist.")
        return conditions

    def sources(self) -> Sequence[Origin]:
        return [place.origin for place in self.places]

    async def sources_of(self, remote: Remote, etag: str) -> Sequence[Origin]:
        """A worker that does not know which place has the version asks those before it, too."""
        place, meta = await self._find(remote)
        return self.sources()[: self.places.index(place) + 1] if meta.etag == etag else self.sources()

    async def _find(self, remote: Remote) -> tuple[Place, ObjectMeta]:
        for place in self._search():
            meta = await _head(place, self._at(place, remote))
            if meta is not None:
                return place, meta
        raise NotFound("The specified key does not exist.")

    # --- reading

    async def head(self, remote: Remote) -> ObjectMeta:
        place, meta = await self._find(remote)
        return self._met(place, remote, meta)

    def _met(self, place: Place, remote: Remote, meta: ObjectMeta) -> ObjectMeta:
        name = (remote.key, meta.etag)
        self._seen[name] = place
        self._seen.move_to_end(name)
        if len(self._seen) > REMEMBERED_MAX:
            self._seen.popitem(last=False)
        return replace(meta, headers=_without_versions(meta.headers))

    def get(
        self, remote: Remote, start: int, stop: int | None, *, if_match: str | None = None
    ) -> AbstractAsyncContextManager[Reading]:
        return self._get(remote, start, stop, if_match)

    @asynccontextmanager
    async def _get(
        self, remote: Remote, start: int, stop: int | None, if_match: str | None
    ) -> AsyncIterator[Reading]:
        context, reading = await self._open(remote, start, stop, if_match)
        try:
            yield reading
        except BaseException as error:
            await context.__aexit__(type(error), error, error.__traceback__)
            raise
        else:
            await context.__aexit__(None, None, None)

    async def _open(
        self, remote: Remote, start: int, stop: int | None, if_match: str | None
    ) -> tuple[AbstractAsyncContextManager[Reading], Reading]:
        changed: Changed | None = None
        for place in self._search_for(remote, if_match):
            context = place.origin.get(self._at(place, remote), start, stop, if_match=if_match)
            try:
                reading = await context.__aenter__()
            except NotFound:
                continue
            except Changed as error:
                changed = error
                continue
            reading.meta = self._met(place, remote, reading.meta)
            return context, reading
        raise changed or NotFound("The specified key does not exist.")

    def _search_for(self, remote: Remote, if_match: str | None) -> Iterator[Place]:
        known = None if if_match is None else self._seen.get((remote.key, if_match))
        if known is not None:
            yield known
        yield from self._search()

    async def list(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        start_after: str = "",
        max_keys: int = 1000,
    ) -> ListPage:
        pages = []
        for place in reversed(self.places):
            page = await self._list(place, prefix, delimiter, start_after, max_keys)
            pages.append(page if place is self.own else self._as_own(place, page))
        return merge(pages[::-1], max_keys)

    async def _list(
        self, place: Place, prefix: str, delimiter: str, start_after: str, max_keys: int
    ) -> ListPage:
        """Mounts ask for no more than what is under their own prefix."""
        cut = len(self.own.prefix)
        after = start_after and place.prefix + start_after[cut:]
        return await place.origin.list(place.bucket, place.prefix + prefix[cut:], delimiter, after, max_keys)

    def _as_own(self, place: Place, page: ListPage) -> ListPage:
        own, cut = self.own.prefix, len(place.prefix)
        if own == place.prefix:
            return page
        return ListPage(
            tuple([entry._replace(key=own + entry.key[cut:]) for entry in page.entries]),
            tuple([own + prefix[cut:] for prefix in page.common_prefixes]),
            None if page.next_after is None else own + page.next_after[cut:],
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
        raise Unsupported("Versions of a mount with mirrors are not listed: each place has its own.")

    # --- writing

    async def put(self, remote: Remote, body: PutBody, conditions: Conditions) -> WriteResult:
        conditions = await self.judge(remote, conditions)
        return _plain(await self.own.origin.put(remote, body, conditions))

    async def delete(self, remote: Remote, *, version_id: str | None = None) -> Mapping[str, str]:
        if version_id not in (None, "null"):
            raise Unsupported("Versions of a mount with mirrors cannot be deleted: each place has its own.")
        for place in reversed(self.further):
            await self._delete_at(place, remote)
        return _without_versions(await self.own.origin.delete(remote))

    async def _delete_at(self, place: Place, remote: Remote) -> None:
        there = self._at(place, remote)
        try:
            await place.origin.delete(there)
        except (OriginDenied, Unsupported) as error:
            if await _head(place, there) is not None:
                raise OriginDenied(
                    f"The object is also at {place}, which this gateway may not delete from: it would be seen "
                    "again. It was not deleted."
                ) from error

    async def copy(
        self, source: Remote, target: Remote, headers: Mapping[str, str], *, source_version: str | None = None
    ) -> WriteResult:
        raise Unsupported(_COPIES)

    async def create_upload(
        self, remote: Remote, headers: Mapping[str, str]
    ) -> tuple[str, Mapping[str, str]]:
        return await self.own.origin.create_upload(remote, headers)

    async def put_part(self, remote: Remote, upload_id: str, number: int, body: PutBody) -> WriteResult:
        return await self.own.origin.put_part(remote, upload_id, number, body)

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
        raise Unsupported(_COPIES)

    async def complete_upload(
        self,
        remote: Remote,
        upload_id: str,
        parts: Sequence[Part],
        headers: Mapping[str, str],
        conditions: Conditions,
    ) -> WriteResult:
        conditions = await self.judge(remote, conditions)
        own = self.own.origin
        return _plain(await own.complete_upload(remote, upload_id, parts, headers, conditions))

    async def abort_upload(self, remote: Remote, upload_id: str) -> None:
        await self.own.origin.abort_upload(remote, upload_id)

    async def list_parts(
        self, remote: Remote, upload_id: str, after: int = 0, max_parts: int = 1000
    ) -> PartPage:
        return await self.own.origin.list_parts(remote, upload_id, after, max_parts)

    async def list_uploads(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        upload_id_marker: str = "",
        max_uploads: int = 1000,
    ) -> UploadPage:
        markers = (key_marker, upload_id_marker)
        return await self.own.origin.list_uploads(bucket, prefix, delimiter, *markers, max_uploads)

    # --- the rest

    async def head_bucket(self, bucket: str) -> Mapping[str, str]:
        return await self.own.origin.head_bucket(bucket)

    async def buckets(self) -> Sequence[BucketEntry]:
        return await self.own.origin.buckets()

    @asynccontextmanager
    async def forward(self, request: ForwardRequest) -> AsyncIterator[ForwardResponse]:
        raise Unsupported("A mount with mirrors has no settings of its own: each place has its own.")
        yield  # what makes this a generator

    async def close(self) -> None:
        pass


async def _head(place: Place, remote: Remote) -> ObjectMeta | None:
    try:
        return await place.origin.head(remote)
    except NotFound:
        return None


def _without_versions(headers: Mapping[str, str]) -> Mapping[str, str]:
    if not any(name in headers for name in _VERSION_HEADERS):
        return headers
    return {name: value for name, value in headers.items() if name not in _VERSION_HEADERS}


def _plain(result: WriteResult) -> WriteResult:
    return replace(result, headers=_without_versions(result.headers))
