"""The process log: structlog to stderr, one event a line, JSON or for people.

What must hold at every level: no secret, token or signature is written, and a log that cannot be written
(full disk, broken pipe) harms nobody. Other libraries' records come in from WARNING up only: botocore's
debug records hold whole signed requests.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import structlog
from structlog.typing import Processor

HIDDEN: Final = "***"
_HIDDEN_KEY: Final = re.compile(r"secret|token|authorization|signature|password|credential", re.IGNORECASE)
# In running text (an origin's URL in an exception): name=value or name: value.
_HIDDEN_TEXT: Final = re.compile(
    r"(?i)((?:secret[a-z_-]*|[a-z-]*token|authorization|signature|password)['\"]?\s*[=:]\s*['\"]?)"
    r"((?:AWS4-HMAC-SHA256|AWS|Bearer)\s+)?[^\s&'\",;]+"
)
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def wants_json(form: str, fd: int = 2) -> bool:
    """`form`: `json`, `console`, or `auto`: console when a person is watching."""
    return form == "json" or (form == "auto" and not os.isatty(fd))


def setup(level: str, form: str, *, worker: int | None = None) -> None:
    """For this process, once. `level` and `form` as in the config's [log]."""
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _numbered(worker),
        # Tracebacks as text: the structured ones and rich's carry local variables, which may be secrets.
        structlog.processors.format_exc_info,
        mask,
    ]
    if wants_json(form):
        processors.append(structlog.processors.JSONRenderer())
    else:
        processors += [_printable, structlog.dev.ConsoleRenderer(colors=os.isatty(2))]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=_StderrLogger,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Foreign()]
    root.setLevel(max(_LEVELS[level], logging.WARNING))


def mask(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hides values by their key and, in text, by what stands before them."""
    for key, value in event.items():
        event[key] = HIDDEN if _HIDDEN_KEY.search(key) else _masked(value)
    return event


def _masked(value: Any) -> Any:
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(k): HIDDEN if _HIDDEN_KEY.search(str(k)) else _masked(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_masked(item) for item in value]
    text = value if isinstance(value, str) else repr(value)
    return _HIDDEN_TEXT.sub(lambda found: found[1] + HIDDEN, text)


_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_CONTROL_IN_TRACEBACK: Final = {code: text for code, text in _CONTROL.items() if code != 10}


def _printable(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A key that a client chose must not drive the terminal of who reads the log."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = value.translate(_CONTROL_IN_TRACEBACK if key == "exception" else _CONTROL)
    return event


def _numbered(worker: int | None) -> Processor:
    def number(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if worker is not None:
            event["worker"] = worker
        return event

    return number


class _StderrLogger:
    """Writes whole lines past Python's buffers, so that lines of several workers do not mix. Lines that cannot
    be written are lost."""

    def __init__(self, *_args: object) -> None:
        pass

    def msg(self, message: str) -> None:
        with contextlib.suppress(OSError):
            os.write(2, message.encode("utf-8", "backslashreplace") + b"\n")

    debug = info = warning = warn = error = critical = exception = log = fatal = failure = err = msg


class _Foreign(logging.Handler):
    """Records of the libraries, into the same log."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger()
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # a library's own mistake in its format
            text = str(record.msg)
        call = logger.error if record.levelno >= logging.ERROR else logger.warning
        call(text, logger=record.name, exc_info=record.exc_info)


__all__ = ["mask", "setup", "wants_json"]
