"""What happens once per node, before its workers: `prepare`, and after them: `Prepared.close`.

The index is not synced while it runs, so what lies on disk can be trusted when nothing but processes died
since it was written (same boot: the page cache is the truth), or when it was closed cleanly (synced, its size
and CRC noted).

    state.json        boot      index files              the index is
    ----------------- --------- ------------------------ -------------------------------------------
    none              –         –                        new; segments found are scanned
    other format or   –         –                        new; segments are deleted
    block size
    clean             any       size and CRC as noted    used
    clean             any       anything else            dropped, segments scanned
    not clean         same      opens, not cut short     used; segments of dead workers are sealed
    not clean         same      anything else            dropped, segments scanned
    not clean         another   –                        dropped, segments scanned
    any               any       marked suspect, or an    dropped, segments scanned
                                invalidation was not written

Ids of segments and versions are epoch << 40 | counter, and an index that starts anew starts a new epoch,
above those in the segments' names: no id is ever used for two things. Access bytes go at every start, so
every block's CRC is checked before it is first served.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import lmdb
import structlog
from awscrt.checksums import crc32c

from gateway.cache.changes import Changes
from gateway.cache.index import (
    ACTIVE,
    EVICTING,
    UNSCANNED,
    Index,
    SegmentRow,
    write_number,
)
from gateway.cache.layout import (
    CacheUnusable,
    FileLock,
    boot_id,
    effective_segment_bytes,
    index_dir,
    refuse_network,
    segments_dir,
)
from gateway.cache.record import FORMAT as RECORD_FORMAT
from gateway.cache.segment import Segments, slots_of, taken
from gateway.cache.shared import SharedPage
from gateway.cache.writer import IndexWriter

log = structlog.get_logger()

FORMAT: Final = 2 << 8 | RECORD_FORMAT  # of the index and of the records
EPOCH_SHIFT: Final = 40
WORKERS_WAIT_S: Final = 10.0  # for workers that outlived a killed supervisor to notice and leave
# A clean stop notes a CRC over this much of the index: 1 GiB is some 4 million blocks and takes 0.1 s to
# check from the page cache, a second from disk. Beyond it only the size is compared.
CHECKED_BYTES_MAX: Final = 1 << 30
_PAGE_SIZE, _PAGE_SIZE_AT = struct.Struct("@I"), 40
_LAST_PAGE, _LAST_PAGE_AT = struct.Struct("@QQ"), 136  # last page, transaction
_META_SIZE: Final = 152


@dataclass(slots=True)
class State:
    format: int
    block_size: int
    boot: str
    clean: bool
    epoch: int
    slots: int
    index_bytes: int = 0
    index_crc: int = 0


def take_over(worker: int, segments: Segments, changes: Changes, writer: IndexWriter) -> None:
    """Seals what a dead worker of this number was filling, cut behind the last record that is indexed."""
    for segment, row in changes.index.segment_rows().items():
        if row.state == ACTIVE and row.worker == worker:
            _seal(segment, segments, changes, writer)


def _seal(segment: int, segments: Segments, changes: Changes, writer: IndexWriter) -> None:
    opened = segments.get(segment)
    if opened is None:
        writer.call(changes.put_segment, segment, SegmentRow(EVICTING, 0, 0))
        return
    end = writer.call(changes.cut, segment)
    os.ftruncate(opened.fd, min(end, os.fstat(opened.fd).st_size))
    writer.call(changes.seal, segment, opened.taken() + segments.acc_bytes)
    segments.forget(segment)


class Prepared:
    """A node's hold on its cache directory. `rebuild`: the index was lost, now or before a start that did not
    get through the segments; one worker has to call `Store.rebuild`."""

    def __init__(self, directory: Path, state: State, lock: FileLock, rebuild: bool) -> None:
        self.directory = directory
        self.rebuild = rebuild
        self._state = state
        self._lock = lock

    def close(self) -> None:
        """After the workers have closed: syncs the index and notes that it is whole, unless it failed or lacks an
        invalidation. Blocks for the sync."""
        workers = FileLock(self.directory / "workers.lock")
        try:
            suspect = (index_dir(self.directory) / "suspect").exists()
            if workers.acquire() and not suspect and not _invalidation_lost(self.directory):
                self._note_clean()
        finally:
            workers.close()
            self._lock.close()

    def _note_clean(self) -> None:
        data = index_dir(self.directory) / "data.mdb"
        fd = os.open(data, os.O_RDWR)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self._state.clean = True
        self._state.index_bytes, self._state.index_crc = _fingerprint(data)
        _write_state(self.directory, self._state)


def prepare(
    directory: str | os.PathLike[str],
    *,
    capacity: int,
    segment_size: int,
    block_size: int,
    workers: int,
    workers_wait_s: float = WORKERS_WAIT_S,
) -> Prepared:
    """Makes the directory ready for `Store.open`. Blocks (some 0.1 s for a million blocks). Raises
    CacheUnusable."""
    root = Path(directory)
    segment_bytes = effective_segment_bytes(capacity, segment_size, block_size, workers)
    segments_dir(root).mkdir(parents=True, exist_ok=True)
    refuse_network(root)
    lock = FileLock(root / "node.lock")
    try:
        if not lock.acquire():
            raise CacheUnusable(f"another node uses the cache in {root}")
        _wait_for_workers(root, workers_wait_s)
        return _prepare(root, lock, capacity, segment_bytes, block_size)
    except BaseException:
        lock.close()
        raise


def _prepare(root: Path, lock: FileLock, capacity: int, segment_bytes: int, block_size: int) -> Prepared:
    state = _read_state(root)
    new = State(FORMAT, block_size, boot_id(), False, 0, slots_of(segment_bytes))
    if state is not None and (state.format, state.block_size) != (FORMAT, block_size):
        log.warning("cache written by another format or block size, deleted", directory=str(root))
        _delete_all(root)
        state = None
    reason = _distrusted(root, state, new.boot)
    _clear_volatile(root)
    found = _segments_found(root)
    new.epoch = max([state.epoch if state else 0, *(s >> EPOCH_SHIFT for s in found)])
    # A record's slot may be above what today's segment size needs: access bytes never get fewer.
    new.slots = max(new.slots, state.slots if state else (1 << 16 if found else 0))
    shared = SharedPage(root / "shared")
    index = None if reason else _open_checked(root, capacity, shared)
    if index is None:
        if state is not None:
            log.warning("cache index dropped, rebuilding it from the segments", reason=reason or "damaged")
        new.epoch += 1
        index = _new_index(root, capacity, shared, new.epoch)
    try:
        other_boot = state is None or state.boot != new.boot
        rebuild = _reconcile(root, index, capacity, found, new, other_boot=other_boot)
    finally:
        index.close()
        shared.close()
    _write_state(root, new)
    return Prepared(root, new, lock, rebuild)


def _wait_for_workers(root: Path, wait_s: float) -> None:
    workers = FileLock(root / "workers.lock")
    try:
        deadline = time.monotonic() + wait_s
        while not workers.acquire():
            if time.monotonic() > deadline:
                raise CacheUnusable(f"workers of an earlier node still use the cache in {root}")
            time.sleep(0.05)  # the lock is other processes': there is nothing to be woken by
    finally:
        workers.close()


def _distrusted(root: Path, state: State | None, boot: str) -> str:
    """Why the index must not be used, as far as it shows without opening it; empty when it may."""
    data = index_dir(root) / "data.mdb"
    if state is None or not data.exists():
        return "there is none"
    if (index_dir(root) / "suspect").exists():
        return "it failed while it was in use"
    if not state.clean and _invalidation_lost(root):
        return "an invalidation could not be written"
    if state.clean:
        same = (state.index_bytes, state.index_crc) == _fingerprint(data)
        return "" if same else "it is not what the last stop left"
    return "" if boot and state.boot == boot else "the machine restarted without a clean stop"


def _invalidation_lost(root: Path) -> bool:
    if not (root / "shared").exists():
        return False
    shared = SharedPage(root / "shared")
    try:
        return shared.distrust_ns != 0
    finally:
        shared.close()


def _clear_volatile(root: Path) -> None:
    (root / "shared").unlink(missing_ok=True)
    for path in segments_dir(root).iterdir():
        if path.suffix != ".seg":
            path.unlink(missing_ok=True)


def _segments_found(root: Path) -> dict[int, int]:
    """Id → bytes of disk of every segment file."""
    found = {}
    for entry in os.scandir(segments_dir(root)):
        try:
            found[int(entry.name.removesuffix(".seg"), 16)] = taken(entry.stat())
        except ValueError:
            log.warning("foreign file in the cache directory, left alone", name=entry.name)
    return found


def _open_checked(root: Path, capacity: int, shared: SharedPage) -> Index | None:
    """None when LMDB refuses the file or it was cut short."""
    index = None
    try:
        if not _cut_short(index_dir(root) / "data.mdb"):
            index = Index(index_dir(root), capacity, shared)
            index.segment_rows()
            return index
    except (lmdb.Error, OSError) as error:
        log.warning("cache index does not open", error=str(error))
    if index is not None:
        index.close()
    return None


def _cut_short(data: Path) -> bool:
    """Is the file shorter than its own page count? Reading a page beyond the end of a mapped file is a SIGBUS,
    and LMDB reads some while it opens, so this looks at its two meta pages itself: the one with the higher
    transaction counts (lmdb 0.9 `MDB_meta`; the page size is in its first `md_pad`)."""
    with data.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        first = file.read(_META_SIZE)
        if len(first) < _META_SIZE:
            return True
        page = int(_PAGE_SIZE.unpack_from(first, _PAGE_SIZE_AT)[0])
        file.seek(page)
        second = file.read(_META_SIZE)
    if len(second) < _META_SIZE:
        return True
    counts = [_LAST_PAGE.unpack_from(meta, _LAST_PAGE_AT) for meta in (first, second)]
    last_page = int(max(counts, key=lambda count: int(count[1]))[0])
    return size < (last_page + 1) * page


def _new_index(root: Path, capacity: int, shared: SharedPage, epoch: int) -> Index:
    shutil.rmtree(index_dir(root), ignore_errors=True)
    index_dir(root).mkdir()
    index = Index(index_dir(root), capacity, shared)
    with index.env.begin(write=True) as txn:
        for name in (b"segment", b"version"):
            write_number(txn, index.meta, name, epoch << EPOCH_SHIFT)
    return index


def _reconcile(
    root: Path, index: Index, capacity: int, found: dict[int, int], state: State, *, other_boot: bool
) -> bool:
    """Makes rows and files agree: unfinished segments are sealed, files without a row are scanned later (a
    new index) or deleted (an eviction's last step), rows without a file go the way of an eviction. Is anything
    left to be scanned, now or since a start whose scan did not end?"""
    writer = IndexWriter(index)
    changes = Changes(index, capacity, lambda: 0)
    segments = Segments(segments_dir(root), state.slots, lambda *_: False, lambda: None)
    try:
        rows = index.segment_rows()
        with_rows = bool(rows)
        for segment, row in rows.items():
            if segment not in found:
                writer.call(changes.put_segment, segment, SegmentRow(EVICTING, 0, 0))
            elif row.state == ACTIVE:
                _seal(segment, segments, changes, writer)
        for segment in found.keys() - rows.keys():
            if with_rows or segment >> EPOCH_SHIFT == state.epoch:
                segments.unlink(segment)
            else:
                size = found[segment] + segments.acc_bytes
                writer.call(changes.put_segment, segment, SegmentRow(UNSCANNED, 0, size))
        writer.call(changes.start, state.slots, other_boot)
        return any(row.state == UNSCANNED for row in index.segment_rows().values())
    finally:
        writer.close()
        segments.close()


def _delete_all(root: Path) -> None:
    shutil.rmtree(index_dir(root), ignore_errors=True)
    for path in segments_dir(root).iterdir():
        path.unlink(missing_ok=True)


def _fingerprint(data: Path) -> tuple[int, int]:
    crc = size = 0
    with data.open("rb", buffering=0) as file:
        while size < CHECKED_BYTES_MAX and (part := file.read(1 << 20)):
            crc = crc32c(part, crc)
            size += len(part)
    return data.stat().st_size, crc


def _read_state(root: Path) -> State | None:
    try:
        return State(**json.loads((root / "state.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write_state(root: Path, state: State) -> None:
    path, fresh = root / "state.json", root / "state.json.new"
    with fresh.open("w") as file:
        json.dump(asdict(state), file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    fd = os.open(root, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


__all__ = ["Prepared", "prepare", "take_over"]
