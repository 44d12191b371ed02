"""What is frozen as a mold, and made anew by each interpreter: how it is taken apart,
and put together. And register_frozen. Called by the core (ext/frozen/other.c)."""

from __future__ import annotations

import sys

from .._core import _MOLD_BUFFER, _MOLD_CALL, _MOLD_MEMBER, _MOLD_NAMED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NATIVE = (type(None), bool, int, float, complex, str, bytes, range, slice, type(...), tuple)
_NATIVE += (list, dict, set, frozenset)  # type: ignore[assignment]

_HEAP_TYPE = 1 << 9

# type -> (reduce, rebuild); and the same in names, for the interpreters that this
# one makes.
_reducers: dict[type, tuple[Any, Any]] = {}
names: dict[str, tuple[str, str]] = {}


def register_frozen[T](
    type: type[T], reduce: Callable[[T], Any], rebuild: Callable[[Any], T]
) -> None:
    """Say how objects of a type of yours are frozen.

    Args:
      type: the class; its subclasses are not included.
      reduce: called where an object is frozen; returns anything that can be frozen.
      rebuild: called by each interpreter that opens the graph, once for the object,
        with what `reduce` returned, frozen (tuples for lists); returns the object,
        which nobody should change. Found there by its name.

    Holds for this interpreter, and for those that it makes from now on, if all three
    can be imported there. Registering a type again replaces what was said before.

    Raises TypeError if `type` is no class, is one that can be frozen as it is (int,
    str, list, ...), or a function cannot be called.
    """
    if not isinstance(type, _type):
        raise TypeError(f"register_frozen() takes a class first, not {type!r}")
    if type in _NATIVE:
        raise TypeError(f"{type!r} is frozen as it is")
    if not callable(reduce) or not callable(rebuild):
        raise TypeError("register_frozen() takes two callables after the type")
    _reducers[type] = reduce, rebuild
    found = [name(each) for each in (type, reduce, rebuild)]
    if all(isinstance(each, tuple) for each in found):
        key, *functions = [":".join(each) for each in found]
        names[key] = functions[0], functions[1]
    elif isinstance(found[0], tuple):
        names.pop(":".join(found[0]), None)


_type = type


def name(obj: Any) -> tuple[str, str] | str:
    """How an interpreter finds it: module and qualified name. Else why not."""
    module = getattr(obj, "__module__", None)
    qualname = getattr(obj, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str):
        return f"{obj!r} has no name under which others find it"
    if module == "_pydatetime":
        module = "datetime"
    if module == "__main__":
        return (
            f"other interpreters cannot import {qualname} from __main__: put it into a module"
        )
    try:
        if find(module, qualname) is obj:
            return module, qualname
    except ImportError:
        pass
    return f"{module}.{qualname} is not found under that name"


def find(module: str, qualname: str) -> Any:
    """What a module has under that name. Raises ImportError."""
    try:
        __import__(module)
        found: Any = sys.modules[module]
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, KeyError) as exc:
        text = f"this interpreter has no {module}.{qualname}, which is in a frozen graph: {exc}"
        raise ImportError(text, name=module) from exc
    return found


# ------------------------------------------------------------- taking apart


def plan(cls: Any) -> Any:
    """How to freeze instances of exactly this class.

    Returns one of:
      tuple[str, ...]: names of attributes; set again without asking the class.
      a function: gives the kind of a mold, and a tuple of its parts; or a str.
      str: why they cannot be frozen.
    """
    functions = _reducers.get(cls) or _inherited(cls)
    if functions is not None:
        reduce, rebuild = functions
        return lambda obj: (_MOLD_CALL, (rebuild, reduce(obj)))
    key = f"{cls.__module__}.{cls.__qualname__}"
    known = _KNOWN.get(
        key.replace("_pydatetime", "datetime").replace("pathlib._local", "pathlib")
    )
    if known is not None and not isinstance(name(cls), str):
        return known
    if "__dataclass_params__" in cls.__dict__:
        return _fields(cls)
    if issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple):
        return "its class adds attributes; " + _ADVICE if cls.__dictoffset__ else _named
    enum = sys.modules.get("enum")
    if enum is not None and isinstance(cls, enum.EnumType):
        return _member
    if key == "atoll.Buffer":
        return "its memory can be changed; send it as it is"
    if issubclass(cls, (*_NATIVE[1:9], *_NATIVE[10:])):
        return "instances of subclasses are not taken for their base; " + _ADVICE
    return "nothing says how; " + _ADVICE


_ADVICE = "atoll.register_frozen() can say how"


def _inherited(cls: Any) -> tuple[Any, Any] | None:
    found = names.get(f"{cls.__module__}:{cls.__qualname__}") if names else None
    if found is None or isinstance(name(cls), str):
        return None
    reduce, rebuild = [find(*each.split(":")) for each in found]
    _reducers[cls] = reduce, rebuild
    return reduce, rebuild


def _fields(cls: Any) -> Any:
    base = cls
    while base.__flags__ & _HEAP_TYPE:
        base = base.__base__
    if not cls.__dataclass_params__.frozen:
        return "it is a dataclass that can be changed: use @dataclass(frozen=True)"
    if base is not object:
        return f"it is built on {base.__name__}; {_ADVICE}"
    from dataclasses import fields

    return tuple(field.name for field in fields(cls))


def _reduced(obj: Any) -> Any:
    """Of classes whose reduction is a call of the class."""
    function, args = obj.__reduce_ex__(4)[:2]
    if function is not type(obj):
        return "its reduction is not such as atoll knows"
    return _MOLD_CALL, (function, *args)


def _timezone(obj: Any) -> Any:
    return _MOLD_CALL, (type(obj), *obj.__getinitargs__())


def _zoneinfo(obj: Any) -> Any:
    if obj.key is None:
        return "it has no key"
    return _MOLD_CALL, (type(obj), obj.key)


def _named(obj: Any) -> Any:
    return _MOLD_NAMED, (type(obj), *tuple.__iter__(obj))


def _member(obj: Any) -> Any:
    cls = type(obj)
    if cls._member_map_.get(obj._name_) is obj:
        return _MOLD_MEMBER, (cls, obj._name_)
    return _MOLD_CALL, (cls, obj._value_)  # several flags at once


def _bytearray(obj: bytearray) -> Any:
    return _MOLD_BUFFER, (memoryview(obj), "bytearray", "B", (len(obj),))


def _array(obj: Any) -> Any:
    return _MOLD_BUFFER, (_flat(memoryview(obj)), "array", obj.typecode, (len(obj),))


def _memoryview(obj: memoryview) -> Any:
    format = obj.format.removeprefix("@")
    if not obj.c_contiguous or format not in _FORMATS:
        return "it is not C-contiguous, or of several fields: copy it, or send it as it is"
    return _MOLD_BUFFER, (_flat(obj), "memoryview", format, obj.shape)


_FORMATS = tuple("cbB?hHiIlLqQnNfdP")


def _flat(view: memoryview) -> memoryview:
    # What is empty cannot be cast.
    return memoryview(b"") if view.nbytes == 0 else view.cast("B")


def _ndarray(obj: Any) -> Any:
    if obj.dtype.hasobject:
        return "it is an array of Python objects"
    if not obj.flags.c_contiguous:
        return "it is not C-contiguous: use numpy.ascontiguousarray()"
    from numpy.lib import format

    descr = format.dtype_to_descr(obj.dtype)
    data = memoryview(b"")
    if obj.nbytes:
        data = memoryview(obj.reshape(-1).view("u1"))
    return _MOLD_BUFFER, (data, "ndarray", descr, obj.shape)


_KNOWN: dict[str, Any] = {
    "builtins.bytearray": _bytearray,
    "builtins.memoryview": _memoryview,
    "array.array": _array,
    "numpy.ndarray": _ndarray,
    "datetime.date": _reduced,
    "datetime.time": _reduced,
    "datetime.datetime": _reduced,
    "datetime.timedelta": _reduced,
    "datetime.timezone": _timezone,
    "zoneinfo.ZoneInfo": _zoneinfo,
    "decimal.Decimal": _reduced,
    "fractions.Fraction": _reduced,
    "uuid.UUID": ("int", "is_safe"),
    "pathlib.PurePath": _reduced,
    "pathlib.PurePosixPath": _reduced,
    "pathlib.PureWindowsPath": _reduced,
    "pathlib.Path": _reduced,
    "pathlib.PosixPath": _reduced,
    "pathlib.WindowsPath": _reduced,
}


# --------------------------------------------------------- putting together


def open_buffer(data: bytes | bytearray, was: str, format: Any, shape: tuple[int, ...]) -> Any:
    """What shows frozen bytes, and cannot change them."""
    if was == "ndarray":
        return _numpy_array(data, format, shape)
    if was == "array" and format in "uw":
        format = "I"  # characters, which a memoryview cannot show
    if not data:
        return memoryview(data)
    return memoryview(data).cast("B").cast(format, shape)


def thaw_buffer(data: bytes, was: str, format: Any, shape: tuple[int, ...]) -> Any:
    """A copy that can be changed, of the class that it was."""
    if was == "bytearray":
        return bytearray(data)
    if was == "array":
        from array import array

        return array(format, data)
    if was == "ndarray":
        return _numpy_array(data, format, shape).copy()
    return open_buffer(bytearray(data), was, format, shape)


def _numpy_array(data: bytes | bytearray, descr: Any, shape: tuple[int, ...]) -> Any:
    import numpy
    from numpy.lib import format

    return numpy.ndarray(shape, format.descr_to_dtype(_listed(descr)), data)


def _listed(descr: Any) -> Any:
    """Fields are in a list: of tuples of a name, a type, and perhaps a shape."""
    if isinstance(descr, str):
        return descr
    if isinstance(descr[0], str):  # (type, shape)
        return _listed(descr[0]), tuple(descr[1])
    return [(_text(f[0]), _listed(f[1]), *map(tuple, f[2:])) for f in descr]


def _text(name: Any) -> Any:
    return name if isinstance(name, str) else tuple(name)
