"""What generic code is made of: type variables, aliases, new types.

Each goes by its name if it has one that leads to it, else by value, and is made once in an
interpreter.

What one of them computes when it is asked (a bound, an alias's value: PEP 695, 696) is not
computed to be sent. It goes as the function that does it, from 3.14 on, where such a
function can be had.
"""

from __future__ import annotations

import sys
import typing
from types import FunctionType

from . import identity, modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # What object.__reduce__() returns; or a name in the object's module.
    _Reduced = tuple[Any, ...] | str

_VALUE = 1  # annotationlib.Format.VALUE


def _set_names(obj: Any, names: dict[str, Any]) -> None:
    vars(obj).update(names)


# -------------------------------------------------------------------------- new types


def _reduce_new_type(made: Any) -> _Reduced:
    return _new_type, (made.__name__, identity.number(made)), vars(made), None, None, _set_names


def _new_type(name: str, tracked: str) -> Any:
    return identity.once(tracked, typing.NewType(name, object))


# --------------------------------------------------------------------- what is computed

# Parts: names in a bit of source -> (what it is, whether it is the function that computes
# it). The source calls the names, and what it calls is filled in when it has come.
#: By their numbers (identity), the names that the source of each one made here uses.
_spaces: dict[str, dict[str, Any]] = {}


def _part(obj: Any, attribute: str, function: str) -> tuple[Any, bool]:
    how = getattr(obj, function, None)
    if isinstance(how, FunctionType):
        return how, True
    try:
        return getattr(obj, attribute), False
    except Exception as exc:
        import pickle

        raise pickle.PicklingError(
            f"{attribute} of {obj!r} cannot be computed here ({exc!r}); before CPython 3.14"
            " it is sent as a value"
        ) from exc


def _run(source: str, module: str, tracked: str) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": module}
    exec(source, space)
    _spaces[tracked] = space
    return space


def _set_parts(_obj: Any, state: tuple[str, dict[str, tuple[Any, bool]]]) -> None:
    tracked, parts = state
    space = _spaces.pop(tracked, None)
    if space is not None:  # else it was here before
        for name, (what, is_function) in parts.items():
            space[name] = _computer(what, is_function)


def _computer(what: Any, is_function: bool) -> Callable[[], Any]:
    return (lambda: what(_VALUE)) if is_function else (lambda: what)


# --------------------------------------------------------------------- type variables

_STARS = {typing.TypeVar: "", typing.TypeVarTuple: "*", typing.ParamSpec: "**"}


def _reduce_variable(variable: Any) -> _Reduced:
    if getattr(variable, "__infer_variance__", True) and _is_of_syntax(variable):
        parts: dict[str, tuple[Any, bool]] = {}
        source = _source_of(variable, 0, parts)
        tracked = identity.number(variable)
        args = variable.__name__, source, variable.__module__, tracked
        return _variable, args, (tracked, parts), None, None, _set_parts
    return _old_variable, _old_args(variable)


def _is_of_syntax(variable: Any) -> bool:
    """Was it made by `[T]` and not by a call? The same, if there is nothing to compute."""
    how = [getattr(variable, f"evaluate_{name}", None) for name in _COMPUTED]
    if not variable.__name__.isidentifier():
        return False
    if any(how):
        return any(isinstance(function, FunctionType) for function in how)
    return type(variable) is not typing.TypeVarTuple


_COMPUTED = ("bound", "constraints", "default")


def _old_args(variable: Any) -> tuple[Any, ...]:
    given: dict[str, Any] = {}
    if variable.has_default():
        given["default"] = variable.__default__
    if type(variable) is not typing.TypeVarTuple:
        given["bound"] = variable.__bound__
        for name in ("covariant", "contravariant", "infer_variance"):
            given[name] = getattr(variable, f"__{name}__")
    constraints = getattr(variable, "__constraints__", ())
    names = (variable.__name__, *constraints)
    return type(variable), names, given, variable.__module__, identity.number(variable)


def _old_variable(cls: Any, names: Any, given: Any, module: str, tracked: str) -> Any:
    variable = cls(*names, **given)
    variable.__module__ = module
    return identity.once(tracked, variable)


def _source_of(variable: Any, n: int, parts: dict[str, tuple[Any, bool]]) -> str:
    """The source of a type variable, the n-th of its kind; puts what it calls in parts."""
    source = f"{_STARS[type(variable)]}{variable.__name__}"
    if type(variable) is typing.TypeVar:
        constraints = variable.__constraints__ if _has(variable, "constraints") else ()
        names = [f"constraint{n}_{m}" for m in range(len(constraints))]
        for name, constraint in zip(names, constraints, strict=True):
            parts[name] = constraint, False
        if constraints:
            source += f": ({', '.join(f'{name}()' for name in names)})"
        elif _has(variable, "bound"):
            parts[f"bound{n}"] = _part(variable, "__bound__", "evaluate_bound")
            source += f": bound{n}()"
    if variable.has_default():
        parts[f"default{n}"] = _part(variable, "__default__", "evaluate_default")
        source += f" = default{n}()"
    return source


def _has(variable: Any, what: str) -> bool:
    if hasattr(variable, f"evaluate_{what}"):
        return getattr(variable, f"evaluate_{what}") is not None
    return bool(_part(variable, f"__{what}__", "")[0])


def _variable(name: str, source: str, module: str, tracked: str) -> Any:
    space = _run(f"def made[{source}](): 0", module, tracked)
    return identity.once(tracked, space["made"].__type_params__[0])


def _reduce_spec_part(part: Any) -> _Reduced:
    return type(part), (part.__origin__,)


# ----------------------------------------------------------------- forward references


def _reduce_forward_ref(reference: Any) -> _Reduced:
    """Its text and its owner; what it keeps besides is all globals of who wrote it."""
    names = {
        "module": reference.__forward_module__,
        "owner": reference.__owner__,
        "is_argument": reference.__forward_is_argument__,
        "is_class": reference.__forward_is_class__,
    }
    return _forward_ref, (type(reference), reference.__forward_arg__, names)


def _forward_ref(cls: Any, text: str, names: dict[str, Any]) -> Any:
    return cls(text, **names)


# --------------------------------------------------------------------------- aliases


def _reduce_alias(alias: Any) -> _Reduced:
    parts = {"value": _part(alias, "__value__", "evaluate_value")}
    variables = alias.__type_params__
    sources = ", ".join(_source_of(v, n, parts) for n, v in enumerate(variables))
    tracked = identity.number(alias)
    of_variables = tuple(map(identity.number, variables))
    args = alias.__name__, sources, of_variables, alias.__module__, tracked
    return _alias, args, (tracked, parts), None, None, _set_parts


def _alias(
    name: str, sources: str, of_variables: tuple[str, ...], module: str, tracked: str
) -> Any:
    made = f"type {name}[{sources}] = value()" if sources else f"type {name} = value()"
    alias = _run(made, module, tracked)[name]
    for of_variable, variable in zip(of_variables, alias.__type_params__, strict=True):
        identity.once(of_variable, variable)
    return identity.once(tracked, alias)


_BY_VALUE: dict[Any, Callable[[Any], _Reduced]] = {
    typing.NewType: _reduce_new_type,
    typing.ParamSpec: _reduce_variable,
    typing.TypeAliasType: _reduce_alias,
    typing.TypeVar: _reduce_variable,
    typing.TypeVarTuple: _reduce_variable,
    typing.ParamSpecArgs: _reduce_spec_part,
    typing.ParamSpecKwargs: _reduce_spec_part,
}


def reduce(obj: Any) -> _Reduced:
    return modules.reduce_held(obj) or _BY_VALUE[type(obj)](obj)


if sys.version_info >= (3, 14):
    _BY_VALUE[typing.ForwardRef] = _reduce_forward_ref

# They are not looked up.
_NAMELESS = {typing.ParamSpecArgs, typing.ParamSpecKwargs, typing.ForwardRef}
REDUCERS = {t: how if t in _NAMELESS else reduce for t, how in _BY_VALUE.items()}
