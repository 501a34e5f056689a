"""Counters, logs and the access log. Everything may import this room; it imports nothing of the product.

Nouns: metric (a row of `names.TABLE`), Metrics (the plain numbers of one worker), snapshot (them as JSON),
RequestRecord and RequestLog (one request, counted and written down), Exposition (all workers as one scrape).
Workers count, the supervisor adds up: no number is shared between processes.
"""
