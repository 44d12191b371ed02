"""Messages: an int there and back and one way, both sides awake.

Beside atoll: the queue of the standard library's interpreters, SimpleQueue
between two threads, multiprocessing.Pipe, and the core with no Python.
"""

import multiprocessing
import queue
import sys
import threading
import time
from contextlib import contextmanager

import atoll
import common
import peers

try:
    from concurrent import interpreters as stdlib
except ImportError:
    stdlib = None

# ------------------------------------------------- ways to reach another side
# Each is a context manager that yields a function to send and one to receive.
# None cleans up after an error: a theme that fails ends its process at once.


@contextmanager
def atoll_peer(function, *ends):
    """Run a function of `peers` in an interpreter of its own."""
    interpreter = atoll.create()
    thread = interpreter.call_in_thread(function, *ends)
    yield
    thread.join()
    interpreter.close()


@contextmanager
def atoll_queues(maxsize=0):
    there, back = atoll.create_queue(maxsize), atoll.create_queue(maxsize)
    with atoll_peer(peers.echo_queue, there, back):
        yield there.put, back.get
        there.put(peers.END)


@contextmanager
def atoll_channels(capacity):
    their_recv, send = atoll.create_channel(capacity)
    recv, their_send = atoll.create_channel(capacity)
    with atoll_peer(peers.echo_channel, their_recv, their_send):
        yield send.send, recv.recv
        send.send(peers.END)


@contextmanager
def thread_peer(function, *ends):
    thread = threading.Thread(target=function, args=ends)
    thread.start()
    yield
    thread.join()


@contextmanager
def atoll_threads():
    there, back = atoll.create_queue(), atoll.create_queue()
    with thread_peer(peers.echo_queue, there, back):
        yield there.put, back.get
        there.put(peers.END)


@contextmanager
def simple_threads():
    there, back = queue.SimpleQueue(), queue.SimpleQueue()
    with thread_peer(peers.echo_queue, there, back):
        yield there.put, back.get
        there.put(peers.END)


@contextmanager
def process_peer(function, *ends):
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=function, args=ends)
    process.start()
    yield
    process.join()


@contextmanager
def pipes():
    here, there = multiprocessing.Pipe()
    with process_peer(peers.echo_pipe, there):
        yield here.send, here.recv
        here.send(peers.END)


@contextmanager
def stdlib_peer(call, **names):
    """Run `call`, source code, in an interpreter of the standard library."""
    interpreter = stdlib.create()
    interpreter.prepare_main(**names)
    source = f"import sys; sys.path[:] = {sys.path!r}\nimport peers, queue\npeers.{call}"
    thread = threading.Thread(target=interpreter.exec, args=(source,))
    thread.start()
    yield
    thread.join()
    interpreter.close()


@contextmanager
def stdlib_queues():
    there, back = stdlib.create_queue(), stdlib.create_queue()
    with stdlib_peer("echo_queue(there, back)", there=there, back=back):
        yield there.put, back.get
        there.put(peers.END)


# ------------------------------------------------------------- there and back


def round_trips(way, count, rounds):
    """Times of one round trip in µs, one for each round of `count` of them."""
    times = []
    with way() as (send, receive):
        for _ in range(min(count, 1000)):  # until both sides are awake
            send(0)
            receive()
        for _ in range(rounds):
            start = time.perf_counter()
            for i in range(count):
                send(i)
                answer = receive()
            times.append((time.perf_counter() - start) / count * 1e6)
            if answer != count - 1:
                raise RuntimeError("the wrong message came back")
    return times


ROUND_TRIPS = (
    # key, way, round trips in a round, what it is
    ("queue", atoll_queues, 20_000, "atoll queues, main and interpreter"),
    (
        "channel_0",
        lambda: atoll_channels(0),
        10_000,
        "atoll channels of capacity 0, main and interpreter",
    ),
    (
        "channel_1",
        lambda: atoll_channels(1),
        20_000,
        "atoll channels of capacity 1, main and interpreter",
    ),
    (
        "threads",
        atoll_threads,
        3_000,
        "atoll queues, two threads of one interpreter",
    ),
    ("simple_queue", simple_threads, 3_000, "SimpleQueue, two threads"),
    ("pipe", pipes, 3_000, "multiprocessing.Pipe, two processes"),
)


def measure_round_trips(args, results):
    passes, rounds, share = (1, 2, 20) if args.quick else (3, 3, 1)
    times = {key: [] for key, *_ in ROUND_TRIPS}
    rival, floor = [], []
    for _ in range(passes):
        for key, way, count, _what in ROUND_TRIPS:
            times[key] += round_trips(way, count // share, rounds)
        if stdlib is not None:
            count = 5 if args.quick else 50
            rival += round_trips(stdlib_queues, count, 2)
        spec = ("awake", "--capacity", 1, "--count", 50_000 // share)
        floor += common.handover(args, *spec, "--rounds", rounds)["ns"]
    median = {}
    for key, _way, _count, what in ROUND_TRIPS:
        median[key] = results.number(
            f"round_trip.{key}", times[key], "µs", f"round trip: {what}"
        )
    floor = results.number(
        "round_trip.core",
        [ns / 1000 for ns in floor],
        "µs",
        "round trip: the core's channels, two C threads",
    )
    results.goal(
        "round trip of an int, both sides awake",
        "≤ 1.5 µs",
        f"{median['queue']:.2f} µs",
        f"core without Python {floor:.2f} µs,"
        f" SimpleQueue {median['simple_queue']:.1f} µs,"
        f" Pipe {median['pipe']:.1f} µs",
        median["queue"] <= 1.5,
    )
    if rival:
        rival = results.number(
            "round_trip.stdlib",
            rival,
            "µs",
            "round trip: queues of the standard library's interpreters",
        )
        times_faster = rival / median["queue"]
        results.goal(
            "round trip, against the standard library's interpreters",
            "≥ 2,000 ×",
            f"{times_faster:,.0f} ×",
            f"standard library {rival:,.0f} µs",
            times_faster >= 2000,
        )


# -------------------------------------------------------------------- one way


def one_way(put, answer, count, rounds):
    """Millions of messages a second, one value for each round."""
    rates = []
    for i in range(rounds + 1):
        put(count)
        start = time.perf_counter()
        for n in range(count):
            put(n)
        last = answer()
        taken = time.perf_counter() - start
        if last != count - 1:
            raise RuntimeError("a message was lost")
        if i:  # the first round only wakes both sides
            rates.append(count / taken / 1e6)
    put(peers.END)
    return rates


def one_way_atoll(maxsize, count, rounds):
    there, done = atoll.create_queue(maxsize), atoll.create_queue()
    with atoll_peer(peers.drain_queue, there, done):
        return one_way(there.put, done.get, count, rounds)


def one_way_stdlib(spinning, count, rounds):
    there, done = stdlib.create_queue(), stdlib.create_queue()
    if spinning:
        call = "drain_queue_spinning(there, done, queue.Empty)"
    else:
        call = "drain_queue(there, done)"
    with stdlib_peer(call, there=there, done=done):
        return one_way(there.put, done.get, count, rounds)


def one_way_threads(count, rounds):
    there, done = queue.SimpleQueue(), queue.SimpleQueue()
    with thread_peer(peers.drain_queue, there, done):
        return one_way(there.put, done.get, count, rounds)


def one_way_pipe(count, rounds):
    there, here = multiprocessing.Pipe(duplex=False)
    done, their_done = multiprocessing.Pipe(duplex=False)
    with process_peer(peers.drain_pipe, there, their_done):
        return one_way(here.send, done.recv, count, rounds)


def measure_one_way(args, results):
    passes, rounds = (1, 2) if args.quick else (3, 3)
    large, small = (20_000, 5_000) if args.quick else (400_000, 50_000)
    ways = {
        "bounded": (
            lambda: one_way_atoll(1024, large, rounds),
            "atoll queue, maxsize 1024",
        ),
        "unbounded": (
            lambda: one_way_atoll(0, large, rounds),
            "atoll queue, unbounded",
        ),
        "simple_queue": (
            lambda: one_way_threads(large, rounds),
            "SimpleQueue, two threads of one interpreter",
        ),
        "pipe": (
            lambda: one_way_pipe(small, rounds),
            "multiprocessing.Pipe, two processes",
        ),
    }
    if stdlib is not None:
        ways["stdlib_get"] = (
            lambda: one_way_stdlib(False, small, rounds),
            "standard library's interpreters, put and get",
        )
        ways["stdlib_spinning"] = (
            lambda: one_way_stdlib(True, small, rounds),
            "standard library's interpreters, put and get_nowait in a loop",
        )
    rates = {key: [] for key in ways}
    floor = []
    for _ in range(passes):
        for key, (way, _what) in ways.items():
            rates[key] += way()
        spec = ("oneway", "--capacity", 1024, "--count", large)
        floor += common.handover(args, *spec, "--rounds", rounds)["ns"]
    median = {}
    for key, (_way, what) in ways.items():
        median[key] = results.number(
            f"one_way.{key}", rates[key], "M messages/s", f"one way: {what}"
        )
    floor = results.number(
        "one_way.core",
        [1000 / ns for ns in floor],
        "M messages/s",
        "one way: the core's channel of capacity 1024, two C threads",
    )
    worst = min(median["bounded"], median["unbounded"])
    shown = f"{median['bounded']:.2f} M/s bounded, {median['unbounded']:.2f} M/s unbounded"
    results.goal(
        "one way, small ints",
        "≥ 4 M messages/s",
        shown,
        f"core without Python {floor:.1f} M/s",
        worst >= 4,
    )
    if stdlib is not None:
        rival = max(median["stdlib_get"], median["stdlib_spinning"])
        results.goal(
            "one way, against the standard library's interpreters",
            "≥ 3 ×",
            f"{worst / rival:.1f} ×",
            f"standard library {rival:.2f} M/s, the better of two ways",
            worst / rival >= 3,
        )


def run(args):
    results = common.Results()
    measure_round_trips(args, results)
    measure_one_way(args, results)
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
