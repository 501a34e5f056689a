"""Buckets of the `file` origin made and removed: sub-directories of its root. Blocking."""

from __future__ import annotations

import errno
import os
import re
import shutil
from typing import Final

from gateway.errors import Refused
from gateway.origins import file_keys
from gateway.origins.file_tree import Tree

# S3's rule for new buckets; that there are no others with looser names is not ours to say.
_NAME: Final = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def create(tree: Tree, bucket: str) -> None:
    """Raises Refused with S3's code: InvalidBucketName, BucketAlreadyOwnedByYou."""
    tree.require_writable()
    if not _NAME.fullmatch(bucket):
        raise Refused(400, "InvalidBucketName", "The specified bucket is not valid.")
    try:
        os.mkdir(tree.bucket_dir(bucket))
    except FileExistsError:
        raise Refused(409, "BucketAlreadyOwnedByYou", "The bucket is there already.") from None


def remove(tree: Tree, bucket: str) -> None:
    """Only an empty one, with its unfinished uploads. Raises NoSuchBucket, Refused (BucketNotEmpty)."""
    tree.require_writable()
    try:
        os.rmdir(tree.require_bucket(bucket))
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise Refused(409, "BucketNotEmpty", "The bucket you tried to delete is not empty.") from None
    shutil.rmtree(tree.own + b"/uploads/" + file_keys.key_bytes(bucket), ignore_errors=True)
