"""Views of frozen graphs: they hand out nothing of the graph, cross to other
interpreters as views, and its memory goes with the last of them."""

import contextlib
import copy
import gc
import json
import os
import pickle
import random
import sys
import types
import weakref

import atoll
import frozenops
import pytest
import workers
from support import STRESS, check_python

pytestmark = pytest.mark.usefixtures("no_graph_stays")


def view(obj):
    return atoll.freeze(obj).view()


def anything():
    return contextlib.suppress(Exception)


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
    import atoll, frozenops
    from test_frozen_view_memory import hammer

    graph = atoll.freeze(frozenops.sample())

    def one(place):
        for life in range(2):
            with atoll.create() as interp:
                interp.call(hammer, graph, {seed} + 10 * place + life, {count})

    threads = [threading.Thread(target=one, args=(n,)) for n in range(2)]
    [t.start() for t in threads]
    hammer(graph, {seed}, {count})
    [t.join() for t in threads]
    assert graph.pins == 0
    assert frozenops.same(atoll.thaw(graph), frozenops.sample())
    del graph
    assert atoll.frozen_stats()["graphs"] == 0, atoll.frozen_stats()
    print("done")
"""


@pytest.mark.parametrize("seed", range(STRESS))
def test_nothing_writes_to_the_graph(seed):
    code = READ_ONLY.format(here=os.path.dirname(__file__), seed=1000 * seed + 3, count=3000)
    assert check_python(code, timeout=120, options=("-W", "ignore")) == "done"
