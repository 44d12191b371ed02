"""Objects with protocols of their own: classes, the reduce family, the library's."""

import array
import builtins
import copy
import datetime
import decimal
import enum
import fractions
import functools
import ipaddress
import math
import operator
import pathlib
import re
import sys
import types
import typing
import uuid
import zoneinfo
from collections import ChainMap, Counter, OrderedDict, defaultdict, deque

import pytest
import sendable as s
import workers
from isomorphic import check

# ---------------------------------------------------------------------- classes


def weak(x):
    return s.Weak(x=x)


@pytest.mark.parametrize(
    "make",
    [s.Plain, s.Frozen, s.Slotted, s.FrozenSlotted, weak, s.Pair, s.PairWithAttributes,
     s.Node, s.Outer.Inner, s.WithMeta, s.Square, s.NoInit.of, s.State,
     lambda x: types.SimpleNamespace(x=x)],
)
def test_an_instance_arrives_with_its_attributes(way, make):
    for x in (1, "text", [1, {"two": 2}], None):
        obj = make(x)
        got = way(obj)
        assert type(got) is type(obj)
        names = [n for n in ("x", "y", "left", "right", "label", "side") if hasattr(obj, n)]
        assert names
        for name in names:
            check(getattr(obj, name), getattr(got, name))


def test_attributes_keep_their_order(way):
    obj = s.Node(1)
    for name in "zyxabc":
        setattr(obj, name, name)
    assert list(vars(way(obj))) == ["label", "link", *"zyxabc"]


def test_attributes_that_the_class_does_not_know(way):
    obj = s.Plain(1)
    obj.more = [obj]
    del obj.y
    got = way(obj)
    assert vars(got) == {"x": 1, "more": [got]}
    assert got.y is None  # the default of the class
    obj.__dict__["not a name"] = 5
    assert vars(way(obj))["not a name"] == 5


def test_slots(way):
    got = way(s.Slots(1, 2))
    assert got.values() == (1, 2)
    got = way(s.MoreSlots(1, [2], 3))
    assert (got.values(), got.b) == ((1, [2]), 3)
    assert not hasattr(got, "unset")
    obj = s.SlotsAndDict(1, 2, 3)
    obj.free = obj
    got = way(obj)
    assert (got.values(), got.b, vars(got)) == ((1, 2), 3, {"free": got})


def test_a_dataclass_is_not_made_again(way):
    obj = s.Derived(3, 5)
    obj.total = 99
    assert way(obj) == obj
    assert way(obj).total == 99


def test_a_frozen_dataclass_stays_frozen_and_hashable(way):
    for cls in (s.Frozen, s.FrozenSlotted):
        obj = cls(1, ("two", 3))
        got = way({obj: obj})
        assert got[cls(1, ("two", 3))] == obj
        with pytest.raises(AttributeError):
            next(iter(got)).x = 2


def test_a_named_tuple_keeps_names_and_attributes(way):
    got = way(s.Pair([1], right=2))
    assert type(got) is s.Pair
    assert (got.left, got.right, got._fields) == ([1], 2, ("left", "right"))
    obj = s.PairWithAttributes(1)
    obj.note = "x"
    assert (way(obj), way(obj).note) == ((1, None), "x")


@pytest.mark.parametrize(
    "member",
    [s.Colour.RED, s.Colour.ALSO_RED, s.Colour.GREEN, s.Rank.HIGH, s.Word.YES, s.Planet.EARTH,
     s.Rights.READ, s.Rights.BOTH, s.Rights.READ | s.Rights.WRITE, s.Rights(0), re.I | re.M,
     uuid.SafeUUID.safe, enum.unique],
)
def test_a_member_of_an_enum_arrives_as_itself(way, member):
    assert way(member) is member
    assert way([member, {member: (member,)}])[1] == {member: (member,)}


def test_the_value_of_a_member_is_not_sent(way):
    """Otherwise the member's list would be another one."""
    assert way([s.Planet.EARTH])[0].moons is s.Planet.EARTH.moons


SUBCLASSES = [
    s.List([1, 2]), s.Dict(a=1), s.Set([1]), s.Frozenset([1, 2]), s.Tuple([1, [2]]),
    s.Str("text"), s.Bytes(b"bytes"), s.Bytearray(b"array"), s.Int(2**70), s.Float("nan"),
    s.Complex(1, -0.0), s.Deque([1, 2], 5), s.Ordered(b=1, a=2), s.Default(list, a=[1]),
    s.Date(2024, 2, 29),
]


@pytest.mark.parametrize("obj", SUBCLASSES, ids=lambda obj: type(obj).__name__)
def test_an_instance_of_a_subclass_keeps_class_and_attributes(way, obj):
    obj = copy.copy(obj)
    check(obj, way(obj))
    if isinstance(obj, (s.Default, s.Date)):
        return  # their own __reduce__ leaves attributes out
    obj.note = ["attribute"]
    check(obj, way(obj))
    assert way(obj).note == ["attribute"]
    check([obj, obj, (obj,)], way([obj, obj, (obj,)]))


def test_classes_arrive_as_themselves(way):
    for cls in (s.Node, s.Outer.Inner, s.WithMeta, s.Shape, s.Colour, s.Pair, int, type(None),
                types.FunctionType, types.SimpleNamespace, type(...), s.Meta, Exception):
        assert way(cls) is cls
        assert way([cls, {cls: 1}]) == [cls, {cls: 1}]


def test_a_class_keeps_nothing_of_its_instance_s_past(way):
    """__class__ may have been changed."""
    obj = s.Node(1)
    obj.__class__ = s.Plain
    assert type(way(obj)) is s.Plain


# ------------------------------------------------------------ the reduce family


def extra():
    obj = s.ReducedWithState([1])
    obj.extra = {"more": obj}
    return obj


def test_a_state_from_reduce_may_lead_back(way):
    got = way(extra())
    assert type(got) is s.ReducedWithState
    assert got.x == [1]
    assert got.extra["more"] is got


def with_items():
    obj = s.ReducedWithItems("name")
    obj.extend([1, [2]])
    return obj


def with_pairs():
    obj = s.ReducedWithPairs()
    obj[[1]] = "a list as a key"
    obj["x"] = 2
    return obj


def set_state(x):
    obj = s.ReducedWithSetState()
    obj.word, obj.x = "state", x
    return obj


@pytest.mark.parametrize(
    "obj",
    [s.Reduced(), s.Reduced(1, [2]), s.State([1]), s.NewArgs(1, [2]), s.NewArgsEx(1, b=[2]),
     s.Registered({1: 2}), set_state(5), s.Appending([1, 2, [3]]), with_pairs()],
    ids=lambda obj: type(obj).__name__,
)
def test_the_reduce_family(way, obj):
    assert way(obj) == obj
    assert type(way(obj)) is type(obj)
    got = way((obj, [obj]))
    assert got[0] is got[1][0]
    assert got[0] == obj


def test_reduce_with_items(way):
    got = way(with_items())
    assert (got.name, list(got)) == ("name", [1, [2]])


def test_reduce_ex_comes_before_reduce(way):
    assert way(s.ReducedBy(5)).how == "reduce_ex True"


def test_reduce_to_a_name_is_that_object(way):
    assert way(s.THE_ONE) is s.THE_ONE
    assert way([s.THE_ONE, s.THE_ONE]) == [s.THE_ONE] * 2


def test_a_state_setter(way):
    obj = way(s.ReducedWithSetter([1]))
    assert vars(obj) == {"x": [1], "by": "set_state"}


@pytest.mark.parametrize("state", [0, False, "", [], {}, (), 5, (None, {}), ({}, None)])
def test_any_state_but_none_goes_to_setstate(way, state):
    got = way(s.OddState(state))
    assert got.set is True
    assert got.state == state
    assert type(got.state) is type(state)


def test_the_state_none_does_not(way):
    got = way(s.OddState(None))
    assert got.set is False
    assert vars(got) == {}


def test_getstate_decides_what_is_sent(way):
    got = way(s.State([1]))
    assert (got.x, got.cache) == ([1], None)


def test_a_shared_object_is_reduced_once_in_a_message(way):
    obj = s.Counting()
    got = way([obj, (obj, {"k": obj})])
    assert obj.count == 1
    assert got[0] is got[1][0] is got[1][1]["k"]
    way(obj)
    assert obj.count == 2


def test_a_cycle_through_reduce(way):
    got = way(s.Cyclic())
    assert got.me is got
    assert got.box[0] is got


def test_what_reduce_returned_lives_until_the_end(way):
    """Its parts must not be taken for earlier ones at the same address."""
    objs = [s.Reduced([n], str(n) * 3, {n: [n]}) for n in range(2000)]
    got = way(objs)
    assert got == objs
    assert len({id(obj.args[0]) for obj in got}) == 2000


# ------------------------------------------------------------------ the library


NOW = datetime.datetime(2024, 10, 27, 1, 30, 0, 5, fold=1)
LIBRARY = [
    NOW,
    NOW.replace(tzinfo=datetime.UTC),
    NOW.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=-3, seconds=1), "name")),
    NOW.replace(tzinfo=zoneinfo.ZoneInfo("UTC")),
    NOW.replace(tzinfo=s.Zone(90)),
    NOW.time().replace(fold=1, tzinfo=datetime.UTC),
    datetime.datetime.min, datetime.datetime.max, datetime.date.min, datetime.date.max,
    datetime.time.max, datetime.timedelta.min, datetime.timedelta.max,
    datetime.timedelta(microseconds=-1), datetime.UTC,
    *map(decimal.Decimal, ["0", "-0", "1.10", "1E+999", "-1e-999", "Inf", "-Inf", "NaN",
                           "sNaN", "-NaN42", "9" * 100]),
    fractions.Fraction(-2**99, 3),
    uuid.UUID(int=2**128 - 1),
    uuid.UUID(int=1, is_safe=uuid.SafeUUID.unsafe),
    pathlib.PurePosixPath("/a", "b"), pathlib.PureWindowsPath("c:/x"), pathlib.Path("."),
    pathlib.PurePosixPath("\udcff"),
    OrderedDict(b=1, a=[2]), deque([1, 2, 3], 2), deque(maxlen=0), deque(), Counter("abca"),
    Counter({"a": -1, "b": 0}), defaultdict(None), defaultdict(int, a=1), defaultdict(s.Node),
    ChainMap({1: 2}, {3: 4}),
    range(0), range(10**30, 10**31, 7), slice(None), slice(1, "x", (2,)),
    array.array("d", [1.5, math.inf]), array.array("B"), array.array("w", "text"),
    ipaddress.ip_address("::1"), ipaddress.ip_network("10.0.0.0/8"),
    re.compile("a(?P<b>c)", re.I), re.compile(b"x"),
    types.SimpleNamespace(x=[1]),
    functools.partial(int, base=2), functools.partial(s.Plain, 1, y=[2]),
    operator.itemgetter(1, "a"), operator.attrgetter("a.b"), operator.methodcaller("f", 1, k=2),
    list[int], dict[str, list[s.Node]], int | None, typing.Any, typing.Union[int, s.Node],  # noqa: UP007
    typing.Callable[[int], str],
    NotImplemented, Ellipsis, None,
]


@pytest.mark.parametrize("obj", LIBRARY, ids=lambda obj: repr(obj)[:40])
def test_values_of_the_library(way, obj):
    got = way([obj])[0]
    assert type(got) is type(obj)
    assert repr(got) == repr(obj)
    check_equal(got, obj)


CALLERS = (operator.itemgetter, operator.attrgetter, operator.methodcaller)


def check_equal(got, obj):
    if isinstance(obj, decimal.Decimal):
        assert got.as_tuple() == obj.as_tuple()
    elif isinstance(obj, functools.partial):
        assert (got.func, got.args, got.keywords) == (obj.func, obj.args, obj.keywords)
    elif isinstance(obj, deque):
        assert (got, got.maxlen) == (obj, obj.maxlen)
    elif isinstance(obj, defaultdict):
        assert (got, got.default_factory) == (obj, obj.default_factory)
    elif isinstance(obj, CALLERS):
        assert repr(got.__reduce__()) == repr(obj.__reduce__())
    else:
        assert got == obj
    if isinstance(obj, (datetime.datetime, datetime.time)):
        assert (got.fold, got.tzname()) == (obj.fold, obj.tzname())


def test_utc_is_the_one_utc(way):
    assert way([datetime.UTC])[0] is datetime.UTC
    assert way(NOW.replace(tzinfo=datetime.UTC)).tzinfo is datetime.UTC


def test_names_and_methods_of_classes(way):
    for obj in (len, math.sin, str.upper, dict.fromkeys, int.from_bytes, s.Outer.static,
                s.Outer.method, workers.give, datetime.datetime.now, operator.add):
        got = way([obj])[0]
        assert got == obj
        assert got.__qualname__ == obj.__qualname__


def test_a_bound_method_comes_with_its_object(way):
    box = [1]
    method, same = way((box.append, box))
    method(2)
    assert same == [1, 2]
    assert box == [1]
    obj = s.Outer()
    method, same = way((obj.method, obj))
    assert method() is same is not obj
    assert way(s.Outer.make).__self__ is s.Outer


def test_iterators_go_on_where_they_were(way):
    it = iter([1, 2, 3])
    next(it)
    got = way(it)
    assert list(got) == [2, 3]
    assert list(it) == [2, 3]


@pytest.mark.skipif(sys.version_info < (3, 15), reason="frozendict is new in 3.15")
def test_frozendict(way):
    frozendict = builtins.frozendict
    shared = [1]
    obj = frozendict({"b": shared, "a": (shared,), 3: frozendict()})
    got = way(obj)
    check(obj, got)
    assert got["b"] is got["a"][0]
    assert list(got) == ["b", "a", 3]
    shared.append(obj)
    got = way(obj)
    assert got["b"][1] is got


# --------------------------------------------------------------------- aliasing


def test_shared_text_and_bytes_stay_one_object(way):
    text, data = "x" * 100, b"y" * 100
    got = way([text, data, (text, data), {text: data}])
    assert got[0] is got[2][0] is next(iter(got[3]))
    assert got[1] is got[2][1] is got[3][text]


def test_one_object_under_many_names(way):
    inner = s.Slotted([1])
    obj = [inner, (inner,), {"k": inner}, s.Node(inner, [inner]), deque([inner]),
           s.Tuple([inner]), functools.partial(print, inner), defaultdict(list, a=inner)]
    got = way(obj)
    first = got[0]
    assert first is not inner
    found = [got[1][0], got[2]["k"], got[3].label, got[3].link[0], got[4][0], got[5][0],
             got[6].args[0], got[7]["a"]]
    assert all(one is first for one in found)


@pytest.mark.parametrize(
    "make", [list, dict, deque, OrderedDict, s.List, s.Dict, s.Deque, s.Ordered,
             lambda: defaultdict(list), lambda: s.Node(0), lambda: s.Slotted(0)]
)
def test_what_contains_itself(way, make):
    """Directly, through a tuple, through a named tuple, through an object."""
    for wrap in (lambda x: x, lambda x: (x,), s.Pair, s.Tuple, s.Slotted,
                 lambda x: {"x": x}):
        obj = make()
        part = wrap(obj if wrap is not s.Tuple else [obj])
        if isinstance(obj, dict):
            obj["k"] = part
        elif isinstance(obj, (list, deque)):
            obj.append(part)
        elif isinstance(obj, s.Node):
            obj.link = part
        else:
            obj.x = part
        check(obj, way(obj))
        check(part, way(part))


def test_sets_of_objects_that_refer_to_the_set(way):
    nodes = [s.Node(n) for n in range(20)]
    obj = set(nodes)
    frozen = frozenset(nodes)
    for node in nodes:
        node.link = [obj, frozen]
    for whole in (obj, frozen, nodes[0], [frozen, obj]):
        check(whole, way(whole))


def test_keys_that_refer_to_their_dict(way):
    key = s.Node("key")
    obj = {key: "value"}
    key.link = obj
    got = way(obj)
    ((got_key, value),) = got.items()
    assert (got_key.label, value) == ("key", "value")
    assert got_key.link is got
    assert got[got_key] == "value"


def test_keys_that_contain_what_leads_to_their_dict(way):
    """A tuple or frozenset that is a key is complete before it is hashed."""
    for make in (lambda x: (x,), lambda x: (1, (x,)), s.Pair, lambda x: s.Tuple([x]),
                 lambda x: frozenset([x]), lambda x: (frozenset([(x, 1)]),)):
        node = s.Node(1)
        key = make(node)
        node.link = {key: "found"}
        node.more = {key, 1}
        for whole in (key, node, [key, node], [node, key], node.link):
            got = way([whole])
            check([whole], got)
            got_key = next(iter(find_node(got).link))
            assert find_node(got).link[got_key] == "found"
            assert hash(got_key) == hash(rebuilt(got_key))


def find_node(obj):
    while not isinstance(obj, s.Node):
        obj = next(x for x in obj if not isinstance(x, int))
    return obj


def rebuilt(key):
    """An equal key whose hash has not been asked for yet."""
    if isinstance(key, tuple):
        return type(key)._make(key) if isinstance(key, s.Pair) else type(key)(map(rebuilt, key))
    return frozenset(map(rebuilt, key)) if isinstance(key, frozenset) else key


def test_a_long_chain_of_objects(way):
    """As deep as an ordinary recursive function may go."""
    obj = None
    for n in range(200):
        obj = s.Node(n, obj)
    got = way(obj)
    for n in reversed(range(200)):
        assert got.label == n
        got = got.link
    assert got is None


def test_a_wide_graph(way):
    """Many objects that all refer to each other by a table."""
    table = {}
    for n in range(5000):
        table[n] = s.Node(n, table)
        table[n].other = table.get(n // 2)
    got = way(table)
    assert len(got) == 5000
    for n in range(5000):
        assert got[n].label == n
        assert got[n].link is got
        assert n == 0 or got[n].other is got[n // 2]
