"""Locks and what is like them, when something ends: interpreters, waits, the process;
and in forked children."""

import pickle
import threading
import time

import atoll
import pytest
import sharers
from support import STRESS, Task, check_python, parked, run_python, settle, until

# -------------------------------------------------------- owners that die


@pytest.fixture(params=[atoll.Lock, atoll.RLock, atoll.Condition])
def lock(request):
    return request.param()


def test_the_next_taker_is_told(lock):
    interp = atoll.create()
    interp.call(lock.acquire)
    assert lock.locked()
    interp.close()
    assert not lock.locked()
    with pytest.raises(atoll.LockOwnerDied) as info:
        lock.acquire()
    assert f"interpreter {interp.id} " in str(info.value)
    assert isinstance(info.value, atoll.AtollError)
    assert not lock.locked()
    with lock:  # it was told once
        assert lock.locked()
    with pytest.raises(RuntimeError):
        lock.release()


def test_not_even_a_try_takes_it(lock):
    with atoll.create() as interp:
        interp.call(lock.acquire)
    with pytest.raises(atoll.LockOwnerDied):
        lock.acquire(blocking=False)
    assert lock.acquire(timeout=0)


def test_the_error_crosses(interp, lock):
    with atoll.create() as other:
        other.call(lock.acquire)
    assert interp.call(sharers.refused, lock.acquire) == "LockOwnerDied"


def test_the_first_who_waits_is_told():
    lock = atoll.Lock()
    interp = atoll.create()
    interp.call(lock.acquire)
    settle()
    first, second = parked(lock.acquire), parked(lock.acquire)
    interp.close()
    with pytest.raises(atoll.LockOwnerDied):
        first.result()
    assert second.result() is True
    assert lock.locked()


def test_what_was_released_is_no_death(lock):
    with atoll.create() as interp:
        interp.call(sharers.acquire, lock)
        interp.call(lock.release)
    assert lock.acquire(False)


def test_a_thread_that_ends_is_no_death(interp):
    lock = atoll.Lock()
    interp.call(sharers.acquire_in_thread, lock)
    assert not lock.acquire(timeout=0.05)
    lock.release()


def test_an_interrupted_owner_releases(interp, queue, lock):
    task = Task(interp.call, sharers.hold, lock, queue, 0.3)
    queue.get(timeout=20)
    task.result()
    assert lock.acquire(timeout=20)


def test_a_worker_that_is_replaced():
    lock = atoll.Lock()
    with atoll.InterpreterPoolExecutor(1, max_tasks_per_child=1) as pool:
        pool.submit(lock.acquire).result()
        with pytest.raises(atoll.LockOwnerDied):
            lock.acquire(timeout=20)


def test_an_interpreter_of_the_standard_library():
    import _interpreters

    lock = atoll.Lock()
    id = _interpreters.create("isolated")
    code = f"import pickle; pickle.loads({pickle.dumps(lock)!r}).acquire()"
    assert _interpreters.exec(id, code) is None
    assert lock.locked()
    _interpreters.destroy(id)
    with pytest.raises(atoll.LockOwnerDied, match=f"interpreter {id} "):
        lock.acquire(timeout=20)


def test_condition_wait_raises_with_the_lock_held(queue):
    cond = atoll.Condition()
    interp = atoll.create()

    def wait():
        with cond:
            queue.put(None)
            with pytest.raises(atoll.LockOwnerDied):
                cond.wait()
            return cond.locked()

    task = Task(wait)
    queue.get(timeout=20)
    interp.call(cond.acquire)  # so it waits
    interp.call(cond.notify)
    time.sleep(0.02)
    interp.close()
    assert task.result() is True
    assert not cond.locked()


def test_deaths_race_with_releases():
    lock, told = atoll.Lock(), atoll.Counter()
    stop = threading.Event()

    def use():
        while not stop.is_set():
            try:
                with lock:
                    pass
            except atoll.LockOwnerDied:
                told.add()

    tasks = [Task(use) for _ in range(2)]
    died = 0
    for _ in range(10 * STRESS):
        with atoll.create() as interp:
            try:
                died += interp.call(lock.acquire)
            except atoll.ExecutionFailed as exc:
                assert isinstance(exc.__cause__, atoll.LockOwnerDied)
                told.add()
    until(lambda: told.value == died)
    stop.set()
    for task in tasks:
        task.result()


# --------------------------------------------------------- interrupted waits


def locked_rlock():
    """By nobody who runs."""
    lock = atoll.RLock()
    Task(lock.acquire).result()
    return lock


WAITS = {
    "Lock": (sharers.locked_lock, sharers.acquire),
    "RLock": (locked_rlock, sharers.acquire),
    "Semaphore": (lambda: atoll.Semaphore(0), sharers.acquire),
    "Event": (atoll.Event, sharers.wait),
    "Condition": (atoll.Condition, sharers.wait_in),
    "Barrier": (lambda: atoll.Barrier(2), sharers.wait),
}


@pytest.mark.parametrize("name", WAITS)
def test_interrupted(name, interp, queue):
    make, wait = WAITS[name]
    obj = make()
    task = Task(interp.call, wait, obj, queue)
    queue.get(timeout=20)
    time.sleep(0.02)
    assert interp.interrupt()
    with pytest.raises((atoll.ExecutionFailed, KeyboardInterrupt)):
        task.result()
    # Nothing was taken, and nobody stands in line.
    if name in ("Lock", "RLock"):
        assert obj.locked()
    elif name == "Semaphore":
        obj.release()
        assert obj.acquire(False)
        assert not obj.acquire(False)
    elif name == "Condition":
        with obj:
            obj.notify()
    elif name == "Barrier":
        assert obj.n_waiting == 0
        assert not obj.broken


@pytest.mark.parametrize("name", WAITS)
def test_a_task_is_cancelled(name, queue):
    make, wait = WAITS[name]
    obj = make()
    task = atoll.spawn(wait, obj, queue)
    queue.get(timeout=20)
    assert task.cancel()
    assert task.cancelled()


@pytest.mark.parametrize(
    "wait",
    [
        "lock.acquire()",
        "with lock: pass",
        "rlock.acquire(timeout=20)",
        "sem.acquire()",
        "event.wait()",
        "barrier.wait()",
        "with cond: cond.wait()",
        "with cond: cond.wait_for(lambda: False, 20)",
    ],
)
def test_ctrl_c(wait):
    check_python(f"""
    import atoll, os, signal, threading
    lock, rlock, sem, event = atoll.Lock(), atoll.RLock(), atoll.Semaphore(0), atoll.Event()
    barrier, cond = atoll.Barrier(2), atoll.Condition()
    lock.acquire()
    t = threading.Thread(target=rlock.acquire); t.start(); t.join()
    def send(sig):
        threading.Timer(0.1, os.kill, (os.getpid(), sig)).start()
    # First a signal whose handler does not raise: the wait goes on.
    seen = []
    signal.signal(signal.SIGUSR1, lambda *_: seen.append(1) or send(signal.SIGINT))
    send(signal.SIGUSR1)
    try:
        {wait}
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("not interrupted")
    assert seen == [1]
    assert lock.locked() and not cond.locked() and barrier.n_waiting == 0
    sem.release(); assert sem.acquire(False) and not sem.acquire(False)
    """)


def test_what_is_notified_during_a_handler_is_not_lost():
    check_python("""
    import atoll, os, signal, threading
    cond = atoll.Condition()
    def notify(*_):
        def other():
            with cond: cond.notify()
        t = threading.Thread(target=other); t.start(); t.join()
    signal.signal(signal.SIGUSR1, notify)
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    with cond:
        assert cond.wait(20)
    """)


def test_ctrl_c_while_it_locks_again():
    """The exception waits for the lock, since `with` will release it."""
    check_python("""
    import atoll, os, signal, threading, time
    cond = atoll.Condition()
    def notify():
        with cond:
            cond.notify()
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            done.append(1)
    done = []
    t = threading.Thread(target=notify)
    try:
        with cond:
            t.start()
            try:
                cond.wait()
            finally:
                assert done and cond.locked() and cond.acquire(False)
                cond.release()
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("not interrupted")
    assert not cond.locked()
    t.join()
    """)


# ------------------------------------------------------------------- forks


def test_dead_in_a_forked_child():
    done = run_python("""
    import atoll, os, threading, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    lock, rlock, sem, event = atoll.Lock(), atoll.RLock(), atoll.Semaphore(), atoll.Event()
    cond, barrier = atoll.Condition(), atoll.Barrier(2)
    counter, cell = atoll.Counter(), atoll.Cell([1])
    waiting = threading.Thread(target=event.wait); waiting.start()
    def uses():
        for o in lock, rlock, cond, sem:
            yield o.acquire
            yield o.release
        yield from (event.wait, event.set, event.clear, barrier.wait, barrier.reset)
        yield from (barrier.abort, cond.notify, counter.add, lambda: counter.value)
        yield from (cell.load, lambda: cell.store(2), lambda: cell.swap(2))
    for _ in range(10):
        pid = os.fork()
        if pid == 0:
            status = 0
            for use in uses():
                try:
                    use()
                except atoll.ForkedError:
                    continue
                except BaseException as exc:
                    print(use, repr(exc), flush=True)
                status = 3
                print(use, flush=True)
            mine = atoll.Lock()
            with mine: pass
            it = atoll.create()
            it.call(mine.acquire)
            it.close()
            try: mine.acquire()
            except atoll.LockOwnerDied: pass
            else: status = 4
            del lock, rlock, sem, event, cond, barrier, counter, cell
            os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
    event.set()
    waiting.join()
    assert cell.load() == [1] and counter.add() == 1
    with lock, rlock, cond: pass
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ----------------------------------------------------------------- the exit

EXITS = {
    "daemon threads wait": """
for wait in lock.acquire, sem.acquire, event.wait, barrier.wait:
    threading.Thread(target=wait, daemon=True).start()
def wait_in():
    with cond: cond.wait()
threading.Thread(target=wait_in, daemon=True).start()
""",
    "interpreters wait": """
import sharers
for wait in lock.acquire, sem.acquire, event.wait, barrier.wait:
    interp = atoll.create()
    keep.append(interp)
    threading.Thread(target=quiet, args=(interp.call, wait), daemon=True).start()
""",
    "an interpreter holds it and main waits": """
interp = atoll.create()
keep.append(interp)
other = atoll.Lock()
interp.call(other.acquire)
threading.Thread(target=quiet, args=(other.acquire,), daemon=True).start()
""",
}


@pytest.mark.parametrize("name", EXITS)
def test_exit(name):
    start = time.monotonic()
    code = """
import atoll, threading, time
keep = []
lock, sem, event = atoll.Lock(), atoll.Semaphore(0), atoll.Event()
barrier, cond = atoll.Barrier(2), atoll.Condition()
lock.acquire()
def quiet(function, *args):
    try: function(*args)
    except BaseException: pass
"""
    check_python(code + EXITS[name] + "time.sleep(0.1)\n")
    assert time.monotonic() - start < 20
