"""InterpreterPoolExecutor: what runs, what comes back, how it ends."""

import concurrent.futures
import gc
import operator
import os
import pickle
import signal
import threading
import time
import weakref

import atoll
import pytest
import tasks
from atoll._tasks import future as future_module
from support import (
    SLACK,
    Task,
    check_python,
    count_fds,
    count_threads,
    open_interpreters,
    parked,
    run_python,
    until,
)
from workers import MyError, Point
from workers import fail as fail_with


@pytest.fixture
def pool():
    with atoll.InterpreterPoolExecutor(2) as pool:
        yield pool


def test_results(pool):
    assert pool.submit(tasks.square, 3).result() == 9
    assert pool.submit(tasks.add, 1, b=2).result(timeout=SLACK) == 3
    assert pool.submit(operator.add, [1], [2]).result() == [1, 2]
    assert pool.submit(lambda x, *y, **z: (x, y, z), 1, 2, k=3).result() == (1, (2,), {"k": 3})


def test_a_future_is_one_of_concurrent_futures(pool):
    future = pool.submit(tasks.square, 3)
    assert isinstance(future, concurrent.futures.Future)
    assert isinstance(pool, concurrent.futures.Executor)
    assert future.result() is future.result()
    assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
    assert future.exception() is None
    assert not future.cancel()
    assert "finished returned int" in repr(future)


def test_work_is_done_elsewhere_and_at_once(pool):
    ready, go = atoll.create_queue(), atoll.create_queue()
    both = [pool.submit(tasks.wait_for, go, ready) for _ in range(2)]
    for _ in both:
        ready.get(timeout=SLACK)
    assert [f.running() for f in both] == [True, True]
    third = pool.submit(tasks.who)
    assert not third.running()
    assert "state=pending" in repr(third)
    assert "state=running" in repr(both[0])
    for n in range(2):
        go.put(n)
    assert sorted(f.result(SLACK) for f in both) == [0, 1]
    assert third.result(SLACK) != 0


def test_exceptions(pool):
    with pytest.raises(ValueError, match="no") as info:
        pool.submit(tasks.fail).result()
    assert "tasks.py" in str(info.value.__cause__)
    future = pool.submit(fail_with, 7, "text")
    exc = future.exception()
    assert (type(exc), exc.code) == (MyError, 7)
    assert "raised MyError" in repr(future)
    with pytest.raises(MyError):
        future.result()
    with pytest.raises(SystemExit, match="3"):
        pool.submit(tasks.exit_with, 3).result()
    with pytest.raises(RecursionError):
        pool.submit(tasks.recurse).result()
    with pytest.raises(MemoryError):
        pool.submit(bytes, 1 << 60).result()
    assert pool.submit(tasks.square, 2).result() == 4


def test_what_cannot_cross(pool):
    with pytest.raises(atoll.NotShareableError, match=r"at \[1\]\[0\]"):
        pool.submit(tasks.square, (i for i in ()))
    with pytest.raises(atoll.NotShareableError, match="the result"):
        pool.submit(tasks.generator).result()
    with pytest.raises(TypeError):
        pool.submit("not callable")
    with pytest.raises(TypeError):
        pool.submit()
    assert pool.submit(tasks.square, 2).result() == 4


def test_arguments_are_copies(pool):
    point = Point(1, [2])
    other = pool.submit(tasks.add, point, b=Point(0)).exception()
    assert isinstance(other, TypeError)
    got = pool.submit(lambda p: (p, p), point).result()
    assert got[0] == point and got[0] is got[1] and got[0] is not point


def test_timeouts(pool):
    go = atoll.create_queue()
    future = pool.submit(tasks.wait_for, go)
    for timeout in (0, 0.01, -1, -1.5):
        with pytest.raises(TimeoutError):
            future.result(timeout)
        with pytest.raises(TimeoutError):
            future.exception(timeout=timeout)
    with pytest.raises(TypeError):
        future.result("soon")
    with pytest.raises(TypeError):
        future.result(1, 2)
    go.put(5)
    assert future.result(SLACK) == 5


def test_many_threads_get_one_result(pool):
    go = atoll.create_queue()
    future = pool.submit(tasks.wait_for, go)
    waiters = [parked(future.result, SLACK) for _ in range(5)]
    go.put(["x"])
    results = [w.result() for w in waiters]
    assert all(r is results[0] for r in results)


def test_order_and_number_of_results(pool):
    assert list(pool.map(tasks.square, range(1000))) == [x * x for x in range(1000)]
    assert list(pool.map(tasks.add, range(10), range(5))) == [0, 2, 4, 6, 8]
    assert list(pool.map(tasks.square, [])) == []
    assert list(pool.map(tasks.square, range(100), chunksize=7)) == [x * x for x in range(100)]


def test_map_fails(pool):
    results = pool.map(lambda n: 1 // (n - 3), range(10))
    assert [next(results) for _ in range(3)] == [-1, -1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    for bad in ({"chunksize": 0}, {"buffersize": 0}):
        with pytest.raises(ValueError, match="must be"):
            pool.map(tasks.square, [1], **bad)
    with pytest.raises(TypeError):
        pool.map(tasks.square, [1], buffersize=1.5)
    go = atoll.create_queue()
    results = pool.map(tasks.wait_for, [go, go, go], timeout=0.05)
    with pytest.raises(TimeoutError):
        next(results)
    go.put(1)
    go.put(2)
    go.put(3)


def test_map_keeps_nothing_that_it_has_given(pool):
    results = pool.map(Point, range(3))
    for point in results:
        gone = weakref.ref(point)
        del point
        until(lambda gone=gone: gc.collect() is not None and gone() is None)


def test_map_takes_no_more_than_its_buffer(pool):
    taken = []

    def numbers():
        for n in range(100):
            taken.append(n)
            yield n

    for chunksize in (1, 3):
        taken.clear()
        results = pool.map(tasks.square, numbers(), buffersize=4, chunksize=chunksize)
        assert len(taken) == 4 * chunksize
        assert next(results) == 0
        assert len(taken) <= 5 * chunksize
        assert list(results) == [n * n for n in range(1, 100)]


def test_a_dropped_map_cancels_what_has_not_begun():
    go = atoll.create_queue()
    with atoll.InterpreterPoolExecutor(1) as pool:
        results = pool.map(tasks.wait_for, [go] * 5)
        go.put(1)
        assert next(results) == 1
        until(lambda: pool.stats().queued == 3)
        results.close()
        assert pool.stats().queued == 0
        for n in range(4):
            go.put(n)
    assert go.qsize() == 3  # the one that ran has come to its end


@pytest.mark.parametrize("chunksize", [1, 3])
def test_a_map_whose_results_nobody_wants_makes_all_calls(chunksize):
    done = atoll.create_queue()
    with atoll.InterpreterPoolExecutor(1) as pool:
        pool.map(done.put, range(10), chunksize=chunksize)
    assert [done.get_nowait() for _ in range(10)] == list(range(10))


def test_the_initializer_and_preload():
    with atoll.InterpreterPoolExecutor(
        2, initializer=tasks.remember, initargs=("x",), preload=["colorsys"]
    ) as pool:
        assert pool.submit(tasks.remembered).result() == ["x"]
        assert pool.submit(tasks.imported, "colorsys").result()
        assert not pool.submit(tasks.imported, "wave").result()


def test_each_worker_is_initialised():
    log, ready, go = (atoll.create_queue() for _ in range(3))
    with atoll.InterpreterPoolExecutor(3, initializer=tasks.append, initargs=(log, 1)) as pool:
        futures = [pool.submit(tasks.wait_for, go, ready) for _ in range(3)]
        for _ in futures:
            ready.get(timeout=SLACK)
        for _ in futures:
            go.put(None)
    assert log.qsize() == 3


def test_initargs_of_every_kind():
    big = "x" * 100_000
    args = (big, b"y" * 100_000, bytearray(50_000), [atoll.create_queue()])
    with atoll.InterpreterPoolExecutor(2, initializer=lambda *a: None, initargs=args) as pool:
        assert list(pool.map(tasks.square, range(20))) == [n * n for n in range(20)]
    with pytest.raises(atoll.NotShareableError, match="every worker"):
        atoll.InterpreterPoolExecutor(
            initializer=tasks.remember, initargs=(atoll.move(bytearray(5000)),)
        )


def test_a_failing_initializer_breaks_the_pool(capfd):
    with atoll.InterpreterPoolExecutor(2, initializer=tasks.fail, initargs=("bad",)) as pool:
        future = pool.submit(tasks.square, 1)
        with pytest.raises(atoll.BrokenInterpreterPool, match="ValueError: bad"):
            future.result(SLACK)
        with pytest.raises(atoll.BrokenInterpreterPool, match="ValueError: bad"):
            pool.submit(tasks.square, 1)
        assert "initializer" in pool.stats().broken
    assert issubclass(atoll.BrokenInterpreterPool, concurrent.futures.BrokenExecutor)


def test_what_cannot_be_preloaded_breaks_the_pool():
    with atoll.InterpreterPoolExecutor(2, preload=["no_such_module"]) as pool:
        with pytest.raises(atoll.BrokenInterpreterPool, match="no_such_module"):
            pool.submit(tasks.square, 1).result(SLACK)


def test_bad_arguments():
    for bad in (
        {"max_workers": 0},
        {"max_workers": -1},
        {"max_workers": 10**6},
        {"max_tasks_per_child": 0},
        {"grace": -1},
        {"exit_grace": -1},
        {"extensions": "some"},
    ):
        with pytest.raises(ValueError):
            atoll.InterpreterPoolExecutor(**bad)
    for bad in (
        {"initializer": 1},
        {"max_tasks_per_child": 1.5},
        {"preload": "json"},
        {"preload": [1]},
        {"name": 1},
    ):
        with pytest.raises(TypeError):
            atoll.InterpreterPoolExecutor(**bad)


def test_workers_are_made_as_needed():
    with atoll.InterpreterPoolExecutor(8, name="few") as pool:
        assert pool._max_workers == 8
        for _ in range(20):
            pool.submit(tasks.square, 1).result()
            until(lambda: all(w.running is None for w in pool.stats().workers))
        stats = pool.stats()
        assert sum(w.interpreter is not None for w in stats.workers) <= 2
        assert sum(w.tasks for w in stats.workers) == 20
        names = {i.name for i in atoll.list_all()}
        assert "few" in names
        assert "'few'" in repr(pool)
        if os.environ.get("PYTHONMALLOC") is None:
            assert max(w.memory for w in stats.workers) > 1 << 20


def test_its_repr_says_who_is_busy():
    ready, go = atoll.create_queue(), atoll.create_queue()
    with atoll.InterpreterPoolExecutor(2, name="said") as pool:
        assert repr(pool) == "<InterpreterPoolExecutor 'said': 0 of 2 workers, 0 queued>"
        first = pool.submit(tasks.wait_for, go, ready)
        ready.get(timeout=SLACK)
        (id,) = [w.interpreter for w in pool.stats().workers if w.running is not None]
        begin = "<InterpreterPoolExecutor 'said': 1 of 2"
        assert repr(pool) == f"{begin} workers, 1 busy (interpreter {id}), 0 queued>"
        futures = [first, *(pool.submit(tasks.wait_for, go, ready) for _ in range(3))]
        ready.get(timeout=SLACK)
        ids = ", ".join(str(w.interpreter) for w in pool.stats().workers)
        begin = f"<InterpreterPoolExecutor 'said': 2 of 2 workers, 2 busy (interpreters {ids})"
        assert repr(pool) == f"{begin}, 2 queued>"
        pool.shutdown(wait=False)
        assert repr(pool) == f"{begin}, 2 queued, shut down>"
        for _ in futures:
            go.put(None)
        for future in futures:
            future.result(SLACK)
    assert repr(pool) == "<InterpreterPoolExecutor 'said': 0 of 2 workers, shut down>"


def test_a_repr_names_some_of_very_many():
    with atoll.InterpreterPoolExecutor(1, name="many") as pool:
        workers = [(n, 0, 0.0, 0, 1.0, 0) for n in range(1, 101)]

        class Pool:
            def state(self):
                return 7, 2, 0, False, None, workers

        real, pool._pool, pool._max_workers = pool._pool, Pool(), 100
        try:
            text = repr(pool)
        finally:
            pool._pool = real
    assert text == (
        "<InterpreterPoolExecutor 'many': 100 of 100 workers, 100 busy (interpreters 1, 2, 3, "
        "4, 5, 6, 7, 8, …), 2 left to themselves, 7 queued>"
    )


def test_max_tasks_per_child():
    with atoll.InterpreterPoolExecutor(1, max_tasks_per_child=2) as pool:
        ids = [pool.submit(tasks.who).result(SLACK) for _ in range(6)]
        assert len(set(ids)) == 3
        assert ids == sorted(ids)
        futures = [pool.submit(tasks.who) for _ in range(7)]
        assert len({f.result(SLACK) for f in futures}) == 4


def test_a_worker_that_somebody_closes_is_replaced():
    with atoll.InterpreterPoolExecutor(1) as pool:
        first = pool.submit(tasks.who).result()
        until(lambda: not atoll.Interpreter(first).is_running())
        atoll.Interpreter(first).close()
        second = pool.submit(tasks.who).result(SLACK)
        assert second != first
        assert pool.stats().restarts == 1
        # In the middle of things, too.
        for _ in range(20):
            futures = [pool.submit(tasks.who) for _ in range(5)]
            try:
                atoll.Interpreter(futures[0].result()).close()
            except atoll.InterpreterError:
                pass
            assert all(f.result(SLACK) for f in futures)


def test_a_worker_that_somebody_else_uses_comes_back():
    with atoll.InterpreterPoolExecutor(1) as pool:
        interp = atoll.Interpreter(pool.submit(tasks.who).result())
        until(lambda: not interp.is_running())
        ready, go = atoll.create_queue(), atoll.create_queue()
        other = parked(interp.call, tasks.wait_for, go)
        future = pool.submit(tasks.square, 3)
        with pytest.raises(TimeoutError):
            future.result(0.05)
        go.put(None)
        other.result()
        assert future.result(SLACK) == 9
        with pytest.raises(atoll.InterpreterError, match="executor"):
            interp.submit(tasks.square, 1)
        del ready


def test_shutdown():
    pool = atoll.InterpreterPoolExecutor(2)
    futures = [pool.submit(tasks.square, n) for n in range(100)]
    pool.shutdown()
    assert [f.result(0) for f in futures] == [n * n for n in range(100)]
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(tasks.square, 1)
    pool.shutdown()
    assert pool.stats().workers[0].interpreter is None
    assert not open_interpreters()


def test_shutdown_without_waiting_or_with_cancelling():
    go, ready = atoll.create_queue(), atoll.create_queue()
    pool = atoll.InterpreterPoolExecutor(1)
    running = pool.submit(tasks.wait_for, go, ready)
    queued = [pool.submit(tasks.square, n) for n in range(5)]
    ready.get(timeout=SLACK)
    pool.shutdown(wait=False)
    assert not queued[0].done()
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(f.cancelled() for f in queued)
    assert not running.done()
    with pytest.raises(concurrent.futures.CancelledError):
        queued[0].result()
    go.put(1)
    assert running.result(SLACK) == 1
    pool.shutdown()


def test_an_executor_that_is_dropped_finishes_its_tasks():
    go = atoll.create_queue()
    pool = atoll.InterpreterPoolExecutor(1)
    futures = [pool.submit(tasks.wait_for, go) for _ in range(3)]
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
    for n in range(3):
        go.put(n)
    assert [f.result(SLACK) for f in futures] == [0, 1, 2]
    until(lambda: not open_interpreters())


def test_an_empty_pool_makes_nothing():
    threads = count_threads()
    with atoll.InterpreterPoolExecutor(4):
        assert count_threads() == threads
    atoll.InterpreterPoolExecutor(4).shutdown()


def test_nothing_is_left_behind():
    def once():
        with atoll.InterpreterPoolExecutor(2) as pool:
            list(pool.map(tasks.square, range(50)))
            assert pool.submit(tasks.fail).exception()

    once()
    threads, fds = count_threads(), count_fds()
    for _ in range(10):
        once()
    until(lambda: count_threads() <= threads)
    assert count_fds() == fds


def test_futures_in_a_pool_used_by_many_threads(pool):
    def work(base):
        return [pool.submit(tasks.square, base + n).result(SLACK) for n in range(200)]

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        for base, got in enumerate(threads.map(work, range(4))):
            assert got == [(base + n) ** 2 for n in range(200)]


def test_coroutines_run_in_a_loop_of_the_worker():
    with atoll.InterpreterPoolExecutor(1) as pool:
        assert pool.submit(tasks.coroutine, 5).result(SLACK) == 5
        with pytest.raises(ValueError, match="in a coroutine"):
            pool.submit(tasks.fails).result(SLACK)
        loops = {pool.submit(tasks.loop_id).result(SLACK) for _ in range(3)}
        assert len(loops) == 1
        late = pool.submit_with(tasks.coroutine, (1, 30), timeout=0.1)
        with pytest.raises(TimeoutError):
            late.result(SLACK)
        assert pool.submit(tasks.coroutine, 6, seconds=0.01).result(SLACK) == 6


def test_tasks_submit_tasks(pool):
    def outer(n):
        with atoll.InterpreterPoolExecutor(1) as inner:
            return inner.submit(tasks.square, n).result()

    assert [pool.submit(outer, n).result(SLACK) for n in range(3)] == [0, 1, 4]


def test_neither_pools_nor_futures_can_be_sent(pool):
    future = pool.submit(tasks.square, 1)
    for obj in (pool, future):
        with pytest.raises((TypeError, pickle.PicklingError, atoll.NotShareableError)):
            pool.submit(tasks.add, obj)


def test_futures_are_made_by_executors_only():
    with pytest.raises(TypeError):
        atoll.Future()
    future = atoll.Future.__new__(atoll.Future)
    assert not future.done()
    with pytest.raises(RuntimeError, match="not been started"):
        future.result()


def test_a_pool_is_as_parallel_as_threads_are_many():
    """Two busy workers take the time of one, if there are two cores."""
    if os.process_cpu_count() < 2:
        pytest.skip("one core")
    with atoll.InterpreterPoolExecutor(2) as pool:
        for future in [pool.submit(_busy, 0.1) for _ in range(2)]:
            assert future.result(SLACK)  # both are there, and have imported this module
        begin = time.perf_counter()
        futures = [pool.submit(_busy, 0.4) for _ in range(2)]
        assert all(f.result(SLACK) for f in futures)
        assert time.perf_counter() - begin < 5  # it says that it ends; bench/ measures


def _busy(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return threading.current_thread() is threading.main_thread()


def test_functions_of_main_share_their_globals_in_a_worker():
    """As those of a module do: the initializer's work is there for the tasks."""
    check_python("""
        import atoll

        DATABASE = None
        FACTOR = 1

        def open_database(name):
            global DATABASE
            DATABASE = name

        def work(n):
            return f"{DATABASE}:{n * FACTOR}"

        def count():
            global FACTOR
            FACTOR += 1
            return FACTOR

        with atoll.InterpreterPoolExecutor(
            1, initializer=open_database, initargs=("db",)
        ) as pool:
            assert list(pool.map(work, range(3))) == ["db:0", "db:1", "db:2"]
            FACTOR = 5  # what changes here, changes there
            assert pool.submit(work, 3).result() == "db:15"
            assert [pool.submit(count).result() for _ in range(3)] == [6, 7, 8]
            assert pool.submit(work, 1).result() == "db:8"
            FACTOR = 1
            assert pool.submit(work, 1).result() == "db:1"
            FACTOR = True
            assert pool.submit(lambda: FACTOR).result() is True
            FACTOR = (1,)
            assert pool.submit(lambda: FACTOR).result() == (1,)
            FACTOR = (True,)
            assert pool.submit(lambda: FACTOR).result()[0] is True
            FACTOR = True
            nested = lambda: atoll.spawn(work, 2).result()
            assert pool.submit(nested).result() == "db:2", pool.submit(nested).result()
        with atoll.create() as interp:
            assert interp.call(work, 3) == "None:3"
            interp.call(open_database, "other")
            assert interp.call(work, 3) == "other:3"
            assert DATABASE is None
    """)


def test_a_failing_initializer_is_logged_before_the_error(caplog):
    with atoll.InterpreterPoolExecutor(2, initializer=tasks.fail, initargs=("bad",)) as pool:
        with pytest.raises(atoll.BrokenInterpreterPool):
            pool.submit(tasks.square, 1).result(SLACK)
        record = caplog.records[0]
    assert (record.name, record.levelname) == ("concurrent.futures", "CRITICAL")
    assert record.getMessage() == "Exception in initializer:"
    assert record.exc_text.endswith("ValueError: bad")


def test_without_handlers_a_failing_initializer_is_printed():
    done = run_python("""
        import atoll, tasks
        with atoll.InterpreterPoolExecutor(1, initializer=tasks.fail) as pool:
            try:
                pool.submit(tasks.square, 1).result()
            except atoll.BrokenInterpreterPool:
                print("broken")
    """)
    assert done.stdout == "broken\n"
    assert "Exception in initializer:\nTraceback" in done.stderr
    assert done.stderr.endswith("ValueError: no\n")


# ----------------------------------------------------- interrupts of who waits


@pytest.fixture
def interrupting():
    tasks.Interrupting.times = 0


@pytest.mark.parametrize("how", ["result", "exception"])
def test_an_interrupt_while_the_result_arrives_is_not_the_result(pool, interrupting, how):
    future = pool.submit(tasks.interrupting)
    with pytest.raises(KeyboardInterrupt):
        getattr(future, how)(SLACK)
    assert future.done() and not future.cancelled()
    assert type(future.result(SLACK)[0]) is tasks.Interrupting
    assert future.exception(SLACK) is None
    assert tasks.Interrupting.times == 2


def test_an_interrupt_while_an_exception_arrives(pool, interrupting):
    future = pool.submit(tasks.raise_interrupting)
    with pytest.raises(KeyboardInterrupt):
        future.result(SLACK)
    with pytest.raises(ValueError) as info:
        future.result(SLACK)
    assert type(info.value.args[0][0]) is tasks.Interrupting


@pytest.fixture
def ctrl_c():
    """Presses the keys when main waits for a task."""
    threads = []

    def press():
        waits = atoll._core._survey
        until(lambda: any(w[0] == 0 and "result of a task" in w[4] for w in waits(False)[1]))
        os.kill(os.getpid(), signal.SIGINT)

    def press_soon():
        threads.append(threading.Thread(target=press))
        threads[-1].start()

    yield press_soon
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("how", ["result", "exception", "map"])
def test_after_ctrl_c_the_task_goes_on_which_is_said(ctrl_c, how):
    ready, go = atoll.create_queue(), atoll.create_queue()
    with atoll.InterpreterPoolExecutor(1, name="slow") as pool:
        if how == "map":
            wait = pool.map(tasks.wait_for, [go], [ready]).__next__
        else:
            wait = getattr(pool.submit(tasks.wait_for, go, ready), how)
        ready.get(timeout=SLACK)
        ctrl_c()
        with pytest.raises(KeyboardInterrupt) as info:
            wait()
        (id,) = [w.interpreter for w in pool.stats().workers]
        assert info.value.__notes__ == [
            f"the task goes on in interpreter {id} 'slow'; cancel() of its future stops it"
        ]
        go.put(5)
        assert wait() == (None if how == "exception" else 5)


def test_after_ctrl_c_a_queued_task_is_still_queued(ctrl_c):
    ready, go = atoll.create_queue(), atoll.create_queue()
    with atoll.InterpreterPoolExecutor(1, name="one") as pool:
        first = pool.submit(tasks.wait_for, go, ready)
        ready.get(timeout=SLACK)
        second = pool.submit(tasks.square, 3)
        ctrl_c()
        with pytest.raises(KeyboardInterrupt) as info:
            second.result()
        assert info.value.__notes__ == [
            "the task is still queued for 'one'; cancel() of its future takes it out"
        ]
        go.put(None)
        assert second.result(SLACK) == 9 and first.done()


def test_what_leaving_the_block_has_stopped_does_not_go_on(ctrl_c):
    ready, go = atoll.create_queue(), atoll.create_queue()
    with pytest.raises(KeyboardInterrupt) as info:
        with atoll.InterpreterPoolExecutor(1) as pool:
            future = pool.submit(tasks.wait_for, go, ready)
            ready.get(timeout=SLACK)
            ctrl_c()
            try:
                future.result()
            except KeyboardInterrupt as exc:
                exc.add_note("mine")
                raise
    assert future.cancelled()
    assert info.value.__notes__ == ["mine"]
    with pytest.raises(KeyboardInterrupt) as info:
        with atoll.TaskGroup() as group:
            task = group.spawn(tasks.wait_for, go, ready)
            ready.get(timeout=SLACK)
            ctrl_c()
            task.result()
    assert task.cancelled()
    assert not hasattr(info.value, "__notes__")


def test_ctrl_c_while_an_exception_is_described(pool, monkeypatch):
    """After the reply has been decoded, that is."""
    describe = atoll.errors.describe
    calls = []

    def interrupted(value):
        calls.append(value)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return describe(value)

    monkeypatch.setattr(future_module, "describe", interrupted)
    future = pool.submit(tasks.fail, "bad")
    with pytest.raises(KeyboardInterrupt):
        future.result(SLACK)
    with pytest.raises(ValueError, match="bad"):
        future.result(SLACK)
    assert len(calls) == 2


@pytest.fixture
def out_of_time():
    """The handler of a signal raises it."""

    class OutOfTime(Exception):
        pass

    def handler(signum, frame):
        raise OutOfTime

    before = signal.signal(signal.SIGUSR1, handler)
    yield OutOfTime
    signal.signal(signal.SIGUSR1, before)


def test_what_a_handler_raises_while_the_result_arrives_is_not_the_result(
    pool, interrupting, out_of_time
):
    future = pool.submit(tasks.signalled)
    with pytest.raises(out_of_time):
        future.result(SLACK)
    assert type(future.result(SLACK)) is tasks.Signalled
    assert future.exception(SLACK) is None


def test_what_a_handler_raises_while_an_exception_is_described(pool, monkeypatch, out_of_time):
    describe = atoll.errors.describe
    calls = []

    def signalled(value):
        calls.append(value)
        if len(calls) == 1:
            signal.raise_signal(signal.SIGUSR1)
        return describe(value)

    monkeypatch.setattr(future_module, "describe", signalled)
    future = pool.submit(tasks.fail, "bad")
    with pytest.raises(out_of_time):
        future.exception(SLACK)
    with pytest.raises(ValueError, match="bad"):
        future.result(SLACK)


def test_another_thread_that_waits_for_the_same_result_opens_it(pool, interrupting):
    ready = atoll.create_queue()
    future = pool.submit(tasks.interrupting, ready)
    first = Task(future.result)
    ready.get(timeout=SLACK)
    others = [Task(future.result) for _ in range(3)]
    with pytest.raises(KeyboardInterrupt):
        first.result()
    for other in others:
        assert other.result() is future.result()
    assert tasks.Interrupting.times == 2


def test_what_was_moved_arrives_after_an_interrupt(pool, interrupting):
    future = pool.submit(tasks.interrupting_with_memory)
    with pytest.raises(KeyboardInterrupt):
        future.result(SLACK)
    _, memory = future.result(SLACK)
    assert memory == bytes(10_000)
    assert tasks.Interrupting.times == 2


# -------------------------------------------------------- executors that are dropped


@pytest.mark.parametrize("cycle", [False, True])
def test_a_busy_pool_that_is_dropped_ends_with_its_interpreter(cycle):
    before = open_interpreters()
    interp = atoll.create()
    interp.exec(f"""if True:
        import atoll, gc, tasks
        ready = atoll.create_queue()
        pool = atoll.InterpreterPoolExecutor(1, exit_grace=0.2)
        future = pool.submit(tasks.spin, ready)
        ready.get()
        if {cycle}:
            pool.itself = pool
        del pool, future
        gc.collect()
    """)
    assert len(open_interpreters() - before) >= 2
    interp.close()
    until(lambda: not open_interpreters() - before)


def test_what_a_dropped_pool_has_queued_is_done_at_the_end():
    assert check_python("""
        import atoll, tasks
        pool = atoll.InterpreterPoolExecutor(1)
        ready = atoll.create_queue()
        pool.submit(tasks.sleep, ready, 1.5)
        for n in range(3):
            pool.submit(print, n)
        ready.get()
        del pool
    """) == "0\n1\n2"


def test_dropped_pools_are_forgotten_when_they_have_ended():
    from atoll._tasks import exit as _exit

    for _ in range(60):
        assert atoll.InterpreterPoolExecutor(1).submit(tasks.square, 2).result(SLACK) == 4
    assert len(_exit._kept) < 50


def test_asyncio_takes_it_as_its_default():
    import asyncio

    async def main():
        asyncio.get_running_loop().set_default_executor(pool)
        return await asyncio.get_running_loop().run_in_executor(None, tasks.square, 3)

    pool = atoll.InterpreterPoolExecutor(1)
    assert asyncio.run(main()) == 9
    with pytest.raises(RuntimeError):  # asyncio.run() has shut it down
        pool.submit(tasks.square, 1)


def test_threads_have_names():
    with atoll.InterpreterPoolExecutor(1, name="crunch the numbers") as pool:
        pool.submit(tasks.square, 1).result()
        assert "crunch the numb" in thread_names()
        with atoll.create() as interp:
            assert f"atoll-{interp.id}" in thread_names()


def thread_names():
    names = []
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/comm") as file:
            names.append(file.read().rstrip("\n"))
    return names


def test_nice():
    """The workers' threads stand back; this one and its process do not."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    for warm in (0, 1):
        atoll.warm(warm)
        with atoll.InterpreterPoolExecutor(1, nice=before + 7) as pool:
            assert pool.submit(tasks.niceness).result(SLACK) == before + 7
    atoll.warm(0)
    with atoll.InterpreterPoolExecutor(1) as pool:
        assert pool.submit(tasks.niceness).result(SLACK) == before
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
    for wrong in (-1, 20):
        with pytest.raises(ValueError, match="nice must be from 0 to 19"):
            atoll.InterpreterPoolExecutor(1, nice=wrong)
