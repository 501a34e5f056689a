"""Blocks are checked before bytes from the SSD are served for the first time: reading one and comparing its CRC."""

from __future__ import annotations

from gateway.cache.entry import Extent
from gateway.cache.evictor import read_record
from gateway.cache.segment import CHECKED, Segment


class Unchecked:
    """A block that this node wrote, to be sent while it is in the page cache; implements `exchange.FileSlice`. Had it
    left, it would come from the SSD for the first time: then it is checked before a byte of it is sent. `populate`
    raises OSError when that fails; the next read finds and drops the block."""

    __slots__ = ("_block", "_extent", "_segment", "_version", "fd", "resident")

    def __init__(self, segment: Segment, extent: Extent, version: int, block: int) -> None:
        self.fd = segment.fd
        self.resident = segment.resident
        self._segment = segment  # keeps the descriptor open
        self._extent = extent
        self._version = version
        self._block = block

    def populate(self, offset: int, length: int) -> None:
        if not is_whole(self._segment, self._extent, self._version, self._block):
            raise OSError("a cache block is damaged")
        self._segment.access[self._extent.slot] |= CHECKED


def is_whole(segment: Segment, extent: Extent, version: int, block: int) -> bool:
    try:
        found = read_record(segment, extent)
    except OSError:
        return False
    return found is not None and found[0].version == version and found[0].block == block
