"""Callbacks of futures: whatever they do, others are settled, and called back."""

import asyncio
import concurrent.futures
import gc
import logging
import sys
import threading
import time
from collections import deque

import atoll
import pytest
import tasks
from atoll._tasks import dispatch
from support import SLACK, check_python, run_python, until


@pytest.fixture
def pool():
    with atoll.InterpreterPoolExecutor(2, grace=0.5) as pool:
        yield pool


@pytest.fixture
def blocked():
    """An event that a callback may wait for; it is set in the end."""
    event = threading.Event()
    yield event
    event.set()


def threads_called(name):
    return [t for t in threading.enumerate() if t.name == name]


# ------------------------------------------------------------ what they raise


def stop_the_thread(kind):
    raise kind("of a callback")


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, ValueError])
def test_what_a_callback_raises_is_logged_and_ends_nothing(pool, kind, caplog):
    go, called = atoll.create_queue(), []
    future = pool.submit(tasks.wait_for, go)
    future.add_done_callback(lambda f: stop_the_thread(kind))
    future.add_done_callback(called.append)
    go.put(1)
    until(lambda: called == [future])
    record = next(r for r in caplog.records if r.name == "concurrent.futures")
    assert record.levelno == logging.ERROR and record.exc_info[0] is kind
    assert "exception calling callback for <Future at" in record.getMessage()
    other = pool.submit(tasks.wait_for, go)
    other.add_done_callback(called.append)
    go.put(2)
    assert concurrent.futures.wait([other], SLACK).done == {other}
    until(lambda: called == [future, other])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_logging_that_raises_ends_nothing(pool):
    class Broken(logging.Handler):
        def emit(self, record):
            raise SystemExit

    go, called, logger = atoll.create_queue(), [], logging.getLogger("concurrent.futures")
    handler = Broken()
    logger.addHandler(handler)
    try:
        first = pool.submit(tasks.wait_for, go)
        first.add_done_callback(lambda f: 1 / 0)
        second = pool.submit(tasks.wait_for, go)
        second.add_done_callback(called.append)
        go.put(1)
        go.put(2)
        until(lambda: called == [second])
    finally:
        logger.removeHandler(handler)


def test_in_the_thread_of_the_caller_an_exit_is_the_callers(pool):
    future = pool.submit(tasks.square, 1)
    future.result()
    with pytest.raises(SystemExit):
        future.add_done_callback(lambda f: sys.exit())


def test_what_cancel_calls_back_may_raise_and_the_rest_is_called(pool):
    go, called = atoll.create_queue(), []
    for_both = [pool.submit(tasks.wait_for, go) for _ in range(2)]
    queued = pool.submit(tasks.square, 1)
    queued.add_done_callback(lambda f: sys.exit())
    queued.add_done_callback(called.append)
    with pytest.raises(SystemExit):
        queued.cancel()
    assert queued.cancelled()
    until(lambda: called == [queued])
    for _ in for_both:
        go.put(None)


def test_cancel_has_called_back_when_it_returns(pool):
    """As in concurrent.futures; though the dispatcher may be the first to know."""
    go = atoll.create_queue()
    for _ in range(2):
        pool.submit(tasks.wait_for, go)
    called = []
    for n in range(1, 301):
        queued = pool.submit(tasks.square, 1)
        queued.add_done_callback(lambda f: called.append(threading.get_ident()))
        assert queued.cancel()
        assert called == n * [threading.get_ident()]
    go.put(None)
    go.put(None)


@pytest.mark.parametrize("how", ["after its end", "beside it"])
def test_cancel_beside_the_end_of_a_task(pool, how):
    """Whoever is first, each callback is called, once."""
    called = deque()
    for n in range(300):
        future = pool.submit(tasks.square, n)
        future.add_done_callback(called.append)
        if how == "after its end":
            future.result()
        assert future.cancel() or future.done()
    until(lambda: len(called) == 300)
    time.sleep(0.05)
    assert len(called) == 300


# ------------------------------------------------------- callbacks that block


@pytest.mark.parametrize("how", ["wait", "as_completed", "result", "wrap", "callback"])
def test_a_callback_may_wait_for_another_future(pool, how):
    go, out = atoll.create_queue(), []
    first, other = pool.submit(tasks.wait_for, go), pool.submit(tasks.wait_for, go)

    async def wrapped():
        return await asyncio.wrap_future(other)

    def wait(future):
        other_one = other if future is first else first
        if how == "wait":
            concurrent.futures.wait([other_one])
        elif how == "as_completed":
            next(concurrent.futures.as_completed([other_one]))
        elif how == "wrap":
            asyncio.run(wrapped())
        elif how == "callback":
            there = threading.Event()
            other_one.add_done_callback(lambda f: there.set())
            there.wait()
        out.append(other_one.result())

    waits = [first] if how == "wrap" else [first, other]  # a loop in a thread
    for future in waits:
        future.add_done_callback(wait)
    go.put("a")
    until(lambda: first.done() or other.done())
    time.sleep(0.05)  # it may wait by then
    go.put("b")
    until(lambda: len(out) == len(waits))


def test_blocked_callbacks_hold_up_no_other_future(pool, blocked):
    """Neither who waits in a thread or a loop, nor other callbacks."""
    begun, called = [], []
    for _ in range(5):
        future = pool.submit(tasks.square, 1)
        future.add_done_callback(lambda f: begun.append(blocked.wait(SLACK)))

    async def main():
        loop = asyncio.get_running_loop()
        for n in range(3):
            assert await asyncio.wrap_future(pool.submit(tasks.square, n)) == n * n
            assert await loop.run_in_executor(pool, tasks.square, n) == n * n

    begin = time.monotonic()
    done, _ = concurrent.futures.wait([pool.submit(tasks.square, 2)], SLACK)
    assert len(done) == 1
    asyncio.run(main())
    futures = [pool.submit(tasks.square, n) for n in range(20)]
    assert len(list(concurrent.futures.as_completed(futures, SLACK))) == 20
    for future in futures:
        future.add_done_callback(called.append)
    pool.submit(tasks.sleep, atoll.create_queue(), 0.05).add_done_callback(called.append)
    until(lambda: len(called) == 21)
    assert time.monotonic() - begin < SLACK and not begun
    blocked.set()
    until(lambda: len(begun) == 5)


def test_a_task_group_does_not_wait_for_callbacks(pool, blocked):
    for _ in range(2):
        pool.submit(tasks.square, 1).add_done_callback(lambda f: blocked.wait(SLACK))
    ready = atoll.create_queue()
    with pytest.raises(ExceptionGroup):
        with atoll.TaskGroup() as group:
            busy = group.spawn(tasks.spin, ready)
            busy.add_done_callback(lambda f: blocked.wait(SLACK))
            ready.get(timeout=SLACK)
            group.spawn(tasks.fail)
    assert busy.cancelled() and not blocked.is_set()


def test_callbacks_that_get_on_have_one_thread(pool):
    seen = set()
    futures = [pool.submit(tasks.square, n) for n in range(300)]
    for future in futures:
        future.add_done_callback(lambda f: seen.add(threading.get_ident()))
    concurrent.futures.wait(futures, SLACK)
    seen.discard(threading.get_ident())  # of those that were done already
    assert len(seen) <= 2  # one more, if this machine has stopped for a moment


def test_callbacks_that_compute_make_few_threads(pool):
    """They get on, if slowly: this is no reason for a thread each."""
    most, called = [], []

    def compute(future):
        end = time.thread_time() + 0.03
        while time.thread_time() < end:
            pass
        most.append(len(threads_called("atoll-callbacks")))
        called.append(future)

    go = atoll.create_queue()
    futures = [pool.submit(tasks.wait_for, go) for _ in range(40)]
    for future in futures:
        future.add_done_callback(compute)
        go.put(None)
    until(lambda: len(called) == 40, 3 * SLACK)
    assert max(most) <= 8


def test_all_threads_go_when_callbacks_come_to_an_end(pool):
    gate = threading.Event()
    for _ in range(6):
        pool.submit(tasks.square, 1).add_done_callback(lambda f: gate.wait(SLACK))
    until(lambda: len(threads_called("atoll-callbacks")) >= 3)
    gate.set()
    until(lambda: not threads_called("atoll-callbacks"))
    until(lambda: not threads_called("atoll-dispatcher"))
    called = []
    go = atoll.create_queue()
    pool.submit(tasks.wait_for, go).add_done_callback(called.append)
    go.put(1)
    until(lambda: called)


def test_a_callback_outlives_the_settler(pool):
    """Which goes when nothing is watched, and comes again."""
    gate, called = threading.Event(), []
    go = atoll.create_queue()
    pool.submit(tasks.square, 1).add_done_callback(lambda f: called.append(gate.wait(SLACK)))
    until(lambda: not threads_called("atoll-dispatcher"))
    later = pool.submit(tasks.wait_for, go)
    later.add_done_callback(called.append)
    go.put(1)
    until(lambda: called == [later])
    gate.set()
    until(lambda: called == [later, True])
    until(lambda: not threads_called("atoll-callbacks"))


def test_finalizers_may_watch_futures(pool):
    """The collector may run in any line of the dispatcher's, with its locks held."""
    called, over = [], []

    class Cycle:
        def __init__(self):
            self.itself = self

        def __del__(self):
            if not over:
                pool.submit(tasks.square, 1).add_done_callback(called.append)

    before = gc.get_threshold()
    gc.set_threshold(5, 2, 2)
    try:
        for _ in range(100):
            Cycle()
            pool.submit(tasks.square, 2).add_done_callback(lambda f: Cycle() and None)
        until(lambda: gc.collect() is not None and len(called) >= 150)
    finally:
        gc.set_threshold(*before)
        over.append(True)


# ------------------------------------------------------------- refused threads


@pytest.fixture
def refusing(monkeypatch):
    """A function: from now on no thread can be started (or it can again)."""
    start = threading.Thread.start

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    def switch(on):
        monkeypatch.setattr(threading.Thread, "start", refuse if on else start)

    until(lambda: not threads_called("atoll-dispatcher"))
    until(lambda: not threads_called("atoll-callbacks"))
    return switch


def test_a_refused_thread_is_tried_again(pool, refusing):
    go, called = atoll.create_queue(), []
    future = pool.submit(tasks.wait_for, go)
    refusing(True)
    for look in (
        lambda: future.add_done_callback(called.append),
        lambda: concurrent.futures.wait([future], 0),
        lambda: next(concurrent.futures.as_completed([future], 0)),
    ):
        with pytest.raises(RuntimeError, match="can't start new thread"):
            look()
    assert not future.done() and "state=" in repr(future)
    refusing(False)
    future.add_done_callback(called.append)
    go.put(1)
    assert concurrent.futures.wait([future], SLACK).done == {future}
    until(lambda: called == [future])


def test_a_refused_thread_for_callbacks(pool, refusing):
    """The settler is there; for callbacks there is no thread."""
    go, called = atoll.create_queue(), []
    future = pool.submit(tasks.wait_for, go)
    concurrent.futures.wait([future], 0)
    refusing(True)
    with pytest.raises(RuntimeError):
        future.add_done_callback(called.append)
    go.put(1)
    assert concurrent.futures.wait([future], SLACK).done == {future}
    future.add_done_callback(called.append)  # needs none any more
    assert called == [future]


def test_no_thread_to_help_the_blocked(pool, refusing, blocked):
    """Whoever is to help comes when one can be had."""
    called, go = [], atoll.create_queue()
    pool.submit(tasks.wait_for, go).add_done_callback(lambda f: blocked.wait(SLACK))
    other = pool.submit(tasks.wait_for, go)
    other.add_done_callback(called.append)
    refusing(True)
    go.put(1)
    go.put(2)
    concurrent.futures.wait([other], SLACK)
    time.sleep(0.1)
    refusing(False)
    until(lambda: called == [other] or blocked.is_set())
    assert not blocked.is_set()


def test_watching_from_many_threads_at_once(pool):
    """While the dispatcher's threads come and go."""
    called = []

    def some():
        for _ in range(30):
            future = pool.submit(tasks.square, 3)
            future.add_done_callback(called.append)
            assert concurrent.futures.wait([future], SLACK).done

    idle, dispatch._IDLE = dispatch._IDLE, 0.0
    try:
        with concurrent.futures.ThreadPoolExecutor(6) as threads:
            for done in [threads.submit(some) for _ in range(6)]:
                done.result()
        until(lambda: len(called) == 180)
    finally:
        dispatch._IDLE = idle
    until(lambda: not threads_called("atoll-dispatcher"))


# ------------------------------------------------------------------ at the end


def test_a_callback_that_waits_at_the_end_of_the_program():
    assert check_python("""
        import atoll, concurrent.futures, time
        pool = atoll.InterpreterPoolExecutor(2)
        other = pool.submit(time.sleep, 0.4)
        def call(future):
            concurrent.futures.wait([other])
            print("called", other.done())
        pool.submit(time.sleep, 0.1).add_done_callback(call)
    """) == "called True"


def test_blocked_callbacks_do_not_hold_the_program():
    begin = time.monotonic()
    done = run_python("""
        import os, threading, time
        os.environ["ATOLL_CLOSE_LIMIT"] = "0.3"
        import atoll
        def for_ever(future):
            threading.Event().wait()
        pool = atoll.InterpreterPoolExecutor(2)
        for _ in range(2):
            pool.submit(int).add_done_callback(for_ever)
        pool.submit(int).add_done_callback(lambda f: print("called"))
        time.sleep(0.3)
    """)
    assert (done.returncode, done.stdout) == (0, "called\n"), done
    assert done.stderr == (
        "atoll: 2 callbacks of futures that still run 0.3 s after the end of the program "
        "are left to themselves: for_ever, for_ever\n"
    )
    assert time.monotonic() - begin < SLACK


def test_wait_in_exit_handlers():
    """After the dispatcher has been told to go."""
    assert check_python("""
        import atexit, atoll, concurrent.futures, time
        interp = atoll.create()
        called = []
        def late():
            task = interp.submit(time.sleep, 0.2)
            task.add_done_callback(called.append)
            done, _ = concurrent.futures.wait([task], 10)
            print(len(done))
        atexit.register(late)
        pool = atoll.InterpreterPoolExecutor(1)
        pool.submit(int).add_done_callback(lambda f: print("called"))
    """) == "called\n1"


def test_callbacks_in_an_interpreter_that_closes():
    interp = atoll.create()
    out = atoll.create_queue()
    interp.prepare_main(out=out)
    interp.exec("""if True:
        import atoll, time
        pool = atoll.InterpreterPoolExecutor(1)
        pool.submit(time.sleep, 0.1).add_done_callback(lambda f: out.put(f.done()))
    """)
    interp.close(SLACK)
    assert out.get(timeout=SLACK) is True
