"""Frozen graphs: who holds the memory, parts of other graphs, and other interpreters."""

import copy
import ctypes
import gc
import sys
import types

import atoll
import frozenops
import pytest
import workers
from support import STRESS, Task, check_python, rss_kib, until

# ------------------------------------------------------------------ memory


def stats_of(graphs=0, nbytes=0, pins=0):
    return {"graphs": graphs, "nbytes": nbytes, "pins": pins}


class Since:
    """What has come to be frozen since."""

    def __init__(self):
        gc.collect()
        self.before = atoll.frozen_stats()

    def now(self):
        return {k: v - self.before[k] for k, v in atoll.frozen_stats().items()}


def test_what_is_not_opened_goes_with_the_handle():
    since = Since()
    graph = atoll.freeze([str(n) for n in range(100_000)])
    assert since.now() == stats_of(1, graph.nbytes)
    assert 4_000_000 < graph.nbytes < 10_000_000
    again = copy_of(graph)
    del graph
    assert since.now()["graphs"] == 1
    del again
    assert since.now() == stats_of()


def copy_of(obj):
    queue = atoll.create_queue()
    queue.put(obj)
    return queue.get_nowait()


def test_main_holds_what_it_has_opened():
    since = Since()
    graph = atoll.freeze([1.5, "some text of it"])
    got = graph.get()
    assert graph.pins == 1
    graph.get()
    assert copy_of(graph).get() is got
    assert graph.pins == 1
    size = graph.nbytes
    del graph
    assert since.now() == stats_of(1, size, 1)
    assert got == (1.5, "some text of it")


def open_it(graph):
    return len(graph.get())


def keep_it(graph):
    import builtins

    builtins.kept = [graph.get()]
    return graph.pins


def test_it_is_freed_when_the_last_opener_has_closed():
    since = Since()
    graph = atoll.freeze(["x" * 5000])
    with atoll.create() as one, atoll.create() as two:
        assert one.call(open_it, graph) == 1
        assert one.call(open_it, graph) == 1
        assert graph.pins == 1
        assert two.call(keep_it, graph) == 2
        size = graph.nbytes
        del graph
        assert since.now() == stats_of(1, size, 2)
        one.close()
        assert since.now() == stats_of(1, size, 1)
        two.close()
        assert since.now() == stats_of()


def test_an_interpreter_that_only_has_a_handle_does_not_hold_it():
    since = Since()
    with atoll.create() as interp:
        assert interp.call(lambda g: g.nbytes, atoll.freeze(["x" * 5000])) > 5000
        until(lambda: since.now() == stats_of())


def test_a_message_holds_it():
    since = Since()
    queue = atoll.create_queue()
    queue.put({"deep": [atoll.freeze(["text", 1.5], name="sent")]})
    assert since.now()["graphs"] == 1
    got = queue.get()["deep"][0]
    assert (got.name, got.pins) == ("sent", 0)
    queue.put(got)
    del got
    assert since.now()["graphs"] == 1
    del queue
    assert since.now() == stats_of()


def test_objects_used_in_the_destructors_of_a_closing_interpreter():
    since = Since()
    for _ in range(5 * STRESS):
        with atoll.create() as interp:
            graph = atoll.freeze({f"name{n}": [n, str(n) * 5] for n in range(1000)})
            interp.call(use_late, graph)
            del graph
    assert since.now() == stats_of()


def use_late(graph):
    """Strings and mappings that are looked at when everything is torn down."""
    import atexit
    import builtins
    import threading

    root = graph.get()

    class Late:
        def __del__(self, root=root, dict=dict, hash=hash, list=list):
            found = {key: value for key, value in root.items()}
            assert len(found) == 1000
            [hash(value) for value in list(found.values())]

    late = Late()
    late.me = late
    builtins.late = late
    builtins.names = type("Names", (), dict(root))
    builtins.module_names = {**root}
    sys.modules["made.late"] = types.ModuleType(next(iter(root)))
    vars(sys.modules["made.late"]).update(root)
    sys.intern(next(iter(root)))
    for key in root:
        setattr(late, key, root[key])
    atexit.register(len, root)
    builtins.local = threading.local()
    builtins.local.root = root


def test_a_failed_freeze_leaves_nothing():
    big = [[str(n), n * 1.5, {"k": n}] for n in range(50_000)]
    big.append(object())
    since = Since()
    for n in range(30):
        with pytest.raises(atoll.NotShareableError):
            atoll.freeze(big)
        if n == 5:
            before = rss_kib()
    assert rss_kib() < before + 20_000
    assert since.now() == stats_of()


def test_without_memory():
    check_python(
        """
        import resource, atoll
        atoll.freeze([1.5])
        big = [str(n) for n in range(400_000)]
        before = atoll.frozen_stats()
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * 4096
        failed = 0
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        for room in range(1, 60, 3):
            resource.setrlimit(resource.RLIMIT_AS, (used + room * 500_000, hard))
            try:
                graph = atoll.freeze([big, {n: n for n in range(1000)}])
            except MemoryError:
                failed += 1
                assert atoll.frozen_stats() == before
            else:
                assert graph.nbytes > 10_000_000
                del graph
        assert failed > 3, failed
        """
    )


def test_memory_comes_back():
    data = [[str(n), n * 1.5] for n in range(100_000)]
    for n in range(20):
        atoll.freeze(data)
        if n == 3:
            before = rss_kib()
    assert rss_kib() < before + 20_000


# ------------------------------------------------- parts that are frozen already


def test_a_part_that_is_frozen_is_held_not_copied():
    since = Since()
    with atoll.create() as interp:
        interp.call(freeze_parts)
    assert since.now() == stats_of()
    inner = atoll.freeze(["inner", {"a": 1.5}])
    outer = atoll.freeze([inner, (inner,)])
    assert outer.get()[0] is outer.get()[1][0] is inner.get()
    assert atoll.freeze({"x": inner.get()[1]}).get()["x"] is inner.get()[1]
    assert atoll.thaw(outer) == [["inner", {"a": 1.5}], (["inner", {"a": 1.5}],)]


def freeze_parts():
    inner = atoll.freeze([float(n) for n in range(1000)])
    before = atoll.frozen_stats()["graphs"]
    more = {"again": inner, "root": inner.get(), "none": atoll.freeze([])}
    outer = atoll.freeze([inner, more])
    assert outer.nbytes < 10_000
    del inner
    assert atoll.frozen_stats()["graphs"] == before + 2
    assert outer.get()[0] is outer.get()[1]["root"]
    assert sum(outer.get()[0]) == sum(range(1000))
    long = atoll.freeze("y" * 100_000)
    assert atoll.freeze([long.get()]).nbytes < 10_000
    assert atoll.freeze([long.get()]).get()[0] is long.get()


def test_a_part_lives_as_long_as_the_whole():
    since = Since()
    inner = atoll.freeze(["x" * 1000])
    outer = atoll.freeze({"in": inner})
    del inner
    assert since.now()["graphs"] == 2
    with atoll.create() as interp:
        assert interp.call(lambda g: g.get()["in"][0], outer) == "x" * 1000
        del outer
        assert since.now()["graphs"] == 2
    assert since.now() == stats_of()


def test_a_long_chain_of_parts():
    since = Since()
    graph = atoll.freeze([0.5])
    for n in range(5_000):
        graph = atoll.freeze([n, graph])
    assert since.now()["graphs"] == 5_001
    del graph
    assert since.now() == stats_of()


# --------------------------------------------------------------- interpreters


def total(graph):
    root = graph.get()
    return sum(record["n"] for record in root["records"]), id(root)


def test_eight_interpreters_see_the_same_objects():
    since = Since()
    graph = atoll.freeze({"records": [{"n": n, "name": f"n{n}"} for n in range(2000)]})
    interps = [atoll.create() for _ in range(8)]
    tasks = [Task(interp.call, total, graph) for interp in interps]
    answers = {task.result(30) for task in tasks}
    assert len(answers) == 1
    assert next(iter(answers))[0] == sum(range(2000))
    assert graph.pins == 8
    for interp in interps:
        interp.close()
    assert graph.pins == 0
    del graph
    assert since.now() == stats_of()


def test_it_goes_wherever_an_object_goes():
    graph = atoll.freeze(["value"], name="it")
    task = atoll.spawn(open_it, graph)
    assert task.result(30) == 1
    with atoll.InterpreterPoolExecutor(1) as pool:
        assert pool.submit(open_it, graph).result(30) == 1
        assert list(pool.map(open_it, [graph] * 3)) == [1] * 3
    with atoll.create() as interp:
        interp.prepare_main(graph=graph)
        interp.exec("assert graph.get() == ('value',) and graph.name == 'it'")
        back = interp.call(workers.give, [graph, {"k": graph}, workers.Point(graph)])
        assert back[0] == back[1]["k"] == back[2].x == graph
    cell = atoll.Cell([graph])
    assert cell.load()[0] == graph
    made = atoll.create()
    with made:
        sent = made.call(freeze_there)
    assert sent.get() == ("made there", 1.5)


def freeze_there():
    return atoll.freeze(["made there", 1.5])


def test_receiving_costs_the_same_whatever_the_size():
    """No walk: the message of a large graph is as large as that of a small one."""
    small, large = atoll.freeze([1]), atoll.freeze([[n] for n in range(300_000)])
    queue = atoll.create_queue()
    before = rss_kib()
    for _ in range(2000):
        queue.put(large)
        queue.put(small)
    assert rss_kib() < before + 5_000
    assert queue.get() == large


def test_interpreters_that_atoll_did_not_make():
    check_python(
        """
        import atoll, _interpreters
        graph = atoll.freeze({"a": ["text", 1.5]})
        queue = atoll.create_queue()
        queue.put(graph)
        id = _interpreters.create()
        code = '''
        import atoll
        got = atoll.Queue(%d).get().get()
        assert got["a"] == ("text", 1.5)
        class Late:
            def __del__(self, got=got): assert len(dict(got)["a"]) == 2
        late = Late()
        ''' % queue.id
        import textwrap
        assert _interpreters.exec(id, textwrap.dedent(code)) is None
        assert graph.pins == 1, graph.pins
        _interpreters.destroy(id)
        assert graph.pins == 0, graph.pins
        del graph
        assert atoll.frozen_stats() == {"graphs": 0, "nbytes": 0, "pins": 0}
        """
    )


def test_a_forked_child_can_use_it():
    check_python(
        """
        import os, atoll
        graph = atoll.freeze({"a": ["text", 1.5]})
        other = atoll.freeze([2.5])
        interp = atoll.create()
        interp.call(len, [1])
        interp.exec("import atoll")
        def opened(g): return len(g.get())
        interp.call(opened, other)
        assert other.pins == 1
        pid = os.fork()
        if pid == 0:
            try:
                assert graph.get()["a"] == ("text", 1.5)
                assert other.pins == 0
                del other
                new = atoll.freeze([graph, 3.5])
                with atoll.create() as mine:
                    assert mine.call(opened, new) == 2
                assert new.pins == 0
                assert atoll.frozen_stats()["graphs"] == 2
                os._exit(0)
            except BaseException as exc:
                print(repr(exc), flush=True)
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        assert status == 0
        assert other.pins == 1
        interp.close()
        assert other.pins == 0
        """,
        options=("-W", "ignore"),
    )


def test_at_the_exit_of_the_process():
    check_python(
        """
        import atoll, threading, sys
        graph = atoll.freeze({f"name{n}": [n, str(n)] for n in range(1000)})
        root = graph.get()
        interps = [atoll.create() for _ in range(3)]
        def use(g):
            import builtins
            builtins.root = g.get()
            class Late:
                def __del__(self, root=g.get()):
                    [hash(k) for k in root]
            builtins.late = Late()
        for interp in interps:
            interp.call(use, graph)
        for name in root:
            setattr(sys.modules["__main__"], name, root[name])
            sys.intern(name)
        """
    )


def test_many_graphs_come_and_go():
    since = Since()

    def churn():
        with atoll.create() as interp:
            for n in range(40 * STRESS):
                graph = atoll.freeze({"n": [n, str(n) * 10], "f": n * 0.5})
                assert interp.call(first_of, graph) == n
        return True

    tasks = [Task(churn) for _ in range(3)]
    assert all(task.result(60) for task in tasks)
    assert since.now() == stats_of()


def first_of(graph):
    return graph.get()["n"][0]


def test_counts_are_not_written():
    got = atoll.freeze(["some text of it", [1.5], {"a": 10**6}]).get()
    objects = frozenops.parts(got, [])
    before = [ctypes.string_at(id(x), 16) for x in objects]
    many = [list(objects) for _ in range(1000)]
    assert [ctypes.string_at(id(x), 16) for x in objects] == before
    del many
    gc.collect()
    assert [ctypes.string_at(id(x), 16) for x in objects] == before
    assert not any(gc.is_tracked(x) for x in objects)
    assert copy.copy(got) is got
