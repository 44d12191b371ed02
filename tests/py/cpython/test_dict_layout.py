"""Dicts and attributes, read and made by what is known of CPython's own layout
of them, and without: ext/cpython/dict.h."""

import copy
import ctypes
import functools
import gc
import itertools
import sys
import weakref
from collections import Counter, OrderedDict, defaultdict

import pytest
import shapes
from atoll import _core
from isomorphic import check
from sendable import Dict, Str

SIZES = [0, 1, 2, 5, 6, 10, 11, 42, 43, 64, 65, 85, 86, 1000, 21845, 21846, 200_000]


@pytest.fixture(params=["layout", "public"], autouse=True)
def layout(request):
    """Both ways; the result is whether the layout is used to make dicts."""
    on = request.param == "layout"
    can_read, can_write = _core._use_dict_layout(on)
    if on and not can_read:
        pytest.skip("the layout is not known here")
    yield on and can_write
    _core._use_dict_layout(True)


@pytest.fixture
def trip(queue):
    def trip(obj):
        queue.put(obj)
        return queue.get_nowait()

    return trip


def use_hard(got, model):
    """Whatever a program may do with a dict, beside a model of it."""
    model = dict(model)
    assert got == model and list(got.items()) == list(model.items())
    assert list(reversed(got)) == list(reversed(model))
    assert got.copy() == model and {**got} == model and copy.copy(got) == model
    for key in itertools.islice(list(model), 50):
        assert got[key] == model[key] and key in got
    assert "absent" not in got and got.get("absent") is None
    for change in (
        lambda d: d.update(absent=1),
        lambda d: d.pop("absent"),
        lambda d: d.popitem() if d else None,
        lambda d: d.pop(next(iter(d))) if d else None,
        lambda d: d.update({f"more{n}": n for n in range(len(d) % 1000 + 20)}),
        lambda d: [d.pop(key) for key in list(d)[::3]],
        lambda d: d.update({7: 8, (9,): 10}),
        lambda d: d.setdefault("last", []).append(1),
    ):
        change(got)
        change(model)
        assert got == model and list(got) == list(model)
    sys.getsizeof(got)
    got.clear()
    assert got == {} and not got
    got["again"] = 1
    assert got == {"again": 1}


@pytest.mark.skipif(
    sys.version_info >= (3, 16) or hasattr(sys, "gettotalrefcount"),
    reason="not known of this CPython",
)
def test_the_layout_of_these_versions_is_known():
    assert _core._use_dict_layout(True)[0]


# ------------------------------------------------------------------------ dicts


@pytest.mark.parametrize("size", SIZES)
def test_dicts_of_all_sizes_can_be_used_when_they_have_arrived(trip, size):
    sent = {f"key{n}": n for n in range(size)}
    got = trip(sent)
    assert type(got) is dict
    use_hard(got, sent)
    nested = trip([sent, {"inner": sent}])
    assert nested[0] is nested[1]["inner"]
    use_hard(nested[0], sent)


@pytest.mark.parametrize("size", [n for n in SIZES if 2 <= n <= 86])
def test_records_with_the_same_keys(trip, size):
    keys = [f"key{n}" for n in range(size)]
    sent = [{key: (n, key) for key in keys} for n in range(20)]
    got = trip(sent)
    check(sent, got)
    for one, model in zip(got, sent, strict=True):
        use_hard(one, model)


def test_a_dict_that_arrived_takes_no_more_memory_than_a_literal(trip, layout):
    sent = [{"a": n, "b": n, "c": n, "d": n, "e": n, "f": n} for n in range(5)]
    sent.append(dict.fromkeys(f"key{n}" for n in range(1000)))
    for one, model in zip(trip(sent), sent, strict=True):
        if layout:
            assert sys.getsizeof(one) <= sys.getsizeof(model)


def test_records_whose_keys_change_after_a_while(trip):
    keys = ["same", "alike", "first", "second"]
    sent = [dict.fromkeys(keys, n) for n in range(4)]
    sent += [dict.fromkeys([*keys[:at], "new", *keys[at + 1 :]], at) for at in range(1, 4)]
    sent += [dict.fromkeys(reversed(keys), 1), dict.fromkeys([*keys[:2], 7, None], 2)]
    sent += [{key: [n] for key in keys} for n in range(4)]
    got = trip(sent)
    check(sent, got)
    for one, model in zip(got, sent, strict=True):
        assert list(one) == list(model)
        use_hard(one, model)


def test_many_kinds_of_records(trip):
    """More than the encoder remembers at a time."""
    kinds = [[f"first{n}", *(f"key{m}" for m in range(n % 5 + 1))] for n in range(40)]
    for used in (kinds, kinds[:3], kinds[:17]):
        sent = [dict.fromkeys(keys, n) for n in range(6) for keys in used]
        sent += [dict.fromkeys(keys, n) for keys in used for n in range(6)]
        got = trip(sent)
        check(sent, got)
        for one, model in zip(got, sent, strict=True):
            use_hard(one, model)


def test_records_in_records_and_shared_ones(trip):
    def record(n, inner):
        return {"id": n, "inner": inner, "tags": [n], "name": f"name {n}"}

    sent = [record(n, record(n, record(n, None))) for n in range(30)]
    sent += sent[::2]  # twice
    sent[3]["inner"] = sent[3]  # a cycle
    sent[4]["inner"] = sent
    got = trip(sent)
    check(sent, got)
    assert got[3]["inner"] is got[3] and got[4]["inner"] is got
    assert got[30] is got[0]


def test_keys_that_are_the_same_object_arrive_as_one(trip):
    key = "".join(["key ", str(1)])
    got = trip([{key: key, "other": key}, {key: 1, "other": 2}, {key: [key]}])
    keys = [next(iter(one)) for one in got]
    assert keys[0] is keys[1] is keys[2] is got[0][key] is got[2][key][0]


def test_a_dict_with_gaps(trip):
    for size, gone in [(4, [0]), (9, [8]), (300, range(0, 300, 3)), (10, range(9))]:
        sent = {f"key{n}": n for n in range(size)}
        for n in gone:
            del sent[f"key{n}"]
        sent["new"] = "new"
        use_hard(trip(sent), sent)
        use_hard(trip([dict(sent), sent, sent.copy()])[1], sent)
        emptied = {f"key{n}": n for n in range(size)}
        for key in list(emptied):
            del emptied[key]
        use_hard(trip(emptied), {})


def test_records_of_which_some_have_gaps(trip):
    sent = []
    for n in range(12):
        record = {"zero": 0, "id": n, "name": str(n), "value": [n]}
        del record["zero"]
        sent.append(record)
        sent.append({"id": n, "name": str(n), "value": [n]})
    check(sent, trip(sent))


MIXED = {
    "ints": {n * 7: n for n in range(500)},
    "none": {None: 1, True: 2, 2.5: 3, b"b": 4},
    "int last": {**{f"key{n}": n for n in range(50)}, 5: 6},
    "int first": {5: 6, **{f"key{n}": n for n in range(50)}},
    "tuples": {("a", n): n for n in range(20)},
    "subclass": {Str("a"): 1, "b": 2},
    "subclass last": {"a": 1, "b": 2, Str("c"): 3, "d": 4},
    "unicode": {"ä": 1, "日本": 2, "\U0001f600": 3, "\ud800": 4},
    "short": {"": 1, "a": 2, "é": 3, "ab": 4},
    "long": {"x" * 300: 1, "x" * 70_000: 2},
    "equal hashes": {shapes.Alike(n): n for n in range(10)},
    "equal hash of a str": {"a": 1, shapes.Alike(1): 2, "b": 3},
    "frozensets": {frozenset([n]): n for n in range(5)},
}


@pytest.mark.parametrize("kind", MIXED)
def test_keys_of_all_kinds(trip, kind):
    sent = MIXED[kind]
    got = trip(sent)
    assert list(got.items()) == list(sent.items())
    assert list(map(type, got)) == list(map(type, sent))
    use_hard(got, sent)
    records = [{**sent, "n": n} for n in range(5)]
    got = trip(records)
    assert got == records
    for one, model in zip(got, records, strict=True):
        use_hard(one, model)


def test_keys_that_fall_on_the_same_place(trip):
    keys = [key for key in map(str, range(60_000)) if hash(key) & 0xFF == 7]
    assert len(keys) > 100
    use_hard(trip(dict.fromkeys(keys)), dict.fromkeys(keys))
    records = [dict.fromkeys(keys[:60], n) for n in range(4)]
    for one, model in zip(trip(records), records, strict=True):
        use_hard(one, model)


def test_a_key_without_a_hash_yet(trip):
    got = trip([{"k" * 300: 1}, "k" * 300, {"ab": [{"cd": 1}]}])
    assert got[0]["k" * 300] == 1 and got[2]["ab"][0]["cd"] == 1


SUBCLASSES = [
    OrderedDict(b=1, a=2), defaultdict(list, a=[1]), Counter("hello"), Dict(a=1, b=2),
]


@pytest.mark.parametrize("sent", SUBCLASSES, ids=lambda d: type(d).__name__)
def test_subclasses_of_dict(trip, sent):
    both = [sent, sent.copy(), {"in": sent}]
    got = trip(both)
    check(both, got)
    if isinstance(sent, OrderedDict):
        got[0].move_to_end("b")
        assert list(got[0]) == ["a", "b"]
    if isinstance(sent, defaultdict):
        assert type(got[0]) is defaultdict


def test_the_dict_of_an_instance_is_sent_as_a_dict(trip):
    points = [shapes.Point(n, [n]) for n in range(5)]
    sent = [vars(point) for point in points]
    got = trip(sent)
    assert got == sent
    del points[0].y, points[1].x
    points[1].x = 5
    assert trip([vars(point) for point in points]) == [vars(point) for point in points]
    assert list(trip(vars(points[1]))) == ["y", "z", "x"]


@pytest.mark.skipif(sys.version_info < (3, 15), reason="there is no frozendict")
def test_frozendict(trip):
    sent = frozendict({f"key{n}": n for n in range(50)})  # noqa: F821
    got = trip([sent, {"inner": sent}])
    assert got[0] == sent and type(got[0]) is type(sent) and hash(got[0]) == hash(sent)


# ------------------------------------------------------------ changes under way


@pytest.mark.parametrize("size", [1, 50])
@pytest.mark.parametrize("records", [False, True])
def test_a_dict_that_changes_size_while_it_is_sent_is_an_error(trip, size, records):
    for change in (lambda d: d.pop("b"), lambda d: d.update(c=1), dict.clear):
        sent = {**{f"key{n}": n for n in range(size)}, "m": None, "b": 3}
        before = [dict(sent), dict(sent)] if records else []
        sent["m"] = shapes.Meddling(functools.partial(change, sent))
        with pytest.raises(RuntimeError, match="changed"):
            trip([*before, sent])


def test_a_dict_whose_pairs_are_exchanged_while_it_is_sent(trip):
    """It may come with some of the old pairs, but as a dict that is one."""

    def moved(sent):
        sent["a"] = sent.pop("a")

    def rebuilt(sent):
        pairs = list(sent.items())
        sent.clear()
        sent.update(reversed(pairs))

    def other_keys(sent):
        count = len(sent)
        sent.clear()
        sent.update({n: n for n in range(count)})

    def values(sent):
        for key in sent:
            sent[key] = key * 2

    for change in (moved, rebuilt, other_keys, values):
        for size in (3, 30):
            for records in (False, True):
                sent = {"a": 1, "m": 2, **{f"key{n}": n for n in range(size)}}
                before = [dict(sent), dict(sent)] if records else []
                sent["m"] = shapes.Meddling(functools.partial(change, sent))
                try:
                    got = trip([*before, sent])[-1]
                except RuntimeError as error:  # it has noticed
                    assert "changed" in str(error)
                    continue
                assert len(list(got)) == len(got) == len(set(got))
                assert 0 < len(got) <= len(sent)
                use_hard(got, got)


def test_a_dict_is_freed_while_it_is_sent(trip):
    holder = {"inner": {"m": 1, "b": [2], "c": "x" * 50}}
    holder["inner"]["m"] = shapes.Meddling(lambda: holder.update(inner=None))
    assert trip([holder, 1])[0]["inner"]["c"] == "x" * 50


@pytest.mark.parametrize("deed", ["look", "insert"])
def test_a_dict_is_seen_while_it_is_rebuilt(trip, deed):
    for first in (None, shapes.Point(1, 2)):  # with and without code before it
        for size in (2, 50):
            sent = {f"key{n}": n for n in range(size)}
            sent["visitor"] = visitor = shapes.Visitor(sent, deed)
            sent["after"] = [1]
            alone = trip([first, sent])[1]
            twice = trip([first, dict(sent, visitor=1), dict(sent, visitor=2), sent])[3]
            for got in (alone, twice):
                assert got["visitor"].target is got
                assert got.get("own") == (1 if deed == "insert" else None)
                assert list(got.pop("visitor").saw) in ([], [f"key{n}" for n in range(size)])
                got.pop("own", None)
                assert got == {k: v for k, v in sent.items() if v is not visitor}
                use_hard(got, got)


def test_what_fails_in_the_middle_leaves_nothing_behind(trip):
    gone = []
    with pytest.raises(ValueError, match="boom"):
        trip(shapes.Explosive())  # the first that fails imports something
    for size in (1, 6, 60):
        for wrap in (
            lambda bad: bad,
            lambda bad: [dict(bad, bad=1), dict(bad, bad=2), bad],
            lambda bad: [bad, bad],
            lambda bad: [shapes.Point(1, 2), shapes.Point(bad, 2)],
        ):
            sent = {f"key{n}": shapes.Point(n, n) for n in range(size)}
            sent["bad"] = shapes.Explosive()
            sent["after"] = 1
            gc.collect()
            before = len(gc.get_objects())
            for _ in range(20):
                with pytest.raises(ValueError, match="boom"):
                    trip(wrap(sent))
            gc.collect()
            # What was sent may have dicts from now on; nothing else is new.
            gone.append(len(gc.get_objects()) - before - size)
    assert all(n < 20 for n in gone), gone


# -------------------------------------------------------------------- instances


def test_instances_of_one_class(trip):
    sent = [shapes.Point(n, [n], {"z": n}) for n in range(50)]
    got = trip(sent)
    assert got == sent
    for n, point in enumerate(got):
        assert list(vars(point)) == ["x", "y", "z"]
        point.x = "new"
        point.more = n
        del point.y
        assert vars(point) == {"x": "new", "z": {"z": n}, "more": n}
        point.y = 1
        assert list(vars(point)) == ["x", "z", "more", "y"]


def test_instances_without_a_look_at_their_dicts(trip):
    got = trip([shapes.Point(n, n) for n in range(5)])
    for point in got:
        del point.y
        point.w = point.x
        point.y = 3
        point.x += 1
    assert [(p.x, p.y, p.z, p.w) for p in got] == [(n + 1, 3, 0, n) for n in range(5)]
    assert trip(got[1:])[2].w == 3


def test_instances_whose_attributes_differ(trip):
    sent = [shapes.Grown("abcde"[: n % 6]) for n in range(20)]
    sent += [shapes.Grown(reversed("abcde"[: n % 6])) for n in range(20)]
    for n in range(10):
        one = shapes.Grown("abcde")
        del one.b
        if n % 2:
            one.b = [n]
        if n % 3:
            vars(one)  # gives it a dict
        if n % 4 == 3:
            one.__dict__ = {"b": 1, "e": 2}
        sent.append(one)
    got = trip(sent)
    for one, model in zip(got, sent, strict=True):
        assert list(vars(one).items()) == list(vars(model).items())
    got = trip(sent)  # looked at before they are compared
    assert [one.__dict__ for one in got] == [one.__dict__ for one in sent]


@pytest.mark.parametrize("count", [0, 1, 5, 29, 30, 31, 32, 100])
def test_instances_with_many_attributes(trip, count):
    names = [f"name{n}" for n in range(count)]
    kind = type("Many", (shapes.Grown,), {"__module__": __name__})
    for cls in (shapes.Grown, kind):
        sent = [cls(names) for _ in range(4)]
        if cls is kind:
            globals()["Many"] = kind
        for one in trip(sent):
            assert list(vars(one).items()) == [(name, name.upper()) for name in names]
            one.another = 1
            assert one.another == 1


def test_attributes_with_strange_names(trip):
    sent = [shapes.Bag() for _ in range(4)]
    for one in sent:
        one.__dict__.update({"no name": 1, "ä": 2, "": 3})
        setattr(one, "x y", 4)
    assert [vars(one) for one in trip(sent)] == [vars(one) for one in sent]
    vars(sent[1])[5] = 6
    got = trip(sent)
    assert vars(got[1]) == vars(sent[1])


def test_instances_with_descriptors_and_slots(trip):
    got = trip([shapes.Checked(n) for n in range(4)])
    assert [one.value for one in got] == [0, 1, 2, 3]
    got = trip([shapes.Slotted(n, [n]) for n in range(4)])
    assert [(one.x, one.y) for one in got] == [(n, [n]) for n in range(4)]


def test_instances_in_instances_and_cycles(trip):
    sent = [shapes.Point(shapes.Point(n, n), shapes.Bag(n=n)) for n in range(10)]
    sent[2].x = sent[2]
    sent[3].x.y = sent
    sent += sent[:3]
    got = trip(sent)
    check(sent, got)


def test_an_instance_changes_while_it_is_sent(trip):
    def harmless(point):
        vars(point)["x"] = 5
        point.y = 6

    def replaced(point):
        point.__dict__ = dict(point.__dict__)

    def changed_class(point):
        point.__class__ = shapes.Bag

    for change, good in (
        (vars, True), (harmless, True), (replaced, True), (changed_class, True),
        (lambda point: delattr(point, "z"), False),
        (lambda point: setattr(point, "more", 1), False),
        (lambda point: vars(point).clear(), False),
    ):
        for before in ([], [shapes.Point(1, 2)]):
            for looked in (False, True):
                point = shapes.Point(0, 0, 7)
                point.x = shapes.Meddling(functools.partial(change, point))
                if looked:
                    vars(point)
                if not good:
                    with pytest.raises(RuntimeError, match="changed"):
                        trip([*before, point])
                    continue
                got = trip([*before, point])[-1]
                assert got.x is None and got.z == 7 and list(vars(got)) == ["x", "y", "z"]


@pytest.mark.parametrize("deed", ["look", "vars", "set", "replace", "class", "delete"])
def test_an_instance_is_seen_while_it_is_rebuilt(trip, deed):
    for before in ([], [shapes.Point(1, 2)] * 2, [shapes.Point(1, 2), shapes.Point(3, 4)]):
        point = shapes.Point(1, None, [3])
        point.y = shapes.Visitor(point, deed)
        got = trip([*before, point])[-1]
        visitor = got.y
        assert visitor.target is got and visitor.saw == {"x": 1}
        assert got.z == [3]
        assert getattr(got, "own", 0) == (deed == "set")
        assert hasattr(got, "x") == (deed != "delete")
        assert getattr(got, "other", 0) == (deed == "replace")
        assert type(got) is (shapes.Bag if deed == "class" else shapes.Point)
        got.last = 1
        assert list(vars(got))[-1] == "last"


# -------------------------------------------------- the collector, and watchers


def test_the_collector_knows_of_what_it_has_to(trip):
    sent = [
        {"a": 1, "b": "x", "c": 2.5}, {"a": [1], "b": 2, "c": 3}, {"a": {}, "b": 1, "c": 1},
        {"a": (1, 2), "b": 2, "c": 3}, {"a": ([],), "b": 2, "c": 3}, {"z": []}, {"z": 1},
    ]
    for one in trip([*sent, *map(dict, sent)]):
        if any(isinstance(value, list | dict) for value in one.values()):
            assert gc.is_tracked(one)
        one["self"] = one
        assert gc.is_tracked(one)


def test_the_collector_need_not_know_of_tuples_of_atoms(trip):
    leaf, shared = (1, 2.5), []
    got = trip([
        (1, "two", str(n := 12345), n * 0.5), tuple(range(9)), leaf, leaf, (), (1, leaf),
        (1, []), (shared, 1), (shared, 2), (shared,),
    ])
    assert not any(map(gc.is_tracked, got[:5])) and got[2] is got[3]
    assert all(map(gc.is_tracked, got[6:]))
    got[7][0].append(got[8])  # a cycle through a tuple that it was not on
    got[7][0].append(shapes.Bag(n=1))
    gone = weakref.ref(got[7][0][1])
    del got
    gc.collect()
    assert gone() is None


def test_cycles_are_collected(trip):
    sent = [{"id": n, "node": shapes.Bag(n=n), "back": None} for n in range(10)]
    for one in sent:
        one["node"].back = one
    got = trip(sent)
    gone = [weakref.ref(one["node"]) for one in got]
    del got
    gc.collect()
    assert not any(ref() for ref in gone)
    gc.collect()


def test_values_are_freed_with_their_dict(trip):
    for make in (lambda bag: {"a": 1, "b": bag}, lambda bag: shapes.Point(1, bag)):
        got = trip([make(shapes.Bag(n=n)) for n in range(10)])
        values = [one["b"] if isinstance(one, dict) else one.y for one in got]
        refs = [weakref.ref(value) for value in values]
        del values
        assert all(ref() for ref in refs)
        got.clear()
        assert not any(ref() for ref in refs)


CALLBACK = ctypes.PYFUNCTYPE(
    ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
)


def test_watched_dicts(trip):
    events = []

    @CALLBACK
    def callback(event, *_):
        events.append(event)
        return 0

    api = ctypes.pythonapi
    watcher = api.PyDict_AddWatcher(callback)
    assert watcher >= 0
    try:
        sent = {"a": 1, "b": [2], "c": 3}
        api.PyDict_Watch(watcher, ctypes.py_object(sent))
        got = trip([sent, dict(sent), dict(sent)])
        assert not events  # it was only read
        got[0]["d"] = 1
        assert not events  # another dict
        for one in got:
            api.PyDict_Watch(watcher, ctypes.py_object(one))
            one["a"] = 5
            del one["b"]
        assert len(events) == 6
        shapes.DEEDS["watch"] = lambda d: api.PyDict_Watch(watcher, ctypes.py_object(d))
        events.clear()
        late = {"visitor": None, "after": 1, "last": [2]}
        late["visitor"] = shapes.Visitor(late, "watch")
        got = trip(late)
        assert len(events) >= 2 and got["last"] == [2]
    finally:
        shapes.DEEDS.pop("watch", None)
        api.PyDict_ClearWatcher(watcher)


# ------------------------------------------------------- in another interpreter


def test_other_interpreters_do_it_as_well(interp):
    assert interp.call(shapes.facts, {f"key{n}": n for n in range(2000)}) == (
        1999000, ["key0", "key1", "key2"], 2000,
    )
    points = [shapes.Point(n, n) for n in range(100)]
    assert interp.call(list, points) == points
    backwards = [shapes.Grown("cba"), shapes.Grown("cba"), shapes.Grown("abc")]
    there = interp.call(list, backwards)  # where "c" is the first of its names
    assert [list(vars(one)) for one in there] == [list(vars(one)) for one in backwards]
    records = [{"id": n, "name": str(n)} for n in range(100)]
    assert interp.call(list, records) == records


def test_the_other_side_may_do_without(queue, interp):
    interp.exec("from atoll import _core; _core._use_dict_layout(False)")
    sent = [{"id": n, "point": shapes.Point(n, [n])} for n in range(50)]
    assert interp.call(list, sent) == sent
