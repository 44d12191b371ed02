"""Whether a copy has the same shape as its original, object for object."""

import array
import builtins
import datetime
import decimal
import enum
import fractions
import pathlib
import struct
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from types import BuiltinFunctionType, FunctionType

#: Of these no identity is asked: they are numbers, or as good as numbers.
VALUES = (
    bool, int, float, complex, range, slice, type(None), type(...), type(NotImplemented),
    datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, decimal.Decimal,
    fractions.Fraction, uuid.UUID, pathlib.PurePath, enum.Enum, type, FunctionType,
    BuiltinFunctionType,
)
#: Two equal ones may arrive as one.
IMMUTABLE = (str, bytes, tuple, frozenset)


def check(a, b, *, copied=True):
    """Assert that b is a copy of a. With `copied`, nothing mutable is shared."""
    _Check(copied).pair(a, b, "")


class Different(AssertionError):
    pass


class _Check:
    def __init__(self, copied):
        self.copied = copied
        self.there = {}  # id of an original: its copy
        self.back = {}  # id of a copy: its original
        self.keep = []  # what was made on the way keeps its id

    def fail(self, path, what):
        raise Different(f"at {path or 'the top'}: {what}")

    def pair(self, a, b, path):
        if type(a) is not type(b):
            self.fail(path, f"{type(a)} became {type(b)}")
        if isinstance(a, VALUES):
            if value_key(a) != value_key(b):
                self.fail(path, f"{a!r} became {b!r}")
            if type(a) in PLAIN_VALUES:
                return
        elif id(a) in self.there:
            if self.there[id(a)] is not b:
                self.fail(path, f"shared {type(a)} arrived as two objects")
            return
        if type(a) not in IMMUTABLE and not isinstance(a, VALUES):
            if id(b) in self.back:
                self.fail(path, f"two objects {type(a)} arrived as one")
            if self.copied and a is b:
                self.fail(path, f"{type(a)} was not copied")
        self.there[id(a)] = b
        self.back[id(b)] = a
        self.contents(a, b, path)
        if not isinstance(a, (type, FunctionType, BuiltinFunctionType, enum.Enum)):
            self.attributes(a, b, path)

    def contents(self, a, b, path):
        if isinstance(a, (str, bytes, bytearray)):
            plain = next(t for t in (str, bytes, bytearray) if isinstance(a, t))
            if not plain.__eq__(a, b) or len(a) != len(b):
                self.fail(path, f"{a!r} became {b!r}")
        elif isinstance(a, array.array):
            if (a.typecode, a.tobytes()) != (b.typecode, b.tobytes()):
                self.fail(path, f"{a!r} became {b!r}")
        elif isinstance(a, (tuple, list, deque)):
            if isinstance(a, deque) and a.maxlen != b.maxlen:
                self.fail(path, f"maxlen {a.maxlen} became {b.maxlen}")
            self.items(list(iter(a)), list(iter(b)), path)
        elif isinstance(a, (set, frozenset)):
            self.found(a, b, path)
            self.items(sorted(a, key=order), sorted(b, key=order), path)
        elif isinstance(a, (dict, *FROZENDICT)):
            if isinstance(a, defaultdict):
                self.pair(a.default_factory, b.default_factory, f"{path}.default_factory")
            self.found(a, b, path)
            self.items(list(a), list(b), f"{path}.keys()")
            for n, (x, y) in enumerate(zip(a.values(), b.values(), strict=True)):
                self.pair(x, y, f"{path}.values()[{n}]")

    def found(self, a, b, path):
        """A key or member is where its hash says, also if a cycle led to it."""
        if all(key in a for key in a) and not all(key in b for key in b):
            self.fail(path, "a key is not found by its hash")

    def items(self, a, b, path):
        if len(a) != len(b):
            self.fail(path, f"{len(a)} items became {len(b)}")
        for n, (x, y) in enumerate(zip(a, b, strict=True)):
            self.pair(x, y, f"{path}[{n}]")

    def attributes(self, a, b, path):
        # Names of attributes are interned: their identity says nothing.
        a, b = attributes(a), attributes(b)
        self.keep += [a, b]
        if list(a) != list(b):
            self.fail(path, f"attributes {list(a)} became {list(b)}")
        for name in a:
            self.pair(a[name], b[name], f"{path}.{name}")


FROZENDICT = (builtins.frozendict,) if hasattr(builtins, "frozendict") else ()
IMMUTABLE += FROZENDICT
PLAIN_VALUES = frozenset(
    [bool, int, float, complex, range, slice, type(None), type(...), type(NotImplemented),
     datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone,
     decimal.Decimal, fractions.Fraction, uuid.UUID, pathlib.PurePosixPath,
     pathlib.PosixPath, pathlib.PureWindowsPath, type, FunctionType, BuiltinFunctionType]
)


def attributes(obj):
    found = {}
    if type(obj) in (str, bytes, tuple, list, dict, set, Counter, OrderedDict):
        return found
    for cls in type(obj).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{cls.__name__.lstrip('_')}{name}"
            if name not in ("__dict__", "__weakref__") and hasattr(obj, name):
                found[name] = getattr(obj, name)
    found.update(getattr(obj, "__dict__", {}))
    return found


def value_key(obj):
    """Equal for equal values only: NaN equals NaN, 0.0 is not -0.0, True is not 1."""
    if isinstance(obj, float):
        return "nan" if obj != obj else struct.pack("d", obj)
    if isinstance(obj, complex):
        return value_key(obj.real), value_key(obj.imag)
    if isinstance(obj, decimal.Decimal):
        return obj.as_tuple()
    if isinstance(obj, (datetime.datetime, datetime.time)):
        return obj.replace(tzinfo=None), obj.fold, value_key(obj.tzinfo)
    if isinstance(obj, datetime.tzinfo):
        return repr(obj) if isinstance(obj, datetime.timezone) else type(obj)
    if isinstance(obj, slice):
        return [(type(x), x) for x in (obj.start, obj.stop, obj.step)]
    if isinstance(obj, range):
        return obj.start, obj.stop, obj.step
    if isinstance(obj, (type, FunctionType, BuiltinFunctionType, enum.Enum)):
        return id(obj)
    return obj


def order(obj):
    """A key that sorts the members of a set, which has no order of its own."""
    kind = f"{type(obj).__module__}.{type(obj).__qualname__}"
    if isinstance(obj, (tuple, deque)):
        return kind, repr([order(x) for x in obj])
    if isinstance(obj, (set, frozenset)):
        return kind, repr(sorted(order(x) for x in obj))
    if hasattr(obj, "label"):
        return kind, repr(obj.label)
    if isinstance(obj, VALUES):
        return kind, repr(value_key(obj))
    if attributes(obj):
        return kind, repr([(k, order(v)) for k, v in attributes(obj).items()])
    return kind, repr(obj)
