"""Views of frozen graphs: they look like tuples and dicts."""

import collections
import collections.abc as abc
import copy
import json
import math
import pickle
import sys
import types

import atoll
import frozenkinds
import frozenops
import pytest
from frozenops import same

HAS_FROZENDICT = sys.version_info >= (3, 15)
LEAVES = [
    None, True, False, ..., 0, -1, 257, 5000, -(2**30), 2**60, 2**1000, -(2**1000), 0.0, -0.0,
    1.5, math.inf, 1.5 - 2j, "", "a", "é", "Ā", "𝔘", "ascii", "latin é", "two € bytes",
    "four 𝔘 bytes", "\ud800", "x" * 10_000, "__len__", b"", b"x", b"bytes", range(0),
    range(5, -9, -2), range(2**70, 2**71), slice(None), slice(1, 2, 3), slice("a", None, 2.5),
]  # fmt: skip


pytestmark = pytest.mark.usefixtures("no_graph_stays")


def view(obj):
    return atoll.freeze(obj).view()


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
