"""Classes of every kind that may be sent. Importing it is cheap, unlike pytest."""

import copyreg
import datetime
import enum
from abc import ABC, abstractmethod
from collections import OrderedDict, defaultdict, deque
from dataclasses import InitVar, dataclass, field
from typing import NamedTuple


class Node:
    """Mutable, hashed by identity, told apart by its label."""

    def __init__(self, label, link=None):
        self.label = label
        self.link = link


class List(list):
    pass


class Dict(dict):
    pass


class Set(set):
    pass


class Frozenset(frozenset):
    pass


class Tuple(tuple):
    pass


class Str(str):
    pass


class Bytes(bytes):
    pass


class Bytearray(bytearray):
    pass


class Int(int):
    pass


class Float(float):
    pass


class Complex(complex):
    pass


class Deque(deque):
    pass


class Ordered(OrderedDict):
    pass


class Default(defaultdict):
    pass


class Date(datetime.date):
    pass


class Zone(datetime.tzinfo):
    def __init__(self, minutes):
        self.minutes = minutes

    def utcoffset(self, dt):
        return datetime.timedelta(minutes=self.minutes)

    def dst(self, dt):
        return None

    def tzname(self, dt):
        return f"zone {self.minutes}"

    def __getinitargs__(self):
        return (self.minutes,)

    def __repr__(self):
        return f"Zone({self.minutes})"


@dataclass
class Plain:
    x: object
    y: object = None


@dataclass(frozen=True)
class Frozen:
    x: object
    y: object = None


@dataclass(slots=True)
class Slotted:
    x: object
    y: object = None


@dataclass(frozen=True, slots=True)
class FrozenSlotted:
    x: object
    y: object = None


@dataclass(kw_only=True, slots=True, weakref_slot=True)
class Weak:
    x: object


@dataclass
class Derived:
    """What is computed is sent, and not computed again."""

    x: int
    scale: InitVar[int] = 10
    total: int = field(init=False, default=0)

    def __post_init__(self, scale):
        self.total = self.x * scale


class Pair(NamedTuple):
    left: object
    right: object = None


class PairWithAttributes(Pair):
    """A subclass has a __dict__."""


class Colour(enum.Enum):
    RED = 1
    GREEN = "green"
    ALSO_RED = 1  # noqa: PIE796


class Rank(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    YES = "yes"


class Rights(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()
    BOTH = READ | WRITE


class Planet(enum.Enum):
    EARTH = (5.9, [1])

    def __init__(self, mass, moons):
        self.mass = mass
        self.moons = moons


class Slots:
    """Slots of three classes, one name mangled, one slot empty, and a __dict__."""

    __slots__ = ("__private", "a")

    def __init__(self, a, private):
        self.a = a
        self.__private = private

    def values(self):
        return self.a, self.__private


class MoreSlots(Slots):
    __slots__ = ("b", "unset")

    def __init__(self, a, private, b):
        super().__init__(a, private)
        self.b = b


class SlotsAndDict(MoreSlots):
    pass


class Outer:
    class Inner:
        def __init__(self, x):
            self.x = x

    def method(self):
        return self

    @classmethod
    def make(cls):
        return cls()

    @staticmethod
    def static():
        return "static"


class Meta(type):
    pass


class WithMeta(metaclass=Meta):
    def __init__(self, x):
        self.x = x


class Shape(ABC):
    @abstractmethod
    def area(self): ...


class Square(Shape):
    def __init__(self, side):
        self.side = side

    def area(self):
        return self.side**2


class NoInit:
    """Rebuilt without __init__, as pickle does it."""

    def __init__(self):
        raise AssertionError("__init__ must not run")

    @classmethod
    def of(cls, x):
        self = cls.__new__(cls)
        self.x = x
        return self


# ------------------------------------------------------------ the reduce family


class Base:
    """Equal when the logged attributes are."""

    def __eq__(self, other):
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None


class Reduced(Base):
    def __init__(self, *args):
        self.args = args

    def __reduce__(self):
        return Reduced, self.args


class ReducedBy(Base):
    """__reduce_ex__ comes before __reduce__, and gets a protocol."""

    def __init__(self, x, how="init"):
        self.x = x
        self.how = how

    def __reduce_ex__(self, protocol):
        return ReducedBy, (self.x, f"reduce_ex {protocol >= 2}")

    def __reduce__(self):
        raise AssertionError("__reduce_ex__ comes first")


class ReducedWithState(Base):
    """A state that is a dict goes into __dict__."""

    def __init__(self, x):
        self.x = x
        self.extra = None

    def __reduce__(self):
        return ReducedWithState, (self.x,), {"extra": self.extra}


class ReducedWithSetState(Base):
    def __reduce__(self):
        return ReducedWithSetState, (), ("state", self.x)

    def __setstate__(self, state):
        self.word, self.x = state

    word = "state"


class ReducedWithItems(Base, list):
    """The items come through extend() or append()."""

    def __init__(self, name):
        self.name = name

    def __reduce__(self):
        return ReducedWithItems, (self.name,), None, iter(list(self))


class Appending(Base):
    """Not a list at all: only append()."""

    def __init__(self, items=()):
        self.items = [*items]

    def append(self, item):
        self.items.append(item)

    def __reduce__(self):
        return Appending, (), None, iter(list(self.items))


class ReducedWithPairs(Base):
    """Not a dict at all: only __setitem__()."""

    def __init__(self):
        self.pairs = []

    def __setitem__(self, key, value):
        self.pairs.append((key, value))

    def __reduce__(self):
        return ReducedWithPairs, (), None, None, iter(list(self.pairs))


def set_state(obj, state):
    obj.__dict__.update(state, by="set_state")


class ReducedWithSetter(Base):
    """The sixth item is a function that sets the state."""

    def __init__(self, x):
        self.x = x

    def __reduce__(self):
        return ReducedWithSetter, (None,), {"x": self.x}, None, None, set_state

    def __setstate__(self, state):
        raise AssertionError("the setter comes first")


class ReducedToName:
    """A string is the name of a global."""

    def __reduce__(self):
        return "THE_ONE"


THE_ONE = ReducedToName()


class State(Base):
    def __init__(self, x):
        self.x = x
        self.cache = object()

    def __getstate__(self):
        state = self.__dict__.copy()
        del state["cache"]
        return state

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.cache = None

    def __eq__(self, other):
        return type(self) is type(other) and self.x == other.x


class OddState(Base):
    """Any state but None goes to __setstate__, a false one as well."""

    def __init__(self, state):
        self.state = state

    def __getstate__(self):
        return vars(self).get("state")

    def __setstate__(self, state):
        self.state = state
        self.set = True

    set = False

    def __eq__(self, other):
        return self.state == other.state


class NewArgs(Base, tuple):
    def __new__(cls, a, b):
        return super().__new__(cls, (a, b))

    def __getnewargs__(self):
        return self[0], self[1]

    def __eq__(self, other):
        return tuple(self) == tuple(other) and self.__dict__ == other.__dict__


class NewArgsEx(Base):
    def __new__(cls, a, *, b):
        self = super().__new__(cls)
        self.made = a, b
        return self

    def __getnewargs_ex__(self):
        return (self.made[0],), {"b": self.made[1]}


class Registered:
    """Crosses by copyreg; its own __reduce__ is not asked."""

    def __init__(self, x):
        self.x = x

    def __reduce__(self):
        raise AssertionError("copyreg comes first")

    def __eq__(self, other):
        return type(self) is type(other) and self.x == other.x

    __hash__ = None


def make_registered(x):
    return Registered(x)


copyreg.pickle(Registered, lambda obj: (make_registered, (obj.x,)))


class Counting:
    """Counts how often it was reduced, in its own interpreter."""

    def __init__(self):
        self.count = 0

    def __reduce__(self):
        self.count += 1
        return Counting, ()


class Cyclic:
    """State that leads back to itself, through __reduce__."""

    def __init__(self):
        self.me = self

    def __reduce__(self):
        return Cyclic, (), {"me": self.me, "box": [self]}


class Guarded:
    """Cannot be sent as it is; see test_register.py."""

    def __init__(self, value):
        import threading

        self.value = value
        self.lock = threading.Lock()


class MoreGuarded(Guarded):
    pass


def reduce_guarded(obj):
    with obj.lock:
        return {"value": obj.value}


def rebuild_guarded(state):
    return Guarded(state["value"])


def rebuild_marked(state):
    return Guarded(("marked", state["value"]))


def round_trip(obj):
    """Through a queue of the interpreter that runs this."""
    import atoll

    queue = atoll.create_queue()
    queue.put(obj)
    return queue.get().value


def send_new_one(value):
    return round_trip(Guarded(value))
