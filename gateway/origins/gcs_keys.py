"""Which keys Google Cloud Storage can hold, and what of S3 it can do.

Source: Cloud Storage documentation, "Object name requirements", "XML API multipart uploads".
"""

from __future__ import annotations

import re
from typing import Final

from gateway.errors import Unsupported
from gateway.origins.base import Capabilities
from gateway.origins.s3_flavours import Flavour

_UNHOLDABLE = re.compile(r"[\r\n]|\A\.{1,2}\Z|\A\.well-known/acme-challenge/")


class GoogleFlavour(Flavour):
    __slots__ = ()

    def holds(self, key: str) -> bool:
        return not _UNHOLDABLE.search(key)

    def require_holdable(self, key: str) -> None:
        if not self.holds(key):
            raise Unsupported(
                "Google Cloud Storage cannot hold a key with a line break, the keys '.' and '..', or one that begins "
                "with .well-known/acme-challenge/."
            )


GOOGLE: Final = GoogleFlavour(
    Capabilities(
        versions=True,
        conditional_writes=True,
        forwards_only=frozenset(
            """
            CreateBucket DeleteBucket DeleteObject GetBucketVersioning GetObject HeadObject PutBucketVersioning
            """.split()
        ),
    ),
    copies_parts=False,
)
