"""Classes whose instances are frozen, and functions that interpreters run."""

import array
import collections
import datetime as dt
import decimal
import enum
import fractions
import pathlib
import sys
import types
import typing
import uuid
import zoneinfo
from dataclasses import dataclass, field

import atoll


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"
    CRIMSON = 1  # noqa: PIE796


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Flags(enum.Flag):
    A = 1
    B = 2
    C = 4


class Pair(typing.NamedTuple):
    first: object
    second: object = None


Triple = collections.namedtuple("Triple", "a b c")


@dataclass(frozen=True)
class Point:
    x: object
    y: object = None
    computed: object = field(init=False, compare=False, default=0)

    def __post_init__(self):
        object.__setattr__(self, "computed", ("made", 1))


@dataclass(frozen=True, slots=True)
class Slotted:
    name: str
    parts: object = ()


@dataclass(frozen=True)
class Child(Point):
    z: object = None


@dataclass
class Mutable:
    x: int = 1


class Plain:
    def __init__(self, x):
        self.x = x


class Subclass(Point):
    pass


class Temperature:
    """Says itself how it is frozen."""

    def __init__(self, degrees, notes):
        self.degrees = degrees
        self.notes = notes

    def __eq__(self, other):
        return type(other) is Temperature and self.state() == other.state()

    def __hash__(self):
        return hash(self.degrees)

    def state(self):
        return self.degrees, tuple(self.notes)


def reduce_temperature(obj):
    return [obj.degrees, obj.notes]


def rebuild_temperature(parts):
    return Temperature(*parts)


BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def kinds():
    """Name -> one of each; equal each time. What get() gives is equal to it."""
    utc = dt.UTC
    return {
        "set": {1, "two", (3, 4)},
        "frozenset": frozenset(["a", frozenset([1, 2])]),
        "empty set": set(),
        "date": dt.date(2024, 2, 29),
        "time": dt.time(12, 30, 15, 250, fold=1),
        "datetime": dt.datetime(2024, 2, 29, 1, 2, 3, 4),
        "aware": dt.datetime(2024, 2, 29, 1, 2, 3, 4, utc),
        "zoned": dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN),
        "offset": dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=5), "name")),
        "timedelta": dt.timedelta(-5, 3, 7),
        "utc": utc,
        "timezone": dt.timezone(dt.timedelta(minutes=-90)),
        "zone": BERLIN,
        "decimal": decimal.Decimal("-1.500"),
        "decimal nan": [str(decimal.Decimal("NaN"))],
        "fraction": fractions.Fraction(-22, 7),
        "uuid": uuid.UUID(int=2**127 + 12345),
        "member": Colour.BLUE,
        "alias": Colour.CRIMSON,
        "int member": Level.HIGH,
        "flag": Flags.A,
        "flags": Flags.A | Flags.C,
        "pure path": pathlib.PurePosixPath("/usr/lib/x.y"),
        "windows path": pathlib.PureWindowsPath("C:\\x\\y"),
        "path": pathlib.Path("some/where"),
        "named tuple": Pair("one", (2, 3)),
        "collections' named tuple": Triple(1, Pair(2, 3), None),
        "dataclass": Point(1, "two"),
        "slots": Slotted("a name", (1, 2)),
        "child": Child(1, 2, Point(3)),
        "registered": Temperature(21.5, ["warm", "dry"]),
    }


def same_type(got, value):
    return type(got) is type(value) or (type(got) is frozenset and type(value) is set)


def register():
    atoll.register_frozen(Temperature, reduce_temperature, rebuild_temperature)


def check_opened(graph):
    """In another interpreter: is all as it should be?"""
    got = graph.get()
    assert got is graph.get()
    expected = kinds()
    assert list(got) == list(expected)
    for name, value in expected.items():
        if name == "decimal nan":
            continue
        assert same_type(got[name], value), name
        assert got[name] == value, name
        assert repr(got[name]) == repr(value) or name in (
            "set",
            "frozenset",
            "registered",
            "empty set",
        ), name
    thawed = atoll.thaw(graph)
    for name, value in expected.items():
        assert type(thawed[name]) is type(value), name
        assert thawed[name] == value, name
    return id(got["plain"]) if "plain" in got else len(got)


def ids(graph):
    root = graph.get()
    return [id(part) for part in root]


def open_twice(graph):
    return graph.get() is graph.get()


def freeze_registered():
    """Where nobody has called register()."""
    return atoll.freeze([Temperature(1, ())])


def opens_after_it_is_there(graph):
    """The class comes later."""
    try:
        graph.get()
    except ImportError as exc:
        text, notes = str(exc), exc.__notes__
    else:
        raise AssertionError("it is there")
    module = types.ModuleType("only_there")
    exec(ONLY, module.__dict__)
    sys.modules["only_there"] = module
    opened = graph.get()
    assert type(opened[1]["k"]) is module.Only
    return text, notes, opened[1]["k"].x


ONLY = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Only:
    x: object
Only.__module__ = "only_there"
"""


def read_buffers(graph):
    got = graph.get()
    for view in got:
        try:
            view[0] = 1
        except TypeError:
            pass
        else:
            raise AssertionError("it was written")
    return [view.tolist() for view in got], [type(view) for view in got]


BUFFERS = [
    bytearray(b"some bytes"),
    array.array("d", [1.5, 2.5]),
    array.array("i", range(5)),
    memoryview(b"abcdef").cast("B", (2, 3)),
    memoryview(array.array("q", [1, 2, 3])),
]


def read_array(graph):
    import numpy

    got = graph.get()
    assert not got.flags.writeable
    try:
        got.flags.writeable = True
    except ValueError:
        pass
    else:
        raise AssertionError("it can be changed")
    assert type(got) is numpy.ndarray
    return got.tolist(), str(got.dtype), got.shape
