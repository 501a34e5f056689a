"""What the rules of the config mean to one worker's store: the rules of the moment, and whether a miss is worth writing
under them.

A scan over more than its quota is to the quota what a scan over more than fits is to the cache: each quota has an
admission of its own (`admission.py`), of which it is the capacity. What that refuses the cache's own never hears of, so
a scan in a small quota makes nobody else's misses look like a scan.
"""

from __future__ import annotations

import lmdb
import structlog

from gateway.cache.admission import Admission
from gateway.cache.changes import Changes
from gateway.cache.index import Index
from gateway.cache.writer import IndexWriter
from gateway.namespace.keeping import PIN, Keeping, Quota

log = structlog.get_logger()


class Bounds:
    def __init__(
        self, index: Index, changes: Changes, writer: IndexWriter, workers: int, stripe_blocks: int
    ) -> None:
        self._index = index
        self._changes = changes
        self._writer = writer
        self._workers = workers
        self._stripe_blocks = stripe_blocks
        self._admissions: dict[Quota, Admission] = {}
        self._unpinned_before = 0  # bytes, by the rules before these
        self._warned = False

    @property
    def keeping(self) -> Keeping:
        return self._changes.keeping

    def apply(self, keeping: Keeping) -> None:
        """These rules hold from now on, for what is cached already, too: see `tags.py`."""
        self._admissions = {
            quota: self._admissions.get(quota) or Admission(quota.bytes // self._workers, self._stripe_blocks)
            for quota in keeping.quotas.values()
        }
        self._changes.keeping = keeping
        self._unpinned_before, self._warned = self._changes.unpinned_bytes, False
        self.tell()

    def tell(self) -> None:
        """The index knows by which rules blocks are to be tagged; said again where it took no change, or a worker
        that was a moment behind said something else."""
        try:
            told = self._index.number(b"policy")
        except lmdb.Error as error:
            self._index.report(error)
            return
        if told != self.keeping.fingerprint:
            self._writer.post(self._changes.set_policy, self.keeping.fingerprint)

    def admit(self, key: bytes, block: int, length: int) -> bool:
        """Does every quota that the key counts against take the miss?"""
        kept = True
        for quota in self._quotas_of(key):
            room = self._index.tagged_bytes(quota.tag) + length <= quota.bytes
            kept = self._admissions[quota].admit(key, block, length, room=room) and kept
        return kept

    def learned(self, key: bytes, length: int) -> None:
        for quota in self._quotas_of(key):
            self._admissions[quota].learned(length)

    def _quotas_of(self, key: bytes) -> list[Quota]:
        quotas = self.keeping.quotas
        return [quotas[tag] for tag in self.keeping.of(key).tags if tag in quotas] if quotas else []

    def pins(self, key: bytes, length: int) -> bool:
        """Is the key pinned, and is there room for it among the pins?"""
        if not self.keeping.has_pins or PIN not in self.keeping.of(key).tags:
            return False
        return self._index.tagged_bytes(PIN) + length <= self._changes.pins_max()

    def pinned_bytes(self) -> int:
        return self._index.tagged_bytes(PIN)

    def quotas(self) -> list[tuple[str, int, int]]:
        """Of each: its rule, the bytes it holds, its bound."""
        return [(q.rule, self._index.tagged_bytes(q.tag), q.bytes) for q in self.keeping.quotas.values()]

    def warn_once(self) -> None:
        """Once under these rules."""
        if self._changes.unpinned_bytes > self._unpinned_before and not self._warned:
            self._warned = True
            log.warning(
                "more is pinned than the cache holds for pins; the oldest of it is evicted like anything else",
                bytes_max=self._changes.pins_max(),
            )
