"""Tasks that are stopped: cancelled, late, stubborn; pools that end with them."""

import concurrent.futures
import random
import signal
import subprocess
import textwrap
import threading
import time

import atoll
import pytest
import tasks
from support import (
    SLACK,
    STRESS,
    UNDER_ASAN,
    Task,
    count_fds,
    count_threads,
    leaves_interpreters,
    open_interpreters,
    python_args,
    python_env,
    run_python,
    until,
)


@pytest.fixture
def pool():
    with atoll.InterpreterPoolExecutor(1, grace=0.2) as pool:
        yield pool


@pytest.fixture
def ready():
    return atoll.create_queue()


def test_a_running_task_is_cancelled(pool, ready):
    future = pool.submit(tasks.spin, ready)
    worker = ready.get(timeout=SLACK)
    assert future.cancel()
    assert future.cancelled() and future.done() and not future.running()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(0)
    with pytest.raises(concurrent.futures.CancelledError):
        future.exception(0)
    assert future.cancel()
    assert future._wait(SLACK) and not future.is_alive()
    assert "cancelled" in repr(future)
    assert pool.submit(tasks.who).result(SLACK) == worker
    assert pool.stats().restarts == 0


def test_a_blocked_task_is_cancelled_at_once(pool, ready):
    future = pool.submit(tasks.wait_for, atoll.create_queue(), ready)
    ready.get(timeout=SLACK)
    future.cancel()
    assert future._wait(SLACK)
    assert pool.stats().restarts == 0


def test_a_queued_task_is_cancelled(pool, ready):
    out = atoll.create_queue()
    running = pool.submit(tasks.spin, ready)
    queued = [pool.submit(tasks.append, out, n) for n in range(5)]
    ready.get(timeout=SLACK)
    assert pool.stats().queued == 5
    assert queued[2].cancel() and queued[4].cancel() and queued[0].cancel()
    assert not queued[2].is_alive()
    assert pool.stats().queued == 2
    running.cancel()
    assert [f.result(SLACK) for f in (queued[1], queued[3])] == [None, None]
    assert [out.get(), out.get()] == [1, 3]
    assert out.empty()


def test_a_task_that_has_ended_cannot_be_cancelled(pool):
    future = pool.submit(tasks.square, 3)
    assert future.result() == 9
    assert not future.cancel() and not future.cancelled()
    failed = pool.submit(tasks.fail)
    assert failed.exception()
    assert not failed.cancel()


def test_a_time_limit(pool, ready):
    future = pool.submit_with(tasks.spin, timeout=0.05)
    with pytest.raises(TimeoutError, match=r"more than 0\.05 s"):
        future.result(SLACK)
    assert future.done() and not future.cancelled() and not future.cancel()
    assert pool.submit_with(tasks.add, [1], {"b": 2}, timeout=5).result(SLACK) == 3
    with pytest.raises(ValueError):
        pool.submit_with(tasks.square, [1], timeout=-1)
    # What waits in the queue is not late.
    slow = pool.submit_with(tasks.sleep, (ready, 0.3), timeout=5)
    quick = pool.submit_with(tasks.square, (2,), timeout=0.1)
    assert (slow.result(SLACK), quick.result(SLACK)) == ("slept", 4)


@pytest.mark.alone
@pytest.mark.parametrize("how", [tasks.sleep, tasks.lock_up])
def test_what_cannot_be_interrupted_is_left_and_replaced(pool, ready, how):
    args = (ready, 3) if how is tasks.sleep else (ready,)
    first = pool.submit(tasks.who).result(SLACK)
    future = pool.submit(how, *args)
    ready.get(timeout=SLACK)
    time.sleep(0.2)  # before that, the interrupt would come in Python's own code
    next_one = pool.submit(tasks.who)
    begin = time.monotonic()
    future.cancel()
    assert next_one.result(SLACK) != first
    assert time.monotonic() - begin < 2.5  # grace 0.2, and an interpreter
    assert future.is_alive()
    stats = pool.stats()
    assert (stats.abandoned, stats.restarts, stats.workers[0].restarts) == (1, 1, 1)
    assert future._wait(SLACK)  # when it comes back, it closes
    until(lambda: first not in open_interpreters())
    assert pool.stats().abandoned == 0


def test_what_ignores_interrupts_is_left_and_replaced(ready):
    stop = atoll.create_queue()
    log = atoll.create_queue()
    with atoll.InterpreterPoolExecutor(
        2, grace=0.2, initializer=tasks.append, initargs=(log, 1)
    ) as pool:
        futures = [pool.submit(tasks.stubborn, ready, stop) for _ in range(2)]
        for _ in futures:
            ready.get(timeout=SLACK)
        for future in futures:
            future.cancel()
        assert list(pool.map(tasks.square, range(4), timeout=SLACK)) == [0, 1, 4, 9]
        assert log.qsize() >= 3  # the new ones were initialised
    assert all(f.is_alive() for f in futures)
    stop.put(None)
    until(lambda: not open_interpreters())
    assert not any(f.is_alive() for f in futures)


def test_too_many_that_do_not_stop_break_the_pool(ready):
    stop = atoll.create_queue()
    pool = atoll.InterpreterPoolExecutor(1, grace=0)
    with pytest.raises(atoll.BrokenInterpreterPool, match="could not be stopped"):
        for _ in range(30):
            future = pool.submit(tasks.stubborn, ready, stop)
            ready.get(timeout=SLACK)
            future.cancel()
            until(lambda: pool.stats().workers[0].running is None)
            if pool.stats().broken:
                break
        pool.submit(tasks.square, 1)
    pool.shutdown()
    stop.put(None)
    until(lambda: not open_interpreters(), 30)


def test_without_a_grace_limit_nobody_is_left(ready):
    with atoll.InterpreterPoolExecutor(1, grace=None) as pool:
        future = pool.submit(tasks.sleep, ready, 0.5)
        ready.get(timeout=SLACK)
        future.cancel()
        assert pool.submit(tasks.square, 2).result(SLACK) == 4
        assert pool.stats().restarts == 0


def test_leaving_with_an_interrupt_stops_everything(ready):
    pool = atoll.InterpreterPoolExecutor(1, grace=0.2)
    with pytest.raises(KeyboardInterrupt):
        with pool:
            future = pool.submit(tasks.spin, ready)
            queued = pool.submit(tasks.square, 1)
            ready.get(timeout=SLACK)
            raise KeyboardInterrupt
    assert future.cancelled() and queued.cancelled()
    assert not open_interpreters()


def test_stop(ready):
    pool = atoll.InterpreterPoolExecutor(2, grace=0.2)
    futures = [pool.submit(tasks.spin, ready) for _ in range(2)]
    futures += [pool.submit(tasks.square, n) for n in range(3)]
    ready.get(timeout=SLACK)
    ready.get(timeout=SLACK)
    pool.stop()
    assert all(f.cancelled() for f in futures)
    with pytest.raises(RuntimeError):
        pool.submit(tasks.square, 1)


def test_interrupting_a_worker_from_outside(pool, ready):
    future = pool.submit(tasks.spin, ready)
    atoll.Interpreter(ready.get(timeout=SLACK)).interrupt()
    assert isinstance(future.exception(SLACK), KeyboardInterrupt)
    assert pool.submit(tasks.square, 2).result(SLACK) == 4


@pytest.mark.parametrize("kind", ["lock", "condition", "guard"])
def test_an_interrupt_does_not_come_between_with_and_its_body(kind):
    """Else the lock would be held for ever, and the next task that wants it hang."""
    rng = random.Random(3)
    with atoll.InterpreterPoolExecutor(1, grace=None, preload=["tasks"]) as pool:
        for n in range(150 * STRESS):
            future = pool.submit(tasks.use, kind)
            time.sleep(rng.random() * 0.001)
            assert future.cancel()
            assert pool.submit(tasks.is_free, kind).result(SLACK), f"held, {n} before"
        assert pool.stats().restarts == 0


def test_the_same_with_a_thread_that_may_have_the_request():
    """It leaves it to the worker's own thread, where that can be had soon."""
    rng = random.Random(4)
    stop = atoll.create_queue()
    with atoll.InterpreterPoolExecutor(1, grace=None, preload=["tasks"]) as pool:
        pool.submit(tasks.spin_in_a_thread, stop).result(SLACK)
        try:
            for n in range(30 * STRESS):
                future = pool.submit(tasks.use, "lock")
                time.sleep(rng.random() * 0.02)
                assert future.cancel()
                free = pool.submit(tasks.is_free, "lock").result(SLACK)
                assert free, f"held, {n} before"
        finally:
            stop.put(None)


def test_threads_can_be_started_after_any_interrupt():
    """The locks of the module threading are let go of like all others."""
    rng = random.Random(5)
    with atoll.InterpreterPoolExecutor(1, grace=5, preload=["tasks"]) as pool:
        for _ in range(500 * STRESS):
            future = pool.submit(tasks.start_and_join, 1)
            end = time.perf_counter() + rng.random() * 0.0005
            while time.perf_counter() < end:
                pass
            future.cancel()
            assert pool.submit(tasks.start_and_join, 7).result(SLACK) == 7
        assert pool.stats().restarts == 0


def test_a_door_that_takes_long_is_no_excuse(ready):
    with atoll.InterpreterPoolExecutor(1, grace=None) as pool:
        future = pool.submit(tasks.enter_for_ever, ready)
        ready.get(timeout=SLACK)
        assert future.cancel()
        assert pool.submit(tasks.square, 2).result(SLACK) == 4


EXEC_FOR_EVER = """
import atoll, tasks
ready = atoll.create_queue()
with atoll.InterpreterPoolExecutor(1, grace=None) as pool:
    future = pool.submit(tasks.exec_for_ever, ready)
    ready.get(timeout=60)
    assert future.cancel()
    assert pool.submit(tasks.square, 2).result(60) == 4
"""


def test_a_task_interrupted_in_exec_does_not_end_the_process():
    """CPython notes for the process that a Ctrl-C has ended its program."""
    done = run_python(EXEC_FOR_EVER)
    assert done.returncode == 0, done.stderr


def test_an_interrupt_is_not_lost_in_a_finalizer(ready, capfd):
    with atoll.InterpreterPoolExecutor(1, grace=None) as pool:
        for _ in range(20):
            future = pool.submit(tasks.finalise_for_ever, ready)
            ready.get(timeout=SLACK)
            assert future.cancel()
            assert pool.submit(tasks.square, 2).result(SLACK) == 4
    assert "KeyboardInterrupt" not in capfd.readouterr().err


def test_the_event_loop_of_a_cancelled_coroutine_can_be_used_again():
    rng = random.Random(7)
    with atoll.InterpreterPoolExecutor(1, grace=5, preload=["tasks"]) as pool:
        for _ in range(300 * STRESS):
            future = pool.submit(tasks.coroutine, 1, rng.choice([0, 0.0001, 60]))
            end = time.perf_counter() + rng.random() * 0.001
            while time.perf_counter() < end:
                pass
            future.cancel()
            assert pool.submit(tasks.coroutine, 7).result(SLACK) == 7
        assert pool.stats().restarts == 0


def test_no_interrupt_while_an_event_loop_is_made():
    """Which would leave half a loop behind, and descriptors open."""
    rng = random.Random(6)
    atoll.warm(0)
    with pytest.raises(atoll.QueueEmpty):  # what main has open for its waits
        atoll.create_queue().get(timeout=0.001)
    descriptors = count_fds()
    with atoll.InterpreterPoolExecutor(
        1, max_tasks_per_child=1, grace=None, preload=["tasks"]
    ) as pool:
        pool.submit(tasks.loop_id).result(SLACK)
        for _ in range(40 * STRESS):
            future = pool.submit(tasks.coroutine, 1, 60)
            until(future.running)
            time.sleep(rng.random() * 0.002)
            future.cancel()
    atoll.warm(0)
    until(lambda: not open_interpreters())
    until(lambda: count_fds() <= descriptors)


def test_an_interrupt_never_reaches_the_next_task():
    """Cancel at every moment of a task's life; the one after it is untouched."""
    out = atoll.create_queue()
    with atoll.InterpreterPoolExecutor(1, grace=None) as pool:
        random.seed(5)
        for n in range(300 * STRESS):
            victim = pool.submit(tasks.square, n)
            after = pool.submit(tasks.append, out, n)
            for _ in range(random.randrange(200)):
                pass
            cancelled = victim.cancel()
            assert cancelled == victim.cancelled()
            if not cancelled:
                assert victim.result(SLACK) == n * n
            assert after.result(SLACK) is None
            assert out.get_nowait() == n


def test_many_threads_cancel_and_ask_at_once():
    with atoll.InterpreterPoolExecutor(2, grace=None) as pool:
        for _ in range(30 * STRESS):
            futures = [pool.submit(tasks.square, n) for n in range(20)]
            start = threading.Barrier(3)

            def cancel(futures=futures, start=start):
                start.wait()
                return [f.cancel() for f in futures]

            def ask(futures=futures, start=start):
                start.wait()
                return [_ended(f) for f in futures]

            with concurrent.futures.ThreadPoolExecutor(3) as threads:
                some = [threads.submit(cancel), threads.submit(cancel), threads.submit(ask)]
                one, two, ends = (s.result(SLACK) for s in some)
            assert one == two == [end == "cancelled" for end in ends]


def _ended(future):
    try:
        future.result(SLACK)
    except concurrent.futures.CancelledError:
        return "cancelled"
    return "done"


def test_threads_go_back_to_the_start(ready):
    threads = count_threads()
    with atoll.InterpreterPoolExecutor(2, grace=0.1) as pool:
        futures = [pool.submit_with(tasks.spin, timeout=0.05) for _ in range(4)]
        assert all(isinstance(f.exception(SLACK), TimeoutError) for f in futures)
    until(lambda: count_threads() <= threads)  # the timers' thread, too


# ----------------------------------------------------------- end of the program

PROLOGUE = """
    import atoll, sys, tasks, time
    atoll.warm(0)
"""


def script(body):
    return textwrap.dedent(PROLOGUE) + textwrap.dedent(body)


def test_what_is_queued_at_exit_is_done():
    done = run_python(script("""
        pool = atoll.InterpreterPoolExecutor(1)
        for n in range(5):
            pool.submit(print, n)
        pool.submit(time.sleep, 0.3)
        pool.submit(print, "last")
    """))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["0", "1", "2", "3", "4", "last"]


@pytest.mark.parametrize("grace", [0, 0.5])
def test_what_never_ends_is_stopped_at_exit(grace):
    begin = time.monotonic()
    done = run_python(script(f"""
        ready = atoll.create_queue()
        pool = atoll.InterpreterPoolExecutor(1, exit_grace={grace}, name="P")
        pool.submit(tasks.spin, ready)
        pool.submit(print, "never")
        ready.get()
    """))
    assert (done.returncode, done.stdout) == (0, "")
    assert f"P: 1 running and 1 queued tasks are stopped, {grace} s after" in done.stderr
    assert time.monotonic() - begin < grace + 5


@leaves_interpreters
def test_what_cannot_be_stopped_does_not_hold_up_the_exit():
    done = run_python(script("""
        ready, stop = atoll.create_queue(), atoll.create_queue()
        pool = atoll.InterpreterPoolExecutor(2, exit_grace=0, grace=0.2)
        pool.submit(tasks.stubborn, ready, stop)
        pool.submit(tasks.sleep, ready, 100)
        ready.get(), ready.get()
        begin = time.monotonic()
        import atexit
        atexit.register(lambda: print(round(time.monotonic() - begin, 2)))
    """), timeout=20)
    assert done.returncode == 0
    assert float(done.stdout) < 2


def test_ctrl_c_ends_a_program_that_waits():
    code = script("""
        with atoll.InterpreterPoolExecutor(1, grace=0.2) as pool:
            future = pool.submit(tasks.spin)
            print("go", flush=True)
            future.result()
    """)
    process = subprocess.Popen(
        python_args("-c", code),
        env=python_env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "go\n"
        process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        _, err = process.communicate(timeout=SLACK)
        assert time.monotonic() - begin < 5
        assert process.returncode == -signal.SIGINT
        assert err.rstrip().endswith("KeyboardInterrupt")
    finally:
        process.kill()


@pytest.mark.parametrize(
    "body",
    [
        'atoll.InterpreterPoolExecutor(1, initializer=tasks.spin, exit_grace=0.2)'
        '.submit(tasks.square, 1); time.sleep(0.2)',
        'atoll.spawn(tasks.spin).add_done_callback(print)',
        'atoll.spawn(tasks.spin)',
        '[atoll.spawn(tasks.spin) for _ in range(4)]',
        'interp = atoll.create(); interp.submit(tasks.spin).add_done_callback(print)',
    ],
    ids=["initializer", "watched", "at once", "many", "submitted"],
)  # fmt: skip
def test_nothing_endless_holds_up_the_exit(body):
    begin = time.monotonic()
    done = run_python(script(body), timeout=30)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begin < 15  # a grace of 5 s, for all of them together


def test_a_spawned_task_is_waited_for_at_exit():
    done = run_python(script("""
        atoll.spawn(exec, "import time; time.sleep(0.8); print('done')", {})
    """))
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_an_endless_initializer_can_be_stopped():
    ready = atoll.create_queue()
    pool = atoll.InterpreterPoolExecutor(
        1, initializer=tasks.spin, initargs=(ready,), grace=0.2
    )
    future = pool.submit(tasks.square, 1)
    ready.get(timeout=SLACK)
    pool.stop()
    assert future.cancelled()


def test_workers_that_cannot_be_made_are_not_tried_for_ever():
    with atoll.InterpreterPoolExecutor(2, preload=["no_such_module"]) as pool:
        futures = []
        try:
            futures = [pool.submit(tasks.square, n) for n in range(4)]
        except atoll.BrokenInterpreterPool:
            pass  # it was quick
        assert all(isinstance(f.exception(SLACK), atoll.BrokenInterpreterPool) for f in futures)
        assert pool.stats().restarts <= 4


def test_a_forked_child_is_told():
    if UNDER_ASAN:
        pytest.skip("ASan cannot fork with threads")
    done = run_python(script("""
        import os, warnings
        warnings.simplefilter("ignore")
        pool = atoll.InterpreterPoolExecutor(1)
        future = pool.submit(time.sleep, 0.2)
        pid = os.fork()
        if pid == 0:
            for ask in (future.result, future.cancel, lambda: pool.submit(print, 1),
                        pool.stats, pool.shutdown):
                try:
                    print(ask())
                except atoll.ForkedError as exc:
                    assert "forked" in str(exc)
            with atoll.InterpreterPoolExecutor(1) as own:
                assert own.submit(tasks.square, 3).result() == 9
            del pool, future
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert future.result() is None
    """))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_no_interrupt_while_a_function_is_imported(tmp_path, monkeypatch):
    """An import that is broken off would leave half a module behind."""
    (tmp_path / "slowly.py").write_text(
        "import time\n"
        "end = time.monotonic() + 0.2\n"
        "while time.monotonic() < end: pass\n"
        "def run(): return 'ran'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import slowly

    with atoll.InterpreterPoolExecutor(1, grace=5) as pool:
        pool.submit(tasks.square, 1).result()
        future = pool.submit(slowly.run)
        time.sleep(0.05)
        assert future.cancel()
        assert pool.submit(slowly.run).result(SLACK) == "ran"
        assert pool.submit(tasks.imported, "slowly").result()
        assert pool.stats().restarts == 0


def test_a_close_does_not_wait_for_what_is_queued():
    """It waits for the task that runs; the others end as it begins."""
    interp = atoll.create()
    queue = atoll.create_queue()
    first = interp.submit(queue.get)
    rest = [interp.submit(int) for _ in range(3)]
    until(first.running)
    closing = Task(interp.close, SLACK)
    time.sleep(0.05)
    assert closing.is_alive()
    queue.put("x")
    closing.result()
    assert first.result() == "x"
    for task in rest:
        with pytest.raises(atoll.InterpreterNotFoundError):
            task.result()


def test_a_close_that_gave_up_refuses_nothing():
    interp = atoll.create()
    queue = atoll.create_queue()
    first, second = interp.submit(queue.get), interp.submit(int)
    until(first.running)
    with pytest.raises(atoll.InterpreterError, match="still running"):
        interp.close(0.05)
    queue.put("x")
    assert (first.result(), second.result()) == ("x", 0)
    interp.close(SLACK)


def test_two_closes_wait_together():
    interp = atoll.create()
    queue = atoll.create_queue()
    first = interp.submit(queue.get)
    until(first.running)
    patient = Task(interp.close, SLACK)
    with pytest.raises(atoll.InterpreterError, match="still running"):
        interp.close(0.05)
    queue.put("x")
    patient.result()
    assert first.result() == "x"
