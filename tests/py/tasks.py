"""What tests run as tasks. Importable by name, cheap to import."""

import asyncio
import os
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
