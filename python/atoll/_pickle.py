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


class _Part:
    """A function, and the state of it that its pickle was made from."""

    __slots__ = ("cells", "code", "defaults", "function", "kwdefaults", "names")

    def __init__(self, function: FunctionType) -> None:
        self.function = function
        self.code = function.__code__
        self.defaults = function.__defaults__
        self.kwdefaults = dict(function.__kwdefaults__ or ())
        self.cells = _cells(function)
        known = function.__globals__
        self.names = {name: known[name] for name in _names(self.code) if name in known}

    def values(self) -> Iterator[Any]:
        yield from self.defaults or ()
        yield from self.kwdefaults.values()
        yield from self.cells
        yield from self.names.values()

    def is_current(self) -> bool:
        function = self.function
        known = function.__globals__
        cells = _cells(function)
        return (
            function.__code__ is self.code
            and function.__defaults__ is self.defaults
            and not function.__dict__
            and (function.__kwdefaults__ or {}) == self.kwdefaults
            and all(a is b for a, b in zip(cells, self.cells, strict=True))
            and all(known.get(name, self) is value for name, value in self.names.items())
        )


def _cells(function: FunctionType) -> tuple[Any, ...]:
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not bound yet
            found.append(cell)
    return tuple(found)


def _names(code: CodeType) -> set[str]:
    """All names that may be global: attributes are among them, which is harmless."""
    names = set(code.co_names)
    for const in code.co_consts:
        if isinstance(const, CodeType):
            names |= _names(const)
    return names


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
            if value.__name__ == "__main__":
                return None
        elif kind is FunctionType and not _is_importable(value):
            if value.__dict__:
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


def by_value(obj: Any) -> tuple[bytes | None, bytes]:
    """The code of a function or class, and what it refers to.

    Returns (digest, pickle): the digest is None unless the function is constant,
    and then receivers may keep what they make of it.
    """
    is_function = type(obj) is FunctionType
    if is_function:
        known = _sent.get(id(obj))
        if known is not None and all(part.is_current() for part in known[1]):
            return known[2], known[3]
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(obj, _PROTOCOL)
    except RecursionError as exc:
        raise _pickle.PicklingError(f"it is nested too deeply: {exc}") from exc
    parts = _parts(obj) if is_function else None
    if parts is None:
        _sent.pop(id(obj), None)
        return None, data
    import hashlib

    digest = hashlib.blake2b(data, digest_size=16).digest()
    _keep(_sent, id(obj), (obj, parts, digest, data))
    return digest, data


def loads(data: memoryview, digest: bytes | None) -> Any:
    """Rebuild what by_value() gave; `data` is released."""
    try:
        if digest is None:
            return _pickle.loads(data)
        obj = _received.get(digest)
        if obj is None:
            obj = _pickle.loads(data)
            _keep(_received, digest, obj)
        return obj
    finally:
        data.release()


# ------------------------------------------------------------- other objects


def reduce(obj: Any) -> tuple[Any, ...] | None:
    """For what pickle refuses: a reduce value, as of object.__reduce__, or None."""
    from . import _handles

    value = _handles.reduce(obj)
    if value is not None:
        return value
    import cloudpickle

    # It reads files to the end, and sends what it has read: not this.
    if isinstance(obj, (ModuleType, memoryview)) or hasattr(obj, "fileno"):
        return None
    reducer = cloudpickle.CloudPickler.dispatch_table.get(type(obj))
    return None if reducer is None else reducer(obj)


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
