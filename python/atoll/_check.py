"""What people give as arguments: an error names the argument, what it may be, and what
has come instead.
"""

from __future__ import annotations

from _operator import index  # the module operator takes longer to import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def check_int(value: Any, what: str, wanted: str = "an int") -> int:
    """An int, or what can stand for one, as NumPy's do."""
    try:
        return index(value)
    except TypeError:
        raise _not(value, what, wanted) from None


def check_number(value: Any, what: str) -> None:
    """Seconds, with any sign, or None."""
    kind = type(value)
    if value is None or hasattr(kind, "__float__") or hasattr(kind, "__index__"):
        return
    raise _not(value, what, "a number of seconds or None")


def check_seconds(value: Any, what: str) -> None:
    """Seconds or None."""
    check_number(value, what)
    if value is not None and not value >= 0:  # or it is not a number
        raise ValueError(f"{what} must be a non-negative number of seconds, not {value!r}")


def check_iterable(value: Any, what: str, wanted: str = "an iterable") -> None:
    """Anything that iter() takes; what its iterator raises is its own affair."""
    kind = type(value)
    if not hasattr(kind, "__iter__") and not hasattr(kind, "__getitem__"):
        raise _not(value, what, wanted)


def check_tuple(value: Iterable[Any], what: str) -> tuple[Any, ...]:
    """The objects in an iterable."""
    check_iterable(value, what)
    return tuple(value)


def check_mapping(value: Any, what: str) -> dict[Any, Any]:
    """A copy of a mapping; of None an empty one."""
    if value is None:
        return {}
    if not hasattr(type(value), "keys"):
        raise _not(value, what, "a mapping or None")
    return dict(value)


def check_callable(value: Any, what: str) -> None:
    """What can be called."""
    if not callable(value):
        raise _not(value, what, "callable")


def check_file(value: Any, wanted: str) -> None:
    """What text can be written to."""
    if not hasattr(value, "write"):
        raise _not(value, "file", wanted)


def _not(value: object, what: str, wanted: str) -> TypeError:
    return TypeError(f"{what} must be {wanted}, not {type(value).__name__}")
