"""Imports in an interpreter of atoll's: what is done right after one, and a second look
before one fails."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

# module -> what is called when it has been imported
_waiting: dict[str, list[Callable[[], object]]] = {}


class _First:
    """The first finder: waits for the import of these modules."""

    @classmethod
    def find_spec(
        cls, name: str, path: Any = None, target: Any = None
    ) -> ModuleSpec | None:
        if name not in _waiting:
            return None
        for finder in sys.meta_path:
            if finder is not cls:
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    _call_after(spec.loader, name)
                    return spec
        return None


def _call_after(loader: Any, name: str) -> None:
    load = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        del loader.exec_module
        load(module)
        functions = _waiting.pop(name, ())
        if not _waiting and _First in sys.meta_path:
            sys.meta_path.remove(_First)
        for function in functions:
            function()

    try:
        loader.exec_module = exec_module  # only of this one object
    except AttributeError:
        pass  # not a loader of files: the module has it to itself


def after_import(name: str, function: Callable[[], object]) -> None:
    """Call `function` when the module has been imported here, or now if it is."""
    if name in sys.modules:
        function()
        return
    _waiting.setdefault(name, []).append(function)
    if _First not in sys.meta_path:
        sys.meta_path.insert(0, _First)


class _Last:
    """The last finder: a folder that was not there when it was looked for, or that has
    changed a moment ago, is looked through again. In main `importlib.invalidate_caches`
    is for that; a program that calls it there means all of its interpreters."""

    @classmethod
    def find_spec(
        cls, name: str, path: Any = None, target: Any = None
    ) -> ModuleSpec | None:
        if not _renew(sys.path if path is None else path):
            return None
        for finder in sys.meta_path:
            if getattr(finder, "__name__", "") == "PathFinder":
                return finder.find_spec(name, path, target)
        return None


# For so long after a folder has changed its time may be that of another change: as
# coarse as the clocks of file systems are.
_RECENT = 2.0


def _renew(path: Iterable[Any]) -> bool:
    """Forget what is known of these folders, if it may be wrong; False if nothing was."""
    from os import path as os_path
    from time import time

    cache = sys.path_importer_cache
    found = False
    for entry in path:
        known: Any = cache.get(entry, _Last)
        if known is None and os_path.isdir(entry):
            del cache[entry]
            found = True
        elif known is not _Last and time() - getattr(known, "_path_mtime", 0) < _RECENT:
            known.invalidate_caches()
            found = True
    return found


def look_again() -> None:
    """Let imports take a second look, from now on."""
    sys.meta_path.append(_Last)
