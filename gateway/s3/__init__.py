"""The S3 protocol as pure functions and small incremental machines: no sockets, no files, no clock of its
own.

Nouns: address (bucket and key, decoded once), operation (what is asked and the IAM action it needs),
authenticated (whose signature, over what), payload (body bytes on their way through framing and digests),
error (an S3 code). Called by `frontend/` and `objects/`; `signer` and `checksums` also by `origins/`. It
never decides who may do what, never looks at the cache, and never trusts a header that the signature does
not cover.
"""
