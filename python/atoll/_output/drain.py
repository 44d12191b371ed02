"""Main's side of what interpreters print and log: written here, in order.

See ext/output/output.h for how it comes here.
"""

from __future__ import annotations

import sys
from _thread import RLock
from posix import register_at_fork

from .. import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


# One thread writes at a time. A fork waits for it, if it can: the child must
# not find main's streams locked by a thread that it does not have.
_lock = RLock()
_FORK_PATIENCE = 1.0

# The streams that have failed: each is reported once.
_failed: list[Any] = [None, None]

# An error that the next caller in main gets to see.
_pipe_error: BrokenPipeError | None = None


def drain(upto: int, live: bool = False) -> None:
    """Write out everything up to piece number `upto`.

    An error of a stream is reported and otherwise ignored, since what was
    called has gone well; but when nobody reads any more the program should end,
    as it would if it printed the lines itself. So a caller (not `live`) gets
    the BrokenPipeError.
    """
    global _pipe_error
    if _lock._is_owned():  # type: ignore[attr-defined]
        # A stream's write(), a logging handler or a signal handler, called
        # from below, uses an interpreter. Its output's turn comes.
        return
    with _lock:
        while (piece := _core._peek_output(upto)) is not None:
            number, kind, interp, flush, data = piece
            try:
                if kind == _core._OUTPUT_RECORD:
                    _handle(interp, data)
                elif kind == _core._OUTPUT_COVERAGE:
                    _add_coverage(data)
                else:
                    _write(kind, data, flush)
            finally:
                _core._drop_output(number)
        if _pipe_error is not None and not live:
            error, _pipe_error = _pipe_error, None
            raise error


def _write(kind: int, data: str | bytes, flush: bool) -> None:
    name = ("stdout", "stderr")[kind]
    file = getattr(sys, name, None)
    if file is None:
        return
    try:
        if isinstance(data, str):
            try:
                file.write(data)
            except UnicodeEncodeError:
                file.write(_writable(file, data))
        else:
            _write_bytes(file, data)
        if flush and hasattr(file, "flush"):
            file.flush()
    except BrokenPipeError as exc:
        global _pipe_error
        _pipe_error = exc
    except Exception as exc:
        if _failed[kind] is not file:
            _failed[kind] = file
            text = f"what interpreters print cannot be written to sys.{name}"
            _core._report(exc, text)


def _writable(file: Any, text: str) -> str:
    """The text without what the file cannot encode."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _write_bytes(file: Any, data: bytes) -> None:
    buffer = getattr(file, "buffer", None)
    if buffer is None:
        encoding = getattr(file, "encoding", None) or "utf-8"
        file.write(data.decode(encoding, "backslashreplace"))
    else:
        file.flush()  # the text before it
        buffer.write(data)


def _handle(interp: int, data: Any) -> None:
    try:
        from marshal import loads

        what, *fields = loads(data)
        if what == "warning":
            from . import warnings as _warnings

            _warnings.handle(*fields)
        elif what == "tracker":
            from .._follow import tracker

            tracker.adopt(*fields)
        else:
            from . import logging as _logging

            _logging.handle(interp, *fields)
    except Exception as exc:
        _core._report(exc, "a log record or warning of an interpreter cannot be handled")


def _add_coverage(data: Any) -> None:
    try:
        from .._look import coverage as _coverage

        _coverage.add(data)
    except Exception as exc:
        _core._report(exc, "what coverage measured in an interpreter is lost")


_held = False  # by the fork under way; written with the lock held


def before_fork() -> None:
    """Called by the core before main forks, if anything has been printed."""
    global _held
    if _lock.acquire(timeout=_FORK_PATIENCE):
        _held = True


def _after_fork_in_parent() -> None:
    global _held
    if _held and _lock._is_owned():  # type: ignore[attr-defined]
        _held = False
        _lock.release()


def _after_fork_in_child() -> None:
    _after_fork_in_parent()
    if not _lock._is_owned():  # type: ignore[attr-defined]
        _lock._at_fork_reinit()  # type: ignore[attr-defined]


register_at_fork(
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
