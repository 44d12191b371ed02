"""What the encoder and the decoder leave to Python.

Functions and classes that no module of the other interpreter has (those of
``__main__``, lambdas, closures, nested classes) go by value: their code and what
it refers to, as cloudpickle writes it. Everything here is called by the core,
which imports this module when it first needs it.
"""

from __future__ import annotations

import _pickle
import sys
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_PROTOCOL = 5

# ----------------------------------------------------------------- functions

# Objects that never change. A function that refers to nothing else is itself
# constant: its pickle can be kept, and so can what was made of it.
_ATOMS = frozenset((type(None), bool, int, float, complex, str, bytes, type(...)))

# id of a function -> (function, what it depends on, digest, pickle)
_sent: dict[int, tuple[FunctionType, list[_Part], bytes, bytes]] = {}
# digest -> function
_received: dict[bytes, Any] = {}
_KEEP = 512  # of each; the oldest goes first
_KEEP_SIZE = 65536  # bytes; what is larger is not kept

_MISSING: Any = object()


class _Part:
    """A function, and the state of it that its pickle was made from."""

    __slots__ = ("cells", "code", "defaults", "function", "kwdefaults", "names")

    def __init__(self, function: FunctionType) -> None:
        known = function.__globals__
        self.function = function
        self.code = function.__code__
        self.defaults = function.__defaults__
        self.kwdefaults = dict(function.__kwdefaults__ or ())
        self.cells = _cells(function)
        # A name that is missing may be a built-in one, or be defined later.
        self.names = {name: known.get(name, _MISSING) for name in _names(self.code)}

    def values(self) -> Iterator[Any]:
        yield from self.defaults or ()
        yield from self.kwdefaults.values()
        yield from self.cells
        yield from (value for value in self.names.values() if value is not _MISSING)

    def is_current(self) -> bool:
        function = self.function
        known = function.__globals__
        keywords = function.__kwdefaults__ or {}
        return (
            function.__code__ is self.code
            and function.__defaults__ is self.defaults
            and not function.__dict__
            and keywords.keys() == self.kwdefaults.keys()
            and all(keywords[name] is value for name, value in self.kwdefaults.items())
            and all(a is b for a, b in zip(_cells(function), self.cells, strict=True))
            and all(known.get(name, _MISSING) is value for name, value in self.names.items())
        )


def _cells(function: FunctionType) -> tuple[Any, ...]:
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not bound yet
            found.append(cell)
    return tuple(found)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _codes(const)


def _names(code: CodeType) -> set[str]:
    """All names that may be global: attributes are among them, which is harmless."""
    return {name for each in _codes(code) for name in each.co_names}


def _assigns(code: CodeType) -> bool:
    """Does it assign to what outlives a call: a global name, or a captured one?"""
    import opcode

    to_global = {opcode.opmap["STORE_GLOBAL"], opcode.opmap["DELETE_GLOBAL"]}
    to_cell = {opcode.opmap["STORE_DEREF"], opcode.opmap["DELETE_DEREF"]}
    captured = set(code.co_freevars)
    for each in _codes(code):
        bytecode = each.co_code
        cells = [name for name in each.co_cellvars if name not in each.co_varnames]
        slots = (*each.co_varnames, *cells, *each.co_freevars)
        high = 0
        for op, arg in zip(bytecode[::2], bytecode[1::2], strict=True):
            if op in to_global:
                return True
            if op in to_cell and slots[high | arg] in captured:
                return True
            high = (high | arg) << 8 if op == opcode.EXTENDED_ARG else 0
    return False


def _is_importable(obj: Any) -> bool:
    module = sys.modules.get(getattr(obj, "__module__", None) or "")
    if module is None or module.__name__ == "__main__":
        return False
    found: Any = module
    for name in obj.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is obj


def _parts(function: FunctionType) -> list[_Part] | None:
    """`function` and those that it refers to; None if it is not constant."""
    parts: dict[int, _Part] = {}
    todo: list[Any] = [function]
    while todo:
        value = todo.pop()
        kind = type(value)
        if kind in _ATOMS or id(value) in parts:
            continue
        if kind is tuple or kind is frozenset:
            todo.extend(value)
        elif kind is ModuleType:
            if value.__name__ == "__main__" or sys.modules.get(value.__name__) is not value:
                return None
        elif kind is FunctionType and not _is_importable(value):
            if value.__dict__ or _assigns(value.__code__):
                return None
            part = parts[id(value)] = _Part(value)
            todo.extend(part.values())
        elif isinstance(value, (type, BuiltinFunctionType, FunctionType)):
            if not _is_importable(value):
                return None
        else:
            return None
    return list(parts.values())


def _keep(cache: dict[Any, Any], key: Any, value: Any) -> None:
    if len(cache) >= _KEEP:
        cache.pop(next(iter(cache)), None)
    cache[key] = value


def constant(obj: FunctionType) -> tuple[bytes, bytes] | None:
    """The pickle of a function that is constant: (digest, pickle), or None.

    Receivers keep what they make of it.
    """
    known = _sent.get(id(obj))
    if known is not None and all(part.is_current() for part in known[1]):
        return known[2], known[3]
    _sent.pop(id(obj), None)
    parts = _parts(obj)
    if parts is None:
        return None
    import hashlib

    import cloudpickle

    data: bytes = cloudpickle.dumps(obj, _PROTOCOL)
    if len(data) > _KEEP_SIZE:
        return None
    digest = hashlib.blake2b(data, digest_size=16).digest()
    _keep(_sent, id(obj), (obj, parts, digest, data))
    return digest, data


def loads(data: memoryview, digest: bytes) -> Any:
    """Rebuild what constant() gave; `data` is released."""
    with data:
        obj = _received.get(digest)
        if obj is None:
            obj = _pickle.loads(data)
            _keep(_received, digest, obj)
        return obj


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
    from . import _handles

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
    """A timezone of the pure-Python datetime (3.13: see ext/compat.h).

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
    from .errors import RemoteTraceback

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
