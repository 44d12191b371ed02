"""Parked: the receiver has waited 5 ms before each message.

Each message is the time when it was sent, and the receiver takes the time as
soon as it has it: that is the latency of one hand-over, with the wake-up of a
blocked thread in it. The floor does the same in C with one futex and nothing
else. Which core a thread wakes on changes such a figure by half, so both are
measured in many short rounds that take turns.

Also: what 50 interpreters that are blocked cost.
"""

import statistics
import threading
import time

import atoll
import common
import messages
import peers

IDLE = 0.005  # seconds


def to_interpreter(count):
    """Latencies in ns, from the main interpreter to another."""
    there, back = atoll.create_queue(), atoll.create_queue()
    with messages.atoll_peer(peers.stamp_queue, there, back):
        there.put(count)
        peers.send_stamps(count, IDLE, there.put)
        latencies = back.get()
        there.put(peers.END)
    return latencies


def from_interpreter(count):
    """Latencies in ns, from another interpreter to the main thread of main.

    This is the one thread where Python runs signal handlers: its waits have
    to end for a Ctrl-C as well.
    """
    there, go = atoll.create_queue(), atoll.create_queue()
    now = time.perf_counter_ns
    latencies = []
    with messages.atoll_peer(peers.send_stamps_queue, there, go):
        go.put((count, IDLE))
        for _ in range(count):
            sent = there.get()
            latencies.append(now() - sent)
        go.put(peers.END)
    return latencies


def from_interpreter_to_thread(count):
    """The same, to another thread of the main interpreter."""
    latencies = []
    thread = threading.Thread(target=lambda: latencies.extend(from_interpreter(count)))
    thread.start()
    thread.join()
    return latencies


WAYS = {
    "interpreter": (to_interpreter, "main to interpreter"),
    "main": (from_interpreter, "interpreter to the main thread"),
    "thread": (
        from_interpreter_to_thread,
        "interpreter to another thread of main",
    ),
}


def measure_parked(args, results):
    rounds, count = (2, 10) if args.quick else (15, 40)
    medians = {key: [] for key in WAYS}
    floor, core = [], []
    for _ in range(rounds):
        for name, into in (("futex", floor), ("channel", core)):
            spec = ("parked", "--floor", name, "--count", count)
            idle = ("--idle-us", int(IDLE * 1e6))
            said = common.handover(args, *spec, *idle)
            into.append(said["median_ns"] / 1000)
        for key, (way, _what) in WAYS.items():
            medians[key].append(statistics.median(way(count)) / 1000)
    base = results.number(
        "parked.futex",
        floor,
        "µs",
        "parked hand-over: a bare futex, two C threads (floor)",
    )
    results.number(
        "parked.core",
        core,
        "µs",
        "parked hand-over: the core's channel, two C threads",
    )
    median = {}
    for key, (_way, what) in WAYS.items():
        median[key] = results.number(
            f"parked.{key}", medians[key], "µs", f"parked hand-over: {what}"
        )
    ratio = median["interpreter"] / base
    results.goal(
        "parked, the receiver has waited 5 ms",
        "≤ 1.5 × a bare futex",
        f"{ratio:.2f} × ({median['interpreter']:.1f} µs)",
        f"bare futex {base:.1f} µs; to the main thread {median['main']:.1f} µs",
        ratio <= 1.5,
    )


def measure_blocked(args, results):
    """CPU time of this process while interpreters are blocked in `get`."""
    count, seconds = (5, 1.0) if args.quick else (50, 10.0)
    used = blocked_cpu(count, seconds)
    what = f"{count} interpreters blocked for {seconds:.0f} s: CPU time"
    results.number("blocked.cpu", [used], "s", what)
    beside = "nothing"
    if messages.stdlib is not None:
        window = seconds / 4
        rival = stdlib_blocked_cpu(count, window) * seconds / window
        results.number(
            "blocked.stdlib_cpu",
            [rival],
            "s",
            f"the same with the standard library's interpreters"
            f" (measured for {window:g} s, scaled up)",
        )
        beside = f"standard library {rival:.2f} s"
    results.goal(
        f"{count} interpreters blocked for {seconds:.0f} s",
        "< 0.05 s of CPU",
        f"{used:.4f} s",
        beside,
        used < 0.05,
    )


def blocked_cpu(count, seconds):
    gate, ready = atoll.create_queue(), atoll.create_queue()
    interpreters = [atoll.create() for _ in range(count)]
    threads = [
        interpreter.call_in_thread(peers.wait_queue, gate, ready)
        for interpreter in interpreters
    ]
    used = wait_blocked(count, seconds, gate, ready)
    for thread in threads:
        thread.join()
    for interpreter in interpreters:
        interpreter.close()
    return used


def stdlib_blocked_cpu(count, seconds):
    create_queue = messages.stdlib.create_queue
    gate, ready = create_queue(), create_queue()
    contexts = [
        messages.stdlib_peer("wait_queue(gate, ready)", gate=gate, ready=ready)
        for _ in range(count)
    ]
    for context in contexts:
        context.__enter__()
    used = wait_blocked(count, seconds, gate, ready)
    for context in contexts:
        context.__exit__(None, None, None)
    return used


def wait_blocked(count, seconds, gate, ready):
    """CPU seconds of the process while all are blocked; then free them."""
    for _ in range(count):
        ready.get()
    time.sleep(0.2)  # until the last one has left its spin
    before = time.process_time()
    time.sleep(seconds)
    used = time.process_time() - before
    for _ in range(count):
        gate.put(None)
    return used


def run(args):
    results = common.Results()
    measure_parked(args, results)
    measure_blocked(args, results)
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
