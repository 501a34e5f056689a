"""The block cache of a node: segments on SSD, an LMDB index over them, and the fills that bring blocks in.

Nouns: version (one etag of one object, u64 id), block, extent, segment, record, index, fill, admission,
eviction. All workers of a node share it. Called by `objects/` and the hot path. It never decides whether an
entry is fresh enough (that is `objects/revalidate.py`), never authorizes, and never invents an ETag.
"""
