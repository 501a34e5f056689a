"""An S3 caching gateway for training fleets.

The rooms, and the way imports go (down only), are in ARCHITECTURE.md.
"""

__version__ = "0.1.0"
