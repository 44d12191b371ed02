"""Modules that another interpreter would not find, and what they hold.

What a module holds crosses by its name if the import system leads there: from
``sys.path``, from the package that the module is in, or by a finder. A module that was
loaded from a file by other means (a plugin's loader, pytest's ``importlib`` mode) is
loaded from that file by the receiver as well, once. One that was made by code alone has
nothing but itself: its functions and classes go by value, like those of ``__main__``.

The core asks here once for each module, and keeps the answer as long as the module is the
same.
"""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # How to load a module from its file: its name, the file, where its submodules are.
    _Place = tuple[str, str, list[str] | None]

#: The modules made from files that this interpreter had under their names already.
_beside: dict[tuple[str, str], ModuleType] = {}


# -------------------------------------------------------------------- to be found?


def is_found(name: str, module: Any) -> bool:
    """Does the import system lead to `module` under this name, in any interpreter?"""
    if name == "__main__" or is_registered(name):
        return False
    spec = getattr(module, "__spec__", None)
    origin = getattr(spec, "origin", None) or getattr(module, "__file__", None)
    if name in sys.builtin_module_names or origin in ("built-in", "frozen"):
        return True
    package, _, last = name.rpartition(".")
    above = sys.modules.get(package) if package else None
    if package and (above is None or not is_found(package, above)):
        return False
    if origin is None and getattr(spec, "submodule_search_locations", None) is None:
        # Made by code: by that of the package that it is in, or by its importer's.
        return above is not None or not _holds_python(name, module)
    paths = sys.path if above is None else getattr(above, "__path__", None)
    if isinstance(origin, str) and _is_beside(origin, last, paths or ()):
        return True
    return _finders_lead_to(name, module, spec, origin, paths)


def is_registered(name: str) -> bool:
    """Has cloudpickle been told that this module's code, or its package's, goes by value?"""
    cloudpickle = sys.modules.get("cloudpickle.cloudpickle")
    registered = getattr(cloudpickle, "_PICKLE_BY_VALUE_MODULES", ())
    while name and name not in registered:
        name = name.rpartition(".")[0]
    return bool(name)


def holds(module: Any, obj: Any, qualname: str) -> bool:
    """Does the module have `obj` under this name?"""
    found = module
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found is obj


def which_module(obj: Any, name: str) -> str | None:
    """The name of a module that holds `obj` under this name, if there is one."""
    for module_name, module in list(sys.modules.items()):
        if module_name != "__main__" and getattr(module, "__dict__", {}).get(name) is obj:
            return module_name
    return None


def _is_beside(origin: str, last: str, paths: Any) -> bool:
    """Is that the file of a module with this name in one of those folders?"""
    folder, _, file = origin.rpartition("/")
    if file == "__init__.py":
        folder, _, file = folder.rpartition("/")
    return file.partition(".")[0] == last and folder in paths


def _finders_lead_to(name: str, module: Any, spec: Any, origin: Any, paths: Any) -> bool:
    from importlib import _bootstrap

    try:
        found = _bootstrap._find_spec(name, None if paths is sys.path else paths)  # type: ignore[attr-defined]
    except Exception:  # a finder's
        found = None
    if found is None:
        # No finder knows it, and neither would the receiver's. With a loader that is not
        # of files it may still be made by who imports its package.
        return not isinstance(origin, str) and spec is not None
    return found.origin == origin or not isinstance(origin, str)


def _holds_python(name: str, module: Any) -> bool:
    """Has code in Python been run to fill it?"""
    names = getattr(module, "__dict__", {})
    return any(
        isinstance(value, (FunctionType, type))
        and getattr(value, "__module__", None) == name
        and is_of_python(value)
        for value in list(names.values())
    )


def is_of_python(obj: Any) -> bool:
    """Is it a function or class that was made by Python code?"""
    if not isinstance(obj, type):
        return isinstance(obj, FunctionType)
    names = vars(obj)
    return "__static_attributes__" in names or "__weakref__" in names or "__slots__" in names


# ----------------------------------------------------------------- from its file


def place_of(name: str, module: Any) -> tuple[_Place, ...] | None:
    """How to load a module that no finder leads to: the packages above it and itself.

    None if it does not come from a file.
    """
    places: list[_Place] = []
    while True:
        spec = getattr(module, "__spec__", None)
        origin = getattr(spec, "origin", None)
        if origin is None or not getattr(spec, "has_location", False):
            return None
        folders = getattr(spec, "submodule_search_locations", None)
        places.append((name, origin, None if folders is None else list(folders)))
        name = name.rpartition(".")[0]
        module = sys.modules.get(name)
        if module is None or is_found(name, module):
            return tuple(reversed(places))


def reduce(name: str, qualname: str) -> tuple[Any, ...] | None:
    """The reduce value of what the module of this name, which no finder leads to, has
    under `qualname`; None if it goes by value."""
    places = None if is_registered(name) else place_of(name, sys.modules.get(name))
    return None if places is None else (find, (places, qualname))


def reduce_held(obj: Any) -> str | tuple[Any, ...] | None:
    """For what says that it is to be looked up: the name under which its module has it, or
    the reduce value if that comes from a file; None if it goes by value."""
    module_name = getattr(obj, "__module__", None) or ""
    qualname = getattr(obj, "__qualname__", None) or obj.__name__
    module = sys.modules.get(module_name)
    if module is None or module_name == "__main__" or not holds(module, obj, qualname):
        return None
    return qualname if is_found(module_name, module) else reduce(module_name, qualname)


def find(places: tuple[_Place, ...], qualname: str | None) -> Any:
    """What the module loaded from a file has under this name; the module, if None."""
    for place in places:
        module = _loaded(place)
    found: Any = module
    for name in qualname.split(".") if qualname is not None else ():
        found = getattr(found, name)
    return found


def _comes_from(module: Any, origin: str) -> bool:
    return getattr(getattr(module, "__spec__", None), "origin", None) == origin


def _loaded(place: _Place) -> ModuleType:
    from importlib import _bootstrap, util

    name, origin, folders = place
    with _bootstrap._ModuleLockManager(name):  # type: ignore[attr-defined]
        for module in (sys.modules.get(name), _beside.get((name, origin))):
            if module is not None and _comes_from(module, origin):
                return module
        spec = util.spec_from_file_location(name, origin, submodule_search_locations=folders)
        if spec is None or spec.loader is None:
            raise ModuleNotFoundError(
                f"cannot load module {name!r} from {origin!r}: not a file of a kind that"
                " can be imported",
                name=name,
                path=origin,
            )
        module = util.module_from_spec(spec)
        # Another one may have the name; then nobody finds this one by it.
        taken = name in sys.modules
        if taken:
            _beside[name, origin] = module
        else:
            sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            if taken:
                del _beside[name, origin]
            else:
                sys.modules.pop(name, None)
            raise
        return module


# ------------------------------------------------------------------ modules themselves


def reduce_module(module: ModuleType) -> tuple[Any, ...]:
    """The reduce value of a module that code by value refers to."""
    name = module.__name__
    if sys.modules.get(name) is module and not is_registered(name):
        if is_found(name, module):
            return _import, (name,)
        places = place_of(name, module)
        if places is not None:
            return find, (places, None)
    names = {key: value for key, value in vars(module).items() if key not in _NOT_SENT}
    return ModuleType, (name,), names, None, None, _fill


_NOT_SENT = frozenset(("__builtins__", "__loader__", "__spec__", "__cached__"))


def _import(name: str) -> ModuleType:
    __import__(name)
    return sys.modules[name]


def _fill(module: ModuleType, names: dict[str, Any]) -> None:
    import builtins

    vars(module).update(names, __builtins__=vars(builtins))
