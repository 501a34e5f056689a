"""S3 over HTTP, as clients see it.

Nouns: Connection (one socket, HTTP/1.1), RequestHead, Exchange (one request and its answer), hot path (plain GET and
HEAD hits answered inside the read callback), handler (everything else, one coroutine a request). Order on every
path: authenticate, authorize for this identity, only then look at the cache. Never talks to a cloud itself.
"""
