"""One line per mistake: the key's path, then a sentence. Secrets are never in it, nor the words of the library that
checks types."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

Location = Sequence[int | str]


class Mistake(NamedTuple):
    """`path` as people write it: `origins[1].endpoint`; the file's name when the file itself cannot be read."""

    path: str
    text: str

    def __str__(self) -> str:
        return "".join(map(_printable, f"{self.path}: {self.text}"))


def _printable(char: str) -> str:
    """So that one mistake stays one line, whatever the file quotes."""
    return char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()


class ConfigError(Exception):
    """`mistakes`: every one that was found, one line each."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = [str(mistake) for mistake in mistakes]
        super().__init__("\n".join(self.mistakes))


def dotted(location: Location) -> str:
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part, ensure_ascii=False)
            text += f".{name}" if text else name
    return text


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The table that a key of this type holds, or a list of such tables; None for anything else."""
    candidates = [annotation, *get_args(annotation)]
    found = (item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel))
    return next(found, None)


def model_at(root: type[BaseModel], location: Location) -> type[BaseModel] | None:
    """The table that holds the last key of `location`."""
    model: type[BaseModel] | None = root
    for part in location[:-1]:
        if isinstance(part, str):
            field = model.model_fields.get(part) if model is not None else None
            model = model_of(field.annotation) if field is not None else None
    return model


def unknown_key(root: type[BaseModel], location: Location) -> str:
    model = model_at(root, location)
    known = list(model.model_fields) if model is not None else []
    near = difflib.get_close_matches(str(location[-1]).lower(), known, 1, 0.6)
    return f"is not a known key; did you mean {near[0]}?" if near else "is not a known key"


def explain(root: type[BaseModel], error: ErrorDetails) -> Mistake:
    """One of pydantic's errors in our words."""
    location, kind = error["loc"], error["type"]
    context: Mapping[str, Any] = error.get("ctx", {})
    if kind == "extra_forbidden":
        return Mistake(dotted(location), unknown_key(root, location))
    if kind == "tuple_type":
        return Mistake(dotted(location), _not_a_list(root, location))
    say = _SENTENCES.get(kind)
    return Mistake(dotted(location), say(context) if say else "is not a value that this key takes")


def _not_a_list(root: type[BaseModel], location: Location) -> str:
    model = model_at(root, location)
    field = model.model_fields.get(str(location[-1])) if model is not None else None
    if field is not None and model_of(field.annotation) is not None:
        path = ".".join(part for part in location if isinstance(part, str))
        return f"must be a list of tables: write [[{path}]]"
    return 'must be a list, such as ["a", "b"]'


def _one_of(context: Mapping[str, Any]) -> str:
    names = [name for name in re.findall(r"'([^']*)'", context["expected"]) if name]
    return "must be " + " or ".join([", ".join(f'"{name}"' for name in names[:-1]), f'"{names[-1]}"'])


def _always(text: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda _: text


_WHOLE: Final = _always("must be a whole number")
_NUMBER: Final = _always("must be a number")
_YES_NO: Final = _always("must be true or false")
_TABLE: Final = _always("must be a table")
_SENTENCES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "value_error": lambda context: str(context["error"]),
    "literal_error": _one_of,
    "string_type": _always("must be text in quotes"),
    "string_unicode": _always("must be valid UTF-8"),
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": _YES_NO,
    "bool_parsing": _YES_NO,
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
    "dict_type": _TABLE,
    "greater_than_equal": lambda context: f"must be at least {context['ge']:g}",
    "less_than_equal": lambda context: f"must be at most {context['le']:g}",
}
