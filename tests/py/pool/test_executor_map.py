"""InterpreterPoolExecutor.map(): order, failures in their place, closed pools; limits."""

import gc
import threading
import time
import weakref

import atoll
import pytest
import tasks
from support import SLACK, until
from workers import MyError, Point
from workers import fail as fail_with


@pytest.fixture
def pool():
    with atoll.InterpreterPoolExecutor(2, grace=0.5) as pool:
        yield pool


def inverse(n):
    return 60 // n


def everything(results):
    """What an iterator gives, exceptions among it, until it ends."""
    got = []
    while True:
        try:
            got.append(next(results))
        except StopIteration:
            return got
        except Exception as exc:
            got.append(type(exc))


OPTIONS = [{}, {"buffersize": 1}, {"buffersize": 3}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_goes_on_after_an_exception(pool, options):
    numbers = [1, 0, 2, 0, 0, 3]
    results = pool.map(inverse, numbers, **options)
    error = ZeroDivisionError
    assert everything(results) == [60, error, 30, error, error, 20]
    assert everything(results) == []


def test_a_chunk_fails_as_a_whole(pool):
    results = pool.map(inverse, [1, 2, 0, 3, 4, 5], chunksize=2)
    assert everything(results) == [60, 30, ZeroDivisionError, 15, 12]


@pytest.mark.parametrize("options", OPTIONS[1:], ids=str)
def test_what_cannot_be_sent_is_refused_in_its_place(pool, options):
    items = [1, 2, 3, (n for n in ()), 4, threading.Lock(), 5]
    results = pool.map(tasks.square, items, **options)
    error = atoll.NotShareableError
    assert everything(results) == [1, 4, 9, error, 16, error, 25]


def test_without_a_buffer_it_is_refused_at_once(pool):
    """And what has been started meanwhile is not left behind."""
    go, ready = atoll.create_queue(), atoll.create_queue()
    busy = [pool.submit(tasks.wait_for, go, ready) for _ in range(2)]
    for _ in busy:
        ready.get(timeout=SLACK)
    with pytest.raises(atoll.NotShareableError):
        pool.map(tasks.square, [1, 2, (n for n in ())])
    assert pool.stats().queued == 0
    for _ in busy:
        go.put(None)


@pytest.mark.parametrize("taken", [0, 1, 3])
@pytest.mark.parametrize("chunksize", [1, 2])
def test_after_shutdown_what_was_begun_is_given(taken, chunksize):
    with atoll.InterpreterPoolExecutor(1) as pool:
        results = pool.map(tasks.square, range(20), buffersize=4, chunksize=chunksize)
        got = [next(results) for _ in range(taken)]
    with pytest.raises(RuntimeError, match="after shutdown"):
        for result in results:
            got.append(result)
    assert got == [n * n for n in range(len(got))]
    assert len(got) >= 4 * chunksize
    assert list(results) == []


def test_after_shutdown_nothing_is_missing_if_all_was_begun():
    for options in ({}, {"buffersize": 8}, {"buffersize": 9}):
        with atoll.InterpreterPoolExecutor(1) as pool:
            results = pool.map(tasks.square, range(8), **options)
        assert list(results) == [n * n for n in range(8)]


def test_an_iterator_that_fails(pool):
    def numbers():
        yield from range(4)
        raise LookupError("of the iterator")

    with pytest.raises(LookupError):
        pool.map(tasks.square, numbers())
    results = pool.map(tasks.square, numbers(), buffersize=2)
    assert everything(results) == [0, 1, 4, 9, LookupError]


def stop():
    raise StopIteration


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_call_that_raises_stop_iteration_is_no_end(pool, options):
    results = pool.map(lambda n: n if n % 2 else stop(), range(4), **options)
    assert everything(results) == [RuntimeError, 1, RuntimeError, 3]


def test_the_time_is_over():
    go = atoll.create_queue()
    with atoll.InterpreterPoolExecutor(1, grace=0.5) as pool:
        pool.submit(int).result()
        go.put("a")
        results = pool.map(tasks.wait_for, [go] * 5, timeout=SLACK)
        try:
            assert next(results) == "a"
            results._end = time.monotonic() + 0.1
            with pytest.raises(TimeoutError):
                next(results)
            assert pool.stats().queued == 0
            assert list(results) == []
        finally:
            go.put(None)


def test_a_time_limit_of_a_call_is_not_that_of_map(pool):
    def late(n):
        raise TimeoutError(n)

    assert everything(pool.map(late, range(3), timeout=60)) == [TimeoutError] * 3


def test_ctrl_c_loses_no_result(pool, monkeypatch):
    """Not that of a wait, nor that of the next call, nor the argument."""
    go = atoll.create_queue()
    results = pool.map(tasks.add, range(5), iter([go.qsize() + n for n in range(5)]),
                       buffersize=2)
    submit = results._submit
    interrupts = 0

    def interrupted(*call):
        nonlocal interrupts
        interrupts += 1
        if interrupts % 2:
            raise KeyboardInterrupt
        return submit(*call)

    results._submit = interrupted
    got = []
    while True:
        try:
            got.append(next(results))
        except KeyboardInterrupt:
            continue
        except StopIteration:
            break
    assert got == [0, 2, 4, 6, 8] and interrupts == 6


def test_an_interrupted_wait(pool):
    go, ready = atoll.create_queue(), atoll.create_queue()
    results = pool.map(tasks.wait_for, [go, go], [ready, ready])
    ready.get(timeout=SLACK)
    main = threading.get_ident()

    def interrupt():
        import signal

        time.sleep(0.1)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        next(results)
    thread.join()
    go.put(1)
    go.put(2)
    assert sorted(results) == [1, 2]


def test_failures_are_not_kept(pool):
    gone = []
    for n in (0, 1):
        results = pool.map(fail_with, [0, 1], ["a", "b"], buffersize=1 + n)
        try:
            next(results)
        except MyError as exc:
            gone.append(weakref.ref(exc))
        del results
    assert [ref() for ref in gone] == [None, None]


def test_dropped_halfway(pool):
    results = pool.map(Point, range(10), buffersize=3)
    assert next(results) == Point(0)
    gone = weakref.ref(results)
    del results
    assert gone() is None
    until(lambda: gc.collect() is not None and pool.stats().queued == 0)


@pytest.mark.parametrize("ahead", [None, 12])
def test_results_come_when_the_executor_has_gone(ahead):
    pool = atoll.InterpreterPoolExecutor(1)
    gone = weakref.ref(pool)
    results = pool.map(abs, range(10), buffersize=ahead)
    if ahead:
        assert next(results) == 0  # and has seen that there are no more calls
    del pool
    assert gone() is None
    assert sum(results) == 45


# --------------------------------------------------------------------- limits


@pytest.mark.parametrize("limit", [0, 0.0, 1e-10, 4e-324])
@pytest.mark.parametrize("how", ["pool", "busy", "task"])
def test_no_time_at_all(limit, how, tmp_path):
    mark = tmp_path / "begun"
    go = atoll.create_queue()
    with atoll.InterpreterPoolExecutor(1) as pool:
        if how == "busy":
            pool.submit(tasks.wait_for, go)
        try:
            if how == "task":
                future = atoll.Task(mark.touch, timeout=limit).start()
            else:
                future = pool.submit_with(mark.touch, timeout=limit)
            assert future.done() and not future.is_alive() and not future.cancel()
            with pytest.raises(TimeoutError, match="no time to run"):
                future.result(SLACK)
        finally:
            go.put(None)
    if how == "task":
        future.join(SLACK)
    assert not mark.exists()


def test_no_time_at_all_in_a_closed_pool():
    pool = atoll.InterpreterPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(RuntimeError):
        pool.submit_with(tasks.square, (1,), timeout=0)


def test_limits_that_are_none(pool):
    for limit in (None, 1e300, float("inf")):
        assert pool.submit_with(tasks.square, (2,), timeout=limit).result(SLACK) == 4
    for limit in (-1, -1e-300, float("nan")):
        with pytest.raises(ValueError, match="non-negative"):
            pool.submit_with(tasks.square, (2,), timeout=limit)
