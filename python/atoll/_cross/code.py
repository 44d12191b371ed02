"""Code by value, as cloudpickle writes it, and what it does not write.

A function goes without running any of its code: its annotations as the function that
computes them (3.14), never their values, which may be names that only a type checker
knows. What a class or function is made of and pickle would look up by name goes by value
too: what functools wraps, methods, and what `generic` has.
"""

from __future__ import annotations

import functools
import inspect
import io
import pickle
import sys
import typing
from collections import ChainMap
from contextvars import Context, ContextVar
from types import CellType, CodeType, FunctionType, MethodType, ModuleType

import cloudpickle
from cloudpickle import cloudpickle as _cloudpickle

from . import context, generic, modules, source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

    # What object.__reduce__() returns.
    _Reduced = tuple[Any, ...]

_PROTOCOL = 5


# -------------------------------------------------------------------------- functions

_singledispatch_code = functools.singledispatch(id).__code__  # type: ignore[attr-defined]


def _reduce_function(pickler: Pickler, function: FunctionType) -> _Reduced:
    if function.__code__ is _singledispatch_code:
        return _reduce_dispatch(function)
    bare = _without_annotations(function)
    value = pickler._dynamic_function_reduce(bare)
    make, args, (names, slots), *rest = value
    if bare is not function:
        del slots["__annotations__"]
        slots["__annotate__"] = getattr(function, "__annotate__", None)
    if getattr(function, "__type_params__", ()):
        slots["__type_params__"] = function.__type_params__
    used = _names_of_classes(function.__code__)
    if function.__closure__ and "__classdict__" in function.__code__.co_freevars:
        slots["__closure__"] = _with_names(function, used)
    space = function.__globals__
    known = {**slots["__globals__"], **{n: space[n] for n in used if n in space}}
    slots["__globals__"] = {n: _not_lazy(v) for n, v in known.items()}
    return make, args, (names, slots), *rest


def _without_annotations(function: FunctionType) -> FunctionType:
    """A function like this one, of which nothing asks for its annotations.

    The function itself if it has none that would be computed.
    """
    if getattr(function, "__annotate__", None) is None:
        return function
    bare = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    bare.__kwdefaults__ = function.__kwdefaults__
    bare.__qualname__ = function.__qualname__
    bare.__module__ = function.__module__
    bare.__doc__ = function.__doc__
    bare.__dict__.update(function.__dict__)
    return bare


def _names_of_classes(code: CodeType) -> set[str]:
    """The names that code looks up in the body of a class and then in the globals, which
    cloudpickle does not look for: bodies of classes, annotations in them."""
    found: set[str] = set()
    if not code.co_flags & inspect.CO_OPTIMIZED or "__classdict__" in code.co_freevars:
        found.update(code.co_names)
    for const in code.co_consts:
        if isinstance(const, CodeType):
            found |= _names_of_classes(const)
    return found


def _with_names(function: FunctionType, used: set[str]) -> tuple[CellType, ...]:
    """The cells of a function; of the body of the class that it is in those names alone."""
    cells = list(function.__closure__ or ())
    at = function.__code__.co_freevars.index("__classdict__")
    try:
        body = cells[at].cell_contents
    except ValueError:
        return tuple(cells)
    cells[at] = CellType({n: body[n] for n in used if n in body})
    return tuple(cells)


def _not_lazy(value: Any) -> Any:
    """A global name's value; what a lazy import (3.15) stands for, imported now."""
    if type(value).__name__ == "lazy_import" and hasattr(value, "resolve"):
        return value.resolve()
    return value


def _reduce_dispatch(function: Any) -> _Reduced:
    """A function with functools.singledispatch, whose closure has caches by identity."""
    others = dict(function.registry)
    first = others.pop(object)
    names = {k: v for k, v in vars(function).items() if k not in _DISPATCH_NAMES}
    return functools.singledispatch, (first,), (others, names), None, None, _set_dispatch


_DISPATCH_NAMES = frozenset(vars(functools.singledispatch(id)))


def _set_dispatch(function: Any, state: tuple[dict[type, Any], dict[str, Any]]) -> None:
    others, names = state
    for cls, implementation in others.items():
        function.register(cls, implementation)
    vars(function).update(names)


# --------------------------------------------------------------------------- code


def _reduce_code(code: CodeType) -> _Reduced:
    make, args = _cloudpickle._code_reduce(code)
    # It says "<dynamic-code>"; tracebacks are to tell the file and show the line.
    at = args.index("<dynamic-code>")
    args = (*args[:at], code.co_filename, *args[at + 1 :])
    lines = source.lines_of(code)
    return (_code_with_source, (args, lines)) if lines else (make, args)


def _code_with_source(args: tuple[Any, ...], lines: list[str]) -> CodeType:
    code = CodeType(*args)
    source.keep(code, lines)
    return code


# ------------------------------------------------------------------------ classes


#: Immutable, or not to be instantiated: Py_TPFLAGS_IMMUTABLETYPE, _DISALLOW_INSTANTIATION.
_OF_C = 1 << 8 | 1 << 7


def _reduce_class(cls: type) -> _Reduced:
    value = _cloudpickle._class_reduce(cls)
    if value is NotImplemented:  # by name, in a module that nobody else finds
        value = _cloudpickle._dynamic_class_reduce(cls)
    if len(value) < 3:  # one of those that `types` has names for
        return value  # type: ignore[no-any-return]
    if cls.__flags__ & _OF_C:
        raise pickle.PicklingError(f"{cls!r} is not to be found under its name")
    make, args, state, *rest = value
    names = vars(cls)
    if names.get("__slots__"):
        _put_slots(cls, args, state[0])
    if cls.__qualname__ != cls.__name__:
        state[0]["__qualname__"] = cls.__qualname__
    annotate = names.get("__annotate_func__") or names.get("__annotate__")
    if type(cls) is typing._TypedDictMeta:  # type: ignore[attr-defined]
        state[0]["__annotations__"] = _annotations_of(cls)
    elif annotate is not None:
        state[0].pop("__annotations_cache__", None)
        state[0].pop("__annotate_func__", None)
        state[0]["__annotate__"] = annotate
    return make, args, state, *rest


def _annotations_of(cls: type) -> dict[str, Any]:
    """What typing has computed already, from functions that cannot go by value."""
    try:
        return cls.__annotations__
    except Exception:  # a name that only a type checker knows
        import annotationlib  # type: ignore[import-not-found]

        found: dict[str, Any] = annotationlib.get_annotations(
            cls, format=annotationlib.Format.STRING
        )
        return found


def _put_slots(cls: type, args: tuple[Any, ...], state: dict[str, Any]) -> None:
    """cloudpickle makes the class first and gives it `__slots__` too late."""
    for given in args:
        if type(given) is dict and given.get("__module__") == cls.__module__:
            given["__slots__"] = vars(cls)["__slots__"]
            state.pop("__slots__", None)
            break


# ------------------------------------------------------------ what functools wraps


def _reduce_lru_cache(wrapper: Any) -> _Reduced | str:
    held = modules.reduce_held(wrapper)
    if held is not None:
        return held
    parameters = wrapper.cache_parameters()
    args = parameters["maxsize"], parameters["typed"], wrapper.__wrapped__
    return _cached, args, vars(wrapper), None, None, _set_names


def _cached(maxsize: int | None, typed: bool, function: Any) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


def _set_names(obj: Any, names: dict[str, Any]) -> None:
    vars(obj).update(names)


def _reduce_partialmethod(method: Any) -> _Reduced:
    return _partialmethod, (type(method), method.func, method.args, method.keywords)


def _partialmethod(cls: Any, func: Any, args: Any, keywords: Any) -> Any:
    return cls(func, *args, **keywords)


def _reduce_dispatch_method(method: Any) -> _Reduced:
    # Early releases have a cache in it as well, by identity.
    names = {k: v for k, v in vars(method).items() if k != "_method_cache"}
    return type(method), (method.func,), names, None, None, _set_names


# ------------------------------------------------------------------------ the pickler


def by_value(obj: Any, pickler: Pickler | None) -> tuple[Pickler, Any]:
    """The reduce value of a function or class.

    Returns (pickler, value). The pickler is None at first, and kept for a
    message: functions of one module share their new module's names through it.
    """
    if pickler is None:
        pickler = Pickler(io.BytesIO(), _PROTOCOL)
    return pickler, pickler.by_value(obj)


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, with what is said here."""

    dispatch_table: ClassVar[Any] = ChainMap(
        {
            CodeType: _reduce_code,
            Context: context.reduce_context,
            ContextVar: context.reduce_variable,
            MethodType: lambda method: (MethodType, (method.__func__, method.__self__)),
            ModuleType: modules.reduce_module,
            functools.partialmethod: _reduce_partialmethod,
            functools.singledispatchmethod: _reduce_dispatch_method,
            functools._lru_cache_wrapper: _reduce_lru_cache,
            **generic.REDUCERS,
        },
        cloudpickle.Pickler.dispatch_table,
    )

    def by_value(self, obj: Any) -> Any:
        """The reduce value of a function or class that is not to be found by its name."""
        if isinstance(obj, FunctionType):
            return _reduce_function(self, obj)
        return _reduce_class(obj)

    def reducer_override(self, obj: Any) -> Any:
        """As pickle asks: NotImplemented for what goes by its name, or is no code."""
        if not isinstance(obj, (FunctionType, type)):
            return super().reducer_override(obj)
        name = getattr(obj, "__module__", None) or ""
        module = sys.modules.get(name)
        qualname = obj.__qualname__
        if module is not None and name != "__main__" and modules.holds(module, obj, qualname):
            if modules.is_found(name, module):
                return super().reducer_override(obj)
            value = modules.reduce(name, qualname)
            if value is not None:
                return value
        return self.by_value(obj)


def dumps(obj: Any) -> bytes:
    """`obj` as a pickle, with code by value."""
    to = io.BytesIO()
    Pickler(to, _PROTOCOL).dump(obj)
    return to.getvalue()
