"""Sequential readers inside one object: who reads range after range will read the next one, too. Pure.

A read that begins where one before it ended doubles what is fetched ahead of it, from one block up to a stripe; the
first read of an object, and one elsewhere, fetch nothing that was not asked for. So a footer costs a block, and a
reader that goes through a shard in ranges finds them there from the third on. A rule may set another bound than a
stripe, down to nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

# Objects watched at once, and readers of each: some 0.5 MB, more than a node's loaders have open.
OBJECTS_MAX: Final = 1024
READERS_MAX: Final = 8


class _Reader:
    __slots__ = ("ahead", "position", "run")

    def __init__(self, position: int) -> None:
        self.position = position  # where its last read ended
        self.run = 0  # bytes read one behind the other
        self.ahead = position  # fetched up to here


class ReadAhead:
    def __init__(self, block_size: int, bytes_max: int) -> None:
        self._slack = block_size  # parsers skip a header, or read a few bytes twice
        self._least = block_size
        self._most = bytes_max
        self._objects: OrderedDict[int, list[_Reader]] = OrderedDict()

    def note(
        self, version: int, start: int, stop: int, size: int, most: int | None = None
    ) -> tuple[int, int] | None:
        """A read of [start, stop) of an object of `size` bytes. Returns what to fetch ahead, None for nothing. `most`:
        bytes, of the rule that it was read under; None: a stripe."""
        most = self._most if most is None else most
        if most <= 0:
            return None
        readers = self._objects.get(version)
        if readers is None:
            if stop < size:
                self._remember(version, stop)
            return None
        for reader in readers:
            if -self._slack <= start - reader.position <= self._slack and stop > reader.position:
                return self._advance(version, reader, start, stop, size, most)
        if stop < size:
            readers.append(_Reader(stop))
            if len(readers) > READERS_MAX:
                del readers[0]
        return None

    def _remember(self, version: int, stop: int) -> None:
        self._objects[version] = [_Reader(stop)]
        if len(self._objects) > OBJECTS_MAX:
            self._objects.popitem(last=False)

    def _advance(
        self, version: int, reader: _Reader, start: int, stop: int, size: int, most: int
    ) -> tuple[int, int] | None:
        reader.run += stop - start
        reader.position = stop
        if stop >= size:
            self._objects.pop(version, None)
            return None
        ahead = min(most, max(self._least, 2 * reader.run))
        begin, end = max(stop, reader.ahead), min(size, stop + ahead)
        if end - begin < ahead // 2 and end < size:
            return None  # fetched in large steps: half of what is ahead must be used first
        reader.ahead = max(reader.ahead, end)
        return (begin, end) if begin < end else None
