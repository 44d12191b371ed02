"""In an interpreter of atoll's: take over surroundings that a task has brought.

Only what has changed since the last time is touched, so that what the code here has set
itself stays.
"""

from __future__ import annotations

import sys

from .._hook import after_import
from . import DECIMAL, ENVIRON, LOGGING, MULTIPROCESSING, PATH, RECURSION, WARNINGS
from .collect import NUMBERS, USUAL_FILTERS, flags, numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def apply(part: int, old: Any, new: Any) -> None:
    """Let a part be `new`; `old` is what was applied last (None: nothing)."""
    _APPLY[part](old, new)


def _environ(old: Any, new: Any) -> None:
    """In the mapping alone: the environment of C is the process's, and is so already."""
    data = sys.modules["os"].environ._data
    old, new = old or {}, new or {}
    for name, value in new.items():
        if old.get(name) != value:
            data[name] = value
    for name in old.keys() - new.keys():
        data.pop(name, None)


def _path(old: Any, new: Any) -> None:
    sys.path[:] = _merge(sys.path, old or (), new or ())
    from importlib import invalidate_caches

    invalidate_caches()  # what is new there may have been made a moment ago


def _merge(now: list[Any], old: tuple[Any, ...], new: tuple[Any, ...]) -> list[Any]:
    """The list of there; before and after it what this one has of its own."""
    known = {*old, *new}
    first = next((i for i, item in enumerate(now) if item in known), 0)
    before = now[:first]
    after = [item for item in now[first:] if item not in known]
    return [*before, *new, *after]


def _recursion(old: Any, new: Any) -> None:
    if new is not None:
        sys.setrecursionlimit(new)


def _logging(old: Any, new: Any) -> None:
    from .._output import stream

    stream.follow_levels(old, new)


# ----------------------------------------------------------------------- warnings


# What is to be there, and what was put there.
_wanted: tuple[Any, ...] = ()
_placed: tuple[Any, ...] | None = None


def _warnings(old: Any, new: Any) -> None:
    global _wanted
    _wanted = tuple(USUAL_FILTERS) if new is None else new
    for item in _wanted:
        # The category of a module that is not imported here: nobody can warn of it yet.
        if item[2][0] not in sys.modules:
            after_import(item[2][0], _set_filters)
    _set_filters()


def _set_filters() -> None:
    global _placed
    import warnings

    module: Any = warnings
    now = tuple(item for item in map(_filter, _wanted) if item is not None)
    # Those that an interpreter begins with are main's, too, unless main has taken them out.
    then = tuple(module.filters) if _placed is None else _placed
    module.filters[:] = _merge(module.filters, then, now)
    _placed = now
    module._filters_mutated()


def _filter(item: Any) -> tuple[Any, ...] | None:
    """The filter of a description; None if its category is not there."""
    action, message, (module, name), where, line = item
    category: Any = sys.modules.get(module)
    for part in name.split("."):
        category = getattr(category, part, None)
    if not isinstance(category, type):
        return None
    return (action, _pattern(message), category, _pattern(where), line)


def _pattern(pattern: Any) -> Any:
    if not isinstance(pattern, tuple):
        return pattern
    import re

    return re.compile(*pattern)


# ------------------------------------------------------------------------ decimal


def _decimal(old: Any, new: Any) -> None:
    after_import("decimal", lambda: _set_context(old, new))


def _set_context(old: Any, new: Any) -> None:
    import decimal

    usual = decimal.DefaultContext
    context = decimal.getcontext()
    then_numbers, then_flags = old or (numbers(usual), flags(decimal, usual))
    now_numbers, now_flags = new or (numbers(usual), flags(decimal, usual))
    for name, then, now in zip(NUMBERS, then_numbers, now_numbers, strict=True):
        if then != now:
            setattr(context, name, now)
    for name in {*then_flags} ^ {*now_flags}:
        context.traps[getattr(decimal, name)] = name in now_flags


# ---------------------------------------------------------------- multiprocessing


def _multiprocessing(old: Any, new: Any) -> None:
    key, fd = new or (None, None)
    old_key = old[0] if old else None
    if key is not None and key != old_key:
        after_import("multiprocessing.process", lambda: _set_key(key))
    from . import tracker

    tracker.use(fd)


def _set_key(key: bytes) -> None:
    process: Any = sys.modules["multiprocessing.process"]  # no attribute of it yet
    process.current_process().authkey = key


_APPLY = {
    ENVIRON: _environ,
    PATH: _path,
    RECURSION: _recursion,
    WARNINGS: _warnings,
    LOGGING: _logging,
    DECIMAL: _decimal,
    MULTIPROCESSING: _multiprocessing,
}
