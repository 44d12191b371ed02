"""Put atoll in the place of concurrent.interpreters.

This folder is on PYTHONPATH, so the module runs at the start of every
interpreter and of every child process. It imports only what is frozen into
CPython; atoll is imported when a test asks for a replaced module.
"""

import sys
from importlib.machinery import PathFinder

_FOLDER = __file__.rpartition("/")[0] + "/replaced"

# Their submodules are found through the __path__ of the replacement.
_REPLACED = ("concurrent.interpreters", "test.support.channels")


class _Replacer:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in _REPLACED:
            return PathFinder.find_spec(name, [_FOLDER], target)
        return None


sys.meta_path.insert(0, _Replacer)
