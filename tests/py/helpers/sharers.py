"""What the tests of locks run inside interpreters."""

import threading
import time

import atoll


def locked_lock():
    lock = atoll.Lock()
    lock.acquire()
    return lock


def add_many(lock, cell, times):
    """Read, change, write: only the lock makes it right."""
    for _ in range(times):
        with lock:
            cell.store(cell.load() + 1)


def count_many(counter, times):
    for _ in range(times):
        counter.add(3)
        counter.sub()


def cas_many(cell, times):
    for _ in range(times):
        while True:
            n = cell.load()
            if cell.compare_and_set(n, n + 1):
                break


def note_turn(lock, queue, name):
    with lock:
        queue.put(name)


def hold(lock, ready, seconds=60):
    """With the lock; ends when it is interrupted."""
    with lock:
        ready.put(None)
        time.sleep(seconds)


def acquire(lock, ready=None, **how):
    if ready is not None:
        ready.put(None)
    return lock.acquire(**how)


def acquire_in_thread(lock):
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()


def wait(what, ready=None, **how):
    if ready is not None:
        ready.put(None)
    return what.wait(**how)


def wait_in(cond, ready, **how):
    with cond:
        ready.put(None)
        return cond.wait(**how)


def wait_for_sum(cond, cell, ready):
    with cond:
        ready.put(None)
        return cond.wait_for(lambda: cell.load() >= 3 and cell.load())


def add_and_notify(cond, cell):
    with cond:
        cell.store(cell.load() + 1)
        cond.notify_all()


def nested(rlock):
    with rlock, rlock:
        inside = rlock._recursion_count()
    return inside, rlock.locked()


def pass_barrier(barrier, times):
    return [barrier.wait(30) for _ in range(times)]


def refused(function, *args):
    """The name of what it raises."""
    try:
        function(*args)
    except Exception as exc:
        return type(exc).__name__
    return None


def mark(queue):
    queue.put(("action", atoll.get_current().id))
