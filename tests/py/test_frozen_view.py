"""Views of frozen graphs: they look like tuples and dicts, hand out nothing of the
graph, and let its memory go with the last of them."""

import collections
import collections.abc as abc
import contextlib
import copy
import gc
import json
import math
import pickle
import random
import sys
import types
import weakref

import atoll
import frozenkinds
import frozenops
import pytest
import workers
from frozenops import same
from support import HERE, STRESS, check_python

HAS_FROZENDICT = sys.version_info >= (3, 15)
LEAVES = [
    None, True, False, ..., 0, -1, 257, 5000, -(2**30), 2**60, 2**1000, -(2**1000), 0.0, -0.0,
    1.5, math.inf, 1.5 - 2j, "", "a", "é", "Ā", "𝔘", "ascii", "latin é", "two € bytes",
    "four 𝔘 bytes", "\ud800", "x" * 10_000, "__len__", b"", b"x", b"bytes", range(0),
    range(5, -9, -2), range(2**70, 2**71), slice(None), slice(1, 2, 3), slice("a", None, 2.5),
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_graph_stays():
    gc.collect()
    before = atoll.frozen_stats()
    yield
    gc.collect()
    assert atoll.frozen_stats() == before


def view(obj):
    return atoll.freeze(obj).view()


def anything():
    return contextlib.suppress(Exception)


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda v: repr(v)[:20])
def test_leaves_are_copies(leaf):
    for got in (view(leaf), view([leaf])[0], view({"k": leaf})["k"]):
        assert type(got) is type(leaf)
        assert got == leaf
        assert repr(got) == repr(leaf)
        assert hash(got) == hash(leaf) or isinstance(leaf, slice)
    assert view(None) is None
    assert view([slice((1, "b"))])[0] == slice((1, "b"))


def test_sequences():
    values = [1, "two", 3.0, [4, [5]], {"six": (7,)}, 1, None, (8, 9)]
    v = view(values)
    assert type(v) is atoll.SequenceView
    assert isinstance(v, abc.Sequence)
    assert len(v) == len(values)
    for n in range(-8, 8):
        assert v[n] == values[n]
    for n in (8, -9, 2**80, -(2**80)):
        with pytest.raises(IndexError):
            v[n]
    with pytest.raises(TypeError):
        v["0"]
    assert type(v[1:3]) is tuple
    for part in (slice(None), slice(2, 5), slice(None, None, -1), slice(-1, 0, -3)):
        assert list(v[part]) == values[part]
    assert list(v) == values
    assert list(reversed(v)) == values[::-1]
    assert iter(v).__length_hint__() == 8
    assert 1 in v
    assert [4, [5]] in v
    assert {"six": (7,)} in v
    assert 4 not in v
    assert v.index(1) == 0
    assert v.index(1, 1) == 5
    assert v.index(1, -3, -2) == 5
    assert v.index((8, 9)) == 7
    assert v.count(1) == 2
    for wrong in ((2,), (1, 6), (1, 1, 5), (1, 5, 1)):
        with pytest.raises(ValueError):
            v.index(*wrong)
    assert v + (1,) == (*values, 1)
    assert (1,) + v == (1, *values)
    assert v + v == (*values, *values)
    assert type(v + v) is tuple
    for wrong in ([1], 1, "x", {}):
        with pytest.raises(TypeError):
            v + wrong
        with pytest.raises(TypeError):
            wrong + v
    with pytest.raises(TypeError):
        v[0] = 1
    with pytest.raises(AttributeError):
        v.more = 1
    with pytest.raises(TypeError):
        type(v)()
    assert bool(v)
    assert not view(())
    a, *b = v
    assert (a, b) == (1, values[1:])


def test_comparison():
    v = view([1, [2, "x"], (3.5,)])
    assert v == [1, [2, "x"], (3.5,)]
    assert v == (1, (2, "x"), [3.5])
    assert (1, [2, "x"], (3.5,)) == v
    assert v == view((1, (2, "x"), (3.5,)))
    assert v != [1, [2, "y"], (3.5,)]
    assert v != (1, 2)
    assert v != 5
    assert (v == 5) is False
    for other in ([1], [2], [1, [2, "x"]], [1, [2, "x"], (3.5,), 0], [1, [2, "y"]], (0,), ()):
        ours, as_tuple = atoll.thaw(v), tuple(other)
        ours = (1, (2, "x"), (3.5,))
        theirs = tuple(tuple(x) if isinstance(x, list) else x for x in as_tuple)
        for seen in (other, as_tuple, view(other)):
            assert (v < seen) == (ours < theirs)
            assert (v <= seen) == (ours <= theirs)
            assert (v > seen) == (ours > theirs)
            assert (v >= seen) == (ours >= theirs)
            assert (seen < v) == (theirs < ours)
    with pytest.raises(TypeError):
        v < ["x"]  # noqa: B015
    for value in ((), (1,), (1, ("x", 2.5, None)), ((), ((),))):
        assert hash(view(value)) == hash(value)
        assert {value: 5}[view(value)] == 5
    assert hash(view([1, 2])) == hash((1, 2))
    nan = float("nan")
    v = view([nan])
    assert v == v


def test_a_list_that_changes_while_it_is_compared():
    class Evil:
        def __eq__(self, other):
            values.clear()
            return True

    values = [Evil(), 2, 3]
    assert (view([1, 2, 3]) == values) is False


def pairs():
    return {"a": 1, 2: "two", (3, "t"): [4], 2.5: {"in": {"deep": None}}, None: (), b"k": "b",
            2**100: "big", range(3): "range", "é" * 50: "long"}  # fmt: skip


@pytest.mark.parametrize("make", [pairs, frozenkinds.kinds], ids=["native", "mold"])
def test_mappings(make):
    value = make()
    value.pop("registered", None)
    v = view(value)
    assert type(v) is atoll.DictView
    assert isinstance(v, abc.Mapping)
    assert len(v) == len(value)
    assert list(v) == list(value)
    assert list(reversed(v)) == list(reversed(value))
    for key in value:
        assert key in v
        assert v.get(key) is not None or value[key] is None
    for key in v:
        v[key]
    assert "none" not in v
    assert 2.25 not in v
    assert v.get("none") is None
    assert v.get("none", 5) == 5
    with pytest.raises(KeyError) as raised:
        v[1, 2]
    assert raised.value.args == ((1, 2),)
    for call in (v.__getitem__, v.get, v.__contains__):
        with pytest.raises(TypeError):
            call([])
    assert v.keys() == value.keys()
    assert value.keys() == v.keys()
    assert len(v.values()) == len(list(v.values())) == len(value)


def test_mappings_compare_and_combine():
    value = pairs()
    v = view(value)
    assert v == value
    assert value == v
    assert v == view(pairs())
    assert v == types.MappingProxyType(value)
    assert types.MappingProxyType(value) == v
    assert v == collections.OrderedDict(value)
    assert v == collections.UserDict(value)
    assert collections.ChainMap(value) == v
    for other in ({**value, "a": 2}, {**value, "b": 2}, {}, {**value, "a": [1]}):
        assert v != other
        assert v != view(other)
        assert other != v
    assert v != 5
    with pytest.raises(TypeError):
        v < value  # noqa: B015
    both = v | {"a": 9, "new": 8}
    assert type(both) is dict
    assert both == value | {"a": 9, "new": 8}
    assert {"a": 9, "new": 8} | v == {"a": 9, "new": 8} | value
    assert v | v == value
    assert v | types.MappingProxyType({1: 2}) == value | {1: 2}
    for wrong in (1, [], [(1, 2)], set()):
        with pytest.raises(TypeError):
            v | wrong
    assert {**view({"x": 1})} == {"x": 1}
    assert (lambda **k: k)(**view({"x": 1})) == {"x": 1}
    assert dict(v) == value
    if HAS_FROZENDICT:
        assert hash(view({"a": 1})) == hash(frozendict({"a": 1}))  # noqa: F821
        assert view({"a": 1}) == frozendict({"a": 1})  # noqa: F821
    else:
        with pytest.raises(TypeError, match="DictView"):
            hash(v)
        with pytest.raises(TypeError):
            hash(view([{}]))


@pytest.mark.parametrize("count", [0, 1, 5, 6, 85, 171, 300, 43_691, 70_000])
@pytest.mark.parametrize("kind", ["str", "int", "mold"])
def test_every_key_is_found(count, kind):
    make = str if kind == "str" else int
    value = {make(n * 7): n for n in range(count)}
    if kind == "mold" and count < 1000:
        value["mold"] = frozenset()
    v = view(value)
    assert len(v) == len(value)
    for key, item in value.items():
        assert v[key] == item
    for n in range(count):
        assert make(n * 7 + 1) not in v
    assert list(v.items()) == list(value.items())


def test_keys_values_items():
    value = {"a": 1, "b": [2], "c": {"d": 3}}
    v = view(value)
    keys, values, items = v.keys(), v.values(), v.items()
    assert isinstance(keys, abc.KeysView)
    assert isinstance(values, abc.ValuesView)
    assert isinstance(items, abc.ItemsView)
    assert "a" in keys
    assert "x" not in keys
    assert [2] in values
    assert [3] not in values
    assert ("b", [2]) in items
    assert ("b", [3]) not in items
    assert ("x", 1) not in items
    assert "b" not in items
    assert list(items) == list(value.items())
    assert list(reversed(items)) == list(reversed(value.items()))
    assert list(reversed(values)) == list(reversed(value.values()))
    assert list(values) == list(value.values())
    assert keys & {"a", "x"} == {"a"}
    assert {"a", "x"} & keys == {"a"}
    assert keys | {"x"} == {"a", "b", "c", "x"}
    assert keys - {"a"} == {"b", "c"}
    assert {"a", "x"} - keys == {"x"}
    assert keys ^ {"a", "x"} == {"b", "c", "x"}
    assert keys.isdisjoint(["x"])
    assert not keys.isdisjoint("a")
    for other in ({"a"}, {"a", "b", "c"}, {"a", "b", "c", "d"}, {"x", "y", "z"}, set()):
        for seen in (other, dict.fromkeys(other).keys(), view(dict.fromkeys(other)).keys()):
            assert (keys == seen) == (value.keys() == other)
            assert (keys != seen) == (value.keys() != other)
            assert (keys < seen) == (value.keys() < other)
            assert (keys <= seen) == (value.keys() <= other)
            assert (keys > seen) == (value.keys() > other)
            assert (keys >= seen) == (value.keys() >= other)
            assert (seen == keys) == (value.keys() == other)
            assert (seen <= keys) == (other <= value.keys())
    assert items == value.items()
    assert view({"a": 1}).items() & {("a", 1), ("b", 2)} == {("a", 1)}
    assert keys.mapping == v
    for part in (keys, values, items):
        assert "DictView" in repr(part)
        with pytest.raises(TypeError):
            pickle.dumps(part)
    with pytest.raises(TypeError):
        hash(keys)


def test_patterns():
    match view([1, ["x", 2], {"k": [3], "more": 4}]):
        case [1, [str(s), n], {"k": [three], **rest}]:
            assert (s, n, three, rest) == ("x", 2, 3, {"more": 4})
        case _:
            pytest.fail("no match")
    match view({"a": {"b": 5}}):
        case {"x": _}:
            pytest.fail("wrong match")
        case atoll.DictView():
            pass
        case _:
            pytest.fail("no match")
    match view("text"):
        case [*_]:
            pytest.fail("wrong match")


def test_ordinary_copies():
    value = frozenops.sample()
    v = view(value)
    for made in (atoll.thaw(v), copy.deepcopy(v), *(pickle.loads(pickle.dumps(v, p)) for p in
                 range(pickle.HIGHEST_PROTOCOL + 1))):  # fmt: skip
        assert type(made) is dict
        assert same(made, value)
    assert type(atoll.thaw(v["records"])) is list
    assert type(pickle.loads(pickle.dumps(v["records"]))) is list
    assert type(atoll.thaw(v["tuples"][2])) is tuple
    assert atoll.thaw(v["records"][3]) == value["records"][3]
    assert atoll.thaw(view(())) == ()
    assert copy.copy(v) is v
    text = {"a": [1, {"b": [None, "x"]}]}
    assert json.loads(json.dumps(view(text), default=atoll.thaw)) == text
    assert repr(view(text)) == "<atoll.DictView of {'a': [1, {'b': [None, 'x']}]}>"
    assert repr(view((1, []))) == "<atoll.SequenceView of (1, [])>"


class Spy:
    """Compares, adds and keeps what it is given."""

    def __init__(self, hash_=0):
        self.seen, self.hash = [], hash_

    def __hash__(self):
        return self.hash

    def look(self, other):
        self.seen.append(other)
        return NotImplemented

    __eq__ = __ne__ = __lt__ = __gt__ = __le__ = __ge__ = look
    __or__ = __ror__ = __add__ = __radd__ = __and__ = __rand__ = look


ATTEMPTS = [
    lambda v, spy: v == spy,
    lambda v, spy: v | spy,
    lambda v, spy: spy | v,
    lambda v, spy: spy in v,
    lambda v, spy: v.get(spy),
    lambda v, spy: v["key"] == spy,
    lambda v, spy: v["key"] < spy,
    lambda v, spy: v["key"] == [spy] * 4,
    lambda v, spy: v["key"] + spy,
    lambda v, spy: spy in v["key"],
    lambda v, spy: v["key"].index(spy),
    lambda v, spy: v["key"].count(spy),
    lambda v, spy: v == dict.fromkeys(v, spy),
    lambda v, spy: v["key"] < [1000, spy, 0, 0],
    lambda v, spy: spy in v.values(),
    lambda v, spy: ("key", spy) in v.items(),
    lambda v, spy: v.keys() & spy,
    lambda v, spy: v.keys() == spy,
    lambda v, spy: v[spy],
    lambda v, spy: (spy, spy) in v,
    lambda v, spy: v["slice"] == [spy],
    lambda v, spy: v[("tuple", spy)],
]  # fmt: skip


def test_nothing_of_the_graph_gets_out():
    """Not to the methods of others (the holes of mappingproxy), not to the collector."""
    value = {"key": [1000, 1.5, "some text", ("t", 2000)], ("tuple", 3000): {"k": 4000},
             "slice": [slice(5000, "stop")], "bytes": b"bytes", "big": 2**200}  # fmt: skip
    handle = atoll.freeze(value)
    v = handle.view()
    with atoll.create() as interp:  # that has got it, for a while
        native = interp.call(frozen_addresses, handle)
    assert len(native) > 10
    spies = [Spy(hash(key)) for key in value]
    seen = []
    for spy in spies:
        for attempt in ATTEMPTS:
            with anything():
                attempt(v, spy)
        seen += spy.seen
    assert len(seen) > 50
    for obj in (v, v["key"], iter(v), v.keys(), v.items(), iter(v.items()), v["key"][3]):
        assert gc.get_referents(obj) in ([], [type(obj)])
        assert not gc.is_tracked(obj)
    seen += [*v, *v.values(), *v["key"], *v["key"][:], v["slice"][0].start, v["slice"][0].stop]
    seen += [*atoll.thaw(v), *(v | {}), *(v | {}).values(), *v["key"] + ()]
    for obj in seen:
        assert id(obj) not in native, obj
        if isinstance(obj, (str, bytes, float, tuple, dict)) and obj not in ("key", ()):
            assert sys.getrefcount(obj) < 1 << 29, obj  # not immortal


def frozen_addresses(handle):
    """Of what is in the graph, and not CPython's own."""
    kinds = (str, bytes, tuple, float, slice, *frozenops.MAPPINGS)
    found = frozenops.parts(handle.get(), [])
    return {id(obj) for obj in found if isinstance(obj, kinds) or (obj or 0) > 2000}


def graphs():
    gc.collect()
    return atoll.frozen_stats()["graphs"]


@pytest.mark.parametrize("value", [[1, {"a": [2]}], [frozenset([1]), {"a": [2]}]],
                         ids=["native", "mold"])  # fmt: skip
def test_the_memory_stays_as_long_as_anything_of_it(value):
    before, pins = graphs(), atoll.frozen_stats()["pins"]
    holders = {
        "root": lambda v: v, "part": lambda v: v[1], "deep": lambda v: v[1]["a"],
        "iterator": iter, "reversed": reversed, "keys": lambda v: v[1].keys(),
        "values": lambda v: v[1].values(), "items": lambda v: v[1].items(),
        "items iterator": lambda v: iter(v[1].items()),
        "slice": lambda v: v[1:], "frozen": atoll.freeze, "list": list,
        "cell": atoll.Cell,
    }  # fmt: skip
    for name, hold in holders.items():
        holder = hold(view(value))
        assert atoll.frozen_stats()["graphs"] > before, name
        assert atoll.frozen_stats()["pins"] == pins
        del holder
        assert atoll.frozen_stats()["graphs"] == before, name
    copies = (atoll.thaw, copy.deepcopy, repr, len, lambda v: v[0], lambda v: v[1]["a"][0])
    for release in copies:
        kept = release(view(value))
        assert atoll.frozen_stats()["graphs"] == before
        del kept
    it = iter(view(value))
    list(it)
    assert atoll.frozen_stats()["graphs"] == before  # exhausted, and it lets go
    assert next(it, None) is None


def test_weak_references():
    v = view([[1]])
    part = v[0]
    gone = []
    ref, other = weakref.ref(v, gone.append), weakref.ref(part)
    assert ref() is v
    del v
    assert ref() is None
    assert gone == [ref]
    assert other() == [1]
    keys = view({1: 2}).keys()
    assert weakref.ref(keys)() is keys


def hold_a_view(handle, keep):
    part = handle.view()["records"] if not isinstance(handle, atoll.DictView) else handle["a"]
    if keep:
        sys.kept = part
    return atoll.frozen_stats()


def test_lifetime_in_another_interpreter():
    before, pins = graphs(), atoll.frozen_stats()["pins"]
    with atoll.create() as interp:
        handle = atoll.freeze(frozenops.sample())
        assert interp.call(hold_a_view, handle, True)["pins"] == pins
        del handle
        assert atoll.frozen_stats()["graphs"] == before + 1
        interp.exec("import sys; assert sys.kept[1]['id'] == 1; del sys.kept")
        assert atoll.frozen_stats()["graphs"] == before
        handle = atoll.freeze(frozenops.sample())
        interp.call(hold_a_view, handle, True)
        del handle
        assert atoll.frozen_stats()["graphs"] == before + 1
    assert atoll.frozen_stats()["graphs"] == before  # closed with it


def give_back(v):
    assert isinstance(v, (atoll.SequenceView, atoll.DictView))
    return {"again": [v, v], "part": v["a"][1]}


def test_they_cross_as_views():
    before = graphs()
    value = {"a": [1, {"b": 2}], "big": ["x"] * 50_000}
    v = view(value)
    assert atoll.is_shareable(v)
    with atoll.create() as interp:
        back = interp.call(give_back, v)
        assert back["again"][0] == value
        assert type(back["again"][1]) is atoll.DictView
        assert type(back["part"]) is atoll.DictView
        assert back["part"] == {"b": 2}
        assert interp.call(workers.give, v["a"]) == [1, {"b": 2}]
    assert atoll.frozen_stats()["graphs"] == before + 1  # one and the same
    queue = atoll.create_queue()
    queue.put({"deep": [v]})
    del v, back
    assert atoll.frozen_stats()["graphs"] == before + 1
    assert queue.get()["deep"][0]["a"] == [1, {"b": 2}]
    assert atoll.frozen_stats()["graphs"] == before
    cell = atoll.Cell(view(value))
    assert cell.load()["a"] == [1, {"b": 2}]
    del cell
    queue.put(view(value))
    del queue
    gc.collect()
    assert atoll.frozen_stats()["graphs"] == before


def test_they_are_frozen_by_reference():
    big = atoll.freeze({"a": ["x" * 100_000, {"b": 1}]})
    v = big.view()
    small = atoll.freeze([v["a"], v, {"v": v["a"][1]}])
    assert small.nbytes < 10_000
    del big, v
    w = small.view()
    assert w == [["x" * 100_000, {"b": 1}], {"a": ["x" * 100_000, {"b": 1}]}, {"v": {"b": 1}}]
    assert type(atoll.thaw(small)[0]) is list
    assert atoll.freeze(w[2]).view() == {"v": {"b": 1}}


def test_parts_that_each_interpreter_makes():
    point = frozenkinds.Point([1, 2], frozenset("ab"))
    value = {"point": point, "set": {1, 2}, "list": [point, {"x": point}],
             "plain": [1, 2], frozenkinds.Colour.RED: "red", frozenkinds.Point(1): "one",
             "buffer": bytearray(b"x"), "slice": slice(point)}  # fmt: skip
    v = view(value)
    assert type(v["point"]) is frozenkinds.Point
    assert v["point"].x == [1, 2]
    assert type(v["set"]) is frozenset
    assert v["set"] == {1, 2}
    assert v["list"][1]["x"].y == frozenset("ab")
    assert v["plain"] == [1, 2]
    assert v[frozenkinds.Colour.RED] == "red"
    assert v[frozenkinds.Point(1)] == "one"
    assert bytes(v["buffer"]) == b"x"
    assert v["slice"].stop.y == frozenset("ab")
    assert v.keys() == value.keys()
    small = {"c": frozenkinds.Colour.RED, "s": {1}, "l": [{2}]}
    assert view(small) == {"c": frozenkinds.Colour.RED, "s": {1}, "l": [{2}]}
    assert view(small) == view(small)
    assert view(small) != view({**small, "s": {3}})
    assert view([{2}, 1]) == ({2}, 1)
    assert view([{2}, 1]) < view([{2}, 2])
    assert hash(view([{2}, 1])) == hash((frozenset([2]), 1))
    assert {1} in view([{1}])
    assert type(atoll.thaw(view([{1}]))[0]) is set
    with atoll.create() as interp:
        assert interp.call(len, v) == len(value)
    again = atoll.freeze({"of": v["list"]})
    del v
    assert again.view()["of"][0].y == frozenset("ab")


class Nosy:
    watched = None


def reduce_nosy(obj):
    return ["x" * 100]


def rebuild_nosy(parts):
    rest = list(Nosy.watched or [])
    assert len(rest) < 2
    return parts[0]


def test_an_iterator_that_is_used_up_by_what_it_makes():
    atoll.register_frozen(Nosy, reduce_nosy, rebuild_nosy)
    for make in (lambda v: v.items(), lambda v: v.values(), iter):
        v = view({0: Nosy(), 1: 2} if make is not iter else [Nosy(), (1, 2)])
        Nosy.watched = iter(make(v))
        del v
        try:
            it = Nosy.watched
            assert "x" * 100 in repr(next(it))
            assert list(it) == []
        finally:
            Nosy.watched = it = None


def test_deep_graphs():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    v = view(deep)
    for _ in range(100_000):
        v = v[0]
    assert v == []
    deep = None
    for _ in range(100_000):
        deep = slice(deep)
    with pytest.raises(RecursionError):
        view(deep)
    while deep is not None:  # an object at a time, or its end needs too much stack
        deep = deep.stop


OPERATIONS = [
    lambda v, w: v == w,
    lambda v, w: v != w,
    lambda v, w: v < w,
    lambda v, w: hash(v),
    lambda v, w: v in w,
    lambda v, w: list(v),
    lambda v, w: list(reversed(v)),
    lambda v, w: v[:],
    lambda v, w: v[::-2],
    lambda v, w: v + w,
    lambda v, w: v | w,
    lambda v, w: dict(v),
    lambda v, w: v.items() & w.items(),
    lambda v, w: v.keys() | w.keys(),
    lambda v, w: v.get(w),
    lambda v, w: w in v.values(),
    lambda v, w: list(v.items()),
    lambda v, w: {**v},
    lambda v, w: v.index(w),
    lambda v, w: v.count(w),
    lambda v, w: atoll.thaw(v),
    lambda v, w: pickle.dumps(v),
    lambda v, w: copy.deepcopy(v),
    lambda v, w: repr(v),
    lambda v, w: sys.intern(v),
    lambda v, w: frozenops.do_match(v, w, None),
    lambda v, w: json.dumps(v, default=atoll.thaw),
    lambda v, w: {v: w},
    lambda v, w: len(v),
    lambda v, w: weakref.ref(v)(),
    lambda v, w: gc.get_referents(v),
    lambda v, w: sorted([v, w]),
    lambda v, w: atoll.freeze([v, w]).view()[0],
    lambda v, w: (lambda **k: k)(**v),
    lambda v, w: [i == j for i, j in zip(v, w, strict=False)],
    lambda v, w: v.items() == w.items(),
    lambda v, w: setattr(frozenops.Plain(), v, w),
    lambda v, w: types.MappingProxyType(v) == w,
]  # fmt: skip


def view_parts(v):
    stack, found = [v], []
    while stack:
        v = stack.pop()
        found.append(v)
        if isinstance(v, atoll.SequenceView):
            stack.extend(v)
        elif isinstance(v, atoll.DictView):
            stack.extend([*v.keys(), *v.values()])
    return found


def hammer(handle, seed, count):
    chance = random.Random(seed)
    for _ in range(3):
        parts = view_parts(handle.view())
        for _ in range(count // 3):
            with anything():
                chance.choice(OPERATIONS)(chance.choice(parts), chance.choice(parts))
        del parts
    gc.collect()
    return True


READ_ONLY = """
    import os, sys, threading
    os.environ["ATOLL_FROZEN_READONLY"] = "1"
    sys.path.insert(0, {here!r})
    import atoll, frozenops, test_frozen_view

    graph = atoll.freeze(frozenops.sample())

    def one(place):
        for life in range(2):
            with atoll.create() as interp:
                interp.call(test_frozen_view.hammer, graph, {seed} + 10 * place + life, {count})

    threads = [threading.Thread(target=one, args=(n,)) for n in range(2)]
    [t.start() for t in threads]
    test_frozen_view.hammer(graph, {seed}, {count})
    [t.join() for t in threads]
    assert graph.pins == 0
    assert frozenops.same(atoll.thaw(graph), frozenops.sample())
    del graph
    assert atoll.frozen_stats()["graphs"] == 0, atoll.frozen_stats()
    print("done")
"""


@pytest.mark.parametrize("seed", range(STRESS))
def test_nothing_writes_to_the_graph(seed):
    code = READ_ONLY.format(here=HERE, seed=1000 * seed + 3, count=3000)
    assert check_python(code, timeout=120, options=("-W", "ignore")) == "done"
