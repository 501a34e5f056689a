"""The store against a plain dictionary: random reads, fills, writes, evictions, rules, faults, deaths and restarts.

The dictionary is the origin. What a read may see: a version that the origin had at or after the last `forget` of
its key; where the entry says that it has to be validated, only what the origin has now. Whatever happens, no byte
of another key, version or block, never more than the capacity, and a stop that is clean (or a mere kill) loses
nothing that was committed.

CACHE_MACHINE_EXAMPLES, _STEPS and _SEED widen or repeat a run.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import shutil
import tempfile
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import lmdb
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from structlog.testing import capture_logs

from gateway.cache.startup import Prepared, prepare
from gateway.cache.store import ABSENT, Entry, Store
from gateway.errors import StoreFull, Superseded
from gateway.namespace.keeping import NO_RULES, PIN, Keeping
from gateway.namespace.mounts import Mount, Mounts
from gateway.namespace.rules import Rule, Rules

from .audit import audit, blocks_of, die, entries_of, settle
from .harness import open_store
from .origin_model import BLOCK, Answer, Disk, Known, Object, damage_segment, flip, front_of, record_of

T = TypeVar("T")
SHAPE: dict[str, Any] = {"capacity": 4 << 20, "segment_size": 256 << 20, "block_size": BLOCK, "workers": 1}
KEYS = [b"o\0b/one", b"o\0b/one/two", b"p\0b/one", b"o\0b/" + b"l" * 900, b"o\0b/" + b"l" * 899 + b"m"]
SIZES = [1, 100, BLOCK, BLOCK + 1, 3 * BLOCK, 4 * BLOCK - 7]
MOUNTS = Mounts([Mount.parse("b", "o", "b"), Mount.parse("c", "p", "b"), Mount.parse("d/e", "o", "b/one")])
KEEPINGS = [
    NO_RULES,
    Keeping(MOUNTS, Rules([Rule("b/**", pin=True), Rule("c/**", quota=2 * BLOCK)])),
    Keeping(MOUNTS, Rules([Rule("d/**", quota=3 * BLOCK), Rule("**", quota=5 * BLOCK, pin=True)])),
    Keeping(MOUNTS, Rules([Rule("b/l*", pin=True, ttl_s=100.0), Rule("b/one/**", quota=BLOCK)])),
]
keys = st.sampled_from(KEYS)
blocks = st.integers(0, 3)
# Which of so many. No choice depends on what there is, which threads may make differ: hypothesis insists that what
# was drawn decides what is drawn next. Hence no preconditions either.
picks = st.integers(0, 1 << 16)
EXAMPLES = int(os.environ.get("CACHE_MACHINE_EXAMPLES", "30"))
STEPS = int(os.environ.get("CACHE_MACHINE_STEPS", "40"))
SEED = int(os.environ.get("CACHE_MACHINE_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = Path(tempfile.mkdtemp(prefix="store-machine-"))
        self.disk = Disk()
        self.boot = "boot-1"
        self.patches: list[Any] = [
            mock.patch("os.pwritev", self.disk.pwritev),
            mock.patch("gateway.cache.startup.boot_id", self._boot_id),
            # Blocks are small here; some of them lie as large ones do.
            mock.patch("gateway.cache.record.LARGE_BYTES", BLOCK),
            mock.patch("gateway.cache.record.PAYLOAD_ALIGN", BLOCK // 2),
        ]
        for patch in self.patches:
            patch.start()
        self.serial = itertools.count(1)
        self.origin = {key: Known() for key in KEYS}
        self.keeping = NO_RULES
        self._forget_process()

    def _boot_id(self) -> str:
        return self.boot

    def _forget_process(self) -> None:
        self.answers: list[Answer] = []
        self.entries: list[tuple[Entry, Object]] = []

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coro)

    @initialize()
    def begin(self) -> None:
        self._open()

    def _open(self) -> None:
        self.prepared: Prepared = prepare(self.directory, **SHAPE, workers_wait_s=0.2)
        self.store: Store = open_store(self.directory, **SHAPE)
        self.store.apply(self.keeping)

    def _go_on(self) -> None:
        async def go() -> None:
            self.store.start()
            if self.prepared.rebuild:
                await self.store.rebuild()

        self.run(go())

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.run(self.store.close())
            self.prepared.close()
        self._forget_process()
        for patch in self.patches:
            patch.stop()
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.directory)

    # --- the origin, and what it answers

    @rule(key=keys, size=st.sampled_from(SIZES), gone=st.booleans(), through=st.booleans())
    def write(self, key: bytes, size: int, gone: bool, through: bool) -> None:
        """A write or delete; not `through` the gateway it is one behind its back."""
        known = self.origin[key]
        known.history.append(None if gone and known.now else Object(f'"{next(self.serial)}"', size))
        if through:
            self.run(self.store.forget(key))
            known.since, known.forgets = len(known.history) - 1, known.forgets + 1
            entry = self.store.entry(key)
            assert entry is None or entry.validated_at == 0.0

    @rule(key=keys)
    def ask(self, key: bytes) -> None:
        known = self.origin[key]
        self.answers.append(Answer(key, time.monotonic_ns(), known.now, known.forgets))

    @rule(pick=picks)
    def answer(self, pick: int) -> None:
        """It may come late; after an invalidation it must not count."""
        if not self.answers:
            return
        answer = self.answers.pop(pick % len(self.answers))
        late = answer.forgets != self.origin[answer.key].forgets
        try:
            self._install(answer.key, answer.said, answer.asked_ns)
        except (Superseded, StoreFull):
            return
        assert not late, "an answer from before an invalidation was installed"

    @rule(key=keys, size=st.sampled_from(SIZES), restart=st.booleans())
    def overtaken(self, key: bytes, size: int, restart: bool) -> None:
        """A write comes between a question and its answer; or while the index takes no change, and then the node
        is stopped and started."""
        self.fetch(key)
        if restart:  # questions end with the node
            self.index_refuses(key, 0, size)
            self.restart(clean=True, same_boot=True, lost="")
        else:
            self.ask(key)
            self.write(key, size, gone=False, through=True)
            self.answer(-1)
        self.read(key, 0)

    def _install(self, key: bytes, said: Object | None, asked_ns: int) -> None:
        if said is None:
            self.run(self.store.install_absent(key, started_ns=asked_ns, validated_at=1e9))
            return
        entry = self.run(
            self.store.install(
                key,
                etag=said.etag,
                size=said.size,
                last_modified=1_700_000_000,
                wire=b"ETag: " + said.etag.encode(),
                checksum_wire=b"",
                started_ns=asked_ns,
                validated_at=1e9,
            )
        )
        self.entries.append((entry, said))

    def _validate(self, key: bytes) -> None:
        """What a reader does when the entry says so. Nothing is newer than this question."""
        with suppress(StoreFull):
            self._install(key, self.origin[key].now, time.monotonic_ns())

    # --- fills

    def _entry(self, pick: int) -> tuple[Entry | None, Object]:
        return self.entries[pick % len(self.entries)] if self.entries else (None, Object("", 0))

    @rule(pick=picks, block=blocks)
    def put(self, pick: int, block: int) -> None:
        """Into any entry that was ever handed out, as a slow fill would."""
        entry, said = self._entry(pick)
        if entry is None or not said.length(block):
            return
        with suppress(StoreFull):
            self.run(self.store.put_block(entry, block, said.data(block)))

    @rule(key=keys)
    def fetch(self, key: bytes) -> None:
        """A whole miss: asks, installs, fills every block."""
        now = self.origin[key].now
        with suppress(StoreFull):
            self._install(key, now, time.monotonic_ns())
            for block in range(4 if now else 0):
                if now and now.length(block):
                    entry = self.entries[-1][0]
                    self.run(
                        self.store.put_parts(entry, block, (b"", now.data(block)[:9], now.data(block)[9:]))
                    )

    @rule(count=st.sampled_from([5, 60, 120]))
    def flood(self, count: int) -> None:
        """Other data comes by; much of it makes the cache evict."""

        async def one(number: int) -> None:
            said = Object(f'"{number}"', BLOCK)
            with suppress(StoreFull):
                entry = await self.store.install(
                    b"flood/%d" % number, etag=said.etag, size=BLOCK, last_modified=1, wire=b"", checksum_wire=b"",
                    started_ns=time.monotonic_ns(), validated_at=1e9,
                )  # fmt: skip
                await self.store.put_block(entry, 0, said.data(0))

        async def all_of_them() -> None:
            await asyncio.gather(*(one(next(self.serial)) for _ in range(count)))

        self.run(all_of_them())

    # --- reads

    @rule(key=keys, block=blocks)
    def read(self, key: bytes, block: int) -> None:
        entry = self.store.lookup(key, block, block)[0]
        visible = self.origin[key].visible
        if entry is not None and entry.validated_at == 0.0:
            self._validate(key)
            visible = [self.origin[key].now]
        entry, extents = self.store.lookup(key, block, block)
        if entry is None or entry.validated_at == 0.0:  # the index takes nothing: uncached
            return
        assert entry.key == key
        said = None if entry.state == ABSENT else Object(entry.etag, entry.size)
        assert said in visible
        if said is None:
            return
        assert entry.wire == b"ETag: " + entry.etag.encode()
        served = self._serve(entry, block, extents[0])
        assert served is None or served == said.data(block)

    def _serve(self, entry: Entry, block: int, extent: Any) -> bytes | None:
        store, corrupt = self.store, self.store.counters.corrupt_blocks
        if extent is None:
            return None
        if not store.verified(extent) and not self.run(store.verify(extent, entry.version, block)):
            assert store.counters.corrupt_blocks == corrupt + (store.segment(extent.segment) is not None)
            assert store.block(entry.version, block) is None or self.disk.left is not None
            return None
        segment = store.segment(extent.segment)
        assert segment is not None
        segment.populate(extent.offset, extent.length)
        store.touch(extent)
        data = store.read_now(extent, 0, extent.length)
        return None if data is None else bytes(data)

    @rule()
    def fetch_and_heat(self) -> None:
        """A hot set: evictions have something to keep."""
        for key in KEYS:
            self.fetch(key)
            for block in range(4):
                self.read(key, block)

    # --- rules of the config: pins, quotas, times

    @rule(keeping=st.sampled_from(KEEPINGS), sweep=st.booleans())
    def reload(self, keeping: Keeping, sweep: bool) -> None:
        self.keeping = keeping
        self.store.apply(keeping)
        if sweep:
            self.sweep()

    @rule()
    def sweep(self) -> None:
        """Afterwards every block carries the tags that its rules want, but for pins beyond their bound."""
        store = self.store
        store.bounds.tell()  # as every second: the index may have refused to hear it
        self.run(settle(store))
        self.run(store._upkeep._sweeps.run(store._upkeep._sweeper.step))
        self.run(settle(store))
        assert not store._upkeep._sweeper.due() or self.keeping.fingerprint or self.keeping.has_ttl
        with store._index.env.begin() as txn:
            for extent in blocks_of(store).values():
                found = store._changes.live(txn, (extent.segment, extent.slot))
                assert found is not None
                wanted = store._changes.wanted(txn, found[0])
                assert [t for t in wanted if t != PIN] == [t for t in found[0].tags if t != PIN]
                assert PIN in wanted or PIN not in found[0].tags

    # --- faults

    @rule(room=st.integers(0, 100_000), count=st.integers(1, 6))
    def disk_full(self, room: int, count: int) -> None:
        """Some fills meet a disk that is full, or becomes so in the middle of a block."""
        self.disk.left = room
        try:
            self.flood(count)
            self.put(-1, 0)
        finally:
            self.disk.left = None
            self.store._filler._refuse_until = 0.0  # not waiting until it tries again

    @rule(key=keys, after=st.integers(0, 5), size=st.sampled_from(SIZES))
    def index_refuses(self, key: bytes, after: int, size: int) -> None:
        """From some change on the index takes none; a write comes in meanwhile."""
        left = itertools.count(after, -1)
        real = self.store._writer._transact

        def refuse(batch: Any) -> None:
            if next(left) <= 0:
                raise lmdb.DiskError("no space")
            real(batch)

        with mock.patch.object(self.store._writer, "_transact", refuse):
            self.flood(3)
            self.write(key, size, gone=False, through=True)

    # --- ends and beginnings

    @rule(
        clean=st.booleans(),
        same_boot=st.booleans(),
        lost=st.sampled_from(["", "", "index", "state", "flip", "cut"]),
    )
    def restart(self, clean: bool, same_boot: bool, lost: str) -> None:
        """`lost`: what was done to the index while nobody used it."""
        before = blocks_of(self.store), entries_of(self.store)
        distrusted = self.store._index.shared.distrust_ns != 0
        self._stop(clean)
        self.boot = self.boot if same_boot else f"boot-{next(self.serial)}"
        if not clean and same_boot and lost == "flip":
            lost = ""  # out of scope: the page cache of a running machine does not rot
        self._damage_index(lost)
        self._open()
        if not lost and not distrusted and (clean or same_boot):
            assert (blocks_of(self.store), entries_of(self.store)) == before
        self._go_on()

    @rule(
        pick=picks,
        place=picks,
        clean=st.booleans(),
        how=st.sampled_from(["flip", "flip", "cut", "gone", "zeros"]),
    )
    def restart_over_damaged_segments(self, pick: int, place: int, clean: bool, how: str) -> None:
        """Only what was hit is lost, and none of it is served."""
        committed = sorted(blocks_of(self.store).items())
        if not committed:
            return
        (version, block), extent = committed[pick % len(committed)]
        path = self.store._segments.path(extent.segment)
        self._stop(clean)
        front = front_of(path, extent)
        before = record_of(path, extent, front)
        place %= front + extent.length
        at = place + extent.offset - (extent.lead if place < front else front)
        damage_segment(path, how, at, extent)
        damaged = record_of(path, extent, front) != before
        self._open()
        self._go_on()
        found = self.store.block(version, block)
        if found is not None and self.run(self.store.verify(found, version, block)):
            assert found != extent or not damaged

    def _stop(self, clean: bool) -> None:
        self._forget_process()
        if clean:
            self.run(self.store.close())
            self.prepared.close()
        else:
            self.run(die(self.store))
            self.prepared._lock.close()

    def _damage_index(self, lost: str) -> None:
        file = self.directory / "index" / "data.mdb"
        if lost == "index":
            shutil.rmtree(self.directory / "index")
        elif lost == "state":
            (self.directory / "state.json").unlink()
        elif lost == "flip":
            flip(file, random.Random(next(self.serial)).randrange(file.stat().st_size))
        elif lost == "cut":
            os.truncate(file, file.stat().st_size // 2)

    @invariant()
    def consistent(self) -> None:
        if hasattr(self, "store"):
            self.run(settle(self.store))
            audit(self.store)


def test_the_store_agrees_with_a_dictionary_through_faults_and_restarts() -> None:
    print(f"CACHE_MACHINE_SEED={SEED}")
    wanted = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,  # the seed alone says what runs
        phases=[Phase.generate],  # threads make no two runs alike, so there is little to shrink
        suppress_health_check=list(HealthCheck),
    )
    with capture_logs():
        run_state_machine_as_test(seed(SEED)(StoreMachine), settings=wanted)
