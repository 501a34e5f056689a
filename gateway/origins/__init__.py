"""The clouds behind the gateway, one file each, all behind the `Origin` protocol of `base.py`.

Nouns: Origin (one configured cloud), Remote (bucket and key there), Reading (an open ranged read), Upload
body (`PutBody`), Capabilities. Called by `objects/` and `cache/fills.py`. Cloud errors become the kinds of
`gateway/errors.py` here and nowhere else; retries, limits and adaptive concurrency (`limits.py`) sit here
too. Never caches, never authorizes, never sees a client's signature.
"""
