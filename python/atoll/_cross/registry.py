"""Types that say themselves how they cross: atoll.register."""

from __future__ import annotations

import sys

from .. import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# "module:qualname" of a type -> the same of its reduce and rebuild, for the
# interpreters that this one makes.
_names: dict[str, tuple[str, str]] = {}


def register[T](
    type: type[T], reduce: Callable[[T], Any], rebuild: Callable[[Any], T]
) -> None:
    """Say how objects of a type of yours cross.

    Args:
      type: the class; its subclasses are not included.
      reduce: called where an object is sent; returns anything that crosses.
      rebuild: called where it is received, with what `reduce` returned; returns
        the object. It crosses itself: by name if it can be imported, else by
        value.

    Holds for this interpreter, and for those that it makes from now on, if type
    and functions can be imported there. Registering a type again replaces what
    was said before.

    Raises TypeError if `type` is no class, is one that crosses by itself (int,
    str, list, ...), or a function cannot be called.
    """
    _core._register(type, reduce, rebuild)
    names = _name(type), _name(reduce), _name(rebuild)
    if None in names:
        _names.pop(names[0] or "", None)
    else:
        _names[names[0]] = names[1:]  # type: ignore[index, assignment]


def _name(obj: Any) -> str | None:
    """How another interpreter finds it."""
    module = getattr(obj, "__module__", None)
    qualname = getattr(obj, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str):
        return None
    if module == "__main__":
        return None
    name = f"{module}:{qualname}"
    try:
        return name if _find(name) is obj else None
    except (ImportError, AttributeError):
        return None


def _find(name: str) -> Any:
    module, _, qualname = name.partition(":")
    __import__(module)
    found: Any = sys.modules[module]
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


_FROZEN = "frozen "  # before a name: of register_frozen


def inherited() -> tuple[tuple[str, str, str], ...]:
    """For a new interpreter: what inherit() takes."""
    frozen = sys.modules.get("atoll._cross.frozen")
    more = () if frozen is None else frozen.names.items()
    return (
        *((name, *functions) for name, functions in _names.items()),
        *((_FROZEN + name, *functions) for name, functions in more),
    )


def inherit(entries: tuple[tuple[str, str, str], ...]) -> None:
    """In the new one: look each type's functions up when the type is first met."""
    for name, reduce, rebuild in entries:
        if name.startswith(_FROZEN):
            from . import frozen as _frozen

            _frozen.names[name.removeprefix(_FROZEN)] = reduce, rebuild
        else:
            _names[name] = reduce, rebuild
    _core._set_inherit(_lookup)


def _lookup(type: Any) -> bool | None:
    functions = _names.get(f"{type.__module__}:{type.__qualname__}")
    if functions is None:
        return None
    _core._register(type, _find(functions[0]), _find(functions[1]))
    return True
