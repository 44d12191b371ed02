"""What each interpreter makes of a frozen graph itself: sets, instances, buffers."""

import array
import copy
import datetime as dt
import gc
import pickle
import random
import sys
import threading
import types
import weakref

import atoll
import frozenkinds
import pytest
from frozenkinds import Child, Colour, Mutable, Pair, Plain, Point, Slotted, Subclass, kinds
from support import NIGHTLY, STRESS, check_python, until

MAPPING = types.MappingProxyType if sys.version_info < (3, 15) else frozendict  # noqa: F821


@pytest.fixture(autouse=True)
def registered():
    frozenkinds.register()


class Since:
    def __init__(self):
        gc.collect()
        self.before = atoll.frozen_stats()

    def now(self):
        return {k: v - self.before[k] for k, v in atoll.frozen_stats().items()}


NONE = {"graphs": 0, "nbytes": 0, "pins": 0}


@pytest.mark.parametrize("name", kinds())
def test_it_is_equal_to_the_original(name):
    value = kinds()[name]
    graph = atoll.freeze(value)
    got = graph.get()
    assert frozenkinds.same_type(got, value) or type(value) is list
    assert got is graph.get()
    if type(value) is not list:
        assert got == value
        assert type(atoll.thaw(graph)) is type(value)
    assert atoll.thaw(graph) == value
    assert atoll.thaw(got) == value
    assert "instance" in repr(graph) or "bytes>" in repr(graph)
    again = atoll.freeze([got]).get()[0]
    assert again == got
    if type(value) not in (set, list):
        assert hash(got) == hash(value)
        assert atoll.freeze({value: 1}).get()[value] == 1
        assert atoll.freeze({(1, value): [value]}).get()[1, value][0] == value


def test_all_of_them_in_other_interpreters():
    graph = atoll.freeze(kinds())
    since = Since()
    assert type(graph.get()) is MAPPING
    frozenkinds.check_opened(graph)
    with atoll.create() as one, atoll.create() as two:
        for _ in range(2):
            one.call(frozenkinds.check_opened, graph)
            two.call(frozenkinds.check_opened, graph)
        assert graph.pins == 3
    assert since.now()["pins"] == 1


def test_what_is_native_is_shared_and_what_is_not_is_made_once():
    shared = ["a native list", 2.5]
    point = Point("the name of x", shared)
    graph = atoll.freeze([shared, point, point, {"k": [point, shared]}, {"plain": 1}])
    got = graph.get()
    assert got[1] is got[2] is got[3]["k"][0]
    assert got[0] is got[1].y is got[3]["k"][1]
    with atoll.create() as interp:
        there = interp.call(frozenkinds.ids, graph)
        assert there[0] == id(got[0])
        assert there[4] == id(got[4])
        assert there[1] == there[2]
        assert there[3] != id(got[3])
        assert interp.call(frozenkinds.open_twice, graph)
    queue = atoll.create_queue()
    queue.put(graph)
    assert queue.get_nowait().get() is got


def test_containers_of_both_kinds_of_parts():
    day = dt.date(2020, 1, 2)
    for count in (1, 2, 5, 6, 11, 100, 300):
        for at in {0, 1, count // 2, count - 1}:
            text = {f"key{n}": (day if n == at else n) for n in range(count)}
            assert dict(atoll.freeze(text).get()) == text
            general = {n: (day if n == at else str(n)) for n in range(count)}
            assert dict(atoll.freeze(general).get()) == general
            keys = {((day, n) if n >= at else n): n for n in range(count)}
            got = atoll.freeze(keys).get()
            assert list(got.items()) == list(keys.items())
            assert atoll.thaw(got) == keys
            row = [day if n == at else [n] for n in range(count)]
            got = atoll.freeze(row).get()
            assert got == tuple(day if n == at else (n,) for n in range(count))
            assert atoll.thaw(got) == row
    got = atoll.freeze([slice({1}, [2], day), slice(0, day)]).get()
    assert got == (slice(frozenset({1}), (2,), day), slice(0, day))


def test_keys():
    value = {
        Colour.RED: 1, Pair(1, 2): 2, dt.date(1, 1, 1): 3, (dt.date(1, 1, 1), "x"): 4,
        frozenset([1]): 5, Point(1): 6, "plain": 7, Colour.BLUE: {Colour.RED: {1}},
    }  # fmt: skip
    got = atoll.freeze(value).get()
    assert {k: v for k, v in got.items() if k is not Colour.BLUE}.items() <= value.items()
    assert got[Colour.RED] == 1
    assert got[dt.date(1, 1, 1), "x"] == 4
    assert got[Colour.BLUE][Colour.RED] == {1}
    assert atoll.thaw(got) == value


def test_classes_are_not_asked_when_a_dataclass_is_made():
    point = Point(1, [2])
    got = atoll.freeze(point).get()
    assert (got.x, got.y, got.computed) == (1, (2,), ("made", 1))
    object.__setattr__(point, "computed", "changed")
    assert atoll.freeze(point).get().computed == "changed"
    child = atoll.freeze(Child(1, 2, z={3})).get()
    assert (child.x, child.z, type(child)) == (1, frozenset({3}), Child)
    thawed = atoll.thaw(atoll.freeze(Slotted("n", [1, {2}])))
    assert thawed == Slotted("n", [1, {2}])
    thawed.parts.append(1)


def test_thaw():
    value = {"s": {1, 2}, "f": frozenset([1]), "p": [Point([1], {2: [3]})], "c": Colour.RED}
    graph = atoll.freeze(value)
    thawed = atoll.thaw(graph)
    assert thawed == value
    assert repr(thawed) == repr(value)
    thawed["s"].add(3)
    assert thawed["p"][0].y[2] == [3]
    assert thawed["c"] is Colour.RED
    got = graph.get()
    assert atoll.thaw(got["p"]) == value["p"]
    assert atoll.thaw(got["p"][0]) == value["p"][0]
    assert atoll.thaw(got["p"][0]) is not got["p"][0]
    assert atoll.thaw(got["s"]) == {1, 2}
    assert atoll.thaw(got["p"][0].x) == [1]
    point = Point(1)
    one, two = atoll.thaw(atoll.freeze([point, point]))
    assert one is two
    for other in (frozenset([1]), Point(1), (1, 2), {1}):
        with pytest.raises(TypeError, match="thaw"):
            atoll.thaw(other)


def test_thaw_holds_nothing():
    since = Since()
    thawed = atoll.thaw(atoll.freeze(kinds()))
    assert since.now() == NONE
    assert thawed == kinds() or thawed["registered"] == kinds()["registered"]
    assert vars(Point(1)).keys() == vars(thawed["dataclass"]).keys()


def test_ordinary_use():
    got = atoll.freeze([Point(1, [2]), {1, 2}, {"a": {3}}]).get()
    assert copy.deepcopy(got[0]) == got[0]
    assert pickle.loads(pickle.dumps(got[0])) == got[0]
    assert pickle.loads(pickle.dumps(got[1])) == got[1]
    assert weakref.ref(got[1])() is got[1]
    assert weakref.ref(got[0])() is got[0]
    assert got[1] | {5} == {1, 2, 5}


# ------------------------------------------------------------------- buffers


def test_buffers():
    graph = atoll.freeze(frozenkinds.BUFFERS)
    values = [memoryview(b).tolist() for b in frozenkinds.BUFFERS]
    assert frozenkinds.read_buffers(graph) == (values, [memoryview] * len(values))
    with atoll.create() as interp:
        assert interp.call(frozenkinds.read_buffers, graph)[0] == values
    thawed = atoll.thaw(graph)
    assert [type(b) for b in thawed] == [type(b) for b in frozenkinds.BUFFERS]
    assert [memoryview(b).tolist() for b in thawed] == values
    for obj in thawed:
        assert not memoryview(obj).readonly
    thawed[0].append(1)
    size = atoll.freeze([bytearray(1_000_000)]).nbytes
    assert 1_000_000 < size < 1_020_000


def test_empty_buffers():
    value = [bytearray(), array.array("d"), memoryview(b""), memoryview(array.array("i"))]
    graph = atoll.freeze(value)
    assert [bytes(view) for view in graph.get()] == [b""] * 4
    thawed = atoll.thaw(graph)
    assert [type(obj) for obj in thawed] == [type(obj) for obj in value]
    assert thawed[1].typecode == "d"


def test_a_buffer_that_is_frozen_already_is_not_copied():
    one = atoll.freeze([bytearray(b"x" * 100_000)])
    view = one.get()[0]
    again = atoll.freeze({"again": view})
    assert again.nbytes < 10_000
    assert again.get()["again"] == view
    view = view[5:]
    assert atoll.freeze([view]).get()[0] == view
    with pytest.raises(atoll.NotShareableError, match="C-contiguous"):
        atoll.freeze([memoryview(b"abcdef")[::2]])


def test_a_buffer_can_be_changed_afterwards():
    data = bytearray(b"abc")
    graph = atoll.freeze([data])
    data.extend(b"def")
    data[0] = 0
    assert graph.get()[0] == b"abc"


def test_numpy():
    numpy = pytest.importorskip("numpy")
    fields = [("name", "U5"), ("at", "f8", (2,)), ("in", [("n", "i4")])]
    values = [
        numpy.arange(12, dtype="i4").reshape(3, 4),
        numpy.array([1.5, 2.5]),
        numpy.array(5.0),
        numpy.zeros((0, 3)),
        numpy.array(["a", "bcd"]),
        numpy.array(["2020-01-01"], dtype="M8[D]"),
        numpy.array([1 + 2j], dtype="c16"),
        numpy.array([1.5], dtype="g"),
        numpy.array([("x", (1, 2), (3,))], dtype=fields),
    ]
    graph = atoll.freeze(values)
    for got, value in zip(graph.get(), values, strict=True):
        assert got.dtype == value.dtype
        assert got.shape == value.shape
        assert numpy.array_equal(got, value)
        assert not got.flags.writeable
        assert got.size == 0 or got.ctypes.data % 64 == 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            got.flags.writeable = True
    for got, value in zip(atoll.thaw(graph), values, strict=True):
        assert got.flags.writeable
        assert numpy.array_equal(got, value)
    with pytest.raises(atoll.NotShareableError, match=r"^at \[0\]: .*contiguous"):
        atoll.freeze([values[0].T])
    with pytest.raises(atoll.NotShareableError, match="Python objects"):
        atoll.freeze(numpy.array([None]))
    if sys.version_info < (3, 14):
        return  # an interpreter that has imported NumPy is not ended there
    with atoll.create() as interp:
        assert interp.call(frozenkinds.read_array, atoll.freeze(values[0])) == (
            values[0].tolist(), "int32", (3, 4)
        )  # fmt: skip


# ------------------------------------------------------------------- refusals


def bad_ones():
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Inner:
        x: int

    @dataclass(frozen=True)
    class Number(int):
        x: int = 1

    return {
        "mutable dataclass": (Mutable(), "use @dataclass"),
        "plain": (Plain(1), "register_frozen"),
        "local dataclass": (Inner(1), "not found under that name"),
        "subclass": (Subclass(1), "register_frozen"),
        "dataclass of int": (Number(), "built on int"),
        "str subclass": (type("S", (str,), {})("x"), "subclasses"),
        "exception": (ValueError(1), "register_frozen"),
        "buffer": (atoll.Buffer(3), "can be changed"),
    }


@pytest.mark.parametrize("name", bad_ones())
def test_what_is_refused(name):
    bad, why = bad_ones()[name]
    since = Since()
    with pytest.raises(atoll.NotShareableError, match=f"cannot be frozen: .*{why}"):
        atoll.freeze(bad)
    with pytest.raises(atoll.NotShareableError, match=r"^at \['a'\]\[1\]\.y\[0\]: "):
        atoll.freeze({"a": [{1}, Point(1, [bad])]})
    with pytest.raises(atoll.NotShareableError, match=r"^at \[1\]\[0\]\[1\]: "):
        atoll.freeze([Colour.RED, [Pair(1, bad)]])
    assert since.now() == NONE


def test_classes_of_main_are_refused():
    check_python(
        """
        import atoll
        from dataclasses import dataclass
        @dataclass(frozen=True)
        class Mine:
            x: int
        try:
            atoll.freeze([Mine(1)])
        except atoll.NotShareableError as exc:
            assert "cannot import Mine from __main__" in str(exc), exc
            assert str(exc).startswith("at [0]: "), exc
        else:
            raise SystemExit("it was frozen")
        """
    )


def test_cycles():
    point = Point(1, [])
    point.y.append(point)
    with pytest.raises(atoll.NotShareableError, match=r"^at \.y\[0\]: .*part of itself"):
        atoll.freeze(point)


def test_errors_of_reduce_and_rebuild():
    since = Since()
    atoll.register_frozen(Plain, lambda obj: 1 / obj.x, rebuild_fails)
    try:
        with pytest.raises(ZeroDivisionError):
            atoll.freeze([1, {"k": Plain(0)}])
        assert since.now() == NONE
        graph = atoll.freeze([1, {"k": (Plain(2), "more")}])
        for _ in range(2):
            with pytest.raises(LookupError, match=r"not now: 0\.5") as caught:
                graph.get()
            assert caught.value.__notes__ == ["in a frozen graph, at [1]['k'][0]"]
        with pytest.raises(LookupError):
            atoll.thaw(graph)
        rebuild_fails.good = True
        try:
            assert graph.get()[1]["k"] == ("built", "more")
            assert graph.get() is graph.get()
        finally:
            rebuild_fails.good = False
        atoll.register_frozen(Plain, lambda obj: obj.x, lambda x: Plain(x))
        with pytest.raises(atoll.NotShareableError, match=r"lambda.* not found"):
            atoll.freeze(Plain(1))
    finally:
        from atoll._cross import frozen as _frozen

        del _frozen._reducers[Plain]


def rebuild_fails(value):
    if not rebuild_fails.good:
        raise LookupError(f"not now: {value}")
    return "built"


rebuild_fails.good = False


def test_arguments_of_register_frozen():
    for type in (int, list, dict, set):
        with pytest.raises(TypeError, match="as it is"):
            atoll.register_frozen(type, len, len)
    with pytest.raises(TypeError, match="class"):
        atoll.register_frozen(5, len, len)
    with pytest.raises(TypeError, match="callables"):
        atoll.register_frozen(Plain, 1, len)


def test_new_interpreters_know_what_was_registered():
    with atoll.create() as interp:
        graph = interp.call(frozenkinds.freeze_registered)
        assert graph.get() == (frozenkinds.Temperature(1, ()),)


def test_a_class_that_is_missing():
    module = types.ModuleType("only_there")
    exec(frozenkinds.ONLY, module.__dict__)
    sys.modules["only_there"] = module
    try:
        graph = atoll.freeze([{1}, {"k": module.Only("x")}])
        assert graph.get()[1]["k"] == module.Only("x")
    finally:
        del sys.modules["only_there"]
    with atoll.create() as interp:
        text, notes, x = interp.call(frozenkinds.opens_after_it_is_there, graph)
        assert "this interpreter has no only_there.Only" in text
        assert notes == ["in a frozen graph, at [1]['k']"]
        assert x == "x"


# -------------------------------------------------------------- parts of others


def test_graphs_in_graphs():
    inner = atoll.freeze([Point(1, ["deep"]), {"k": 1}])
    outer = atoll.freeze({"one": inner, "two": [inner, {2}]})
    assert outer.get()["one"] is outer.get()["two"][0]
    assert inner.get() is outer.get()["one"]
    assert atoll.freeze([inner]).get()[0] is inner.get()
    assert atoll.freeze(inner, name="other").get() is inner.get()
    assert atoll.thaw(outer) == {"one": [Point(1, ["deep"]), {"k": 1}],
                                 "two": [[Point(1, ["deep"]), {"k": 1}], {2}]}  # fmt: skip
    again = atoll.freeze([inner.get()])
    assert again.get()[0] == inner.get()
    assert again.get()[0][0].y is inner.get()[0].y
    assert again.get()[0][1] is inner.get()[1]


def test_lifetime():
    since = Since()
    with atoll.create() as interp:
        inner = atoll.freeze([Point(1, ["deep"])])
        graph = atoll.freeze([inner, kinds()])
        interp.call(keep_it, graph)
        del inner, graph
        assert since.now()["graphs"] == 2
        assert since.now()["pins"] == 1
    assert since.now() == NONE


def keep_it(graph):
    import builtins

    found = graph.get()

    class Late:
        def __del__(self, found=found):
            assert found[0][0].y == ("deep",)
            assert found[1]["registered"].notes == ("warm", "dry")
            repr(found)

    builtins.late = Late()
    builtins.late.me = builtins.late


def test_deep():
    value = {1}
    for n in range(20_000):
        value = [value] if n % 2 else {"k": value}
    graph = atoll.freeze(value)
    got, depth = graph.get(), 0
    while got != frozenset({1}):
        got = got[0] if type(got) is tuple else got["k"]
        depth += 1
    assert depth == 20_000
    thawed = atoll.thaw(graph)
    for obj in (value, thawed):
        while obj != {1}:
            obj = obj[0] if type(obj) is list else obj["k"]
    unnest(value)
    unnest(thawed)


def unnest(obj):
    while obj != {1}:
        inner = obj[0] if type(obj) is list else obj["k"]
        obj.clear()
        obj = inner


# ------------------------------------------------------- code that runs meanwhile


class Meddler:
    """Changes what is being frozen."""

    def __init__(self, act):
        self.act = act


def act(obj):
    return obj.act()


def made(value):
    return ("made", value)


@pytest.mark.parametrize("seed", range(200 if NIGHTLY else 8 * STRESS))
def test_what_is_being_frozen_is_changed(seed):
    """Whatever comes of it: no crash, and all of it is one of the two states."""
    chance = random.Random(seed)
    atoll.register_frozen(Meddler, act, made)
    victims = []

    def meddle():
        for victim in chance.sample(victims, 3):
            fresh = [[str(n) * 20, float(n)] for n in range(chance.randrange(50))]
            if type(victim) is list:
                victim[:] = fresh
            elif type(victim) is set:
                victim.clear()
                victim.update(map(str, range(500)))
            else:
                victim.clear()
                victim.update({f"new {n}": f for n, f in enumerate(fresh)})
        gc.collect()
        return [str(chance.random()) * 3, fresh]

    def make(depth):
        count = chance.randrange(1, 6)
        if depth == 0:
            return "".join(["te", "xt", str(chance.randrange(5))])
        kind = chance.randrange(5)
        if kind == 0:
            return Meddler(meddle)
        if kind == 1:
            obj = {f"k{n}": make(depth - 1) for n in range(count)}
        elif kind == 2:
            obj = {str(chance.random()) for n in range(count)}
        else:
            obj = [make(depth - 1) for _ in range(count)]
        victims.append(obj)
        return obj

    root = [make(5) for _ in range(8)]
    victims += [root, [], {}, set()]
    shared = [root[0], root[-1], [1.5, "x"]]
    root += [shared, shared, Meddler(meddle)]
    got = atoll.freeze(root).get()
    assert len(got) == 11
    assert len(repr(got)) > 100


def test_threads_open_the_same_graph_at_once():
    for _ in range(10 * STRESS):
        graph = atoll.freeze([kinds(), [Point(n) for n in range(200)]])
        start = threading.Barrier(4)
        found = []

        def open_it(graph=graph, start=start, found=found):
            start.wait()
            found.append(graph.get())

        threads = [threading.Thread(target=open_it) for _ in range(4)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert len({id(root) for root in found}) == 1


def test_read_only():
    """No mold is written when it is opened, thawed or frozen again."""
    check_python(
        f"""
        import os, sys
        os.environ["ATOLL_FROZEN_READONLY"] = "1"
        sys.path.insert(0, {str(frozenkinds.__file__.rpartition("/")[0])!r})
        import atoll, frozenkinds
        frozenkinds.register()
        graph = atoll.freeze([frozenkinds.kinds(), frozenkinds.BUFFERS])
        for _ in range(3):
            root = graph.get()
            hash(root[1][0])
            hash(root[1][0].obj)
            atoll.thaw(graph)
            again = atoll.freeze([root, graph, root[0]])
            again.get()
            atoll.freeze(graph, name="again").get()
        with atoll.create() as interp:
            interp.call(frozenkinds.check_opened, atoll.freeze(frozenkinds.kinds()))
        """
    )


OOM = """
    import sys, gc
    sys.path.insert(0, {path!r})
    import atoll, frozenkinds, _testcapi
    frozenkinds.register()
    value = frozenkinds.kinds()
    value["more"] = [frozenkinds.BUFFERS, {{n: [str(n)] for n in range(50)}}]
    atoll.thaw(atoll.freeze(value))
    def run(function, *args):
        failed = n = 0
        done = False
        while not done:
            n += 1
            _testcapi.set_nomemory(n, n + 1)
            try:
                function(*args)
                done = True
            except MemoryError:
                failed += 1
            except (ImportError, SystemError) as exc:
                failed += 1  # what became of it in code on the way
            finally:
                _testcapi.remove_mem_hooks()
            if failed > 5000:
                break
        return failed
    graph = atoll.freeze(value)
    before = atoll.frozen_stats()
    {work}
    print("done", failed)
"""


@pytest.mark.parametrize("work", ["freeze", "get", "thaw"])
def test_without_memory(work):
    pytest.importorskip("_testcapi")
    todo = {
        "freeze": "failed = run(atoll.freeze, value); gc.collect(); "
        "assert atoll.frozen_stats() == before",
        "get": "failed = run(graph.get); assert graph.get() is graph.get(); "
        "assert graph.get()['set'] == value['set']",
        "thaw": "failed = run(atoll.thaw, graph)",
    }[work]
    code = OOM.format(path=frozenkinds.__file__.rpartition("/")[0], work=todo)
    done = check_python(code, timeout=60)
    assert done.startswith("done")
    assert int(done.split()[1]) > 20


def test_if_the_layouts_are_others_nothing_is_frozen():
    """As if mappingproxies had got a list of weak references."""
    check_python(
        """
        import ctypes, types
        import atoll
        field = ctypes.c_ssize_t.from_address(id(types.MappingProxyType) + 208)
        assert field.value == types.MappingProxyType.__weakrefoffset__ == 0
        field.value = 8
        assert types.MappingProxyType.__weakrefoffset__ == 8
        for value in (None, [1], {1}):
            try:
                atoll.freeze(value)
            except atoll.AtollError as exc:
                assert "does not know how the objects" in str(exc), exc
            else:
                raise SystemExit("frozen")
            field.value = 0  # it is looked at once a process
        """
    )


def test_the_memory_of_rebuilt_parts_goes_with_the_interpreter():
    since = Since()
    graph = atoll.freeze([Point(n, {n}) for n in range(1000)])
    for _ in range(3):
        with atoll.create() as interp:
            assert interp.call(frozenkinds.open_twice, graph)
    del graph
    until(lambda: since.now() == NONE)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="3.13 leaves memory behind anyway")
def test_objects_that_no_collector_looks_into_end_with_the_interpreter():
    """A datetime is one, and its ZoneInfo leads back to all modules."""
    graph = atoll.freeze([kinds()["zoned"]])

    def blocks_after(count):
        for _ in range(count):
            with atoll.create() as interp:
                assert interp.call(frozenkinds.open_twice, graph)
        gc.collect()
        return sys.getallocatedblocks()

    before = blocks_after(3)
    assert blocks_after(5) - before < 5 * 1000
