"""Conditions and barriers whose waits are interrupted, or late."""

import threading
import time

import atoll
import pytest
from support import Task, check_python, until

# Another thread has the lock, and does not let go of it.
HARNESS = """
import atoll, os, signal, threading, time
from support import Task, until

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

handled = []

def twice(cond, lock):
    go, end = threading.Event(), threading.Event()
    def other():
        with lock:
            go.set()
            end.wait(20)
            assert lock.locked()
        return "released"
    def referee():
        until(lambda: f"Condition {cond.id}" in atoll.dump())
        task = Task(other)
        assert go.wait(10)
        interrupt()
        until(lambda: "which interpreter" in atoll.dump())
        interrupt()
        return task
    task = Task(referee)
    begun = time.monotonic()
    try:
        with cond:
            cond.wait()
    except KeyboardInterrupt as exc:
        assert isinstance(exc.__context__, KeyboardInterrupt)
    else:
        raise AssertionError
    assert time.monotonic() - begun < 5
    holder = task.result()
    assert holder.is_alive() and lock.locked()
    end.set()
    assert holder.result() == "released"
    with cond:
        pass
    assert not lock.locked()
"""


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_second_interrupt_ends_a_wait_for_the_lock(kind):
    """And leaves the `with` block without releasing what another has."""
    check_python(
        HARNESS
        + f"""
lock = atoll.{kind}()
cond = atoll.Condition(lock)
twice(cond, lock)
with lock:
    twice_nested = True
twice(cond, lock)
try:
    lock.release()
except RuntimeError:
    pass
else:
    raise AssertionError("a release too many went unnoticed")
"""
    )


def test_two_levels_of_a_recursive_lock():
    check_python(
        HARNESS
        + """
lock = atoll.RLock()
class Both:
    def __enter__(self):
        lock.acquire()
        cond.acquire()
    def __exit__(self, *exc):
        cond.release()
        lock.release()
    def wait(self):
        cond.wait()
cond = atoll.Condition(lock)
Both.id = cond.id
twice(Both(), lock)
try:
    lock.release()
except RuntimeError:
    pass
else:
    raise AssertionError
"""
    )


def test_handlers_run_while_the_lock_is_awaited():
    """After a first interrupt, too: and then it holds the lock."""
    check_python(
        HARNESS
        + """
cond = atoll.Condition()
go, end = threading.Event(), threading.Event()
signal.signal(signal.SIGUSR1, lambda *args: (handled.append(1), end.set()))
def other():
    with cond:
        go.set()
        end.wait(20)
def referee():
    until(lambda: f"Condition {cond.id}" in atoll.dump())
    Task(other)
    assert go.wait(10)
    interrupt()
    until(lambda: "which interpreter" in atoll.dump())
    os.kill(os.getpid(), signal.SIGUSR1)
task = Task(referee)
try:
    with cond:
        try:
            cond.wait()
        finally:
            assert cond._is_owned() if hasattr(cond, "_is_owned") else cond.locked()
            cond.notify()
except KeyboardInterrupt:
    assert handled
else:
    raise AssertionError
task.result()
assert not cond.locked()
"""
    )


def test_interrupts_of_an_interpreter_in_a_condition():
    lock = atoll.Lock()
    cond = atoll.Condition(lock)

    with atoll.create() as interp:
        task = interp.submit(wait_in, cond)
        until(lambda: f"Condition {cond.id}" in atoll.dump())
        with lock:
            interp.interrupt()
            until(lambda: f"Lock {lock.id}" in atoll.dump())
            interp.interrupt()
            with pytest.raises(KeyboardInterrupt):
                task.result(10)
            assert lock.locked()
        assert not lock.locked()


def wait_in(cond):
    with cond:
        cond.wait()


@pytest.mark.parametrize("module", [atoll, threading], ids=["atoll", "threading"])
def test_one_who_is_early_and_late(module):
    """It breaks its own round; the one that is complete passes."""
    leads, go = threading.Event(), threading.Event()

    def action():
        leads.set()
        go.wait(10)

    barrier = module.Barrier(2, action)
    party = [Task(barrier.wait) for _ in range(2)]
    assert leads.wait(10)
    if module is threading:  # whose latecomers wait for the action before their time runs
        threading.Timer(0.05, go.set).start()
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(0.02)
    go.set()
    assert sorted(task.result() for task in party) == [0, 1]
    assert barrier.broken
    barrier.reset()
    assert not barrier.broken


def test_many_who_are_early_and_late():
    """Whatever the moment: a round passes as a whole, or breaks as a whole."""
    for i in range(200):
        barrier = atoll.Barrier(2, action=lambda i=i: time.sleep(i % 5 * 1e-4))
        tasks = [Task(round_of, barrier) for _ in range(2)]
        late = Task(round_of, barrier, i % 7 * 1e-4)
        passed = [task.result() for task in (*tasks, late)]
        assert passed.count(True) in (0, 2), passed


def round_of(barrier, timeout=5):
    try:
        barrier.wait(timeout)
    except threading.BrokenBarrierError:
        return False
    return True
