"""Stages of the tests of pipelines."""

import threading
import time

import atoll


def double(x):
    return 2 * x


def add_one(x):
    return x + 1


def uneven(x):
    time.sleep(0.02 if x % 7 == 0 else 0.0)
    return x


def where(x):
    time.sleep(0.001)
    return x, atoll.get_current().id


def fail_at(x):
    if x == 5:
        raise ValueError("it is five")
    return x


def sleepy(x):
    time.sleep(0.01)
    return x


def spin(x):
    while x >= 0:
        pass


def count(send, n):
    for i in range(n):
        send.send(i)


def listen(recv, out):
    out.put(list(recv))


def thread_name(x):
    return threading.current_thread().name
