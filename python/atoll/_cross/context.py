"""Context variables and contexts.

A variable that a module holds is that module's variable there. One of ``__main__``, which
goes by value, is made once in each interpreter. A context crosses as a copy: of the
variables that are set in it, those whose values can cross. It is what code finds around
it, not what it is given, so what cannot cross is left out and does not fail the call.
"""

from __future__ import annotations

import sys
from contextvars import Context, ContextVar

from .._core import create_queue
from ..errors import NotShareableError
from . import identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Variables have no weak references, and live as long as their modules.
_places: dict[ContextVar[Any], tuple[str, str]] = {}


def _place(variable: ContextVar[Any]) -> tuple[str, str] | None:
    """The module that holds it, and under which name."""
    known = _places.get(variable)
    if known is not None:
        return known
    for module_name, module in list(sys.modules.items()):
        if module_name == "__main__":
            continue
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is variable:
                return _places.setdefault(variable, (module_name, name))
    return None


def reduce_variable(variable: ContextVar[Any]) -> tuple[Any, ...]:
    from . import modules

    place = _place(variable)
    if place is not None:
        name, attribute = place
        if modules.is_found(name, sys.modules.get(name)):
            return _of_module, place
        value = modules.reduce(name, attribute)
        if value is not None:
            return value
    default: tuple[Any, ...] = ()
    try:
        default = (Context().run(variable.get),)
    except LookupError:
        pass
    return _variable, (identity.number(variable), variable.name, default)


def _of_module(module: str, name: str) -> ContextVar[Any]:
    __import__(module)
    found: ContextVar[Any] = getattr(sys.modules[module], name)
    return found


def _variable(number: str, name: str, default: tuple[Any, ...]) -> ContextVar[Any]:
    found: ContextVar[Any] | None = identity.find(number)
    if found is None:
        given = {"default": default[0]} if default else {}
        found = identity.once(number, ContextVar(name, **given))
    return found


def reduce_context(context: Context) -> tuple[Any, ...]:
    return _context, ([pair for pair in context.items() if _can_cross(pair)],)


def _can_cross(pair: tuple[ContextVar[Any], Any]) -> bool:
    try:
        create_queue().put_nowait(pair)  # it goes with the queue
    except NotShareableError:
        return False
    return True


def _context(pairs: list[tuple[ContextVar[Any], Any]]) -> Context:
    context = Context()
    for variable, value in pairs:
        context.run(variable.set, value)
    return context
