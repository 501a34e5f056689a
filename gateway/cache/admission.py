"""Whether missing blocks are worth writing to the cache. Pure: no clock, no I/O.

The case it exists for: epochs over more data than fits. Every replacement order that admits everything then
evicts each block shortly before it is read again: no hits at all. Admitting only the stripes whose hash is
below a threshold p keeps a stable subset instead, and p·W ≤ 0.9·C makes it fit, W being the bytes of one
pass.

W is not known but shows in the misses: with the subset resident, the bytes D that are missed between two
misses of one stripe are W less the hits, so p = 0.9·C / (D + 0.9·C). Followed from any p this converges to
0.9·C / W where W is larger than that and to 1 where it fits. D comes from a sample of stripes (a ghost list
of their last misses); when hardly any miss is a repeated one the data is new, and p goes back towards 1.

Two exceptions: there is free room anyway, and a stripe that comes back in an eighth of the usual distance (a
hot object among a scan) is admitted whatever its hash.

One instance per worker: a stripe's misses all arrive at its owner worker, so D is that of a share of the data
and is compared with the same share of the capacity.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from awscrt.checksums import crc32c

TARGET: Final = 0.9  # of the capacity: active segments and blocks superseded by newer versions take the rest
GHOSTS_MAX: Final = 8192  # some 1.5 MB; a sample of hundreds already gives D within a few per cent
REACH: Final = 32  # passes over more than 32 times the capacity are not recognised: 3 % of hits at most
REPEATED_MIN: Final = 0.25  # below this share of repeated misses, most of what is read is new
HOT: Final = 1 / 8
_SAMPLES_MIN: Final = 8
_FULL: Final = 1 << 32


class Admission:
    def __init__(self, share_bytes: int, stripe_blocks: int, ghosts_max: int = GHOSTS_MAX) -> None:
        self.share_bytes = max(1, share_bytes)
        self.p = 1.0
        self.distance = 0.0  # D, a running mean
        self._stripe_blocks = stripe_blocks
        self._ghosts_max = ghosts_max
        self._ghosts: OrderedDict[int, tuple[int, int]] = OrderedDict()  # hash → (bytes missed then, block)
        self._rate = _FULL  # a stripe is sampled when its second hash is below this
        self._missed = 0
        self._window_start = 0
        self._window_first = 0
        self._window_repeated = 0

    def admit(self, key: bytes, block: int, length: int, *, room: bool) -> bool:
        """Called once per miss, before the origin is asked: `length` bytes from `block` on, in one stripe."""
        stripe = block // self._stripe_blocks
        point = crc32c(key, (stripe * 0x9E3779B1) & 0xFFFFFFFF)
        hot = self._note(point, block)
        self._missed += length
        self._adapt()
        return room or hot or point < self.p * _FULL

    def learned(self, length: int) -> None:
        """The size of a miss that `admit` was asked about when nobody knew it."""
        self._missed += length

    def _note(self, point: int, block: int) -> bool:
        """Remembers the miss; True when the stripe came back unusually soon. Another block of the stripe
        belongs to the same visit."""
        if (point * 0x85EBCA6B ^ point >> 15) & 0xFFFFFFFF >= self._rate:
            return False
        before = self._ghosts.get(point)
        if before is not None and before[1] != block:
            return False
        self._ghosts[point] = (self._missed, block)
        self._ghosts.move_to_end(point)
        if before is None:
            self._window_first += 1
            self._bound()
            return False
        self._window_repeated += 1
        distance = self._missed - before[0]
        usual = self.distance
        self.distance = distance if not usual else usual + (distance - usual) / 32
        return 0 < distance < usual * HOT

    def _bound(self) -> None:
        oldest = next(iter(self._ghosts.values()))[0]
        if self._missed - oldest > REACH * self.share_bytes:
            self._ghosts.popitem(last=False)
        if len(self._ghosts) > self._ghosts_max:
            self._rate //= 2
            for point in list(self._ghosts):
                if (point * 0x85EBCA6B ^ point >> 15) & 0xFFFFFFFF >= self._rate:
                    del self._ghosts[point]

    def _adapt(self) -> None:
        samples = self._window_first + self._window_repeated
        if self._missed - self._window_start < self.share_bytes / 8 or samples < _SAMPLES_MIN:
            return
        if self._window_repeated < REPEATED_MIN * samples:
            self.p += (1 - self.p) / 4
        else:
            fits = TARGET * self.share_bytes
            self.p = fits / (self.distance + fits)
        self._window_start, self._window_first, self._window_repeated = self._missed, 0, 0
