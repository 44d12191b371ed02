"""Parked: the receiver has waited 5 ms before each message.

Each message is the time when it was sent, and the receiver takes the time as
soon as it has it: that is the latency of one hand-over, with the wake-up of a
blocked thread in it. The floor does the same in C with one futex and nothing
else. Where the two threads run changes such a figure several times over, so it
is measured with each on a core of its own, with both on one core, and wherever
the scheduler puts them, in many short rounds that take turns.

Also: what 50 interpreters that are blocked cost.
"""

import os
import statistics
import time

import atoll
import common
import messages
import peers

IDLE = 0.005  # seconds
WHEREVER = "wherever"


def to_interpreter(count, sender, receiver):
    """Latencies in ns, from the main interpreter to another."""
    queue, done = atoll.create_queue(), atoll.create_queue()
    work = (peers.receive_stamps_queue, receiver, count, queue, done)
    with messages.atoll_peer(*work):
        done.get()
        peers.stay_on(sender)
        peers.send_stamps(count, IDLE, queue.put)
        return done.get()


def from_interpreter(count, sender, receiver):
    """Latencies in ns, from another interpreter to the main thread of main.

    This is the one thread where Python runs signal handlers: its waits have
    to end for a Ctrl-C as well.
    """
    queue, done = atoll.create_queue(), atoll.create_queue()
    work = (peers.send_stamps_queue, sender, count, IDLE, queue, done)
    with messages.atoll_peer(*work):
        peers.stay_on(receiver)
        return peers.receive_stamps(count, queue.get)


WAYS = {
    "interpreter": (to_interpreter, "main to interpreter"),
    "main": (from_interpreter, "interpreter to the main thread"),
}
FLOORS = {
    "futex": "a bare futex, two C threads (floor)",
    "channel": "the core's channel, two C threads",
}


def placements():
    """What to call it -> the CPUs of sender and receiver."""
    cpus = common.cpus()
    found = {WHEREVER: (None, None)}
    if cpus:
        found = {"on one core": (cpus[0], cpus[0])} | found
    if len(cpus) > 1:
        found = {"on two cores": (cpus[0], cpus[1])} | found
    return found


def one_round(args, count, sender, receiver):
    """The median latency in µs of every way and floor."""
    medians = {}
    for floor in FLOORS:
        spec = ("parked", "--floor", floor, "--count", count)
        idle = ("--idle-us", int(IDLE * 1e6))
        where = ("--sender-cpu", -1 if sender is None else sender)
        where += ("--receiver-cpu", -1 if receiver is None else receiver)
        said = common.handover(args, *spec, *idle, *where)
        medians[floor] = said["median_ns"] / 1000
    for key, (way, _what) in WAYS.items():
        everywhere = common.cpus()
        try:
            medians[key] = statistics.median(way(count, sender, receiver)) / 1000
        finally:
            if everywhere:
                os.sched_setaffinity(0, everywhere)
    return medians


def measure_parked(args, results):
    rounds, count = (2, 8) if args.quick else (10, 30)
    where = placements()
    seen = {place: [] for place in where}
    for _ in range(rounds):
        for place, (sender, receiver) in where.items():
            seen[place].append(one_round(args, count, sender, receiver))
    kinds = FLOORS | {key: what for key, (_way, what) in WAYS.items()}
    ratios = {}
    for place, all_medians in seen.items():
        median = {
            kind: results.number(
                f"parked.{kind}.{place.replace(' ', '_')}",
                [medians[kind] for medians in all_medians],
                "µs",
                f"parked hand-over, {place}: {what}",
            )
            for kind, what in kinds.items()
        }
        ratios[place] = {kind: median[kind] / median["futex"] for kind in kinds}
    # Free threads land where they like, C's and ours on different cores: that
    # ratio says little, and decides only where nothing can be pinned.
    decisive = [place for place in ratios if place != WHEREVER] or [WHEREVER]

    def show(kind):
        return ", ".join(f"{ratios[place][kind]:.2f} × {place}" for place in decisive)

    results.goal(
        "parked, the receiver has waited 5 ms",
        "≤ 1.5 × a bare futex",
        show("interpreter"),
        f"core without Python {show('channel')}; to the main thread {show('main')}",
        all(ratios[place]["interpreter"] <= 1.5 for place in decisive),
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
