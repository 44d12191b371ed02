"""The general fall-back of the transfer: pickle, and cloudpickle where needed.

Plain pickle refers to functions and classes by name. That is right for those
of modules, and wrong for those of ``__main__``, lambdas and closures: the other
interpreter has another ``__main__``. An object that contains one of these goes
through cloudpickle, which sends the code by value.
"""

import _pickle
import io
from types import FunctionType

from .errors import NotShareableError

_PROTOCOL = 5


class _NeedsValue(Exception):
    """Something in there can only go by value."""


class _Pickler(_pickle.Pickler):
    def reducer_override(self, obj):
        # Called for everything but the built-in types that pickle knows.
        if isinstance(obj, (FunctionType, type)):
            if obj.__module__ == "__main__" or "<" in obj.__qualname__:
                raise _NeedsValue
        return NotImplemented


def dumps(obj):
    """Pickle `obj` to bytes; NotShareableError if that cannot be done."""
    file = io.BytesIO()
    try:
        _Pickler(file, _PROTOCOL).dump(obj)
        return file.getvalue()
    except _NeedsValue:
        pass
    except (_pickle.PicklingError, AttributeError, TypeError):
        pass  # cloudpickle knows more types
    except RecursionError as exc:
        raise NotShareableError(
            f"{_name(obj)} cannot be sent to another interpreter: it is nested too deeply"
        ) from exc
    return _dumps_by_value(obj)


def _dumps_by_value(obj):
    import cloudpickle

    try:
        return cloudpickle.dumps(obj, _PROTOCOL)
    except (_pickle.PicklingError, AttributeError, TypeError, RecursionError) as exc:
        raise NotShareableError(
            f"{_name(obj)} cannot be sent to another interpreter: {exc}"
        ) from exc


def _name(obj):
    return f"{type(obj).__module__}.{type(obj).__qualname__} object"


def loads(data):
    """Rebuild an object from bytes or a memoryview, which is released."""
    try:
        return _pickle.loads(data)
    finally:
        if isinstance(data, memoryview):
            data.release()
