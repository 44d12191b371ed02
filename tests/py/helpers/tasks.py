"""What tests run as tasks. Importable by name, cheap to import."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections import deque
from functools import partial
from itertools import chain, repeat, takewhile
from operator import call, is_not

import atoll


def square(x):
    return x * x


def add(a, b=0):
    return a + b


def fail(text="no"):
    raise ValueError(text)


def who():
    return atoll.get_current().id


def spin(ready=None):
    if ready is not None:
        ready.put(atoll.get_current().id)
    while True:
        pass


def stubborn(ready, stop):
    """From ready.put() on it does not come to a bytecode before `stop` has an item."""
    calls = chain([partial(ready.put, None)], repeat(stop.empty))
    deque(takewhile(partial(is_not, False), map(call, calls)), maxlen=0)
    return "stopped"


def sleep(ready, seconds):
    ready.put(None)
    time.sleep(seconds)
    return "slept"


def lock_up(ready):
    """Blocks where no interrupt can be seen."""
    ready.put(None)
    lock = threading.Lock()
    lock.acquire()
    lock.acquire(timeout=3)


def wait_for(queue, ready=None):
    if ready is not None:
        ready.put(None)
    return queue.get()


def append(queue, value):
    queue.put(value)


def generator():
    return (i for i in range(3))


def exit_with(code):
    sys.exit(code)


def recurse():
    return recurse() + 1


def imported(name):
    return name in sys.modules


def process_id():
    return os.getpid()


STATE = []


def remember(value):
    STATE.append(value)


def remembered():
    return list(STATE)


async def coroutine(value, seconds=0.0):
    await asyncio.sleep(seconds)
    return value


async def loop_id():
    return id(asyncio.get_running_loop())


async def fails():
    await asyncio.sleep(0)
    raise ValueError("in a coroutine")


def niceness():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


class _Finalised:
    def __del__(self):
        for _ in range(200):
            pass


def finalise_for_ever(ready):
    ready.put(None)
    while True:
        _Finalised()


def churn(queue, count):
    for _ in range(count):
        queue.put(None)
        queue.get()


def get_after(ready, queue):
    queue.get()
    ready.put(None)
    queue.get()


def exec_for_ever(ready):
    ready.put(None)
    exec("while True: pass")


def current_threads():
    return list(sys._current_frames())


def deep_calls(rounds):
    def call(depth):
        try:
            return call(depth - 1) if depth else sys._getframe()
        except ValueError:
            raise

    for _ in range(rounds):
        call(100)
    return rounds


def start_and_join(n):
    answers = []
    thread = threading.Thread(target=answers.append, args=(n,))
    thread.start()
    thread.join()
    return answers[0]


class Guard:
    """A context manager in Python, with a lock."""

    def __init__(self):
        self.lock = threading.Lock()

    def __enter__(self):
        self.lock.acquire()
        return self

    def __exit__(self, *args):
        self.lock.release()


LOCKS = {
    "lock": threading.Lock(),
    "condition": threading.Condition(threading.Lock()),
    "guard": Guard(),
}


def use(kind):
    """Takes one of the LOCKS, again and again."""
    lock = LOCKS[kind]
    while True:
        with lock:
            pass


def spin_in_a_thread(stop):
    def turn():
        while stop.empty():
            pass

    threading.Thread(target=turn).start()


def is_free(kind):
    lock = LOCKS[kind]
    lock = getattr(lock, "lock", getattr(lock, "_lock", lock))
    return not lock.locked()


class EndlessDoor:
    def __init__(self, ready):
        self.ready = ready

    def __enter__(self):
        self.ready.put(None)
        while True:
            pass

    def __exit__(self, *args):
        pass


def enter_for_ever(ready):
    with EndlessDoor(ready):
        pass


class Interrupting:
    """Whoever receives it for the first time gets a KeyboardInterrupt."""

    times = 0

    def __setstate__(self, state):
        Interrupting.times += 1
        self.ready = state["ready"]
        if Interrupting.times == 1:
            if self.ready is not None:
                self.ready.put(None)
                time.sleep(0.1)
            raise KeyboardInterrupt

    def __getstate__(self):
        return {"ready": self.ready, "times": Interrupting.times}


class Signalled(Interrupting):
    """A signal comes to whoever receives it for the first time."""

    def __setstate__(self, state):
        Interrupting.times += 1
        if Interrupting.times == 1:
            signal.raise_signal(signal.SIGUSR1)
        self.ready = state["ready"]


def signalled():
    result = Signalled()
    result.ready = None
    return result


def interrupting(ready=None, *others):
    result = Interrupting()
    result.ready = ready
    return (result, *others)


def interrupting_with_memory():
    return interrupting(None, atoll.move(bytearray(10_000)))


def raise_interrupting():
    raise ValueError(interrupting())


def drain_and_be_done(queue):
    """What has been got until the queue is shut down; each item is done."""
    got = []
    while True:
        try:
            got.append(queue.get())
        except Exception:  # atoll's QueueShutDown, or the standard library's
            return got
        queue.task_done()
