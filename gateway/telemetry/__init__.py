"""Counters, logs and the access log. Everything may import this room; it imports nothing of the product."""
