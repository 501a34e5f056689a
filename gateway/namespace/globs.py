"""Glob patterns compiled to one regular expression each, matched in time linear in the text (quadratic at worst
with `**` before a last part). Operators write the patterns but clients choose the keys, so a pattern must not
backtrack without bound: every literal piece between two wildcards is matched lazily inside an atomic group. That
loses no match, because the wildcard that follows can always absorb what an earlier match leaves over.

Two dialects:
  path   rules, over `bucket/key`: `?` and `*` stay inside one path segment, `**` crosses `/`, and `/**/` also
         stands for a single `/`
  iam    access resources and actions, as in IAM policies: `*` and `?` cross `/`
"""

from __future__ import annotations

import re


def compile_path_glob(pattern: str) -> re.Pattern[str]:
    """Raises ValueError when `pattern` cannot match any `bucket/key`."""
    if "/" not in pattern and "**" not in pattern:
        raise ValueError(
            f'"{pattern}" names no key; the pattern is over bucket/key, such as "{pattern or "b"}/**"'
        )
    if pattern.startswith("/"):
        raise ValueError(f'"{pattern}" starts with "/"; the pattern is over bucket/key')
    chunks = re.split(r"\*{2,}", pattern)
    parts = [_chunk(chunks[0], last=len(chunks) == 1)]
    for number, chunk in enumerate(chunks[1:], 1):
        last = number == len(chunks) - 1
        if chunk.startswith("/") and (
            chunks[number - 1].endswith("/") or chunks[number - 1] == "" != parts[0]
        ):
            body = "(?<=/)" + _chunk(chunk[1:], last)
        else:
            body = _chunk(chunk, last)
        parts.append(f".*?{body}" if last else f"(?>.*?{body})")
    return re.compile("".join(parts) + r"\Z", re.DOTALL)


def compile_iam_glob(pattern: str, *, ignore_case: bool = False) -> re.Pattern[str]:
    first, *rest = re.split(r"\*+", pattern)
    parts = [_literal(first, ".")]
    parts += [f"(?>.*?{_literal(piece, '.')})" for piece in rest[:-1]]
    parts += [f".*{_literal(piece, '.')}" for piece in rest[-1:]]
    return re.compile("".join(parts) + r"\Z", re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def _chunk(chunk: str, last: bool) -> str:
    """The part between two `**`. The final piece of the last chunk is tied to the end of the text instead."""
    first, *rest = chunk.split("*")
    pieces = [_literal(first, "[^/]")]
    for number, piece in enumerate(rest, 1):
        body = f"[^/]*?{_literal(piece, '[^/]')}"
        pieces.append(body if last and number == len(rest) else f"(?>{body})")
    return "".join(pieces)


def _literal(text: str, any_one: str) -> str:
    return "".join(any_one if char == "?" else re.escape(char) for char in text)
