"""What tests run inside interpreters. Importing it is cheap, unlike pytest."""

import sys
import time
from dataclasses import dataclass
from enum import Enum

import atoll


@dataclass
class Point:
    x: int
    y: object = None


class Colour(Enum):
    RED = 1
    BLUE = "blue"


class MyStr(str):
    pass


class MyInt(int):
    pass


class MyError(Exception):
    def __init__(self, code, text):
        super().__init__(code, text)
        self.code = code


def echo(recv, send):
    """Send back what comes, or the exception that it raised on arrival."""
    while True:
        try:
            item = recv.recv()
        except atoll.ChannelClosed:
            return
        except Exception as exc:
            item = ("raised", type(exc).__name__, str(exc))
        send.send(item)


def give(value=None):
    return value


def produce(queue, name, count):
    for n in range(count):
        queue.put((name, n))


def consume(queue, out):
    """Until None comes; then the list of what was got."""
    got = []
    while (item := queue.get()) is not None:
        got.append(item)
    out.put(got)


def send_many(send, name, count):
    for n in range(count):
        send.send((name, n))


def recv_all(recv, out):
    out.put(list(recv))


def spin(seconds):
    end = time.thread_time() + seconds
    n = 0
    while time.thread_time() < end:
        n += 1
    return n


def count_to(n):
    total = 0
    for i in range(n):
        total += i
    return total


def fail(code, text):
    raise MyError(code, text)


def loop_for_ever(ready):
    ready.put(None)
    while True:
        pass


def get_for_ever(ready, queue):
    ready.put(None)
    return queue.get()


def where():
    return atoll.get_current().id


def modules():
    return sorted(sys.modules)


def receive_and_keep(queue):
    kept.append(queue.get())


kept = []


def keep(obj):
    """Keep it; tells whether it is the object that was kept last."""
    kept.append(obj)
    return len(kept) > 1 and kept[-2] is obj


def run_code(code):
    exec(code, {})


def in_another(code):
    """Run code in an interpreter that this one makes."""
    with atoll.create() as interp:
        try:
            interp.call(run_code, code)
        except atoll.ExecutionFailed as exc:
            raise exc.__cause__ from None


def ask_module(name):
    """Call ask() of a module that has been imported."""
    return sys.modules[name].ask()


def deeper(level):
    """In interpreters that start one another, without end."""
    with atoll.create() as interp:
        try:
            interp.call(deeper, level + 1)
        except atoll.ExecutionFailed as exc:
            raise exc.__cause__ from None


def down(levels):
    """Through so many interpreters that start one another."""
    return 1 if levels == 1 else 1 + atoll.spawn(down, levels - 1).result()


def reason_of(recv):
    """The name of the type of what has poisoned the channel."""
    try:
        recv.recv()
    except atoll.ChannelPoisoned as exc:
        return type(exc.reason).__name__
