"""What one int costs between two workers, there and back and one way.

Each of the four ways is a context manager: it starts a peer and yields a
`send` and a `receive` function that reach it. All peers do the same: they
answer what is true, swallow what is false, and end at None.
"""

import importlib
import multiprocessing
import queue
import signal
import statistics
import sys
import threading
import time
from contextlib import contextmanager

import atoll

ANSWER, SWALLOW, END = 1, 0, None


def peer(receive, send):
    while (message := receive()) is not END:
        if message:
            send(message)


def queue_peer(there, back):
    peer(there.get, back.put)


def pipe_peer(pipe):
    try:
        peer(pipe.recv, pipe.send)
    except (EOFError, ConnectionError):
        pass


# -------------------------------------------------------------- the four ways


@contextmanager
def atoll_queues():
    there, back = atoll.create_queue(), atoll.create_queue()
    with atoll.create() as interpreter:
        thread = interpreter.call_in_thread(queue_peer, there, back)
        try:
            yield there.put, back.get
        finally:
            there.put(END)
            thread.join()


@contextmanager
def stdlib_queues():
    interpreters, create_queue = stdlib_interpreters()
    there, back = create_queue(), create_queue()
    interpreter = interpreters.create()
    interpreter.exec(f"import {type(there).__module__}")  # 3.13 needs that
    interpreter.prepare_main(there=there, back=back)
    source = f"""if True:
        import sys
        sys.path[:] = {sys.path!r}
        import messages
        messages.queue_peer(there, back)
    """
    thread = threading.Thread(target=interpreter.exec, args=(source,))
    thread.start()
    try:
        yield there.put, back.get
    finally:
        there.put(END)
        thread.join()
        interpreter.close()


def stdlib_interpreters():
    """The standard library's interpreters, and how to make one of its queues.

    On 3.13 they are not public yet, but CPython's tests contain them.
    """
    try:
        module = importlib.import_module("concurrent.interpreters")
    except ImportError:
        module = importlib.import_module("test.support.interpreters")
        queues = importlib.import_module("test.support.interpreters.queues")
        return module, queues.create
    return module, module.create_queue


@contextmanager
def thread_queues():
    there, back = queue.SimpleQueue(), queue.SimpleQueue()
    thread = threading.Thread(target=queue_peer, args=(there, back))
    thread.start()
    try:
        yield there.put, back.get
    finally:
        there.put(END)
        thread.join()


@contextmanager
def process_pipe():
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=pipe_peer, args=(there,))
    # Started while Ctrl-C is ignored, the peer leaves it to this process.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, handler)
    there.close()
    try:
        yield here.send, here.recv
    finally:
        here.close()
        process.join()


# ------------------------------------------------------------------ measuring


class Row:
    """One line of the table. Times are in microseconds."""

    def __init__(self, name, round_trip=None, one_way=None, why_not=""):
        self.name = name
        self.round_trip = round_trip
        self.one_way = one_way
        self.why_not = why_not


def time_round_trips(send, receive, n):
    start = time.perf_counter()
    for _ in range(n):
        send(ANSWER)
        receive()
    return (time.perf_counter() - start) / n * 1e6


def time_one_way(send, receive, n):
    start = time.perf_counter()
    for _ in range(n):
        send(SWALLOW)
    send(ANSWER)
    receive()
    return (time.perf_counter() - start) / n * 1e6


def measure(name, way, trips, messages, rounds=5):
    """One Row: medians of several rounds."""
    try:
        with way() as (send, receive):
            time_round_trips(send, receive, 5)  # until both sides are awake
            return Row(
                name,
                statistics.median(
                    time_round_trips(send, receive, trips) for _ in range(rounds)
                ),
                statistics.median(time_one_way(send, receive, messages) for _ in range(rounds)),
            )
    except ImportError:
        return Row(name, why_not="not in this Python")


def measure_all():
    return [
        measure("atoll, two interpreters", atoll_queues, 20_000, 200_000),
        measure("SimpleQueue, two threads", thread_queues, 2_000, 100_000),
        measure("Pipe, two processes", process_pipe, 2_000, 20_000),
        measure("interpreters of the stdlib", stdlib_queues, 20, 50_000),
    ]
