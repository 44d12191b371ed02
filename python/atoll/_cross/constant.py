"""Functions that never change, by value.

A function of ``__main__``, a lambda or a closure that refers to nothing but what is
constant (numbers and text, modules, what can be imported, other such functions) is
constant itself. It is written once, kept by its digest on both sides, and written
here: cloudpickle could do it, but to import that takes longer than to make an
interpreter, and most scripts send nothing else. What is not so simple (annotations
that cannot be written, type parameters) is cloudpickle's all the same.

Called by the core.
"""

from __future__ import annotations

import _interpreters
import marshal
import sys
from _functools import reduce  # type: ignore[import-not-found]
from _operator import or_
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    GenericAlias,
    ModuleType,
    UnionType,
)

from . import modules, source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# Objects that never change. A function that refers to nothing else is itself
# constant: its pickle can be kept, and so can what was made of it.
_ATOMS = frozenset((type(None), bool, int, float, complex, str, bytes, type(...)))

# id of a function -> (function, what it depends on, digest, pickle)
_sent: dict[int, tuple[FunctionType, list[_Part], bytes, bytes]] = {}
# digest -> function, and what it brings to the globals of which __main__: a value, and
# how it was written
_received: dict[bytes, tuple[Any, tuple[tuple[int, dict[str, Any]], ...]]] = {}
_KEEP = 512  # of each; the oldest goes first
_KEEP_SIZE = 65536  # bytes; what is larger is not kept

_MISSING: Any = object()


class _Part:
    """A function, and the state of it that its pickle was made from."""

    __slots__ = ("called", "cells", "code", "defaults", "function", "kwdefaults", "names")

    def __init__(self, function: FunctionType) -> None:
        known = function.__globals__
        self.function = function
        self.code = function.__code__
        self.called = function.__name__, function.__qualname__, function.__doc__
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
            and (function.__name__, function.__qualname__, function.__doc__) == self.called
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


def _assigns(code: CodeType, globals_too: bool) -> bool:
    """Does it assign to what outlives a call: a captured name, or a global one?"""
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
            if op in to_global and globals_too:
                return True
            if op in to_cell and slots[high | arg] in captured:
                return True
            high = (high | arg) << 8 if op == opcode.EXTENDED_ARG else 0
    return False


def _is_importable(obj: Any) -> bool:
    name = getattr(obj, "__module__", None) or ""
    module = sys.modules.get(name)
    return (
        module is not None
        and name != "__main__"
        and modules.holds(module, obj, obj.__qualname__)
        and modules.is_found(name, module)
    )


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
            name = value.__name__
            if sys.modules.get(name) is not value or not modules.is_found(name, value):
                return None
        elif kind is FunctionType and not _is_importable(value):
            fresh = _origin(value.__globals__) is None
            if value.__dict__ or _assigns(value.__code__, fresh):
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


# The globals of the __main__ of other interpreters, by their ids: what has come, and
# what it was when it came last.
_mains: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
_HERE = _interpreters.get_current()[0]


def _origin(space: dict[str, Any]) -> int | None:
    """Which interpreter's __main__ has these globals (its id), if they are such."""
    main = sys.modules.get("__main__")
    if main is not None and space is main.__dict__:
        return _HERE
    for origin, (known, _) in _mains.items():
        if known is space:
            return origin
    return None


def _digest(data: bytes) -> bytes:
    try:  # hashlib would load a cryptography library
        from _blake2 import blake2b
    except ImportError:
        from hashlib import blake2b
    return blake2b(data, digest_size=16).digest()


def constant(obj: FunctionType) -> tuple[bytes, bytes] | None:
    """A function that is constant, as (digest, bytes for loads()); else None.

    Receivers keep what they make of it.
    """
    known = _sent.get(id(obj))
    if known is not None and all(part.is_current() for part in known[1]):
        return known[2], known[3]
    _sent.pop(id(obj), None)
    parts = _parts(obj)
    if parts is None:
        return None
    data = _Writer(parts).written()
    if data is None:
        if any(_assigns(part.code, True) for part in parts):
            return None  # its globals would be its own, and kept
        from . import code

        data = code.dumps(obj)
    if len(data) > _KEEP_SIZE:
        return None
    digest = _digest(data)
    _keep(_sent, id(obj), (obj, parts, digest, data))
    return digest, data


def loads(data: memoryview, digest: bytes) -> Any:
    """Rebuild what constant() gave; `data` is released."""
    with data:
        known = _received.get(digest)
        if known is None:
            if data[0] == _PICKLE:
                import _pickle

                known = _pickle.loads(data), ()
            else:
                known = _read(marshal.loads(data))
            _keep(_received, digest, known)
    obj, spaces = known
    for origin, names in spaces:
        _update(origin, names)
    return obj


def _update(origin: int, names: dict[str, Any]) -> None:
    """Set those names of a __main__ that are not as they were when they came last."""
    space, last = _mains[origin]
    for name, (value, written) in names.items():
        if last.get(name) != written:
            last[name] = written
            space[name] = value


# ------------------------------------------------------- writing and reading

# How a pickle begins; what marshal writes for a tuple does not.
_PICKLE = 0x80
# What a value is, in a pair with what it is made of.
_ATOM, _MODULE, _NAME, _FUNCTION, _TUPLE, _FROZENSET, _ALIAS, _UNION = range(8)


class _NotWritten(Exception):
    """Something is not so simple."""


class _Writer:
    """Functions as tuples that marshal can write.

    The first part is the function that is asked for. Functions that have one dict of
    globals get one again, with the names that they use: that of a __main__, or a new
    one.
    """

    def __init__(self, parts: list[_Part]) -> None:
        self._parts: list[_Part] = []
        self._index: dict[int, int] = {}
        self._names: set[str] = set()
        for part in parts:
            self._add(part)

    def _add(self, part: _Part) -> None:
        self._index[id(part.function)] = len(self._parts)
        self._parts.append(part)
        self._names |= _names(part.code)

    def written(self) -> bytes | None:
        globals_index: dict[int, int] = {}
        shared: list[dict[str, Any]] = []
        origins: list[int | None] = []
        functions = []
        try:
            for part in self._parts:  # of which there may be more meanwhile
                known = part.function.__globals__
                number = globals_index.setdefault(id(known), len(globals_index))
                if number == len(shared):
                    origins.append(_origin(known))
                    names = ("__name__", "__package__", "__file__")
                    shared.append({n: (_ATOM, known[n]) for n in names if _is_atom(known, n)})
                for name, value in part.names.items():
                    if value is not _MISSING:
                        shared[number][name] = self._value(value)
                functions.append((number, *self._function(part)))
            lines = tuple(source.lines_of(part.code) for part in self._parts)
            return marshal.dumps((tuple(functions), tuple(shared), tuple(origins), lines))
        except (_NotWritten, ValueError):  # marshal's: code that it cannot write
            return None

    def _function(self, part: _Part) -> tuple[Any, ...]:
        function = part.function
        if getattr(function, "__type_params__", ()):
            raise _NotWritten
        return (
            part.code,
            function.__name__,
            function.__qualname__,
            function.__module__,
            self._value(function.__doc__),
            self._value(part.defaults),
            {name: self._value(value) for name, value in part.kwdefaults.items()},
            tuple(self._value(value) for value in part.cells),
            self._annotations(function),
        )

    def _annotations(self, function: FunctionType) -> dict[str, Any] | int:
        """Values, or the number of the function that computes them, which is not run."""
        annotate = getattr(function, "__annotate__", None)
        if annotate is None:
            found = function.__annotations__
            return {name: self._value(value) for name, value in found.items()}
        parts = _parts(annotate)
        if parts is None:
            raise _NotWritten
        for part in parts:
            if id(part.function) not in self._index:
                self._add(part)
        return self._index[id(annotate)]

    def _value(self, value: Any) -> tuple[Any, ...]:
        kind = type(value)
        if kind in _ATOMS:
            return _ATOM, value
        if kind is tuple or kind is frozenset:
            tag = _TUPLE if kind is tuple else _FROZENSET
            return tag, tuple(self._value(item) for item in value)
        if kind is ModuleType:
            return _MODULE, value.__name__, self._submodules(value.__name__)
        if kind is GenericAlias:
            return _ALIAS, self._value(value.__origin__), self._value(value.__args__)
        if kind is UnionType:
            return _UNION, self._value(value.__args__)
        if id(value) in self._index:
            return _FUNCTION, self._index[id(value)]
        if value is type(None):  # of annotations
            return _NAME, "types", "NoneType"
        if isinstance(value, (type, BuiltinFunctionType, FunctionType)):
            if _is_importable(value):
                return _NAME, value.__module__, value.__qualname__
        raise _NotWritten

    def _submodules(self, package: str) -> tuple[str, ...]:
        """Those that have been imported and that the code seems to use, by an
        attribute of the package."""
        prefix = f"{package}."
        found = [name for name in sys.modules if name.startswith(prefix)]
        return tuple(n for n in found if self._names.issuperset(n[len(prefix) :].split(".")))


def _is_atom(space: dict[str, Any], name: str) -> bool:
    return name in space and type(space[name]) in _ATOMS


def _has_function(written: tuple[Any, ...]) -> bool:
    tag, what = written[0], written[1]
    if tag == _TUPLE or tag == _FROZENSET:
        return any(map(_has_function, what))
    return bool(tag == _FUNCTION)


def _read(data: tuple[Any, ...]) -> tuple[FunctionType, tuple[tuple[int, dict[str, Any]], ...]]:
    """The function, and what it brings to the globals of which __main__."""
    functions, shared, origins, sources = data
    made: list[FunctionType] = []

    def value_of(value: tuple[Any, ...]) -> Any:
        tag, what = value[0], value[1]
        if tag == _ATOM:
            return what
        if tag == _TUPLE:
            return tuple(map(value_of, what))
        if tag == _FROZENSET:
            return frozenset(map(value_of, what))
        if tag == _FUNCTION:
            return made[what]
        if tag == _ALIAS:
            return GenericAlias(value_of(what), value_of(value[2]))
        if tag == _UNION:
            return reduce(or_, value_of(what))
        __import__(what)
        found: Any = sys.modules[what]
        if tag == _MODULE:
            for name in value[2]:
                __import__(name)
        if tag == _NAME:
            for name in value[2].split("."):
                found = getattr(found, name)
        return found

    # Functions refer to each other, so all of them are made first.
    spaces: list[dict[str, Any]] = []
    for origin in origins:
        space = {"__builtins__": __builtins__}
        if origin == _HERE:
            space = sys.modules["__main__"].__dict__
        elif origin is not None:
            space = _mains.setdefault(origin, (space, {}))[0]
        spaces.append(space)
    for number, code, name, *_ in functions:
        cells = tuple(CellType() for _ in code.co_freevars) or None
        made.append(FunctionType(code, spaces[number], name, None, cells))
    brought = []
    for space, names, origin in zip(spaces, shared, origins, strict=True):
        values = {name: value_of(value) for name, value in names.items()}
        if origin is None:
            space.update(values)
        elif origin != _HERE:
            # Written, 1 and True differ. Version 2 does not depend on who else refers
            # to the parts. A function is another one each time.
            brought.append(
                (
                    origin,
                    {
                        name: (value, object() if _has_function(w) else marshal.dumps(w, 2))
                        for (name, value), w in zip(values.items(), names.values(), strict=True)
                    },
                )
            )
    for function, lines in zip(made, sources, strict=True):
        if lines is not None:
            source.keep(function.__code__, lines)
    for function, parts in zip(made, functions, strict=True):
        _, _, _, qualname, module, doc, defaults, kwdefaults, cells, annotations = parts
        function.__qualname__ = qualname
        function.__module__ = module
        function.__doc__ = value_of(doc)
        function.__defaults__ = value_of(defaults)
        if kwdefaults:
            function.__kwdefaults__ = {k: value_of(v) for k, v in kwdefaults.items()}
        if isinstance(annotations, int):
            setattr(function, "__annotate__", made[annotations])  # noqa: B010 (3.14)
        elif annotations:
            function.__annotations__ = {k: value_of(v) for k, v in annotations.items()}
        for cell, value in zip(function.__closure__ or (), cells, strict=True):
            cell.cell_contents = value_of(value)
    return made[0], tuple(brought)
