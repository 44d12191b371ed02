"""What is to be done in an interpreter of atoll's right after the import of a module."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

# module -> what is called when it has been imported
_waiting: dict[str, list[Callable[[], object]]] = {}


class _Finder:
    """Waits for the import of these modules."""

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
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
        if not _waiting and _Finder in sys.meta_path:
            sys.meta_path.remove(_Finder)
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
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
