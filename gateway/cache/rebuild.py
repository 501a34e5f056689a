"""Indexes the segments that were found without an index, newest first, beside the running worker.

Small batches through the index thread; what the worker learns meanwhile always wins (`Changes.adopt`). A
segment is cut behind its last good record; one without any is dropped.
"""

from __future__ import annotations

import os
import threading
from typing import Final

import structlog

from gateway.cache.changes import Changes
from gateway.cache.entry import Entry, decode_entry
from gateway.cache.index import EVICTING, SEALED, UNSCANNED, Index, SegmentRow
from gateway.cache.record import Header, decode_meta, walk
from gateway.cache.segment import Segment, Segments
from gateway.cache.writer import IndexWriter
from gateway.errors import StoreFull

log = structlog.get_logger()
BATCH: Final = 256


class Rebuilder:
    def __init__(self, index: Index, changes: Changes, writer: IndexWriter, segments: Segments) -> None:
        self._index = index
        self._changes = changes
        self._writer = writer
        self._segments = segments
        self._stopped = threading.Event()

    def stop(self) -> None:
        """What is not scanned yet stays UNSCANNED and is done after the next start."""
        self._stopped.set()

    def run(self) -> None:
        rows = self._index.segment_rows()
        waiting = sorted((s for s, row in rows.items() if row.state == UNSCANNED), reverse=True)
        blocks = 0
        for segment in waiting:
            if self._stopped.is_set():
                return
            blocks += self._scan(segment)
        if waiting:
            log.info("cache index rebuilt", segments=len(waiting), blocks=blocks)

    def _scan(self, segment: int) -> int:
        opened = self._segments.get(segment)
        if opened is None:
            return 0
        adopted = end = 0
        batch: list[tuple[Header, Entry]] = []
        for header in walk(opened.fd, segment, self._segments.disk_read):
            if self._stopped.is_set():
                return adopted
            end = header.payload_offset + header.payload_length
            entry = self._entry(header)
            if entry is not None:
                batch.append((header, entry))
            if len(batch) >= BATCH:
                if (count := self._adopt(segment, batch)) < 0:
                    return adopted
                adopted += count
                batch = []
        adopted += max(0, self._adopt(segment, batch))
        self._finish(opened, end, adopted)
        return adopted

    def _entry(self, header: Header) -> Entry | None:
        if header.slot >= self._segments.slots:
            return None
        key, value = decode_meta(header.meta)
        entry = decode_entry(key, value)
        return entry if entry is not None and entry.version == header.version else None

    def _adopt(self, segment: int, batch: list[tuple[Header, Entry]]) -> int:
        try:
            return self._writer.call(self._changes.adopt, segment, batch)
        except StoreFull as error:
            log.info("cache segment not indexed", segment=f"{segment:016x}", reason=str(error))
            return -1

    def _finish(self, opened: Segment, end: int, adopted: int) -> None:
        size = os.fstat(opened.fd).st_size
        if size - end > 4096:
            log.warning("cache segment damaged, cut", segment=f"{opened.id:016x}", bytes=size, good=end)
        state = SEALED if adopted else EVICTING
        row = SegmentRow(state, 0, min(end, opened.taken()) + self._segments.acc_bytes)
        if self._writer.call(self._changes.scanned, opened.id, row):
            os.ftruncate(opened.fd, end)  # also one that goes: its row counts no more than that from now on
