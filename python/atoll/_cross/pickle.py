"""What the encoder and the decoder leave to Python.

Functions and classes that no module of the other interpreter has (those of
``__main__``, lambdas, closures, nested classes) go by value: their code and what
it refers to, as cloudpickle writes it. Everything here is called by the core,
which imports this module when it first needs it.
"""

from __future__ import annotations

import _pickle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PROTOCOL = 5

# ----------------------------------------------------------------- functions

def by_value(obj: Any, pickler: Any) -> tuple[Any, Any]:
    """The reduce value of a function or class, as cloudpickle has it.

    Returns (pickler, value). The pickler is None at first, and kept for a
    message: functions of one module share their new module's names through it.
    """
    import cloudpickle

    if pickler is None:
        import io

        pickler = cloudpickle.Pickler(io.BytesIO(), _PROTOCOL)
    value = pickler.reducer_override(obj)
    if value is NotImplemented:
        raise _pickle.PicklingError(f"{obj!r} is not to be found under its name")
    if isinstance(obj, type) and vars(obj).get("__slots__"):
        value = _with_slots(obj, value)
    return pickler, value


def _with_slots(cls: type, value: tuple[Any, ...]) -> tuple[Any, ...]:
    """cloudpickle makes the class first and gives it `__slots__` too late."""
    make, args, state, *rest = value
    for given in args:
        if type(given) is dict and given.get("__module__") == cls.__module__:
            given["__slots__"] = vars(cls)["__slots__"]
            state[0].pop("__slots__", None)
            break
    return make, args, state, *rest


# ------------------------------------------------------------- other objects


def reduce(obj: Any) -> tuple[Any, ...] | None:
    """For what pickle refuses: a reduce value, as of object.__reduce__, or None."""
    from . import handles as _handles

    value = _handles.reduce(obj)
    if value is not None:
        return value
    import cloudpickle

    if type(obj).__name__ == "_MISSING_TYPE":
        return _missing_of_dataclasses, ()

    # It reads files to the end, and sends what it has read: not this.
    if isinstance(obj, memoryview) or hasattr(obj, "fileno"):
        return None
    reducer = cloudpickle.Pickler.dispatch_table.get(type(obj))
    return None if reducer is None else reducer(obj)


def _missing_of_dataclasses() -> Any:
    """What has no default is told by identity."""
    import dataclasses

    return dataclasses.MISSING


def exception_state(exc: BaseException, state: dict[str, Any] | None) -> Any:
    """The state of an exception whose class has slots: pickle forgets them."""
    import copyreg

    slots = {}
    for name in copyreg._slotnames(type(exc)):  # type: ignore[attr-defined]
        try:
            slots[name] = getattr(exc, name)
        except AttributeError:
            pass  # not set
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
