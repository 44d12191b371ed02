"""Put atoll in the place of concurrent.interpreters and of the pool beside it.

This folder is on PYTHONPATH, so the module runs at the start of every
interpreter and of every child process. It imports only what is frozen into
CPython; atoll is imported when a test asks for what is replaced.
"""

import sys
from importlib.machinery import PathFinder

_FOLDER = __file__.rpartition("/")[0] + "/replaced"

# Their submodules are found through the __path__ of the replacement.
_REPLACED = ("concurrent.interpreters", "test.support.channels")
_POOL = "InterpreterPoolExecutor"


class _Replacer:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in _REPLACED:
            return PathFinder.find_spec(name, [_FOLDER], target)
        if name == "concurrent.futures":
            spec = PathFinder.find_spec(name, path, target)
            run = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (run(module), _replace_pool(module))
            return spec
        return None


def _replace_pool(futures):
    """CPython's own makes the name when it is asked for; 3.13 has none."""
    other = vars(futures).pop("__getattr__", None)
    vars(futures).pop(_POOL, None)

    def __getattr__(name):
        if name == _POOL:
            import atoll

            return atoll.InterpreterPoolExecutor
        if other is not None:
            return other(name)
        raise AttributeError(f"module {futures.__name__!r} has no attribute {name!r}")

    futures.__getattr__ = __getattr__


sys.meta_path.insert(0, _Replacer)
