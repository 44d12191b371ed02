"""What the encoder and the decoder leave to Python.

Functions and classes that no module of the other interpreter has (those of
``__main__``, lambdas, closures, nested classes) go by value: their code and what
it refers to (`code`). Everything here is called by the core, which imports this
module when it first needs it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# --------------------------------------------------------------- code, and its kin


def by_value(obj: Any, pickler: Any) -> tuple[Any, Any]:
    """The reduce value of a function or class: see `code`."""
    from . import code

    return code.by_value(obj, pickler)


def reduce_code(obj: Any) -> Any:
    """The reduce value of what functools wraps, and of sets of weak references."""
    from . import code

    return code.Pickler.dispatch_table[type(obj)](obj)


def reduce_named(obj: Any) -> Any:
    """The same of what says that it is to be looked up: its name, if that finds it."""
    from . import modules

    return modules.reduce_held(obj) or reduce_code(obj)


# ------------------------------------------------------------- other objects


def reduce(obj: Any) -> tuple[Any, ...] | None:
    """For what pickle refuses: a reduce value, as of object.__reduce__, or None."""
    from . import handles as _handles

    value = _handles.reduce(obj)
    if value is not None:
        return value
    if type(obj).__name__ == "_MISSING_TYPE":
        return _missing_of_dataclasses, ()

    # cloudpickle reads files to the end, and sends what it has read: not this.
    if isinstance(obj, memoryview) or hasattr(obj, "fileno"):
        return None
    from . import code

    reducer = code.Pickler.dispatch_table.get(type(obj))
    return None if reducer is None else reducer(obj)


def _missing_of_dataclasses() -> Any:
    """What has no default is told by identity."""
    import dataclasses

    return dataclasses.MISSING


def exception_state(exc: BaseException, state: dict[str, Any] | None) -> Any:
    """The state of an exception whose class has slots, or attributes in C that its own
    reduction forgets."""
    import copyreg

    slots = {}
    for name in copyreg._slotnames(type(exc)):  # type: ignore[attr-defined]
        try:
            slots[name] = getattr(exc, name)
        except AttributeError:
            pass  # not set
    if isinstance(exc, (OSError, NameError)):
        names = ("name",) if isinstance(exc, NameError) else ("filename", "filename2")
        slots.update({n: value for n in names if (value := getattr(exc, n, None)) is not None})
    return {**(state or {}), **slots} or None


def reduce_timezone(obj: Any) -> tuple[Any, ...]:
    """A timezone of the pure-Python datetime (3.13: see ext/cpython/version.h).

    Its state is in slots, which the class in C does not have.
    """
    return type(obj), obj.__getinitargs__()


# ---------------------------------------------------------------- exceptions


def traceback_text(exc: BaseException) -> str:
    """What would be printed of `exc` and its causes."""
    from traceback import TracebackException

    return "".join(TracebackException.from_exception(exc).format()).rstrip("\n")


def attach_traceback(exc: BaseException, text: str) -> None:
    """Put a RemoteTraceback at the end of the chain of causes and contexts."""
    from ..errors import RemoteTraceback

    seen = {id(exc)}
    while True:
        previous = exc.__cause__
        if previous is None and not exc.__suppress_context__:
            previous = exc.__context__
        if previous is None or id(previous) in seen:
            break
        exc = previous
        seen.add(id(exc))
    suppress = exc.__suppress_context__
    exc.__cause__ = RemoteTraceback(text)
    exc.__suppress_context__ = suppress
