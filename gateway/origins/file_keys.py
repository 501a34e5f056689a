"""Where a key lives below a bucket's directory. Pure; `file_tree.py` does the I/O.

A key is cut at its slashes. Every part but the last names a directory, the last one names the file. A part
that a file system can hold as it is stays as it is, so a data set that is already on the NAS is readable
under its own names and what clients write looks natural there. The rest is escaped:

    part                                    as a directory    as the file
    plain                                   name              name
    "", ".", "..", with NUL, > 255 bytes,   .s3~d<text>       .s3~f<text>
      or beginning with ".s3~"
    plain, but a directory has the name     -                 .s3~f<text>

The last line is key `a` beside key `a/b`: `a` moves aside when `a/b` comes, and is written there when `a`
is a directory already.

<text> is the part with `%` as %25 and NUL as %00. When it does not fit a name of 255 bytes, its beginning
goes into directories `.s3~c<text>`, each as long as it can be without splitting a character.

Two keys never share a path: an escaped name is read back by one rule, a plain name never begins with `.s3~`,
and directories and files of escaped parts have names of their own. A name that this file would not have
produced (`.s3~x`, text that is not UTF-8) is no key: it is not listed and cannot be read. Case, trailing
spaces and control characters are left to the file system, which is probed once for keeping them apart
(`file_tree.Tree.prepare`).
"""

from __future__ import annotations

from gateway.errors import Unsupported

MARK = b".s3~"
CONTINUED = MARK + b"c"
DIRECTORY = MARK + b"d"
FILE = MARK + b"f"
NAME_BYTES_MAX = 255
_TEXT_BYTES_MAX = NAME_BYTES_MAX - len(CONTINUED)


def key_bytes(key: str) -> bytes:
    try:
        return key.encode()
    except UnicodeEncodeError as error:
        raise Unsupported("A key must be valid UTF-8.") from error


def directories(prefix: bytes) -> list[bytes]:
    """Names of the nested directories that hold all keys under `prefix`, which ends with a slash or is
    empty."""
    parts = prefix.split(b"/")[:-1]
    return [name for part in parts for name in _names(part, DIRECTORY)]


def steps(key: bytes) -> list[tuple[bytes, bytes | None]]:
    """The directories above a key, each with the key whose file may have that very name (None: none can)."""
    parts = key.split(b"/")[:-1]
    return [
        (name, b"/".join(parts[: depth + 1]) if name == part else None)
        for depth, part in enumerate(parts)
        for name in _names(part, DIRECTORY)
    ]


def own_name(key: bytes) -> bytes | None:
    """The file's plain name in its directory, None when the last part must be escaped."""
    leaf = key.rpartition(b"/")[2]
    return leaf if _plain(leaf) else None


def aside_names(key: bytes) -> list[bytes]:
    """The key's other path, for when its own is a directory: names below the directory of its own
    path. The only path of a key whose last part must be escaped."""
    return _escaped(key.rpartition(b"/")[2], FILE)


def both_paths(key: bytes) -> list[list[bytes]]:
    head, slash, leaf = key.rpartition(b"/")
    above = directories(head + slash)
    own, aside = _names(leaf, FILE), _escaped(leaf, FILE)
    return [above + own] if own == aside else [above + own, above + aside]


def part_of(chain: bytes, name: bytes, is_directory: bool) -> bytes | None:
    """The part that `name` stands for. `chain`: the joined text of the `.s3~c` directories around it. None:
    not a name of ours."""
    if not name.startswith(MARK):
        return name if not chain and _is_text(name) else None
    kind = DIRECTORY if is_directory else FILE
    if not name.startswith(kind):
        return None
    text = chain + name[len(kind) :]
    part = _unescape(text)
    if part is None or not _is_text(part):
        return None
    canonical = _names(part, kind) if is_directory else _escaped(part, kind)
    return part if _chain_text(canonical) == chain and canonical[-1] == name else None


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _chain_text(names: list[bytes]) -> bytes:
    return b"".join(name[len(CONTINUED) :] for name in names[:-1])


def _names(part: bytes, kind: bytes) -> list[bytes]:
    return [part] if _plain(part) else _escaped(part, kind)


def _plain(part: bytes) -> bool:
    return (
        part not in (b"", b".", b"..")
        and len(part) <= NAME_BYTES_MAX
        and b"\0" not in part
        and not part.startswith(MARK)
    )


def _escaped(part: bytes, kind: bytes) -> list[bytes]:
    text = part.replace(b"%", b"%25").replace(b"\0", b"%00")
    names = []
    while len(text) > _TEXT_BYTES_MAX:
        cut = _cut(text)
        names.append(CONTINUED + text[:cut])
        text = text[cut:]
    names.append(kind + text)
    return names


def _cut(text: bytes) -> int:
    """The longest beginning that splits neither a UTF-8 character nor an escape."""
    cut = _TEXT_BYTES_MAX
    while text[cut] & 0xC0 == 0x80:
        cut -= 1
    percent = text.rfind(b"%", cut - 2, cut)
    return percent if percent >= 0 else cut


def _unescape(text: bytes) -> bytes | None:
    pieces = text.split(b"%")
    out = [pieces[0]]
    for piece in pieces[1:]:
        if piece.startswith(b"25"):
            out.append(b"%" + piece[2:])
        elif piece.startswith(b"00"):
            out.append(b"\0" + piece[2:])
        else:
            return None
    return b"".join(out)
