"""What is made once in an interpreter, whoever sends it and how often.

A type variable, an alias or a context variable that goes by value is told by identity, so
it has a number of its own wherever it is. It is found again as long as it lives; what has
no weak references is kept.
"""

from __future__ import annotations

import threading
from weakref import WeakKeyDictionary, WeakValueDictionary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import Any

_lock = threading.Lock()
_weak: tuple[MutableMapping[Any, str], MutableMapping[str, Any]] = (
    WeakKeyDictionary(),
    WeakValueDictionary(),
)
_kept: tuple[MutableMapping[Any, str], MutableMapping[str, Any]] = ({}, {})


def _tables(obj: Any) -> tuple[MutableMapping[Any, str], MutableMapping[str, Any]]:
    return _weak if type(obj).__weakrefoffset__ else _kept


def number(obj: Any) -> str:
    """The number of this object, in all interpreters."""
    numbers, objects = _tables(obj)
    with _lock:
        known = numbers.get(obj)
        if known is None:
            import uuid

            known = numbers[obj] = uuid.uuid4().hex
            objects[known] = obj
        return known


def find(number: str) -> Any:
    """The object with this number here, or None."""
    with _lock:
        found = _kept[1].get(number)
        return _weak[1].get(number) if found is None else found


def once(number: str, obj: Any) -> Any:
    """The object that has this number here; `obj` from now on, if there is none."""
    numbers, objects = _tables(obj)
    with _lock:
        found = objects.setdefault(number, obj)
        numbers[found] = number
        return found
