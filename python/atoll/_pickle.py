"""The general fall-back of the transfer: pickle, and cloudpickle where needed.

Plain pickle refers to functions and classes by name. That is right for those
of modules, and wrong for those of ``__main__``, lambdas and closures: the other
interpreter has another ``__main__``. An object that contains one of these goes
through cloudpickle, which sends the code by value.
"""

from __future__ import annotations

import _pickle
import io
import sys
from types import FunctionType

from .errors import NotShareableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PROTOCOL = 5


class _NeedsValue(Exception):
    """Something in there can only go by value."""


class _Pickler(_pickle.Pickler):
    def reducer_override(self, obj: object) -> Any:
        # Called for everything but the built-in types that pickle knows.
        if isinstance(obj, (FunctionType, type)):
            if obj.__module__ == "__main__" or "<" in obj.__qualname__:
                raise _NeedsValue
        return NotImplemented


def _name_datetimes() -> None:
    """Let the classes of the pure-Python datetime pickle as those of datetime.

    On 3.13 interpreters have no other (see ext/compat.h), and it says that its
    classes are those of _pydatetime. Sent by that name they would arrive in the
    main interpreter as classes that nobody there uses.
    """
    module = sys.modules.get("_pydatetime")
    if module is None or sys.modules.get("_datetime") is not None:
        return
    for name in ("date", "datetime", "time", "timedelta", "timezone", "tzinfo"):
        getattr(module, name).__module__ = "datetime"
    # Its state is in slots, which the class in C does not have.
    module.timezone.__reduce__ = _reduce_timezone


def _reduce_timezone(self: Any) -> tuple[Any, ...]:
    return type(self), self.__getinitargs__()


def dumps(obj: object) -> bytes:
    """Pickle `obj` to bytes; NotShareableError if that cannot be done."""
    if "_pydatetime" in sys.modules:
        _name_datetimes()
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


def _dumps_by_value(obj: object) -> bytes:
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(obj, _PROTOCOL)
        return data
    except (_pickle.PicklingError, AttributeError, TypeError, RecursionError) as exc:
        raise NotShareableError(
            f"{_name(obj)} cannot be sent to another interpreter: {exc}"
        ) from exc


def _name(obj: object) -> str:
    return f"{type(obj).__module__}.{type(obj).__qualname__} object"


def loads(data: bytes | memoryview) -> Any:
    """Rebuild an object from bytes or a memoryview, which is released."""
    try:
        return _pickle.loads(data)
    finally:
        if isinstance(data, memoryview):
            data.release()
