"""Random operations against a plain dictionary, over every kind of origin.

A sequence is a bucket, a few keys that are hard to keep apart, and some thirty calls on them; `world.py` compares each
answer with what S3 would have said, and at the end everything that there is. MODEL_SEQUENCES, MODEL_STEPS, MODEL_SEED
(0: a new one) and MODEL_KINDS widen or repeat a run; what fails is shrunk to the fewest calls.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from gateway.config.schema import OriginConfig
from gateway.model import Conditions, ListPage, Remote, WriteResult
from gateway.origins.azure import AzureOrigin
from gateway.origins.base import Origin, PutBody, Unobserved
from gateway.origins.factory import make_origin
from gateway.origins.file import FileOrigin
from gateway.origins.limits import Limits
from gateway.origins.observed import Observed
from tests import stores
from tests.origins.conftest import KINDS
from tests.origins.s3_model import random_bytes
from tests.origins.world import Outcomes, World

T = TypeVar("T")
SEQUENCES = int(os.environ.get("MODEL_SEQUENCES", "10"))
STEPS = int(os.environ.get("MODEL_STEPS", "30"))
# The same in every run of the suite: what a server of others answers once in a thousand sequences is for long runs.
SEED = int(os.environ.get("MODEL_SEED", "1")) or random.SystemRandom().randrange(1, 1 << 32)
# Without rclone: its answers to the same sequence differ from run to run (500, prefixes of empty directories).
CHOSEN = os.environ.get("MODEL_KINDS", ",".join(kind for kind in KINDS if kind != "rclone")).split(",")

# Prefixes of one another, keys that paths or URLs would change, and what sorts otherwise in UTF-16 than in UTF-8.
KEYS = [
    "a", "a/", "a/b", "a//b", "a/b/c", "a/b.", "a.", "A", "a b", "a+b", "./x", "x", "../y", "y", "dir/", "dir/./z",
    "dir", "//", "/lead", "%2F", "a%2Fb", "a%252Fb", "é€", "e\u0301", "\U0001d11e", "\uffee", "k" * 300,
    "k" * 300 + "/b", "Ω" * 511 + "ab", "?q=1&r#f", "<&>\"'", "back\\slash", "a\u00a0b", "~", "t.tar", "t.tar.idx",
]  # fmt: skip
CONTROL_KEYS = ["a\x01b", "tab\tnew\nline"]

HEADERS: list[dict[str, str]] = [
    {},
    {"content-type": "text/plain"},
    {"content-type": "application/x-tar", "cache-control": "no-store", "x-amz-meta-step": "12"},
    {"content-encoding": "gzip", "content-language": "de", "content-disposition": 'inline; filename="a b.txt"'},
    {"x-amz-meta-a-b": 'x y=z; "q", é'.encode().decode("latin-1"), "x-amz-meta-1st": "1", "x-amz-meta-class": "c"},
    {"expires": "Thu, 01 Jan 2032 00:00:00 GMT", "x-amz-meta-long": "v" * 1000},
]  # fmt: skip

headers = st.sampled_from(HEADERS)
sizes = st.sampled_from([0, 1, 7, 1000, 1000, 65_536, 262_145, 400_000])
part_sizes = st.sampled_from([0, 1, 7, 1000, 262_145])
picks = st.integers(0, 5)
numbers = st.sampled_from([1, 2, 3, 4, 10_000])
matches = st.sampled_from(["", "", "now", "stale"])
conditions = st.sampled_from(["", "", "", "now", "stale", "none"])
delimiters = st.sampled_from(["", "/", "/", "//", "b", ".t"])
cuts = st.integers(0, 4)
page_sizes = st.sampled_from([1, 2, 3, 1000])


@dataclass
class Place:
    """Where the sequences of one run happen. A bucket that a sequence left clean serves the next one, too."""

    loop: asyncio.AbstractEventLoop
    origin: Origin
    make_bucket: Callable[[str], object]
    faithful: frozenset[str]
    part_min: int = 1
    outcomes: Outcomes = field(default_factory=Outcomes)
    begun: int = 0
    buckets: Iterator[int] = field(default_factory=itertools.count)
    clean: str = ""

    def keys(self) -> list[str]:
        keys = KEYS + (CONTROL_KEYS if "control_characters" in self.faithful else [])
        if "leading_slashes" not in self.faithful:
            keys = [key for key in keys if not key.startswith("/")]
        if "slashes_in_keys" not in self.faithful:
            # Paths of a file system, whose names are no longer than this; and when rclone ends an upload of a key with
            # control characters, which it writes otherwise, the object that has the key goes with it.
            keys = [key for key in keys if len(key.encode()) < 256 and key not in CONTROL_KEYS]
        return keys

    def world(self) -> World:
        self.begun += 1
        if not self.clean:
            self.clean = f"model-{next(self.buckets)}"
            self.make_bucket(self.clean)
        bucket, self.clean = self.clean, ""
        return World(self.origin, bucket, self.faithful, self.outcomes, self.part_min)


class Machine(RuleBasedStateMachine):
    """Nothing that is drawn depends on what an origin answered, so that a sequence can be repeated and shrunk."""

    place: Place

    def __init__(self) -> None:
        super().__init__()
        self.world = self.place.world()
        self.serial = itertools.count(1)
        self.sound = True

    @initialize(data=st.data())
    def begin(self, data: Any) -> None:
        wanted = st.lists(st.sampled_from(self.place.keys()), min_size=4, max_size=6, unique=True)
        self.keys: list[str] = data.draw(wanted, label="keys")
        objects = st.lists(st.tuples(sizes, headers), max_size=4)
        for number, (size, stored) in enumerate(data.draw(objects, label="objects")):
            self.replace(number, size, stored)

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        self.sound = False
        result = self.place.loop.run_until_complete(call)
        self.sound = True
        return result

    def key(self, pick: int) -> str:
        return self.keys[pick % len(self.keys)]

    def data(self, size: int) -> bytes:
        return random_bytes(next(self.serial), size)

    def teardown(self) -> None:
        """What failed is to be shown, not what came of it."""
        if self.sound:
            self.run(self.world.look_at_everything())
            self.run(self.world.clear())
            self.place.clean = self.world.bucket

    @rule(pick=picks, size=sizes, headers=headers, condition=conditions)
    def put(self, pick: int, size: int, headers: dict[str, str], condition: str) -> None:
        self.run(self.world.put(self.key(pick), self.data(size), headers, condition))

    @rule(pick=picks, size=sizes, headers=headers)
    def replace(self, pick: int, size: int, headers: dict[str, str]) -> None:
        self.run(self.world.put(self.key(pick), self.data(size), headers))

    @rule(pick=picks, size=st.sampled_from([2, 1000, 262_145]))
    def put_torn(self, pick: int, size: int) -> None:
        if self.world.does("torn_bodies"):
            self.run(self.world.put_torn(self.key(pick), self.data(size)))

    @rule(pick=picks, match=matches)
    def get(self, pick: int, match: str) -> None:
        self.run(self.world.get(self.key(pick), match=match))

    @rule(
        pick=picks,
        start=st.sampled_from([0, 0, 1, 6, 999, 1000, 262_144, 399_999]),
        count=st.sampled_from([None, 1, 2, 1000, 400_000]),
        match=matches,
    )
    def get_range(self, pick: int, start: int, count: int | None, match: str) -> None:
        stop = None if count is None else start + count
        self.run(self.world.get(self.key(pick), start, stop, match))

    @rule(pick=picks)
    def delete(self, pick: int) -> None:
        self.run(self.world.delete(self.key(pick)))

    @rule(source=picks, onto=picks, headers=st.none() | headers, condition=conditions)
    def copy(self, source: int, onto: int, headers: dict[str, str] | None, condition: str) -> None:
        if self.world.does("copy"):
            self.run(self.world.copy(self.key(source), self.key(onto), headers, condition))

    @rule(pick=picks, count=st.integers(2, 4), delete=st.booleans())
    def race(self, pick: int, count: int, delete: bool) -> None:
        bodies = [self.data(1000 * number) for number in range(1, count + 1)]
        if self.world.does("overlapping_writes"):
            self.run(self.world.race(self.key(pick), bodies, delete))

    @rule(pick=picks, count=st.integers(2, 4))
    def race_to_create(self, pick: int, count: int) -> None:
        if self.world.does("overlapping_writes"):
            self.run(self.world.race_to_create(self.key(pick), [self.data(100) for _ in range(count)]))

    @rule(pick=picks, headers=headers, count=st.integers(0, 3), again=st.integers(0, 3))
    def create_upload(self, pick: int, headers: dict[str, str], count: int, again: int) -> None:
        """With its first parts, the last one first; one of them sent `again` with other bytes."""
        if not self.run(self.world.create_upload(self.key(pick), headers)):
            return
        for number in (*range(count, 0, -1), *([again] if 0 < again <= count else [])):
            size = self.place.part_min if number < count else 500
            self.run(self.world.put_part(-1, number, self.data(max(size, 500))))

    @rule(pick=picks, number=numbers, size=part_sizes)
    def put_part(self, pick: int, number: int, size: int) -> None:
        self.run(self.world.put_part(pick, number, self.data(size)))

    @rule(pick=picks, number=numbers)
    def put_part_torn(self, pick: int, number: int) -> None:
        if self.world.does("torn_bodies"):
            self.run(self.world.put_part_torn(pick, number, self.data(1000)))

    @rule(
        pick=picks,
        number=numbers,
        source=picks,
        span=st.sampled_from([None, (0, 0), (3, 999), (0, 262_144), (1000, 1001)]),
        condition=matches,
    )
    def copy_part(
        self, pick: int, number: int, source: int, span: tuple[int, int] | None, condition: str
    ) -> None:
        self.run(self.world.copy_part(pick, number, self.key(source), span, condition))

    @rule(
        pick=picks,
        how=st.sampled_from(["all", "all", "all", "every other", "reverse", "more", "wrong", "none"]),
        condition=conditions,
        again=st.booleans(),
    )
    def complete(self, pick: int, how: str, condition: str, again: bool) -> None:
        """`again`: as a client does that has not heard the answer."""
        self.run(self.world.complete(pick, how, condition))
        if again:
            self.run(self.world.complete(pick, "all"))

    @rule(pick=picks)
    def abort(self, pick: int) -> None:
        self.run(self.world.abort(pick))

    @rule(
        pick=picks, cut=cuts, delimiter=delimiters, after=st.none() | picks, after_cut=cuts, size=page_sizes
    )
    def list(self, pick: int, cut: int, delimiter: str, after: int | None, after_cut: int, size: int) -> None:
        """Prefix and start are the beginnings of keys, or whole ones."""
        start = "" if after is None else self._cut(after, after_cut)
        self.run(self.world.list(self._cut(pick, cut), delimiter, start, size))

    def _cut(self, pick: int, cut: int) -> str:
        key = self.key(pick)
        return key if cut == 4 else key[:cut]

    @rule(pick=picks, cut=cuts, size=page_sizes)
    def list_versions(self, pick: int, cut: int, size: int) -> None:
        self.run(self.world.list_versions(self._cut(pick, cut), size))

    @rule(pick=picks, size=page_sizes)
    def list_parts(self, pick: int, size: int) -> None:
        self.run(self.world.list_parts(pick, size))

    @rule(pick=picks, cut=cuts, delimiter=st.sampled_from(["", "/"]), size=page_sizes)
    def list_uploads(self, pick: int, cut: int, delimiter: str, size: int) -> None:
        self.run(self.world.list_uploads(self._cut(pick, cut), delimiter, size))


def run_sequences(place: Place, count: int, with_seed: int = SEED, *, shrink: bool = True) -> None:
    machine = type("Sequence", (Machine,), {"place": place})
    wanted = settings(
        max_examples=count,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,  # the seed alone says what runs
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )
    run_state_machine_as_test(seed(with_seed)(machine), settings=wanted)


@pytest.fixture(params=CHOSEN)
def place(
    request: pytest.FixtureRequest, loop: asyncio.AbstractEventLoop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    kind: str = request.param
    if kind == "file":
        made = directory_place(loop, tmp_path_factory.mktemp("model"))
    else:
        server = _server(request, kind)
        origin = in_loop(loop, OriginConfig(**server.as_origin("lake"), deadline=5))
        made = Place(loop, origin, server.make_buckets, server.faithful, server.part_bytes_min)
        if isinstance(origin, AzureOrigin):
            origin._part_bytes_min = made.part_min = 1
    yield made
    loop.run_until_complete(made.origin.close())


def _server(request: pytest.FixtureRequest, kind: str) -> stores.S3Server | stores.Azurite:
    return request.getfixturevalue("gcs_of_small_parts" if kind == "gcs" else kind)


@pytest.fixture(scope="module")
def gcs_of_small_parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.S3Server]:
    server = stores.Gcs(tmp_path_factory.mktemp("gcs-of-small-parts"), part_bytes_min=1)
    yield server
    server.stop()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def in_loop(loop: asyncio.AbstractEventLoop, config: OriginConfig) -> Origin:
    async def make() -> Origin:
        return make_origin(config)

    return loop.run_until_complete(make())


def directory_place(loop: asyncio.AbstractEventLoop, root: Path) -> Place:
    """A part of an upload may be small here, which the gateway's own directories do not allow."""
    origin = FileOrigin("lake", str(root), part_bytes_min=1)
    limits = Limits("lake", 64, 30.0, None, 1)
    return Place(
        loop, Observed(origin, Unobserved(), limits), lambda name: (root / name).mkdir(), stores.DIRECTORY
    )


@pytest.mark.timeout(0 if SEQUENCES > 20 else 120)
def test_an_origin_agrees_with_a_dictionary(place: Place) -> None:
    print(f"MODEL_SEED={SEED}")
    run_sequences(place, SEQUENCES)
    assert place.begun >= SEQUENCES
    calls = sum(place.outcomes.counts.values())
    print(f"{place.begun} sequences, {calls} calls, 0 divergences\n{place.outcomes}")


class Broken:
    """An origin with one mistake."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin

    def __getattr__(self, name: str) -> Any:
        return getattr(self.origin, name)


class ForgetsTheLastKey(Broken):
    async def list(self, *asked: Any) -> ListPage:
        page = await self.origin.list(*asked)
        return replace(page, entries=page.entries[:-1]) if len(page.entries) == 3 else page


class TakesAnyCondition(Broken):
    async def put(self, remote: Remote, body: PutBody, conditions: Conditions) -> WriteResult:
        return await self.origin.put(remote, body, replace(conditions, if_none_match=None))


class TakesOneKeyForAnother(Broken):
    async def delete(self, remote: Remote, **more: Any) -> Any:
        return await self.origin.delete(remote._replace(key=remote.key.rstrip("/")), **more)


class LosesMetadataOfCopies(Broken):
    async def copy(self, source: Remote, target: Remote, headers: Any, **more: Any) -> WriteResult:
        asked = headers if "x-amz-metadata-directive" in headers else {"x-amz-metadata-directive": "REPLACE"}
        return await self.origin.copy(source, target, asked, **more)


class ReadsPastAStaleTag(Broken):
    def get(self, remote: Remote, start: int, stop: int | None, *, if_match: str | None = None) -> Any:
        return self.origin.get(remote, start, stop)


class KeepsAbortedUploads(Broken):
    async def abort_upload(self, remote: Remote, upload_id: str) -> None:
        await self.origin.list_parts(remote, upload_id)


class CompletesTwice(Broken):
    """A repeated complete puts its own result, here nothing, over what came meanwhile."""

    def __init__(self, origin: Origin) -> None:
        super().__init__(origin)
        self.completed: set[str] = set()

    async def complete_upload(self, remote: Remote, upload_id: str, *more: Any) -> WriteResult:
        result = await self.origin.complete_upload(remote, upload_id, *more)
        if upload_id in self.completed:
            await self.origin.delete(remote)
        self.completed.add(upload_id)
        return result


@pytest.mark.parametrize("mistake", Broken.__subclasses__())
def test_a_mistake_is_found(
    mistake: type[Broken], loop: asyncio.AbstractEventLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda fd: None)  # nothing here is meant to last
    place = directory_place(loop, tmp_path)
    sound = place.origin
    place.origin = mistake(sound)  # type: ignore[assignment]
    try:
        with pytest.raises(AssertionError):
            run_sequences(place, 200, 7, shrink=False)
    finally:
        loop.run_until_complete(sound.close())
