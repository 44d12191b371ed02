"""Frozen graphs: what can be frozen, what comes out, what is refused."""

import collections
import json
import math
import pickle
import sys
import types
import weakref

import atoll
import pytest
import workers
from frozenops import is_mapping, same

MAPPING = types.MappingProxyType if sys.version_info < (3, 15) else frozendict  # noqa: F821

NAN = float("nan")

LEAVES = [
    None, True, False, ..., 0, 1, -1, -5, -6, 256, 257, 1024, 1025, 5000, 2**30 - 1, 2**30,
    -(2**30), 2**60 - 1, 2**60, -(2**60), 2**63, 2**1000, -(2**1000), 0.0, -0.0, 1.5, 1e308,
    5e-324, math.inf, -math.inf, 0j, -0j, 1.5 - 2j, complex(math.inf, 1), "", "a", "\x00", "é",
    "ÿ", "Ā", "ascii", "latin é", "two € bytes", "four 𝔘 bytes", "\ud800", "x\udfffy",
    "nul\x00l", "x" * 100_000, "é" * 100_000, "__len__", b"", b"x", b"\x00", b"bytes",
    b"\xff" * 100_000, range(0), range(5), range(3, 30, 7), range(10, 0, -1), range(2**70),
    range(-(2**70), 2**70, 2**65), slice(None), slice(3), slice(1, 2, 3),
    slice("a", (1, "b"), 2.5),
    (), (1,), (None, (None, (None,))), tuple(range(1000)),
]  # fmt: skip


def pairs():
    """What goes in, and what get() gives for it."""
    for leaf in LEAVES:
        yield leaf, leaf
    yield [], ()
    yield [1, [2, [3]]], (1, (2, (3,)))
    yield ([],), ((),)


@pytest.mark.parametrize("value, expected", list(pairs()), ids=lambda v: repr(v)[:20])
def test_it_is_equal_to_the_original(value, expected):
    got = atoll.freeze(value).get()
    assert type(got) is type(expected)
    assert got == expected
    assert repr(got) == repr(expected)
    assert same(got, value)
    if type(value) is not slice and not isinstance(value, list):
        assert hash(got) == hash(expected)
        assert {expected: 1}[got] == 1
    if not isinstance(value, str) or value.isascii():  # else it has its UTF-8
        assert sys.getsizeof(got) == sys.getsizeof(expected)
    again = atoll.thaw(atoll.freeze(value))
    assert type(again) is type(value)
    assert same(again, value)


@pytest.mark.parametrize(
    "count", [0, 1, 2, 5, 6, 10, 11, 85, 170, 171, 1000, 43_690, 43_691, 90_000]
)
@pytest.mark.parametrize("kind", ["str", "int", "mixed"])
def test_mappings(count, kind):
    key = {"str": str, "int": int, "mixed": lambda n: n if n % 2 else str(n)}[kind]
    value = {key(n): n for n in range(count)}
    got = atoll.freeze(value).get()
    assert type(got) is MAPPING
    assert len(got) == count
    assert dict(got) == value
    assert list(got.items()) == list(value.items())
    assert all(got[k] == v for k, v in value.items())
    assert all(k not in got for k in (-1, "-1", None, "", 2.5, (1,)))
    changed = dict(got)
    changed["more"] = 1
    changed.pop(key(0), None)
    assert "more" not in got
    assert len(got) == count
    assert atoll.thaw(atoll.freeze(value)) == value
    assert list(reversed(got)) == list(reversed(value))


def test_the_table_of_a_dict_with_holes():
    value = {n: str(n) for n in range(1000)}
    for n in range(0, 1000, 3):
        del value[n]
    value["text"] = 1
    assert dict(atoll.freeze(value).get()) == value
    text = {str(n): n for n in range(100)}
    del text["5"], text["99"]
    assert dict(atoll.freeze(text).get()) == text


def test_the_dict_of_an_instance_and_a_proxy():
    point = workers.Point(1, ["two"])
    assert dict(atoll.freeze(vars(point)).get()) == {"x": 1, "y": ("two",)}
    proxy = types.MappingProxyType({"a": 1})
    assert dict(atoll.freeze([proxy]).get()[0]) == {"a": 1}


def test_keys_of_every_kind():
    value = {
        1: "int", "str": 2, 1.5: 3, (1, ("t", 2.5)): 4, b"k": 5, None: 6, range(3): 7, 2j: 8,
        "": 9, 2**100: 10, ...: 11, False: 12, "é": 13,
    }  # fmt: skip
    got = atoll.freeze(value).get()
    assert dict(got) == value
    for key in value:
        assert got[key] == value[key]
    assert got[0] == 12
    assert got[1.0] == "int"


def test_a_nan_is_found_as_itself_only():
    other = float("nan")
    value = {NAN: "one", other: "two", "list": [NAN, NAN, other], (NAN,): "three"}
    graph = atoll.freeze(value)
    got = graph.get()
    first, second = got["list"][0], got["list"][2]
    assert got["list"][1] is first
    assert first is not second
    assert (got[first], got[second], got[(first,)]) == ("one", "two", "three")
    assert NAN not in got
    assert first in got["list"]
    thawed = atoll.thaw(graph)
    one = thawed["list"][0]
    assert (thawed[one], thawed[thawed["list"][2]]) == ("one", "two")


def test_what_is_shared_stays_shared_and_equal_strings_become_one():
    inner = ["a long enough string", 1.25]
    got = atoll.freeze([inner, inner, list(inner), {"k": inner}]).get()
    assert got[0] is got[1] is got[3]["k"]
    assert got[2] is not got[0]
    words = ["".join(["wo", "rd", str(n % 3), "é"]) for n in range(30)]
    got = atoll.freeze(words).get()
    assert len({id(w) for w in got}) == 3
    numbers = [float(str(n % 3) + ".5") for n in range(30)] + [10**6 + n % 3 for n in range(30)]
    assert len({id(n) for n in atoll.freeze(numbers).get()}) == 6
    one = atoll.freeze(["x" * 50_000]).nbytes
    assert atoll.freeze(["".join(["x"] * 50_000) for _ in range(10)]).nbytes < one + 10_000
    assert atoll.freeze([float(n % 2) for n in range(10_000)]).nbytes < 10_000 * 8 + 10_000
    signs = atoll.freeze([0.0, -0.0, 0, False]).get()
    assert [repr(x) for x in signs] == ["0.0", "-0.0", "0", "False"]


def test_cpythons_own_objects_are_taken():
    value = ["a", "", (), 5, b"", b"q", None, "ÿ"]
    got = atoll.freeze([*value, "".join(["__in", "it__"])]).get()
    assert all(x is y for x, y in zip(got, value, strict=False))
    assert got[-1] is sys.intern("__init__")


def test_names_that_cpython_knows_by_address():
    graph = atoll.freeze({"".join(["__le", "n__"]): 1, "__getitem__": 2, "__slots__": 3})
    cls = type("Sized", (), {})
    for name in graph.get():
        if name != "__slots__":
            setattr(cls, name, lambda self, *args: 7)
    assert len(cls()) == 7
    assert cls()["x"] == 7


def test_attributes_under_a_frozen_name():
    name = atoll.freeze("colour_of_it").get()

    class Thing:
        pass

    thing = Thing()
    setattr(thing, name, 5)
    assert thing.colour_of_it == 5
    thing.colour_of_it = 6
    assert getattr(thing, name) == 6
    assert list(vars(thing)) == ["colour_of_it"]
    setattr(Thing, name, 7)
    del thing.colour_of_it
    assert thing.colour_of_it == 7


@pytest.mark.parametrize("kind", ["list", "tuple", "dict", "slice"])
def test_deep_nesting(kind):
    wrap = {
        "list": lambda x: [x],
        "tuple": lambda x: (x, 1),
        "dict": lambda x: {"in": x},
        "slice": lambda x: slice(x, None),
    }[kind]
    value = "core"
    for _ in range(10_000):
        value = wrap(value)
    graph = atoll.freeze(value)

    def depth(obj):
        count = 0
        while obj != "core":
            count += 1
            obj = obj.start if kind == "slice" else obj["in"] if is_mapping(obj) else obj[0]
        return count

    assert depth(graph.get()) == depth(atoll.thaw(graph)) == 10_000
    with atoll.create() as interp:
        assert interp.call(len_of, graph) == len(graph.get() if kind != "slice" else "xx")
    while value != "core":  # else its end is as deep as it is
        value = value.start if kind == "slice" else value["in"] if kind == "dict" else value[0]


def len_of(graph):
    root = graph.get()
    return 2 if type(root) is slice else len(root)


def test_thaw_gives_lists_where_lists_were():
    value = {"list": [1, [], [2, (3, [4], ())]], "tuple": ((), ([],)), "dict": {"a": {}}}
    graph = atoll.freeze(value)
    assert atoll.thaw(graph) == value
    assert repr(atoll.thaw(graph)) == repr(value)
    assert atoll.thaw(graph.get()["list"]) == value["list"]
    thawed = atoll.thaw(graph)
    thawed["list"].append(5)
    thawed["new"] = 1
    assert json.loads(json.dumps(thawed))["new"] == 1
    assert atoll.thaw(graph) == value
    shared = ["x"]
    one, two = atoll.thaw(atoll.freeze((shared, shared)))
    assert one is two
    assert graph.pins == 1


def test_thaw_holds_nothing():
    before = atoll.frozen_stats()
    thawed = atoll.thaw(atoll.freeze({"key number one": ["some text", 2.5, 10**30, b"bytes"]}))
    assert atoll.frozen_stats() == before
    assert thawed == {"key number one": ["some text", 2.5, 10**30, b"bytes"]}


def test_thaw_refuses_what_is_not_frozen():
    for value in ([1], {"a": 1}, (1, 2), {1}, object(), workers.Point(1)):
        with pytest.raises(TypeError, match="thaw"):
            atoll.thaw(value)
    for value in (5, "text", None, 1.5):
        assert atoll.thaw(value) == value


# ---------------------------------------------------------------- refusals


REFUSED = {
    "object": object(), "memoryview": memoryview(b"xyz")[::2], "function": len_of, "class": int,
    "module": sys, "instance": workers.Point(1), "str subclass": workers.MyStr("x"),
    "int subclass": workers.MyInt(1),
    "ordered": collections.OrderedDict(a=1), "defaultdict": collections.defaultdict(int),
    "deque": collections.deque(), "buffer": atoll.Buffer(3),
    "NotImplemented": NotImplemented, "iterator": iter([]), "proxy": types.MappingProxyType(
        collections.OrderedDict()),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_frozen_is_named_with_its_place(kind):
    bad = REFUSED[kind]
    name = type(bad).__name__
    before = atoll.frozen_stats()
    text = f"^an instance of .*{name} cannot be frozen"
    with pytest.raises(atoll.NotShareableError, match=text):
        atoll.freeze(bad)
    with pytest.raises(atoll.NotShareableError) as caught:
        atoll.freeze({"jobs": [1, (2, {5: bad})]})
    assert str(caught.value).startswith("at ['jobs'][1][1][5]: an instance of ")
    with pytest.raises(atoll.NotShareableError, match=r"at .*\.stop: "):
        atoll.freeze([slice(1, bad)])
    assert atoll.frozen_stats() == before


def test_the_place_of_a_key():
    with pytest.raises(atoll.NotShareableError, match=r"^at \[0\] key\[1\]: "):
        atoll.freeze([{(1, object()): 2}])
    with pytest.raises(atoll.NotShareableError, match=r"^at \[<tuple>\]\[b'k'\]: "):
        atoll.freeze({(1, 2): {b"k": object()}})
    with pytest.raises(atoll.NotShareableError, match=r"^at \[\.\.\.\]\[0\]: "):
        atoll.freeze({10**5000: [object()]})
    value = object()
    for _ in range(100):
        value = [value]
    place = r"^at (\[0\]){10}\[\.\.\.\](\[0\]){10}: "
    with pytest.raises(atoll.NotShareableError, match=place):
        atoll.freeze(value)


def test_cycles_are_refused():
    one = [1]
    one.append({"in": (one,)})
    before = atoll.frozen_stats()
    place = r"at \[1\]\['in'\]\[0\]: .*part of itself"
    with pytest.raises(atoll.NotShareableError, match=place):
        atoll.freeze(one)
    two = {}
    two["self"] = two
    with pytest.raises(atoll.NotShareableError, match=r"at \[5\]\['self'\]: .*part of itself"):
        atoll.freeze([0, 1, 2, 3, 4, two])
    assert atoll.frozen_stats() == before
    fine = [1]
    assert atoll.freeze([fine, [fine]]).get() == ((1,), ((1,),))


def test_arguments():
    for wrong in ((), (1, "name")):
        with pytest.raises(TypeError):
            atoll.freeze(*wrong)
    with pytest.raises(TypeError, match="name must be a str or None, not int"):
        atoll.freeze(1, name=5)
    with pytest.raises(ValueError, match="null"):
        atoll.freeze(1, name="a\0b")
    assert atoll.freeze(1, name="é").name == "é"
    assert atoll.freeze(1).name is None
    with pytest.raises(TypeError):
        atoll.Frozen()


def test_the_handle():
    graph = atoll.freeze([1.25], name="prices")
    assert repr(graph) == f"<atoll.Frozen 'prices': tuple of {graph.nbytes} bytes>"
    assert "tuple of" in repr(atoll.freeze([1.25]))
    assert atoll.is_shareable(graph)
    assert graph == graph
    assert graph != atoll.freeze([1.25])
    assert graph != 5
    assert len({graph, graph}) == 1
    assert weakref.ref(graph)() is graph
    assert graph.get() is graph.get()
    with pytest.raises(TypeError):
        pickle.dumps(graph)
    for name in ("nbytes", "pins", "name"):
        with pytest.raises(AttributeError):
            setattr(graph, name, 1)
    assert atoll.freeze(graph) is graph
    assert atoll.freeze(None).get() is None
    assert atoll.freeze(5).nbytes == 0


def test_it_cannot_be_changed():
    got = atoll.freeze({"list": [1], "dict": {"a": 1}}).get()
    for mapping in (got, got["dict"]):
        for act in ("m['x'] = 1", "del m['a']", "m.update(a=1)", "m.clear()", "m.pop('a')",
                    "m.setdefault('x', 1)", "m.__init__(a=2)", "m.x = 1"):
            try:
                exec(act, {"m": mapping})
            except (TypeError, AttributeError):
                pass
    assert same(got, {"list": [1], "dict": {"a": 1}})
    with pytest.raises(AttributeError):
        got["list"].append(2)
