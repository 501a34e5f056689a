"""A block that is being filled: space in a segment that other workers may already read, up to the fill's
watermark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from awscrt.checksums import crc32c

from gateway.cache.appender import DiskFull, Place, write_all
from gateway.cache.entry import Entry, Extent
from gateway.cache.record import VALID
from gateway.cache.segment import WRITTEN, Segment

if TYPE_CHECKING:
    from gateway.cache.filling import Filler

Bytes = bytes | bytearray | memoryview


class Pending:
    """`write` the payload from its start to its end, one call at a time, then `commit`; or `abandon` at any
    point. A buffer given to `write` must not change until that has returned. `written` is the watermark:
    everything below it can be read from `segment` at `offset`. Ending is idempotent; a Pending that is never
    ended keeps its segment from being sealed."""

    def __init__(self, filler: Filler, entry: Entry, block: int, place: Place) -> None:
        self.entry = entry
        self.block = block
        self.segment: Segment = place.segment
        self.offset = place.offset
        self.length = place.length
        self.written = 0
        self._crc = 0
        self._ended = False
        self._busy = False
        self._place = place
        self._filler = filler

    async def write(self, at: int, data: Bytes) -> None:
        """Raises StoreFull when the disk refuses; the fill is then over, but what is below `written` stays
        readable until `abandon`."""
        if at != self.written or at + len(data) > self.length or self._ended or self._busy:
            raise ValueError(f"write of {len(data)} at {at}: have {self.written} of {self.length}")
        self._busy = True
        try:
            self._crc = await self._filler.io.run(self._write, data, at)
        except DiskFull:
            self._filler.disk_refused()
            raise
        finally:
            self._busy = False
        self.written = at + len(data)

    def _write(self, data: Bytes, at: int) -> int:
        write_all(self.segment.fd, (data,), self.offset + at)
        return int(crc32c(data, self._crc))

    async def commit(self) -> Extent:
        """Every byte is written: makes the block findable by every worker. Raises StoreFull; then the record
        is given up."""
        if self.written != self.length or self._ended:
            raise ValueError(f"commit with {self.written} of {self.length} bytes")
        self._ended = True
        place = self._place
        extent = Extent(self.segment.id, self.offset, self.length, self._crc, place.slot, place.lead)
        try:
            await self._filler.io.run(self._filler.appender.set_state, place, VALID, self._crc)
            self.segment.access[place.slot] = WRITTEN
            await self._filler.writer.run(self._filler.changes.commit, self.entry, self.block, extent)
        except DiskFull:
            self._filler.disk_refused()
            raise
        finally:
            self._filler.appender.finish(place)
        self._filler.counters.committed_blocks += 1
        self._filler.counters.committed_bytes += self.length
        return extent

    def abandon(self) -> None:
        """Gives the record up, from any state; the space is lost until its segment is evicted."""
        if not self._ended:
            self._ended = True
            self._filler.counters.abandoned_fills += 1
            self._filler.io.submit(self._filler.appender.abandon, self._place)
