"""Where tasks are submitted: what the surroundings are now, as plain values.

Called by ext/follow/record.c for the parts that have changed, and only if the module
that has them is imported here.
"""

from __future__ import annotations

import sys

from .._plan import logging_levels
from . import DECIMAL, LOGGING, MULTIPROCESSING, WARNINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def collect(part: int) -> object:
    """The value of a part; None if it is as every interpreter begins."""
    return _COLLECT[part]()


def _warnings() -> object:
    """The filters: (action, message, (module, name) of the category, module, line)."""
    found = []
    for item in sys.modules["warnings"].filters:
        try:
            action, message, category, module, line = item
            name = (category.__module__, category.__qualname__)
            found.append((action, _pattern(message), name, _pattern(module), int(line)))
        except Exception:  # it is nothing that filterwarnings() has made
            continue
    return None if found == USUAL_FILTERS else tuple(found)


# Those that CPython gives to every interpreter (Python/_warnings.c); those of -W and of
# PYTHONWARNINGS come when the module is imported there.
USUAL_FILTERS = [
    ("default", None, ("builtins", "DeprecationWarning"), "__main__", 0),
    ("ignore", None, ("builtins", "DeprecationWarning"), None, 0),
    ("ignore", None, ("builtins", "PendingDeprecationWarning"), None, 0),
    ("ignore", None, ("builtins", "ImportWarning"), None, 0),
    ("ignore", None, ("builtins", "ResourceWarning"), None, 0),
]
if hasattr(sys, "gettotalrefcount"):  # a debug build has none
    USUAL_FILTERS = []


def _pattern(pattern: Any) -> object:
    """A regular expression as text and flags; text (to be equal to) and None as such."""
    if pattern is None or type(pattern) is str:
        return pattern
    return (str(pattern.pattern), int(pattern.flags))


def _logging() -> object:
    # That its cache of levels is cleared is how a change is seen; an empty one says
    # nothing.
    sys.modules["logging"].root.isEnabledFor(50)
    return logging_levels()


def _decimal() -> object:
    decimal = sys.modules["decimal"]
    context = decimal.getcontext()
    found = numbers(context), flags(decimal, context)
    usual = decimal.Context(prec=28)
    return None if found == (numbers(usual), flags(decimal, usual)) else found


# What is a number in a decimal context; rounding is a str.
NUMBERS = ("prec", "Emin", "Emax", "capitals", "clamp", "rounding")


def numbers(context: Any) -> tuple[object, ...]:
    return tuple(getattr(context, name) for name in NUMBERS)


def flags(decimal: Any, context: Any) -> tuple[str, ...]:
    """The names of the signals that raise."""
    return tuple(sorted(signal.__name__ for signal, on in context.traps.items() if on))


def _multiprocessing() -> object:
    """The key of multiprocessing's connections, and the descriptor of its tracker."""
    key = fd = None
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        key = bytes(process.current_process().authkey)
    module = sys.modules.get("multiprocessing.resource_tracker")
    if module is not None:
        fd = getattr(module._resource_tracker, "_fd", None)
    return key, fd


_COLLECT = {
    WARNINGS: _warnings,
    LOGGING: _logging,
    DECIMAL: _decimal,
    MULTIPROCESSING: _multiprocessing,
}
