"""What differs between the config that a node runs with and the one it shall take over. Pure. Names only, never values:
what is said here goes to logs and to whoever asked for the reload.

    taken over while the node runs   origins, mounts, rules, identities
    only at a start                  everything else: sockets, the cache on disk and the processes hang on it
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Literal, TypedDict

from gateway.config.schema import Config, Section

# Section and the key by which people know its entries.
RELOADED: Final = {"origins": "name", "mounts": "path", "rules": "match", "identities": "name"}


Kind = Literal["mistakes", "conflict", "workers"]


class ReloadRefused(Exception):
    """Nothing has changed. `kind`: the file has mistakes; it, or the node, does not allow a reload; a worker could not
    follow, or the file could not be read in time (`workers`, too: trying again later may do). `mistakes`: (key path,
    sentence)."""

    def __init__(self, kind: Kind, reason: str, mistakes: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(reason)
        self.kind = kind
        self.mistakes = list(mistakes)


class Difference(TypedDict, total=False):
    """Entries by name, in the order of the file; `reordered` where nothing else is different (rules: the first match
    wins). Empty ones are left out."""

    added: list[str]
    removed: list[str]
    changed: list[str]
    reordered: bool


def fixed_changes(old: Config, new: Config) -> list[str]:
    """Paths of the keys that differ and cannot change while the node runs."""
    found = []
    for name in Config.model_fields:
        if name not in RELOADED:
            before, after = getattr(old, name), getattr(new, name)
            found += [f"{name}.{key}" for key in _differing(before, after)]
    return found


def _differing(old: Section, new: Section) -> Iterator[str]:
    """A key that neither file sets is no change: the default of `node.name` is what the machine is called now."""
    for key in type(old).model_fields:
        is_set = key in old.model_fields_set or key in new.model_fields_set
        if is_set and getattr(old, key) != getattr(new, key):
            yield key


def taken_over(old: Config, new: Config) -> Config:
    """What the node runs with next: the new entries, everything else as it was."""
    return old.model_copy(update={name: getattr(new, name) for name in RELOADED})


def differences(old: Config, new: Config) -> dict[str, Difference]:
    """By section; sections without any are left out."""
    found = {name: _difference(getattr(old, name), getattr(new, name), key) for name, key in RELOADED.items()}
    return {name: difference for name, difference in found.items() if difference}


def _difference(old: Sequence[Section], new: Sequence[Section], key: str) -> Difference:
    before, after = dict(_named(old, key)), dict(_named(new, key))
    difference: Difference = {}
    if added := [name for name in after if name not in before]:
        difference["added"] = added
    if removed := [name for name in before if name not in after]:
        difference["removed"] = removed
    if changed := [name for name in after if name in before and before[name] != after[name]]:
        difference["changed"] = changed
    if not difference and tuple(old) != tuple(new):
        difference["reordered"] = True
    return difference


def _named(entries: Iterable[Section], key: str) -> Iterator[tuple[str, Any]]:
    """Rules may share a glob: the second one is `glob (2)`."""
    seen: Counter[str] = Counter()
    for entry in entries:
        name: str = getattr(entry, key)
        seen[name] += 1
        yield (name if seen[name] == 1 else f"{name} ({seen[name]})"), entry


__all__ = ["RELOADED", "Difference", "ReloadRefused", "differences", "fixed_changes", "taken_over"]
