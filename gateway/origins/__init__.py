"""The clouds behind the gateway, all behind the `Origin` protocol of `base.py`: `file*.py` a directory, `s3*.py` AWS
and what speaks like it, `gcs*.py` and `azure*.py`, which build on that; `mirror.py` one origin over several.
`factory.py` makes them from the config.

Nouns: Origin (one configured cloud), Remote (bucket and key there), Reading (an open ranged read), Upload
body (`PutBody`), Capabilities. Called by `objects/` and `cache/fills.py`. Cloud errors become the kinds of
`gateway/errors.py` here and nowhere else; retries, limits and adaptive concurrency (`limits.py`) sit here
too. Never caches, never authorizes, never sees a client's signature.
"""
