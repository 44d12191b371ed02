"""CSP: select, a ring of processes, many waiters on one channel.

Beside atoll: Go, pygolang and PyCSP, as far as they are there, and bare futexes in C.
"""

import asyncio
import gc
import queue
import statistics
import threading
import time
import tracemalloc

import atoll
import common
import networks
import rivals

WAITERS = 1000
NAMES = {
    "atoll": "atoll",
    "go": "Go",
    "pygolang": "pygolang",
    "pycsp": "PyCSP",
    "threads": "atoll, threads of one interpreter",
    "futex": "futexes in C",
}


def ratio(above, below):
    """The median of the rounds' ratios; the two were measured in turns."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def in_turns(rounds, ways):
    """{way: [value, ...]}; each way once to warm up."""
    values = {way: [] for way in ways}
    for measure in ways.values():
        measure()
    for _ in range(rounds):
        for way, measure in ways.items():
            values[way].append(measure())
    return values


def beside(median):
    return ", ".join(f"{NAMES[w]} {m / 1000:.2f} µs" for w, m in median.items() if w != "atoll")


def numbers(results, key, values, what):
    """Record all ways, in µs. Their medians in ns."""
    return {
        way: 1000
        * results.number(
            f"csp.{key}.{way}", [v / 1000 for v in ns], "µs", f"{what}: {NAMES[way]}"
        )
        for way, ns in values.items()
    }


# ---------------------------------------------------------------------- select


def send_and_select(n, count):
    """One thread: send to one of n channels, select over all. ns for both."""
    select = atoll.select
    pairs = [atoll.create_channel(1) for _ in range(n)]
    recvs, sends = (tuple(pair[end] for pair in pairs) for end in (0, 1))
    start = time.perf_counter_ns()
    for i in range(count):
        sends[i % n].send(i)
        if select(*recvs)[1] != i:
            raise RuntimeError("another message came")
    return (time.perf_counter_ns() - start) / count


def measure_ready(args, results, others):
    rounds, count = (2, 300) if args.quick else (9, 20000)
    for n in (2, 64):
        ways = {"atoll": lambda n=n: send_and_select(n, count)}
        for name, times in (("go", 10), ("pygolang", 1)):
            if others.has(name, "select"):
                ways[name] = lambda name=name, n=n, times=times: others.time(
                    name, "select", "ready", n, max(count * times // n, 50)
                )
        what = f"select over {n} channels, one of which is ready, and the send to that"
        values = in_turns(rounds, ways)
        median = numbers(results, f"ready.{n}", values, what)
        if "pygolang" not in values:
            results.goal(what, "less than pygolang", "", rivals.HOW_TO_GET["pygolang"], None)
            continue
        than = ratio(values["atoll"], values["pygolang"])
        results.goal(
            what,
            "less than pygolang",
            f"{than:.2f} × ({median['atoll'] / 1000:.2f} µs)",
            beside(median),
            than < 1,
        )


def ping_pong(n, count, start):
    """Two parties, in interpreters or as threads, who send and receive by select."""
    there, back = ([atoll.create_channel() for _ in range(n)] for _ in range(2))
    never, keep = atoll.create_channel()
    (there_recv, there_send), (back_recv, back_send) = (
        [tuple(pair[end] for pair in side) for end in (0, 1)] for side in (there, back)
    )
    echo = start(networks.select_echo, there_recv, back_send, never, count)
    ping = start(networks.select_ping, there_send, back_recv, never, count)
    ns = ping.result()
    echo.result()
    del keep
    return ns


class Thread(threading.Thread):
    """As a Task: started, with a result."""

    def __init__(self, function, *args):
        super().__init__()
        self.work = function, args
        self.start()

    def run(self):
        function, args = self.work
        self.value = function(*args)

    def result(self):
        self.join()
        return self.value


def measure_ping_pong(args, results, others):
    rounds, count = (1, 100) if args.quick else (7, 20000)
    for n in (2, 64):
        ways = {
            "atoll": lambda n=n: ping_pong(n, count, atoll.spawn),
            "threads": lambda n=n: ping_pong(n, count // 10, Thread),
        }
        for name, times in (("go", 10), ("pygolang", 0.1)):
            if others.has(name, "select"):
                ways[name] = lambda name=name, n=n, times=times: others.time(
                    name, "select", "pingpong", n, max(int(count * times) // n, 20)
                )
        what = f"a ball there and back by selects over {n} channels"
        values = in_turns(rounds, ways)
        median = numbers(results, f"pingpong.{n}", values, what)
        if "go" not in values:
            results.goal(what, "≤ 5 × Go", "", rivals.HOW_TO_GET["go"], None)
            continue
        than = ratio(values["atoll"], values["go"])
        results.goal(
            f"{what}, between interpreters",
            "≤ 5 × Go",
            f"{than:.2f} × ({median['atoll'] / 1000:.2f} µs)",
            beside(median),
            than <= 5,
        )


# --------------------------------------------------------------- what a case costs


def select_only(n, count, last):
    """ns of a select over n queues; the last has something, or none has."""
    select = atoll.select
    queues = tuple(atoll.create_queue() for _ in range(n))
    if last:
        for i in range(count):
            queues[-1].put(i)
        start = time.perf_counter_ns()
        for _ in range(count):
            select(*queues)
        return (time.perf_counter_ns() - start) / count
    # The deadline has passed when it stands in all lines; so it leaves them at once.
    start = time.perf_counter_ns()
    for _ in range(count):
        select(*queues, timeout=1e-9, default=None)
    return (time.perf_counter_ns() - start) / count


def measure_cost(args, results):
    rounds, count = (1, 50) if args.quick else (9, 5000)
    sizes = (2, 4, 8, 16, 32, 64)
    for last, what in ((True, "one of them ready"), (False, "none of them ready, too late")):
        ways = {n: lambda n=n, last=last: select_only(n, count, last) for n in sizes}
        values = in_turns(rounds, ways)
        key = "ready" if last else "late"
        median = {
            n: results.number(
                f"csp.cost.{key}.{n}", values[n], "ns", f"select over {n}, {what}"
            )
            for n in sizes
        }
        # What a case more costs among few, and among many: in proportion or not.
        few = (median[16] - median[2]) / 14
        many = (median[64] - median[16]) / 48
        results.number(f"csp.cost.{key}.case", [many], "ns", f"one case more, {what}")
        results.goal(
            f"a select over n cases takes time in proportion to n, {what}",
            "a case among 64 ≤ 1.5 × one among 16",
            f"{many / few:.2f} ×" if few > 0 else "no cost per case",
            f"{few:.1f} ns a case up to 16, {many:.1f} ns up to 64",
            few <= 0 or many <= 1.5 * few,
        )
    measure_memory(args, results)


def measure_memory(args, results):
    """What a select over 64 channels allocates, once it has been done before."""
    queues = tuple(atoll.create_queue() for _ in range(64))  # a tuple is passed as it is
    count = 50 if args.quick else 1000
    for i in range(count + 50):
        queues[i % 64].put(7)  # one of the small ints that CPython keeps
    for _ in range(50):
        atoll.select(*queues)
    gc.collect()
    tracemalloc.start()
    atoll.select(*queues)
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    for _ in range(count - 1):
        atoll.select(*queues)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    kept = results.number("csp.memory.kept", [after - before], "B", f"kept by {count} selects")
    what = "the most that a select over 64 channels allocates, its result included"
    most = results.number("csp.memory.peak", [peak - before], "B", what)
    # What this function itself makes meanwhile, such as `before`, is in it.
    results.goal(
        what,
        "≤ 160 B, however many",
        f"{most:.0f} B, {kept:.0f} B kept",
        "its result is a tuple of two",
        most <= 160,
    )


# ------------------------------------------------------------------- commstime


def commstime(start, count, rounds):
    (a, a_send), (b, b_send), (c, c_send), (d, d_send) = (
        atoll.create_channel() for _ in range(4)
    )
    ring = [
        start(networks.prefix, b, a_send),
        start(networks.delta, a, d_send, c_send),
        start(networks.successor, c, b_send),
    ]
    times = start(networks.consumer, d, count, rounds).result()
    for party in ring:
        party.result()
    return statistics.median(times)


def futex_commstime(args, spin_ns, count):
    program = common.floor_program(args, "commstime_futex")
    said = common.run_floor(program, "--count", count, "--rounds", 1, "--spin-ns", spin_ns)
    return said["ns"][0]


def measure_commstime(args, results, others):
    rounds, count = (1, 100) if args.quick else (9, 10000)
    spins = (0, 1000, 5000, 20000)
    ways = {"atoll": lambda: commstime(atoll.spawn, count, 1)}
    ways |= {spin: lambda spin=spin: futex_commstime(args, spin, count) for spin in spins}
    ways["threads"] = lambda: commstime(Thread, count // 5, 1)
    if others.has("go", "commstime"):
        ways["go"] = lambda: others.time("go", "commstime", count * 10)
    if others.has("pycsp", "commstime"):
        ways["pycsp"] = lambda: others.time("pycsp", "commstime", max(count // 20, 20))
    what = "commstime, 4 parties: a number, which is 4 hand-overs"
    values = in_turns(rounds, ways)
    # How long it pays to spin differs from machine to machine: the best counts.
    best = min(spins, key=lambda spin: statistics.median(values[spin]))
    values["futex"] = values[best]
    for spin in spins:
        results.number(
            f"csp.commstime.futex.{spin}",
            [ns / 1000 for ns in values.pop(spin)],
            "µs",
            f"{what}: futexes in C, spinning for {spin / 1000:g} µs",
        )
    median = numbers(results, "commstime", values, what)
    than = ratio(values["atoll"], values["futex"])
    missing = [
        rivals.HOW_TO_GET[name] for name in ("go", "pycsp") if not others.has(name, "commstime")
    ]
    results.goal(
        f"{what}, between interpreters",
        "≤ 1.3 × futexes in C",
        f"{than:.2f} × ({median['atoll'] / 1000:.2f} µs)",
        "; ".join([beside(median), *missing]),
        than <= 1.3,
    )


# ----------------------------------------------------------------- many waiters


def close_on_waiters(parties, start):
    """WAITERS threads of `parties` parties wait on one channel; ms from the close
    until the last one has been told."""
    recv, send = atoll.create_channel()
    ready, ready_send = atoll.create_channel(parties)
    out, out_send = atoll.create_channel(parties)
    share = WAITERS // parties
    parked = atoll.stats()["parks"]
    started = [
        start(networks.wait_for_close, recv, share, ready_send, out_send)
        for _ in range(parties)
    ]
    for _ in range(parties):
        ready.recv()
    while atoll.stats()["parks"] < parked + WAITERS:
        time.sleep(0.001)
    time.sleep(0.05)
    begin = time.monotonic_ns()
    send.close()
    last = max(out.recv() for _ in range(parties))
    for party in started:
        party.result()
    return (last - begin) / 1e6


def close_on_tasks():
    """The same with asyncio tasks of one loop."""

    async def wait(recv, told):
        try:
            await recv.recv_async()
        except atoll.ChannelClosed:
            told.append(time.monotonic_ns())

    async def main():
        recv, send = atoll.create_channel()
        told = []
        tasks = [asyncio.create_task(wait(recv, told)) for _ in range(WAITERS)]
        await asyncio.sleep(0.05)
        begin = time.monotonic_ns()
        send.close()
        await asyncio.gather(*tasks)
        if len(told) != WAITERS:
            raise RuntimeError("somebody was not told")
        return (max(told) - begin) / 1e6

    return asyncio.run(main())


def shut_down_on_threads():
    """The same with the queue of the standard library and its shutdown()."""
    waited_for, told = queue.Queue(), []

    def wait():
        try:
            waited_for.get()
        except queue.ShutDown:
            told.append(time.monotonic_ns())

    threading.stack_size(256 * 1024)
    threads = [threading.Thread(target=wait) for _ in range(WAITERS)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    begin = time.monotonic_ns()
    waited_for.shutdown()
    for thread in threads:
        thread.join()
    if len(told) != WAITERS:
        raise RuntimeError("somebody was not told")
    return (max(told) - begin) / 1e6


def measure_waiters(args, results):
    rounds = 1 if args.quick else 7
    ways = {
        "threads": lambda: close_on_waiters(1, Thread),
        "interpreters": lambda: close_on_waiters(8, atoll.spawn),
        "asyncio": close_on_tasks,
        "stdlib": shut_down_on_threads,
    }
    names = {
        "threads": "threads of one interpreter",
        "interpreters": "threads of 8 interpreters",
        "asyncio": "asyncio tasks",
        "stdlib": "threads, queue.Queue and its shutdown()",
    }
    what = "1,000 waiters on one channel, from its close until the last has been told"
    values = in_turns(rounds, ways)
    median = {
        way: results.number(f"csp.close.{way}", ms, "ms", f"{what}: {names[way]}")
        for way, ms in values.items()
    }
    stdlib = f"{names['stdlib']} {median.pop('stdlib'):.1f} ms"
    for way, ms in median.items():
        said = stdlib if way == "threads" else f"at most {max(values[way]):.1f} ms"
        results.goal(f"{what}: {names[way]}", "< 50 ms", f"{ms:.1f} ms", said, ms < 50)


def run(args):
    results = common.Results()
    others = rivals.Rivals()
    measure_ready(args, results, others)
    measure_ping_pong(args, results, others)
    measure_cost(args, results)
    measure_commstime(args, results, others)
    measure_waiters(args, results)
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
