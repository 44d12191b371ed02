"""Tasks that fail and that nobody asks: it is logged, once, wherever that comes to light."""

import asyncio
import concurrent.futures
import gc
import logging

import atoll
import pytest
import tasks
from support import SLACK, check_python, run_python, until

LOST = "Task exception was never retrieved"


@pytest.fixture
def lost(caplog):
    """What has been logged about such tasks: a function that returns the records."""

    def records():
        gc.collect()
        return [r for r in caplog.records if r.getMessage().startswith(LOST)]

    return records


@pytest.fixture
def pool():
    with atoll.InterpreterPoolExecutor(1, grace=0.5) as pool:
        yield pool


def ended(future):
    until(future.done)
    return future


def over(pool):
    """All tasks of it are over, and what they have logged is there."""
    assert pool.submit(tasks.square, 2).result(SLACK) == 4


def check(records, kind=ValueError, text="no"):
    assert len(records) == 1
    record = records[0]
    assert (record.name, record.levelno) == ("concurrent.futures", logging.ERROR)
    shown = record.exc_text or ""
    if record.exc_info is not None:
        assert record.exc_info[0] is kind
        shown = str(record.exc_info[1])
    assert text in shown


# --------------------------------------------------------------------- logged


@pytest.mark.parametrize("how", ["submit", "spawn", "interpreter", "coroutine"])
def test_a_failure_that_nobody_looks_at(pool, lost, how):
    with atoll.create() as interp:
        future = ended(
            {
                "submit": lambda: pool.submit(tasks.fail),
                "spawn": lambda: atoll.spawn(tasks.fail),
                "interpreter": lambda: interp.submit(tasks.fail),
                "coroutine": lambda: pool.submit(tasks.fails),
            }[how]()
        )
        assert not lost()
        assert "raised ValueError" in repr(future)  # which is no look at it
        assert not future.running() and not future.cancelled() and not future.cancel()
        del future
        check(lost(), text="" if how == "coroutine" else "no")
    assert "finished raised ValueError>" in lost()[0].getMessage()


@pytest.mark.parametrize("how", ["submit", "spawn", "interpreter", "coroutine"])
def test_a_failure_of_what_was_dropped_before(pool, lost, how):
    """It is logged where it happens."""
    with atoll.create() as interp:
        {
            "submit": lambda: pool.submit(tasks.fail) and None,
            "spawn": lambda: atoll.spawn(tasks.fail) and None,
            "interpreter": lambda: interp.submit(tasks.fail) and None,
            "coroutine": lambda: pool.submit(tasks.fails) and None,
        }[how]()
        until(lost)
        over(pool)
        check(lost(), text="ValueError")


def test_in_a_cycle(pool, lost):
    future = ended(pool.submit(tasks.fail))
    future.itself = future
    del future
    check(lost())


def test_results_that_cannot_be_sent_and_limits(pool, lost):
    ended(pool.submit(tasks.generator))
    check(lost(), atoll.NotShareableError, "the result")
    ended(pool.submit_with(tasks.square, (1,), timeout=0))
    assert [r.exc_info[0] for r in lost()] == [atoll.NotShareableError, TimeoutError]
    pool.submit_with(tasks.spin, timeout=0.05)
    over(pool)
    until(lambda: len(lost()) == 3)
    assert "TimeoutError" in lost()[2].exc_text


def test_a_look_that_comes_too_early_is_none(pool, lost):
    go = atoll.create_queue()

    def fail_after(go):
        go.get()
        raise ValueError("no")

    future = pool.submit(fail_after, go)
    with pytest.raises(TimeoutError):
        future.result(0)
    go.put(None)
    ended(future)
    del future
    check(lost())


def test_a_pool_that_breaks_is_told_once(lost, caplog):
    pool = atoll.InterpreterPoolExecutor(1, preload=["no_such_module"])
    futures = []
    try:
        futures = [pool.submit(tasks.square, n) for n in range(20)]
    except atoll.BrokenInterpreterPool:
        pass
    for future in futures:
        ended(future)
    del futures, future
    check(lost(), atoll.BrokenInterpreterPool, "no_such_module")
    pool.shutdown()


# ----------------------------------------------------------------- not logged


def look_result(future):
    with pytest.raises(ValueError):
        future.result(SLACK)


def look_await(future):
    async def main():
        with pytest.raises(ValueError):
            await future

    asyncio.run(main())


def look_wrapped(future):
    async def main():
        with pytest.raises(ValueError):
            await asyncio.wrap_future(future)

    asyncio.run(main())


LOOKS = {
    "result": look_result,
    "exception": lambda future: future.exception(SLACK),
    "callback": lambda future: future.add_done_callback(lambda f: None),
    "wait": lambda future: concurrent.futures.wait([future], SLACK),
    "as_completed": lambda future: list(concurrent.futures.as_completed([future], SLACK)),
    "await": look_await,
    "wrap_future": look_wrapped,
    "snapshot": lambda future: future._get_snapshot() if future.exception() else None,
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", LOOKS)
def test_who_has_looked_is_told_nothing(pool, lost, how, when):
    go = atoll.create_queue()

    def fail_after(go):
        go.get()
        raise ValueError("no")

    future = pool.submit(fail_after, go)
    if when == "before":
        if how in ("callback", "wait"):
            concurrent.futures.wait([future], 0)
        go.put(None)
    else:
        go.put(None)
        ended(future)
    LOOKS[how](future)
    del future
    over(pool)
    assert not lost()


def test_what_has_not_failed_or_has_been_told_to_end(pool, lost):
    go, ready = atoll.create_queue(), atoll.create_queue()
    ended(pool.submit(tasks.square, 1))
    ended(pool.submit(tasks.exit_with, 3))
    pool.submit(tasks.exit_with, 3)
    running = pool.submit(tasks.spin, ready)
    ready.get(timeout=SLACK)
    queued = pool.submit(tasks.fail)
    assert queued.cancel() and running.cancel()
    del queued, running
    over(pool)
    task = atoll.spawn(tasks.wait_for, go)
    del task
    go.put(1)
    over(pool)
    assert not lost()


def test_map_and_groups_tell_by_themselves(pool, lost):
    with pytest.raises(ValueError):
        list(pool.map(tasks.fail, range(20)))
    results = pool.map(tasks.fail, range(20), chunksize=2)
    with pytest.raises(ValueError):
        next(results)
    del results
    with pytest.raises(ExceptionGroup):
        with atoll.TaskGroup() as group:
            for _ in range(3):
                group.spawn(tasks.fail)
    del group
    over(pool)
    assert not lost()


def test_a_map_that_is_dropped_at_once_is_made_and_tells(pool, lost):
    pool.map(tasks.fail, range(3))
    over(pool)
    assert len(lost()) == 3


def test_with_no_handlers_it_is_printed():
    done = run_python("""
        import atoll, tasks
        with atoll.InterpreterPoolExecutor(1) as pool:
            future = pool.submit(tasks.fail, "the first")
            while not future.done():
                pass
            del future
            pool.submit(tasks.fail, "the second")
        atoll.spawn(tasks.fail, "the third")
    """)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.count(LOST) == 3, done.stderr
    for n in ("first", "second", "third"):
        assert done.stderr.count(f"ValueError: the {n}\n") >= 1
    assert "tasks.py" in done.stderr


def test_at_the_end_of_the_program_it_is_no_crash():
    """Futures of globals, of cycles and of what is torn down late."""
    check_python("""
        import atoll, tasks, builtins
        pool = atoll.InterpreterPoolExecutor(1)
        kept = pool.submit(tasks.fail)
        cycle = pool.submit(tasks.fail)
        cycle.itself = cycle
        builtins.late = pool.submit(tasks.fail)
        while not builtins.late.done():
            pass
        interp = atoll.create()
        interp.exec('''if True:
            import atoll, builtins, tasks
            pool = atoll.InterpreterPoolExecutor(1)
            builtins.late = kept = pool.submit(tasks.fail)
            while not kept.done():
                pass
        ''')
        interp.close()
    """)
