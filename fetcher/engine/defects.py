"""Defects of ours that cost one target: named in its result, and logged once with a traceback for the operator.

Neither the text nor the log holds the exception's own message: that may quote what a server, a list or a row held.
"""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from types import TracebackType

log = logging.getLogger(__name__)

_ROOT = f"{Path(__file__).parents[2]}/"
_PACKAGES = (f"{_ROOT}fetcher/", f"{_ROOT}jobs/")
_FRAMES_SHOWN = 30
"""The innermost frames of a traceback; a recursion has a thousand."""
_PLACES_REMEMBERED = 1_000
_logged: set[tuple[str, str]] = set()


def report_defect(error: BaseException, step: str) -> str:
    """Log a defect with its traceback, once for each place in the code, and return a line that names it.

    ``step`` says what was being done, as in "recording the result". The line reads
    ``OverflowError while recording the result (fetcher/details.py:102, encode_detail)``.
    """
    kind, place = _kind(error), _place(error.__traceback__)
    text = f"{kind} while {step}{place}"
    if (kind, place) not in _logged and len(_logged) < _PLACES_REMEMBERED:
        _logged.add((kind, place))
        frames = "".join(traceback.format_tb(error.__traceback__, limit=-_FRAMES_SHOWN))
        log.error("%s; further ones at this place are not logged\n%s", text, frames.rstrip())
    return text


def _kind(error: BaseException) -> str:
    """Return the exception's name, with the database's code for it (SQLSTATE, or SQLite's name) where it has one."""
    cause = error.__cause__
    code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
    return f"{type(error).__name__} {code}" if code else type(error).__name__


def _place(trace: TracebackType | None) -> str:
    """Return the innermost frame of the project's own code, as ``" (file:line, function)"``; empty where none is.

    ``traceback.extract_tb`` would read the source of every frame: this is called for each defect, logged or not.
    """
    found = ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename.startswith(_PACKAGES):
            found = f" ({code.co_filename[len(_ROOT) :]}:{trace.tb_lineno}, {code.co_name})"
        trace = trace.tb_next
    return found
