"""What goes between the sessions: plain data, so that nobody imports test modules to read
it."""

from __future__ import annotations

import builtins
import sys
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ATOMS: tuple[Any, ...] = (str, int, float, bool, bytes, type(None))


def plain(value: Any) -> Any:
    """The same in lists, dicts, strings and numbers; anything else as its repr."""
    if type(value) in _ATOMS:
        return value
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    if isinstance(value, (list, set, frozenset)):
        return list(map(plain, value))
    for cls in _ATOMS[:-1]:  # of a class derived from it
        if isinstance(value, cls):
            return cls(value)
    return repr(value)


def pack_warning(warning: warnings.WarningMessage) -> tuple[str, str, str, str, int]:
    """(text, module and name of the category, filename, line number)."""
    category = warning.category
    return (
        str(warning.message),
        category.__module__,
        category.__qualname__,
        str(warning.filename),
        warning.lineno,
    )


def unpack_warning(packed: tuple[str, str, str, str, int]) -> warnings.WarningMessage:
    """The warning; its category is a stand-in if main has not imported the real one."""
    text, module, name, filename, lineno = packed
    owner = builtins if module == "builtins" else sys.modules.get(module)
    category: Any = getattr(owner, name, None)
    message: Warning | None = None
    if isinstance(category, type) and issubclass(category, Warning):
        try:
            message = category(text)
        except Exception:  # it takes something else
            pass
    if message is None or str(message) != text:
        category = type(name, (Warning,), {"__module__": module})
        message = category(text)
    return warnings.WarningMessage(message, category, filename, lineno)
